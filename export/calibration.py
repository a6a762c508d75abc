"""Texts from which a quantizer learns what matters: chat-templated dialogues of the training split, never of the test split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from empathy_edge.console import progress
from empathy_edge.data import sample_dialogues
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.chat_format import messages_for, turn_end
from empathy_edge.formats.dialogue import read_dialogues
from empathy_edge.runtimes import open_runtime
from empathy_edge.runtimes.torch_batch import generate
from empathy_edge.runtimes.torch_runtime import TorchRuntime

MOST_TOKENS, RESPONSE_TOKENS, AT_ONCE = 512, 64, 16


@dataclass(frozen=True)
class Calibration:
    """Token ids of whole conversations.

    Attributes:
        source: the file they are from, for the manifest.
        ids: one list of token ids a dialogue, prompt and response.
    """

    source: str
    ids: list[list[int]]

    @property
    def tokens(self) -> int:
        """How many tokens there are in all."""
        return sum(map(len, self.ids))


def calibration_texts(checkpoint: Path, dialogues: Path | None, count: int) -> Calibration:
    """The first `count` prompts of the training split, each with the checkpoint's own greedy response.

    Its own responses are what the quantized model will have to say again; others' would show it inputs that it never sees.

    Args:
        checkpoint: its tokenizer, template and weights are used (torch, fp32).
        dialogues: a file that `distill` takes; None takes the shipped sample.
        count: the most dialogues.

    Raises:
        EmpathyEdgeError: no dialogue of the training split.
    """
    source = dialogues or sample_dialogues()
    said = list(dict.fromkeys(item.utterance for item in read_dialogues(source) if item.split == "train"))[
        :count
    ]
    if not said:
        raise EmpathyEdgeError(f"{source}: no dialogue of the training split; nothing to calibrate on.")
    runtime = open_runtime(checkpoint)
    assert isinstance(runtime, TorchRuntime)
    prompts = sorted((runtime.encode(messages_for(text)) for text in said), key=len)
    ids: list[list[int]] = []
    with progress() as bar:
        task = bar.add_task("calibration texts", total=len(prompts), note="")
        for start in range(0, len(prompts), AT_ONCE):
            batch = prompts[start : start + AT_ONCE]
            replies = generate(
                runtime.model,
                batch,
                stop_ids=runtime.stop_ids,
                pad_id=runtime.tokenizer.pad_token_id,
                max_new_tokens=RESPONSE_TOKENS,
            )
            ends = runtime.tokenize(turn_end(runtime.template))
            ids += [
                (prompt + new + (ends if stopped else []))[:MOST_TOKENS]
                for prompt, (new, stopped) in zip(batch, replies, strict=True)
            ]
            bar.advance(task, len(batch))
    runtime.close()
    return Calibration(source.name, ids)
