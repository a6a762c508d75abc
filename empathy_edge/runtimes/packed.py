"""The forward pass of a batch without padding, in which a beginning that rows share is computed only once.

All rows of a batch share the system prompt, and the two responses of a preference pair share their whole
prompt. The rows are packed into one sequence, as a tree of segments: a segment attends to its ancestors and
itself (tree attention, for example arXiv 2305.09781). The results have the shape of the padded batch, and
trainers need no change.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from empathy_edge.runtimes.token_log_probs import TokenLogProbs

ATTENTION = "empathy_edge_packed"

FAMILIES = ("llama", "qwen2", "qwen3")
"""Model types whose attention is plain and causal: no sliding window, no soft cap."""

MIN_SHARED_TOKENS = 8
"""How many tokens rows must have in common to share a segment."""


@dataclass(frozen=True)
class Layout:
    """Where the tokens of a batch are in the packed sequence.

    Attributes:
        ids: the packed token ids, [tokens].
        positions: each one's position in its row, [tokens].
        gather: for each place of the padded batch, its index in the packed sequence; 0 for padding;
            [batch × length].
        segments: how many tokens each segment has, in the order of the packed sequence.
        paths: for each segment, the segments it attends to: its ancestors, and itself last.
        masks: for each segment an additive mask, [tokens of the segment, tokens of the path].
    """

    ids: torch.Tensor
    positions: torch.Tensor
    gather: torch.Tensor
    segments: list[int]
    paths: list[list[int]]
    masks: list[torch.Tensor]


@dataclass
class _Tree:
    """The packed sequence while `_add_segments` builds it.

    Attributes:
        rows: the token ids of each row of the batch, without padding.
        ids: as in `Layout`, and so are `positions`, `segments` and `paths`.
        places: for each row, the indices of its tokens in the packed sequence.
    """

    rows: list[list[int]]
    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    segments: list[int] = field(default_factory=list)
    paths: list[list[int]] = field(default_factory=list)
    places: list[list[int]] = field(default_factory=list)


def lay_out(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Layout:
    """The layout of a right-padded batch; both arguments are [batch, length]."""
    rows = [ids[: int(mask.sum())].tolist() for ids, mask in zip(input_ids, attention_mask, strict=True)]
    tree = _Tree(rows, places=[[] for _ in rows])
    _add_segments(tree, list(range(len(rows))), 0, [])
    length = input_ids.shape[1]
    gather: list[int] = []
    for places in tree.places:
        padding = [0] * (length - len(places))
        gather += places + padding
    return Layout(
        ids=torch.tensor(tree.ids),
        positions=torch.tensor(tree.positions),
        gather=torch.tensor(gather),
        segments=tree.segments,
        paths=tree.paths,
        masks=[_mask(tree.segments, path) for path in tree.paths],
    )


def _add_segments(tree: _Tree, members: list[int], start: int, path: list[int]) -> None:
    """Add the segments below `path`.

    Args:
        tree: what is built.
        members: the rows that share the segments of `path`.
        start: how many tokens those are.
        path: the segments from the root on.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for member in members:
        next_tokens = tuple(tree.rows[member][start : start + MIN_SHARED_TOKENS])
        groups.setdefault(next_tokens, []).append(member)
    for group in groups.values():
        end = _common_end(tree.rows, group, start)
        if end == start:
            continue
        segment = len(tree.segments)
        first_place = len(tree.ids)
        tree.ids += tree.rows[group[0]][start:end]
        tree.positions += range(start, end)
        tree.segments.append(end - start)
        tree.paths.append([*path, segment])
        for member in group:
            tree.places[member] += range(first_place, first_place + end - start)
        if len(group) > 1:
            _add_segments(tree, group, end, [*path, segment])


def _common_end(rows: list[list[int]], members: list[int], start: int) -> int:
    """The first place from `start` on at which the rows differ, or one of them ends."""
    if len(members) == 1:
        return len(rows[members[0]])
    end = min(len(rows[member]) for member in members)
    for place in range(start, end):
        if len({rows[member][place] for member in members}) > 1:
            return place
    return end


def _mask(segments: list[int], path: list[int]) -> torch.Tensor:
    """A token sees all ancestors of its segment, and in the segment itself and what is before it."""
    size = segments[path[-1]]
    ancestors = sum(segments[number] for number in path[:-1])
    is_later = torch.ones(size, size, dtype=torch.bool).triu(1)
    inside = torch.zeros(size, size).masked_fill(is_later, float("-inf"))
    return torch.cat([torch.zeros(size, ancestors), inside], dim=1)


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Any,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attention over a packed sequence, in transformers' interface for attention functions.

    It computes in fp32, which is also faster on CPUs without wide bf16 units. With grouped queries, the heads
    that share a key head are treated as more queries of it, so that no key is copied.

    Args:
        module: unused.
        query: [1, heads, tokens, size].
        key: [1, key heads, tokens, size].
        value: [1, key heads, tokens, size].
        attention_mask: unused; the layout has its own.
        options: `packed_layout`, a Layout, and `scaling`; others are unused.

    Returns:
        [1, tokens, heads, size], and None for the attention weights.
    """
    layout: Layout = options["packed_layout"]
    heads, tokens, size = query.shape[1:]
    key_heads = key.shape[1]
    group = heads // key_heads
    queries = query[0].float().view(key_heads, group, tokens, size).split(layout.segments, dim=2)
    keys = key[0].float().split(layout.segments, dim=1)
    values = value[0].float().split(layout.segments, dim=1)
    outputs = []
    for part, path, mask in zip(queries, layout.paths, layout.masks, strict=True):
        length = part.shape[2]
        output = torch.nn.functional.scaled_dot_product_attention(
            part.reshape(1, key_heads, group * length, size),
            torch.cat([keys[number] for number in path], dim=1)[None],
            torch.cat([values[number] for number in path], dim=1)[None],
            attn_mask=mask.repeat(group, 1),
            scale=options["scaling"],
        )
        outputs.append(output.view(heads, length, size))
    return torch.cat(outputs, dim=1).transpose(0, 1)[None].to(query.dtype), None


def can_pack(model: Any) -> bool:
    """Whether batches of a causal language model can be packed: it is one of FAMILIES, and on the CPU."""
    config = model.config
    return (
        config.model_type in FAMILIES
        and not getattr(config, "use_sliding_window", False)
        and model.get_output_embeddings().bias is None
        and model.device.type == "cpu"
    )


def pack_batches(model: Any) -> None:
    """Replace the forward pass that TRL calls with `fused_lm_head=True` by a packed one.

    It takes input_ids, attention_mask and labels, [batch, length] each and right-padded, and returns TRL's
    `FusedCausalLMOutput`, whose fields are [batch, length - 1] and 0 where there is no label. Without
    `fused_lm_head` the model's own forward pass is called.
    """
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(ATTENTION, attend)
    AttentionMaskInterface.register(ATTENTION, lambda *args, **options: None)
    own_attention = model.config._attn_implementation
    own_forward = type(model).forward

    def forward(*args: Any, fused_lm_head: bool = False, labels: Any = None, **options: Any) -> Any:
        if not fused_lm_head:
            model.set_attn_implementation(own_attention)
            return own_forward(model, *args, labels=labels, **options)
        model.set_attn_implementation(ATTENTION)
        return _packed_forward(model, options["input_ids"], options["attention_mask"], labels)

    model.forward = forward


class _LabelFigures(NamedTuple):
    """The results of TokenLogProbs, [batch, length - 1] each."""

    log_probs: torch.Tensor
    entropy: torch.Tensor
    mean_logits: torch.Tensor
    is_top1: torch.Tensor


def _packed_forward(
    model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor
) -> Any:
    from trl.trainer.utils import FusedCausalLMOutput

    layout = lay_out(input_ids, attention_mask)
    hidden = model.base_model(
        input_ids=layout.ids[None],
        position_ids=layout.positions[None],
        packed_layout=layout,
        use_cache=False,
    ).last_hidden_state[0]
    # The hidden state at one place predicts the label at the next one.
    next_labels = labels[:, 1:]
    mask = next_labels != -100
    places = layout.gather.view(labels.shape)[:, :-1][mask]
    output_layer = model.get_output_embeddings().weight
    of_labels = TokenLogProbs.apply(hidden.index_select(0, places), output_layer, next_labels[mask])
    figures = _LabelFigures(*(item.new_zeros(mask.shape).masked_scatter(mask, item) for item in of_labels))
    return FusedCausalLMOutput(
        loss=-figures.log_probs.sum() / mask.sum().clamp(min=1),
        log_probs=figures.log_probs,
        entropy=figures.entropy,
        mean_logits=figures.mean_logits,
        is_top1=figures.is_top1,
        label_mask=mask,
    )
