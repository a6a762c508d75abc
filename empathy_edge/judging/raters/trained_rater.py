"""A judge that was trained on ratings of replies: a GGUF whose rating is the gap between two logits.

`python -m empathy_edge.runs.trained_judge` makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.gguf_header import check_gguf
from empathy_edge.judging.raters.rater import CONTEXT, LARGEST, Rater, ToRate, refuse_long
from empathy_edge.runtimes import default_threads
from empathy_edge.runtimes.llama_cpp_runtime import LlamaCppRuntime
from empathy_edge.system.files import read_json, sha256_json
from empathy_edge.system.hash_cache import sha256_file

LONGEST_REPLY = 200
"""Tokens of a reply that are read, in training as well; the rest is left out."""

SURE = 8.0
"""Points (of 100) between two ratings that make the better reply right with a probability of 73 %.

By so many points differ replies whose logits differ by 1.
"""

FILE = "judge.json"
MODEL = "model.gguf"


class JudgeFile(BaseModel):
    """What `judge.json` holds, beside `model.gguf`.

    Attributes:
        format: of the file.
        base: the model that the judge was trained from, by name.
        good: the token whose logit is added.
        bad: the token whose logit is subtracted.
        end_of_turn: the token that is read after a reply.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["empathy-edge judge 1"] = "empathy-edge judge 1"
    base: str
    good: NonNegativeInt
    bad: NonNegativeInt
    end_of_turn: NonNegativeInt


class TrainedRater(Rater):
    """Rates each reply by itself, on llama.cpp; replies to one conversation are read in one go.

    Args:
        name: as the user gave it.
        folder: of the judge.

    Raises:
        EmpathyEdgeError: there is no judge in it.
    """

    scale = LARGEST / SURE

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self._file = _read(folder / FILE)
        model = folder / MODEL
        check_gguf(model)
        self.identity = sha256_json(
            ["trained", self._file.model_dump(mode="json"), sha256_file(model), CONTEXT]
        )
        self._runtime = LlamaCppRuntime(model, threads=default_threads(), context=CONTEXT)
        vocabulary = len(self._runtime.next_logits([0]))
        if max(self._file.good, self._file.bad, self._file.end_of_turn) >= vocabulary:
            raise EmpathyEdgeError(f"{folder / FILE}: names a token that {MODEL} does not have.")

    def rate_many(
        self, items: Sequence[ToRate], rated: Callable[[], None] = lambda: None
    ) -> list[list[float]]:
        found = []
        for item in items:
            prompt = self._runtime.encode(list(item.conversation))
            replies = [
                [*self._runtime.tokenize(reply)[:LONGEST_REPLY], self._file.end_of_turn]
                for reply in item.replies
            ]
            refuse_long(len(prompt) + max(map(len, replies)), self._runtime.context)
            logits = self._runtime.logits_after(prompt, replies)
            found.append([round(float(row[self._file.good] - row[self._file.bad]), 3) for row in logits])
            rated()
        return found

    def close(self) -> None:
        self._runtime.close()


def _read(file: Path) -> JudgeFile:
    try:
        return JudgeFile.model_validate(read_json(file))
    except ValidationError as error:
        raise EmpathyEdgeError(
            f"{file}: is no judge of this version ({error.error_count()} faults); train it again."
        ) from None
