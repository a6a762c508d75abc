"""Texts from which a quantizer learns what matters: chat-templated dialogues of the training split, never of the test split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from empathy_edge.chat_format import messages_for, read_template, render, turn_end
from empathy_edge.data import sample_dialogues
from empathy_edge.dialogue import read_dialogues
from empathy_edge.errors import EmpathyEdgeError

MOST_TOKENS = 512


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
    """The first `count` dialogues of the training split, each with its best-rated response, as `checkpoint` reads them.

    Args:
        checkpoint: its tokenizer and chat template are used.
        dialogues: a file that `distill` takes; None takes the shipped sample.
        count: the most dialogues.

    Raises:
        EmpathyEdgeError: no dialogue of the training split has a response.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint, local_files_only=True)
    template = read_template(checkpoint)
    source = dialogues or sample_dialogues()
    texts = []
    for dialogue in read_dialogues(source):
        if dialogue.split == "train" and dialogue.responses:
            best = max(dialogue.responses, key=lambda response: response.rating or 0)
            prompt = render(
                template,
                messages_for(dialogue.utterance),
                bos=tokenizer.bos_token or "",
                eos=tokenizer.eos_token or "",
            )
            texts.append(prompt + best.text + turn_end(template))
    if not texts:
        raise EmpathyEdgeError(
            f"{source}: no dialogue of the training split with a response; nothing to calibrate on."
        )
    ids: list[Any] = [tokenizer.encode(text, add_special_tokens=False)[:MOST_TOKENS] for text in texts[:count]]
    return Calibration(source.name, ids)
