"""Texts for quantizers to calibrate on: dialogues of the training split, never of the test split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from empathy_edge.console import progress
from empathy_edge.data import sample_dialogues
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.chat_format import messages_for, turn_end
from empathy_edge.formats.dialogue import read_dialogues
from empathy_edge.runtimes import default_threads
from empathy_edge.runtimes.torch_batch import generate
from empathy_edge.runtimes.torch_runtime import TorchRuntime
from empathy_edge.system.device import chosen_device

MAX_TOKENS = 512
"""Longer texts are cut off, prompt and response together."""

RESPONSE_TOKENS = 64
BATCH_SIZE = 16


@dataclass(frozen=True)
class Calibration:
    """Token ids of whole conversations.

    Attributes:
        source: the name of the file they are from.
        ids: the token ids of each text, prompt and response; the shortest prompt first.
    """

    source: str
    ids: list[list[int]]

    @property
    def tokens(self) -> int:
        """How many tokens there are in all."""
        return sum(map(len, self.ids))


def calibration_texts(checkpoint: Path, dialogues: Path | None, count: int) -> Calibration:
    """The first `count` prompts of the training split, each with the checkpoint's own greedy response.

    The quantized model will have to give these responses again. Those of others would calibrate it for inputs
    that it never gets.

    Args:
        checkpoint: its tokenizer, template and weights are used (torch, fp32).
        dialogues: a file that `distill` takes; None takes the shipped sample.
        count: the largest number of dialogues.

    Raises:
        EmpathyEdgeError: no dialogue of the training split.
    """
    source = dialogues or sample_dialogues()
    utterances = [item.utterance for item in read_dialogues(source) if item.split == "train"]
    distinct = list(dict.fromkeys(utterances))[:count]
    if not distinct:
        raise EmpathyEdgeError(f"{source}: no dialogue of the training split; nothing to calibrate on.")
    runtime = TorchRuntime(checkpoint, threads=default_threads(), device=chosen_device())
    prompts = sorted((runtime.encode(messages_for(text)) for text in distinct), key=len)
    ids: list[list[int]] = []
    with progress() as bar:
        task = bar.add_task("calibration texts", total=len(prompts))
        for start in range(0, len(prompts), BATCH_SIZE):
            batch = prompts[start : start + BATCH_SIZE]
            ids += _with_responses(runtime, batch)
            bar.advance(task, len(batch))
    runtime.close()
    return Calibration(source.name, ids)


def _with_responses(runtime: TorchRuntime, prompts: list[list[int]]) -> list[list[int]]:
    """The prompts, each with its greedy response, and with the end of the turn if the response ended."""
    replies = generate(
        runtime.model,
        prompts,
        stop_ids=runtime.stop_ids,
        pad_id=runtime.tokenizer.pad_token_id,
        max_new_tokens=RESPONSE_TOKENS,
    )
    end_of_turn = runtime.tokenize(turn_end(runtime.template, runtime.eos))
    texts = []
    for prompt, (response, stopped) in zip(prompts, replies, strict=True):
        text = prompt + response + (end_of_turn if stopped else [])
        texts.append(text[:MAX_TOKENS])
    return texts
