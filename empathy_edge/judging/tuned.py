"""A small language model fine-tuned as a scorer: LoRA on rated responses, and the rating in the probabilities of its answer.

The model is asked the paper's naive question (arXiv 2412.20264) and learns to answer 1, 2 or 3. It serves offline from a
GGUF, without torch.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from empathy_edge.console import progress
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.chat_format import Message
from empathy_edge.judging.classifiers import RATINGS
from empathy_edge.judging.scorer_figures import Measured, expected
from empathy_edge.prompts import load_prompts
from empathy_edge.system.files import sha256_file

if TYPE_CHECKING:
    import pandas as pd


FILE = "scorer.json"
PROMPT = "naive"
ARTIFACT = "gguf-q8_0"
"""What the scorer serves from; Q8_0 keeps a fine-tune of any base."""

CONTEXT = 2048
MOST_REASONS = 6


class TunedScorer(Measured):
    """P(rating = 1, 2, 3): the model's probabilities of the tokens 1, 2 and 3 as its answer, divided by their sum."""

    def __init__(self, content: dict[str, Any], folder: Path) -> None:
        from empathy_edge.runtimes import default_threads, open_runtime

        artifact = folder / content["artifact"]["folder"]
        if not artifact.resolve().is_relative_to(folder.resolve()):
            raise EmpathyEdgeError(f"{folder / FILE}: its model lies outside of {folder}.")
        found = sha256_file(artifact / content["artifact"]["file"])
        if found != content["artifact"]["sha256"]:
            raise EmpathyEdgeError(
                f"{artifact}: is not the model that {folder / FILE} was measured with; train it again."
            )
        if content["prompts_sha256"] != load_prompts("score").sha256:
            raise EmpathyEdgeError(
                f"{folder / FILE}: was trained with other prompts than these; train it again."
            )
        super().__init__(content)
        self._runtime = open_runtime(str(artifact), threads=default_threads(), context=CONTEXT)
        self._tokens = [self._runtime.tokenize(str(rating))[0] for rating in RATINGS]
        self._rated: dict[tuple[str, str, str], np.ndarray] = {}

    def chances(self, rows: pd.DataFrame) -> np.ndarray:
        """Probabilities of 1, 2, 3, float64 [rows, 3], of responses (columns situation, speaker_uttr, response)."""
        return np.array([self._chances(row, row.response) for row in rows.itertuples()]).reshape(
            -1, len(RATINGS)
        )

    def score(self, rows: pd.DataFrame) -> tuple[np.ndarray, list[list[tuple[str, float]]]]:
        """As `chances`, and for each row what its sentences add: the expected rating less that without the sentence."""
        chances, reasons = np.zeros((len(rows), len(RATINGS))), []
        with progress() as bar:
            task = bar.add_task("rating", total=len(rows), note="")
            for place, row in enumerate(rows.itertuples()):
                chances[place] = self._chances(row, row.response)
                reasons.append(self._reasons(row, float(expected(chances[place]))))
                bar.advance(task)
        return chances, reasons

    def _chances(self, row: Any, response: str) -> np.ndarray:
        asked = (row.situation, row.speaker_uttr, response)
        if asked not in self._rated:
            self._rated[asked] = self._rate(*asked)
        return self._rated[asked]

    def _rate(self, situation: str, utterance: str, response: str) -> np.ndarray:
        ids = self._runtime.encode(messages(situation, utterance, response))
        if len(ids) >= CONTEXT:
            raise EmpathyEdgeError(f"A response of {len(response.split())} words is too long for the scorer.")
        logits = self._runtime.next_logits(ids)[self._tokens].astype(float)
        chances: np.ndarray = np.exp(logits - logits.max())
        return chances / chances.sum()

    def _reasons(self, row: Any, score: float) -> list[tuple[str, float]]:
        sentences = re.split(r"(?<=[.!?])\s+", row.response.strip())
        if len(sentences) < 2:
            return []
        moves = []
        for place, sentence in enumerate(sentences):
            rest = " ".join(sentences[:place] + sentences[place + 1 :])
            moves.append((f"“{sentence}”", round(score - float(expected(self._chances(row, rest))), 3)))
        return sorted(moves, key=lambda move: -abs(move[1]))[:MOST_REASONS]


def messages(situation: str, utterance: str, response: str) -> list[Message]:
    """What the scorer is asked about one response."""
    prompts = load_prompts("score")
    reply = prompts.text("reply", situation=situation, utterance=utterance, response=response)
    return [
        {"role": "system", "content": prompts.text("system")},
        {"role": "user", "content": prompts.text(PROMPT, reply=reply)},
    ]


def load(file: Path, content: dict[str, Any]) -> TunedScorer:
    """A scorer from its `scorer.json`.

    Raises:
        EmpathyEdgeError: the file is damaged, or the model beside it is another one.
    """
    try:
        return TunedScorer(content, file.parent)
    except (KeyError, TypeError) as error:
        raise EmpathyEdgeError(f"{file}: is damaged ({error}); train it again.") from None
