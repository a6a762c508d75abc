"""Judges: each compares two responses, shown in one order, and says first, second, tie or unparsed.

A judge is a local model (by the probabilities of its answers), a model behind an API, or a scorer whose
ratings are compared. Verdicts that were made elsewhere are in `file_judges`. How good a judge is, `certify`
measures.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.judging.verdicts import (
    ANSWER_TIE_MARGIN,
    ANSWERS,
    FAILED,
    Pair,
    Verdict,
    verdict_of_ratings,
)
from empathy_edge.llm.api_settings import ApiSettings
from empathy_edge.llm.client import ModelClient
from empathy_edge.llm.records import CutOff, Request, Withheld
from empathy_edge.llm.teachers import open_model_client
from empathy_edge.models.find import find_model
from empathy_edge.prompts import load_prompts
from empathy_edge.runtimes import default_threads, open_runtime
from empathy_edge.runtimes.distributions import log_sum_exp
from empathy_edge.system.hash_cache import sha256_file

CONTEXT = 2048
"""Tokens that a local judge's question and the two responses may have together."""

TRIES = 3
"""How often an API judge is asked in all when its answer cannot be read."""

KINDS = ("local", "scorer", "file", "ratings", "openai")


class Spent(NamedTuple):
    """Calls that were made so far and what they cost in USD; None where the model's price is not known."""

    calls: int
    usd: float | None


class Judge(Protocol):
    """Something that compares pairs; subclasses override what is not as given here.

    Attributes:
        name: holds everything that the verdicts depend on.
        dialogue_ids: the only dialogues that the judge knows, for a file of verdicts; None: any dialogue.
    """

    name: str
    dialogue_ids: frozenset[str] | None = None

    def compare(self, pairs: Sequence[Pair], question: str) -> Iterator[Verdict]:
        """A verdict for each pair, in their order; `FAILED` where the judge could not be asked."""
        ...

    def identity(self) -> str:
        """Who is certified: the judge's name; for a file of verdicts the people who filled in the sheet."""
        return self.name

    def has_seen(self, dialogue_id: str) -> bool:
        """Whether the judge was trained on this dialogue, so that it must not be tested on it."""
        return False

    def spent(self) -> Spent:
        """What the judge's calls cost so far."""
        return Spent(0, 0.0)


@contextmanager
def open_judge(spec: str, api: ApiSettings) -> Iterator[Judge]:
    """Open local:MODEL, scorer:FILE, file:VERDICTS.jsonl, ratings:FILE.jsonl, or openai:MODEL.

    Args:
        spec: the kind and the name.
        api: endpoint and limits, for openai:MODEL, which is asked through the ledger.

    Raises:
        EmpathyEdgeError: no such kind of judge.
    """
    kind, _, name = spec.partition(":")
    if not name or kind not in KINDS:
        raise EmpathyEdgeError(
            f"--judge '{spec}': give local:MODEL, openai:MODEL, scorer:FILE, file:VERDICTS.jsonl "
            "or ratings:FILE.jsonl."
        )
    if kind == "openai":
        with open_model_client(spec, api, run="compare") as client:
            yield ApiJudge(client)
    else:
        yield _open_local(kind, name)


def _open_local(kind: str, name: str) -> Judge:
    from empathy_edge.judging.file_judges import RatingFileJudge, VerdictFileJudge

    if kind == "local":
        return LocalJudge(name)
    if kind == "scorer":
        return ScorerJudge(Path(name))
    return VerdictFileJudge(Path(name)) if kind == "file" else RatingFileJudge(Path(name))


class LocalJudge(Judge):
    """A model in this process. It judges by the probabilities of its answer; nothing is sampled."""

    def __init__(self, model: str) -> None:
        ref = find_model(model)
        self.name = f"local:{ref.path.name}:{ref.identity[:16]}:{load_prompts('judge').sha256}"
        self._runtime = open_runtime(model, threads=default_threads(), context=CONTEXT)
        self._answer_tokens = [self._runtime.answer_tokens(digit) for digit in ANSWERS]

    def compare(self, pairs: Sequence[Pair], question: str) -> Iterator[Verdict]:
        for pair in pairs:
            logits = self._runtime.next_logits(self._runtime.encode(pair.messages(question)))
            yield self._verdict(logits)

    def _verdict(self, logits: np.ndarray) -> Verdict:
        """The verdict from the logits of the next token, [vocabulary].

        Where the likeliest token is none of the answers, the model would have said something else. The
        answers still have an order, but this is no answer.
        """
        answers = np.array([log_sum_exp(logits[tokens]) for tokens in self._answer_tokens])
        odds = np.exp(answers - answers.max())
        first, second, tie = odds / odds.sum()
        likeliest = int(np.argmax(logits))
        if not any(likeliest in tokens for tokens in self._answer_tokens):
            words = self._runtime.token_bytes(likeliest).decode("utf-8", "replace")
            return Verdict("unparsed", float(first), words)
        if tie > max(first, second) or abs(first - second) < ANSWER_TIE_MARGIN:
            verdict = "tie"
        else:
            verdict = "first" if first > second else "second"
        return Verdict(verdict, round(float(first + tie / 2), 4))


class ScorerJudge(Judge):
    """A trained scorer as judge: the response with the higher expected rating wins.

    It rates each response alone, so the order cannot matter.
    """

    def __init__(self, file: Path) -> None:
        from empathy_edge.judging.open_scorer import open_scorer

        self.file = file
        self.scorer = open_scorer(file)
        self.name = f"scorer:{sha256_file(file)[:16]}"
        self._ratings: dict[tuple[str, str], float] = {}

    def has_seen(self, dialogue_id: str) -> bool:
        return self.scorer.seen(dialogue_id)

    def compare(self, pairs: Sequence[Pair], question: str) -> Iterator[Verdict]:
        self._rate(pairs)
        for pair in pairs:
            yield verdict_of_ratings(self._ratings[pair.id, pair.first], self._ratings[pair.id, pair.second])

    def _rate(self, pairs: Sequence[Pair]) -> None:
        """Rate every response that is new; each is rated once, however many pairs it is in."""
        from empathy_edge.judging.base_scorer import expected_rating
        from empathy_edge.judging.rated import rows_to_score

        new: dict[tuple[str, str], Pair] = {}
        for pair in pairs:
            for text in (pair.first, pair.second):
                if (pair.id, text) not in self._ratings:
                    new[pair.id, text] = pair
        if not new:
            return
        rows = rows_to_score(list(new.values()), [text for _, text in new])
        scores = expected_rating(self.scorer.probabilities(rows))
        for key, score in zip(new, scores, strict=True):
            self._ratings[key] = float(score)


class ApiJudge(Judge):
    """A model behind an API, asked through the ledger: an answer that was paid for is not asked for again."""

    def __init__(self, client: ModelClient) -> None:
        self._client = client
        self.name = f"{client.identity()}:{load_prompts('judge').sha256}"

    def compare(self, pairs: Sequence[Pair], question: str) -> Iterator[Verdict]:
        verdicts = self._client.run(pairs, lambda pair: self._ask(pair, question), label="judging")
        for verdict in verdicts:
            yield verdict if isinstance(verdict, Verdict) else Verdict(FAILED, answer=str(verdict))

    def spent(self) -> Spent:
        budget = self._client.budget
        return Spent(self._client.calls, None if budget.price is None else budget.cost)

    async def _ask(self, pair: Pair, question: str) -> Verdict:
        """The verdict of the first answer that can be read.

        Raises:
            TeacherError: a call failed for good.
        """
        text = ""
        for sample in range(TRIES):
            temperature = 0.0 if sample == 0 else 0.7
            request = Request(tuple(pair.messages(question)), temperature, 8, sample, f"{pair.id} {question}")
            try:
                text = (await self._client.ask(request)).text
            except CutOff as error:
                text = str(error)
                continue
            except Withheld as error:
                return Verdict("unparsed", answer=str(error))
            verdict = parse_answer(text)
            if verdict is not None:
                return Verdict(verdict, answer=text)
        return Verdict("unparsed", answer=text)


def parse_answer(text: str) -> str | None:
    """first, second or tie, if the answer is one digit and nothing that needs interpretation."""
    match = re.fullmatch(r"[\s\"'*(]*([012])[\s\"'*).]*", text)
    return ANSWERS[match[1]] if match else None
