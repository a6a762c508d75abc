"""The same forward pass on less: no padding, and what several sequences of a batch begin with is read only once.

All rows of a batch share the system prompt, and the two responses of a preference pair share their whole prompt. The
sequences are laid out as a tree of segments, in one row; each segment attends to its ancestors and itself. Hidden states
come back in the padded shape, so that trainers need not know (the idea of tree attention, e.g. arXiv 2305.09781, and of
padding-free batches).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from empathy_edge.runtimes.token_log_probs import TokenLogProbs

ATTENTION = "empathy_edge_packed"

FAMILIES = ("llama", "qwen2", "qwen3")
"""Model types whose attention is plain causal: no sliding window, no soft cap."""

SHORTEST_SHARED = 8
"""Tokens that sequences must have in common before they share a segment."""


@dataclass(frozen=True)
class Layout:
    """Where the tokens of a batch lie in the packed row.

    `ids` and `positions` have shape [tokens]; `gather` [batch × length] is each padded place's index in the packed row
    (0 for padding); `segments` are the sizes in order; `paths` the segments that each one attends to, itself last;
    `masks` additive, [segment, path].
    """

    ids: torch.Tensor
    positions: torch.Tensor
    gather: torch.Tensor
    segments: list[int]
    paths: list[list[int]]
    masks: list[torch.Tensor]


@dataclass
class _Tree:
    """What `_grow` collects: the packed row, segment by segment."""

    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    segments: list[int] = field(default_factory=list)
    paths: list[list[int]] = field(default_factory=list)
    places: dict[int, list[int]] = field(default_factory=dict)


def lay_out(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Layout:
    """The layout of a right-padded batch, [batch, length] each."""
    rows = [ids[: int(mask.sum())].tolist() for ids, mask in zip(input_ids, attention_mask, strict=True)]
    tree = _Tree(places={number: [] for number in range(len(rows))})
    _grow(tree, rows, list(range(len(rows))), 0, [])
    length = input_ids.shape[1]
    gather = [place for number in range(len(rows)) for place in _padded(tree.places[number], length)]
    return Layout(
        ids=torch.tensor(tree.ids),
        positions=torch.tensor(tree.positions),
        gather=torch.tensor(gather),
        segments=tree.segments,
        paths=tree.paths,
        masks=[_mask(tree.segments, path) for path in tree.paths],
    )


def _grow(tree: _Tree, rows: list[list[int]], members: list[int], start: int, path: list[int]) -> None:
    """Add the segments of `members`, which agree on their first `start` tokens, below `path`."""
    by_next: dict[tuple[int, ...], list[int]] = {}
    for member in members:
        by_next.setdefault(tuple(rows[member][start : start + SHORTEST_SHARED]), []).append(member)
    for group in by_next.values():
        end = len(rows[group[0]]) if len(group) == 1 else _common(rows, group, start)
        if end == start:
            continue
        number = len(tree.segments)
        first = len(tree.ids)
        tree.ids += rows[group[0]][start:end]
        tree.positions += range(start, end)
        tree.segments.append(end - start)
        tree.paths.append([*path, number])
        for member in group:
            tree.places[member] += range(first, first + end - start)
        if len(group) > 1:
            _grow(tree, rows, group, end, [*path, number])


def _common(rows: list[list[int]], members: list[int], start: int) -> int:
    """Where the members' common beginning ends."""
    end = min(len(rows[member]) for member in members)
    for place in range(start, end):
        if len({rows[member][place] for member in members}) > 1:
            return place
    return end


def _padded(places: list[int], length: int) -> list[int]:
    return places + [0] * (length - len(places))


def _mask(segments: list[int], path: list[int]) -> torch.Tensor:
    """Everything before the segment is seen; inside it, only what came earlier."""
    size, before = segments[path[-1]], sum(segments[number] for number in path[:-1])
    hidden = torch.ones(size, size, dtype=torch.bool).triu(1)
    inside = torch.zeros(size, size).masked_fill(hidden, float("-inf"))
    return torch.cat([torch.zeros(size, before), inside], dim=1)


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Any,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attention over a packed row, in fp32 (on CPUs without wide bf16 units also the faster way).

    Shapes: query [1, heads, tokens, size], key and value [1, key heads, tokens, size]; the heads that share a key head are
    treated as more queries of it, so that nothing is repeated. Returns [1, tokens, heads, size].
    """
    layout: Layout = options["packed_layout"]
    heads, tokens, size = query.shape[1:]
    shared = heads // key.shape[1]
    queries = query[0].float().view(key.shape[1], shared, tokens, size).split(layout.segments, dim=2)
    keys = key[0].float().split(layout.segments, dim=1)
    values = value[0].float().split(layout.segments, dim=1)
    outputs = []
    for part, path, mask in zip(queries, layout.paths, layout.masks, strict=True):
        length = part.shape[2]
        output = torch.nn.functional.scaled_dot_product_attention(
            part.reshape(1, key.shape[1], shared * length, size),
            torch.cat([keys[number] for number in path], dim=1)[None],
            torch.cat([values[number] for number in path], dim=1)[None],
            attn_mask=mask.repeat(shared, 1),
            scale=options["scaling"],
        )
        outputs.append(output.view(heads, length, size))
    return torch.cat(outputs, dim=1).transpose(0, 1)[None].to(query.dtype), None


def can_pack(model: Any) -> bool:
    """Whether `model` is a causal language model whose batches can be read packed: of FAMILIES, and on the CPU."""
    config = model.config
    return (
        config.model_type in FAMILIES
        and not getattr(config, "use_sliding_window", False)
        and model.get_output_embeddings().bias is None
        and model.device.type == "cpu"
    )


def pack_batches(model: Any) -> None:
    """Replace the forward that TRL calls with `fused_lm_head=True` by one that reads its batch packed.

    Takes input_ids, attention_mask and labels [batch, length], right-padded; returns TRL's own record, each of its fields
    [batch, length - 1] and 0 where there is no label. Without `fused_lm_head` the model's own forward answers.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from trl.trainer.utils import FusedCausalLMOutput

    AttentionInterface.register(ATTENTION, attend)
    AttentionMaskInterface.register(ATTENTION, lambda *args, **options: None)
    own_attention, own_forward = model.config._attn_implementation, type(model).forward

    def forward(*args: Any, fused_lm_head: bool = False, labels: Any = None, **options: Any) -> Any:
        if not fused_lm_head:
            model.set_attn_implementation(own_attention)
            return own_forward(model, *args, labels=labels, **options)
        model.set_attn_implementation(ATTENTION)
        layout = lay_out(options["input_ids"], options["attention_mask"])
        hidden = model.base_model(
            input_ids=layout.ids[None],
            position_ids=layout.positions[None],
            packed_layout=layout,
            use_cache=False,
        ).last_hidden_state[0]
        wanted = labels[:, 1:]
        mask = wanted != -100
        places = layout.gather.view(labels.shape)[:, :-1][mask]
        found = TokenLogProbs.apply(
            hidden.index_select(0, places), model.get_output_embeddings().weight, wanted[mask]
        )
        log_probs, entropy, mean_logits, is_top1 = (
            item.new_zeros(mask.shape).masked_scatter(mask, item) for item in found
        )
        return FusedCausalLMOutput(
            loss=-log_probs.sum() / mask.sum().clamp(min=1),
            log_probs=log_probs,
            entropy=entropy,
            mean_logits=mean_logits,
            is_top1=is_top1,
            label_mask=mask,
        )

    model.forward = forward
