"""Does the model talk longer and longer while DPO trains it? It answers a few prompts before, halfway and after."""

from __future__ import annotations

import statistics
from typing import Any

import torch
from transformers import TrainerCallback

from empathy_edge.console import say
from empathy_edge.finetune.training import Curves
from empathy_edge.formats.chat_format import turn_end
from empathy_edge.runtimes.torch_batch import generate
from empathy_edge.system.processes import is_main

MOST_TOKENS = 160
TOLERATED = 0.3
"""A median that moves by more than this share of the one before is warned about."""


class LengthProbe(TrainerCallback):
    """Writes `probe_median_words` and `probe_stopped` (a share) to the curves."""

    def __init__(self, prompts: list[list[dict[str, str]]], tokenizer: Any, curves: Curves) -> None:
        self.tokenizer, self.curves = tokenizer, curves
        self.prompts = [
            tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False)
            for prompt in prompts
        ]

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        if state.global_step == 0 and is_main():
            self._probe(state, model)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        if state.global_step in (state.max_steps // 2, state.max_steps) and is_main():
            self._probe(state, model)

    def _probe(self, state: Any, model: Any) -> None:
        if not self.prompts:
            return
        stop = self.tokenizer.convert_tokens_to_ids(turn_end(self.tokenizer.chat_template))
        training = model.training
        model.eval()
        with torch.random.fork_rng():  # the order of training rows must not depend on it
            replies = generate(
                model,
                self.prompts,
                stop_ids={stop},
                pad_id=self.tokenizer.pad_token_id,
                max_new_tokens=MOST_TOKENS,
            )
        model.train(training)
        words = [len(self.tokenizer.decode(ids, skip_special_tokens=True).split()) for ids, _ in replies]
        row = {
            "step": state.global_step,
            "probe_median_words": statistics.median(words),
            "probe_stopped": sum(stopped for _, stopped in replies) / len(replies),
        }
        self.curves.add(row)
        say(
            f"  step {row['step']}: median {row['probe_median_words']:g} words, {row['probe_stopped']:.0%} stop"
        )


def drift(curve: list[dict[str, Any]], prompts: int) -> dict[str, Any]:
    """First and last probe side by side; empty where there are not two."""
    probes = [row for row in curve if "probe_median_words" in row]
    if len(probes) < 2:
        return {}
    before, after = probes[0], probes[-1]
    return {
        "prompts": prompts,
        "median_words_before": before["probe_median_words"],
        "median_words_after": after["probe_median_words"],
        "stopped_before": before["probe_stopped"],
        "stopped_after": after["probe_stopped"],
    }


def drift_warnings(found: dict[str, Any]) -> list[str]:
    """What the probes say that a person should know."""
    if not found:
        return []
    warnings = []
    before, after = found["median_words_before"], found["median_words_after"]
    if abs(after - before) > TOLERATED * max(before, 1):
        warnings.append(
            f"the median response went from {before:g} to {after:g} words in DPO: chosen and rejected differ in length. "
            "Pair responses of like length, or use loss: sigmoid_norm, a higher beta or a lower rate."
        )
    if found["stopped_after"] < min(0.95, found["stopped_before"]):
        warnings.append(
            f"only {found['stopped_after']:.0%} of {found['prompts']} responses stop after DPO "
            f"({found['stopped_before']:.0%} before): lower the rate or raise beta."
        )
    return warnings
