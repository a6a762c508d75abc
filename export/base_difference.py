"""Adapters that are merged into another base than they were trained on: say so, and measure what it changes.

An adapter that was trained on quantized weights learned around their rounding. On the full-precision original
it is another model, usually a near one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from empathy_edge.console import say
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.export.verify_reference import sample_test_dialogues
from empathy_edge.models.adapter_folder import base_of, training_settings
from empathy_edge.models.find import ModelRef, dequantized, local_checkpoint
from empathy_edge.models.from_quantized import original_name, quantization_of
from empathy_edge.runtimes import default_threads
from empathy_edge.runtimes.distributions import kl_divergence, log_softmax
from empathy_edge.runtimes.torch_runtime import TorchRuntime

PROMPTS = 4
"""Shipped test prompts with a response, on which two bases are compared."""


class BaseDifference(NamedTuple):
    """How far the adapter model on one base is from that on another.

    Attributes:
        mean_kl: from the base that the adapters were trained on, in nats a token.
        top1_agreement: the share of tokens at which both find the same one likeliest.
        tokens: of responses, at which they were compared.
    """

    mean_kl: float
    top1_agreement: float
    tokens: int


def tell_other_base(base: ModelRef, adapters: Sequence[Path]) -> None:
    """Say it where the first adapter was trained on quantized weights and `base` has others.

    Where the quantized base is on this machine, the difference is measured and said; nothing is downloaded.
    """
    trained = training_settings(adapters[0])
    if trained.get("weights") == "nf4":
        say(
            f"  {adapters[0]}: was trained with weights: nf4, on this base rounded to four bits, and is "
            "merged into its full precision (docs/results/qlora.md has the measured difference)."
        )
    named = None if trained else base_of(adapters[0])
    own = local_checkpoint(named) if named else None
    if named is None or (own and (quantization_of(own.path) is None or own.sha256 == base.sha256)):
        return
    original = original_name(named)
    if named == base.name or not (own or original):
        return
    says = f" By its name, the full-precision original is {original}." if original else ""
    say(
        f"  {adapters[0]}: was trained on {named}, whose weights are quantized; {base.name} has other "
        f"weights.{says} Without MODEL, the adapter is merged into the weights that it was trained on."
    )
    if own:
        _say_difference(own, base, adapters)


def _say_difference(own: ModelRef, base: ModelRef, adapters: Sequence[Path]) -> None:
    try:
        found = measure(dequantized(own).path, base.path, adapters)
    except EmpathyEdgeError as error:
        say(f"  The difference was not measured: {error}")
        return
    say(
        f"  Measured on {PROMPTS} prompts ({found.tokens} tokens): with {base.name} the fine-tuned model is "
        f"a mean KL of {found.mean_kl:.4f} nats a token from the one that was trained, and has the same "
        f"likeliest token at {found.top1_agreement:.1%} of them."
    )


def measure(own: Path, other: Path, adapters: Sequence[Path], prompts: int = PROMPTS) -> BaseDifference:
    """Compare adapters on the base of their training with them on another base, on torch in fp32.

    Args:
        own: the checkpoint that they were trained on.
        other: the checkpoint that they are merged into.
        adapters: PEFT folders; none compares the bases.
        prompts: how many shipped test prompts, each with its best response.

    Raises:
        EmpathyEdgeError: an adapter does not fit one of them, or their vocabularies differ.
    """
    expected = _log_probs(own, adapters, prompts)
    found = _log_probs(other, adapters, prompts)
    if [item.shape for item in expected] != [item.shape for item in found]:
        raise EmpathyEdgeError("the two bases have other tokens.")
    divergences = np.concatenate([kl_divergence(p, q) for p, q in zip(expected, found, strict=True)])
    same = [p.argmax(-1) == q.argmax(-1) for p, q in zip(expected, found, strict=True)]
    return BaseDifference(float(divergences.mean()), float(np.concatenate(same).mean()), len(divergences))


def _log_probs(folder: Path, adapters: Sequence[Path], prompts: int) -> list[np.ndarray]:
    """Of each token of each response and of its end: float32 [tokens, vocabulary]."""
    runtime = TorchRuntime(folder, threads=default_threads(), adapters=adapters)
    found = []
    for dialogue in sample_test_dialogues(prompts):
        best = max(dialogue.responses, key=lambda response: response.rating or 0)
        prompt = runtime.encode(dialogue.prompt())
        logits = runtime.logits([*prompt, *runtime.tokenize(best.text)])
        found.append(log_softmax(logits[len(prompt) - 1 :]).astype(np.float32))
    runtime.close()
    return found
