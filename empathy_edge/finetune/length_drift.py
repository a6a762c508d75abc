"""Whether replies get longer or shorter in DPO: the model answers some prompts before, halfway and after."""

from __future__ import annotations

import statistics
from typing import Any

import torch
from transformers import TrainerCallback

from empathy_edge.console import say
from empathy_edge.finetune.curves import Curves
from empathy_edge.finetune.training_results import LengthDrift
from empathy_edge.formats.chat_format import Message, turn_end_id
from empathy_edge.runtimes.torch_batch import Generated, generate
from empathy_edge.system.processes import is_main

MAX_NEW_TOKENS = 160

TOLERATED_CHANGE = 0.3
"""If the median length changes by more than this share, there is a warning."""


class LengthProbe(TrainerCallback):
    """Adds rows with `probe_median_words` and `probe_stopped` to the curves.

    `probe_median_words` is the median number of words of a reply, `probe_stopped` the share of replies that
    ended with a stop token.
    """

    def __init__(self, prompts: list[list[Message]], tokenizer: Any, curves: Curves) -> None:
        self.tokenizer = tokenizer
        self.curves = curves
        self.prompts = [
            tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False)
            for prompt in prompts
        ]

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Before the first step; not when training is resumed."""
        if state.global_step == 0 and is_main():
            self._probe(state.global_step, model)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Halfway."""
        if state.global_step == state.max_steps // 2 and is_main():
            self._probe(state.global_step, model)

    def after(self, step: int, model: Any) -> None:
        """After training, with the adapter that is kept: that of the best epoch, or of the last step."""
        if not any(row["step"] == step and "probe_stopped" in row for row in self.curves.rows):
            self._probe(step, model)

    def _probe(self, step: int, model: Any) -> None:
        if not self.prompts:
            return
        replies = self._replies(model)
        texts = [self.tokenizer.decode(reply.token_ids, skip_special_tokens=True) for reply in replies]
        median_words = statistics.median(len(text.split()) for text in texts)
        stopped = sum(reply.stopped for reply in replies) / len(replies)
        self.curves.add({"step": step, "probe_median_words": median_words, "probe_stopped": stopped})
        say(f"  step {step}: median {median_words:g} words, {stopped:.0%} stop")

    def _replies(self, model: Any) -> list[Generated]:
        stop_id = turn_end_id(self.tokenizer)
        was_training = model.training
        model.eval()
        with torch.random.fork_rng():  # so that the order of the training rows does not change
            replies = generate(
                model,
                self.prompts,
                stop_ids={stop_id},
                pad_id=self.tokenizer.pad_token_id,
                max_new_tokens=MAX_NEW_TOKENS,
            )
        model.train(was_training)
        return replies


def length_drift(curve: list[dict[str, Any]], prompts: int) -> LengthDrift | None:
    """The first and the last probe of the curves; None if there are not two.

    Args:
        curve: the rows of curves.jsonl.
        prompts: how many prompts each probe had.
    """
    probes = [row for row in curve if "probe_median_words" in row]
    if len(probes) < 2:
        return None
    before, after = probes[0], probes[-1]
    return LengthDrift(
        prompts=prompts,
        median_words_before=before["probe_median_words"],
        median_words_after=after["probe_median_words"],
        stopped_before=before["probe_stopped"],
        stopped_after=after["probe_stopped"],
    )


def drift_warnings(drift: LengthDrift | None) -> list[str]:
    """What a user should know about a change of the length; nothing for None."""
    if drift is None:
        return []
    warnings = []
    before, after = drift.median_words_before, drift.median_words_after
    if abs(after - before) > TOLERATED_CHANGE * max(before, 1):
        warnings.append(
            f"the median response went from {before:g} to {after:g} words in DPO: "
            "chosen and rejected differ in length. Pair responses of like length, or use loss: sigmoid_norm, "
            "a higher beta or a lower rate."
        )
    if drift.stopped_after < min(0.95, drift.stopped_before):
        warnings.append(
            f"only {drift.stopped_after:.0%} of {drift.prompts} responses stop after DPO "
            f"({drift.stopped_before:.0%} before): lower the rate or raise beta."
        )
    return warnings
