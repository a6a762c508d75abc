"""Train a judge on ratings of replies.

It learns from ratings of several replies to one conversation, by the Bradley–Terry loss of each pair
(Ouyang et al., arXiv 2203.02155, equation 1), with the target that the distance of the two ratings asks for.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from empathy_edge.console import progress, say
from empathy_edge.errors import EmpathyEdgeError, require_extra
from empathy_edge.export.gguf.families import family_of, read_config
from empathy_edge.export.gguf.quantize import quantize
from empathy_edge.export.gguf.writer import write_float
from empathy_edge.judging.raters.trained_rater import FILE, LONGEST_REPLY, MODEL, SURE, JudgeFile
from empathy_edge.models.find import checkpoint_of
from empathy_edge.models.merging import merge_into
from empathy_edge.runs.trained_judge.ratings import RatedReplies, read_ratings, split
from empathy_edge.runtimes import default_threads
from empathy_edge.system.files import write_json

if TYPE_CHECKING:
    import torch

GOOD, BAD = " good", " bad"
"""Words of whose first tokens the logits are compared."""

RANK = 16
LEARNING_RATE = 5e-4
EPOCHS = 2.0
WARM_UP_STEPS = 40
LIKE_LLAMA = ("llama", "qwen2", "qwen3")
"""Architectures, by GGUF's names, whose layers can be left out from the end."""

HELD_OUT = 48
"""Conversations that are not trained on; the judge's figures while it is trained are of them."""


class Trainer:
    """The base with its adapter, in training.

    Args:
        checkpoint: the base's folder.
        scratch: a folder for files that are not kept.
        layers: how many of the base's layers are used, the first ones; None: all.
        seed: of the adapter's first weights.
    """

    def __init__(self, checkpoint: Path, scratch: Path, layers: int | None, seed: int) -> None:
        import torch
        from peft import LoraConfig, get_peft_model

        from empathy_edge.finetune.fused_lora import fuse_lora
        from empathy_edge.runtimes.torch_loading import load_base

        torch.manual_seed(seed)
        base = load_base(checkpoint, "auto", [], scratch)
        model, self._tokenizer = base.model, base.tokenizer
        self.good, self.bad = (
            self._tokenizer.encode(word, add_special_tokens=False)[0] for word in (GOOD, BAD)
        )
        if self.good == self.bad:
            raise EmpathyEdgeError(f"The base has one token for{GOOD} and{BAD}; take another one.")
        self.end_of_turn: int = self._tokenizer.eos_token_id
        rows = model.get_output_embeddings().weight.detach()
        self._gap = (rows[self.good] - rows[self.bad]).float()  # [hidden]
        self.layers = min(layers or len(model.model.layers), len(model.model.layers))
        model.model.layers = model.model.layers[: self.layers]
        config = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear")
        self.model = get_peft_model(model, config)
        fuse_lora(self.model)
        self._body = self.model.get_base_model().model
        self.parameters = [weight for weight in self.model.parameters() if weight.requires_grad]

    def ratings(self, rated: RatedReplies) -> torch.Tensor:
        """The rating of each reply, float32 [replies]; all are read in one pass, after one prompt."""
        ids, positions, mask, ends = self._packed(rated)
        device = self._gap.device
        hidden = self._body(
            input_ids=ids.to(device),
            position_ids=positions.to(device),
            attention_mask=mask.to(device),
            use_cache=False,
        ).last_hidden_state[0]
        return (hidden[ends.to(device)].float() @ self._gap).cpu()

    def _packed(self, rated: RatedReplies) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Token ids and positions [1, tokens], who sees whom [1, 1, tokens, tokens], the replies' ends."""
        import torch

        prompt = self._tokenizer.apply_chat_template(
            rated.messages, add_generation_prompt=True, return_dict=False
        )
        ids, positions, owners, ends = list(prompt), list(range(len(prompt))), [0] * len(prompt), []
        for number, reply in enumerate(rated.replies, 1):
            tokens = self._tokenizer.encode(reply, add_special_tokens=False)[:LONGEST_REPLY]
            tokens.append(self.end_of_turn)
            ids += tokens
            positions += range(len(prompt), len(prompt) + len(tokens))
            owners += [number] * len(tokens)
            ends.append(len(ids) - 1)
        owner = torch.tensor(owners)
        sees = ((owner == 0)[None, :] | (owner[:, None] == owner[None, :])).tril()
        return torch.tensor(ids)[None], torch.tensor(positions)[None], sees[None, None], torch.tensor(ends)

    def loss(self, rated: RatedReplies) -> torch.Tensor | None:
        """The mean loss of all pairs with unequal ratings; None where there are none."""
        import torch

        predicted = self.ratings(rated)
        gaps, targets = [], []
        for places, ratings in rated.compared():
            read = torch.tensor(ratings)
            apart = read[:, None] - read[None, :]
            gap = predicted[places][:, None] - predicted[places][None, :]
            gaps.append(gap[apart > 0])
            targets.append(torch.sigmoid(apart[apart > 0] / SURE))
        gap = torch.cat(gaps)
        if len(gap) == 0:
            return None
        return torch.nn.functional.binary_cross_entropy_with_logits(gap, torch.cat(targets))


@dataclass(frozen=True)
class Order:
    """How often the judge orders two replies as a reader does.

    Attributes:
        share: of all pairs with unequal ratings.
        pairs: how many.
        far: the same of those that are at least ten points apart; None where there are none.
        far_pairs: how many.
    """

    share: float
    pairs: int
    far: float | None
    far_pairs: int


def order_of(trainer: Trainer, held_out: Sequence[RatedReplies]) -> Order:
    """The order of held-out replies."""
    import torch

    right, far = [], []
    for rated in held_out:
        with torch.no_grad():
            predicted = trainer.ratings(rated).numpy()
        for places, ratings in rated.compared():
            read, found = np.array(ratings), predicted[places]
            apart = read[:, None] - read[None, :]
            agrees = (found[:, None] > found[None, :])[apart > 0]
            right += agrees.tolist()
            far += agrees[apart[apart > 0] >= 10].tolist()
    of_far = float(np.mean(far)) if far else None
    return Order(float(np.mean(right)) if right else 0.5, len(right), of_far, len(far))


def train(trainer: Trainer, rated: Sequence[RatedReplies], epochs: float, seed: int) -> None:
    """Change the adapter's weights after each conversation; AdamW with a cosine schedule."""
    import torch

    optimizer = torch.optim.AdamW(trainer.parameters, lr=LEARNING_RATE, weight_decay=0.01)
    total = int(epochs * len(rated))
    order = _order(len(rated), seed)
    losses: list[float] = []
    with progress(whole_stage=True) as bar:
        task = bar.add_task("judge", total=total)
        for step in range(total):
            bar.advance(task)
            loss = trainer.loss(rated[next(order)])
            if loss is None:
                continue
            loss.backward()
            losses.append(loss.item())
            share = min(1, (step + 1) / WARM_UP_STEPS) * (1 + np.cos(np.pi * step / total)) / 2
            optimizer.param_groups[0]["lr"] = LEARNING_RATE * share
            torch.nn.utils.clip_grad_norm_(trainer.parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            if (step + 1) % 100 == 0:
                say(f"  step {step + 1} of {total}: loss {np.mean(losses[-100:]):.4f}")


def _order(count: int, seed: int) -> Iterator[int]:
    """Places in a random order, again and again."""
    generator = random.Random(seed)
    places = list(range(count))
    while True:
        generator.shuffle(places)
        yield from places


def train_judge(
    files: Sequence[Path], base: str, layers: int | None, epochs: float, seed: int, out: Path
) -> Order:
    """Train a judge, write its folder, and say how it orders conversations that it was not trained on.

    Args:
        files: see `read_ratings`.
        base: a model of Llama's kind, by its name or path.
        layers: see `Trainer`.
        epochs: how often each conversation is seen.
        seed: of the weights and the order.
        out: the judge's folder.

    Raises:
        EmpathyEdgeError: the folder is there, there are too few conversations, or the base is of a kind that
            cannot be a judge.
    """
    if out.exists():
        raise EmpathyEdgeError(f"{out}: is there already; choose another --out.")
    if layers is not None and layers < 1:
        raise EmpathyEdgeError(f"--layers {layers}: at least one is needed.")
    trained, held_out = split(read_ratings(files), HELD_OUT, seed)
    checkpoint = checkpoint_of(base).path
    _require_writer(checkpoint)
    say(f"{len(trained)} rows to train on, {len(held_out)} of other conversations held out")
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".judge-", dir=out.parent) as folder:
        scratch = Path(folder)
        trainer = Trainer(checkpoint, scratch, layers, seed)
        train(trainer, trained, epochs, seed)
        order = order_of(trainer, held_out)
        trainer.model.save_pretrained(scratch / "adapter")
        made = scratch / "judge"
        made.mkdir()
        _write_model(checkpoint, scratch, trainer.layers, made / MODEL)
        name = Path(base).name
        file = JudgeFile(base=name, good=trainer.good, bad=trainer.bad, end_of_turn=trainer.end_of_turn)
        write_json(made / FILE, file.model_dump(mode="json"))
        made.replace(out)
    return order


def _require_writer(checkpoint: Path) -> None:
    """Refuse a base that could not be written as a GGUF after training.

    Raises:
        EmpathyEdgeError: its family is not known here, or its layers are not where Llama has them.
    """
    require_extra("peft", "train", "Training a judge")
    require_extra("gguf", "gguf", "Writing the judge")
    require_extra("llama_cpp", "gguf", "Writing the judge")
    family = family_of(checkpoint, read_config(checkpoint))
    if family.arch not in LIKE_LLAMA:
        raise EmpathyEdgeError(
            f"{checkpoint.name}: a judge is trained from {' or '.join(LIKE_LLAMA)}, not from {family.arch}."
        )


def _write_model(checkpoint: Path, scratch: Path, layers: int, file: Path) -> None:
    """The base's first layers with the adapter of `scratch` in their weights, as a GGUF in Q8_0."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        checkpoint, dtype=torch.float32, local_files_only=True, trust_remote_code=False
    )
    model.model.layers = model.model.layers[:layers]
    model.config.num_hidden_layers = layers
    merged = scratch / "merged"
    shutil.copytree(checkpoint, merged, ignore=shutil.ignore_patterns("*.safetensors*"))
    merge_into(model, [scratch / "adapter"]).save_pretrained(merged)
    write_float(merged, scratch / "f16.gguf")
    quantize(scratch / "f16.gguf", file, "q8_0", threads=default_threads())
