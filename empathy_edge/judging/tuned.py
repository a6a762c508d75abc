"""A small language model fine-tuned as a scorer: the rating is in the probabilities of its answer.

It is trained with LoRA on rated responses (`runs.tuned_scorer`): asked the paper's naive question (arXiv
2412.20264), it learns to answer 1, 2 or 3. It runs offline from a GGUF file, without torch.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.chat_format import Message
from empathy_edge.judging.base_scorer import BaseScorer, Reasons, expected_rating
from empathy_edge.judging.classifiers import RATINGS
from empathy_edge.prompts import load_prompts
from empathy_edge.runtimes.distributions import log_sum_exp
from empathy_edge.system.hash_cache import sha256_file

if TYPE_CHECKING:
    import pandas as pd


FILE = "scorer.json"
PROMPT = "naive"
ARTIFACT = "gguf-q8_0"
"""What the scorer runs from; Q8_0 is accurate enough for a fine-tune of any base."""

CONTEXT = 2048
MAX_REASONS = 6
MAX_KNOWN = 10_000
"""Ratings that are kept in memory, for texts that come again."""


class TunedScorer(BaseScorer):
    """P(rating = 1, 2, 3): the model's probabilities of the answers 1, 2 and 3, divided by their sum."""

    def __init__(self, content: dict[str, Any], folder: Path) -> None:
        from empathy_edge.runtimes import default_threads, open_runtime

        artifact = _artifact_of(content, folder)
        super().__init__(content)
        self._runtime = open_runtime(str(artifact), threads=default_threads(), context=CONTEXT)
        self._rating_tokens = [self._runtime.answer_tokens(str(rating)) for rating in RATINGS]
        self._known: dict[tuple[str, str, str], np.ndarray] = {}

    def probabilities(self, rows: pd.DataFrame) -> np.ndarray:
        rated = [self._of_response(row, row.response) for row in rows.itertuples()]
        return np.array(rated).reshape(-1, len(RATINGS))

    def score(self, rows: pd.DataFrame) -> tuple[np.ndarray, list[Reasons]]:
        """As `probabilities`, and for each row what its sentences add.

        A sentence adds the expected rating less the expected rating without the sentence.
        """
        probabilities = np.zeros((len(rows), len(RATINGS)))
        reasons = []
        for place, row in enumerate(rows.itertuples()):
            probabilities[place] = self._of_response(row, row.response)
            reasons.append(self._reasons(row, float(expected_rating(probabilities[place]))))
        return probabilities, reasons

    def _of_response(self, row: Any, response: str) -> np.ndarray:
        """The probabilities for a response to a row's utterance, [3]; each is computed once."""
        key = (row.situation, row.speaker_uttr, response)
        if key not in self._known:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[key] = self._rate(*key)
        return self._known[key]

    def _rate(self, situation: str, utterance: str, response: str) -> np.ndarray:
        ids = self._runtime.encode(messages(situation, utterance, response))
        if len(ids) >= CONTEXT:
            raise EmpathyEdgeError(f"A response of {len(response.split())} words is too long for the scorer.")
        of_tokens = self._runtime.next_logits(ids)
        logits = np.array([log_sum_exp(of_tokens[tokens]) for tokens in self._rating_tokens])
        odds: np.ndarray = np.exp(logits - logits.max())
        return odds / odds.sum()

    def _reasons(self, row: Any, score: float) -> Reasons:
        sentences = re.split(r"(?<=[.!?])\s+", row.response.strip())
        if len(sentences) < 2:
            return []
        reasons = []
        for place, sentence in enumerate(sentences):
            rest = " ".join(sentences[:place] + sentences[place + 1 :])
            without = float(expected_rating(self._of_response(row, rest)))
            reasons.append((f"“{sentence}”", round(score - without, 3)))
        return sorted(reasons, key=lambda reason: -abs(reason[1]))[:MAX_REASONS]


def _artifact_of(content: dict[str, Any], folder: Path) -> Path:
    """The model's folder, after a check that it is the model that the scorer's figures are of."""
    artifact = folder / content["artifact"]["folder"]
    if not artifact.resolve().is_relative_to(folder.resolve()):
        raise EmpathyEdgeError(f"{folder / FILE}: its model lies outside of {folder}.")
    sha256 = sha256_file(artifact / content["artifact"]["file"])
    if sha256 != content["artifact"]["sha256"]:
        raise EmpathyEdgeError(
            f"{artifact}: is not the model that {folder / FILE} was measured with; train it again."
        )
    if content["prompts_sha256"] != load_prompts("score").sha256:
        raise EmpathyEdgeError(f"{folder / FILE}: was trained with other prompts than these; train it again.")
    return artifact


def messages(situation: str, utterance: str, response: str) -> list[Message]:
    """The chat messages that ask the scorer about one response."""
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
