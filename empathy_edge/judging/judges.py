"""Who compares two responses: a local model by its answer's probabilities, an LLM behind an API, the scorer, or verdicts made elsewhere.

Each is asked one question about one pair in one order, and says first, second, tie or unparsed. What a judge is worth is
measured elsewhere; here nothing is believed or averaged.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.chat_format import Message
from empathy_edge.formats.dialogue import read_jsonl
from empathy_edge.llm.api_settings import ApiSettings
from empathy_edge.llm.client import ModelClient
from empathy_edge.llm.records import Request, TeacherError
from empathy_edge.llm.teachers import open_model_client
from empathy_edge.models.find import find_model
from empathy_edge.prompts import load_prompts
from empathy_edge.runtimes import default_threads, open_runtime
from empathy_edge.system.files import sha256_file, sha256_json

ANSWERS = {"1": "first", "2": "second", "0": "tie"}
TIE_MARGIN = 0.1
"""Where a local judge's two probabilities, or the scorer's two ratings, are nearer than this, it is a tie."""

RATINGS = {str(level): level for level in range(1, 10)}
"""What a person can say of a reply that is seen alone (`prompts/alone.yaml`)."""

TRIES = 3
"""How often an API judge is asked again when its answer cannot be read."""


@dataclass(frozen=True)
class Pair:
    """Two responses to one person, in the order in which the judge sees them."""

    id: str
    situation: str
    utterance: str
    first: str
    second: str

    def key(self, question: str) -> str:
        """What a verdict is kept under: the texts in their order, and the question."""
        return sha256_json([question, *list(asdict(self).values())[1:]])[:24]

    def turned(self) -> Pair:
        """The same pair in the other order."""
        return replace(self, first=self.second, second=self.first)

    def messages(self, question: str) -> list[Message]:
        """What a model is asked."""
        prompts = load_prompts("judge")
        slots = {name: value for name, value in asdict(self).items() if name != "id"}
        return [
            {"role": "system", "content": prompts.text("system")},
            {"role": "user", "content": prompts.text("pair", **slots, question=prompts.text(question))},
        ]


@dataclass(frozen=True)
class Verdict:
    """`verdict` is first, second, tie or unparsed; `first` the probability that the first is better, where the judge gives one.

    `mirrored`: nobody was asked in this order; the verdict of the other one stands for it.
    """

    verdict: str
    first: float | None = None
    answer: str = ""
    mirrored: bool = False


class Judge(Protocol):
    """Something that compares pairs; `name` holds everything that its verdicts depend on."""

    name: str

    def compare(self, pairs: Sequence[Pair], question: str) -> Iterator[Verdict]:
        """A verdict for each pair, in their order."""
        ...


@contextmanager
def judged_by(spec: str, api: ApiSettings) -> Iterator[Judge]:
    """local:MODEL, scorer:FILE, file:VERDICTS.jsonl, ratings:FILE.jsonl, or openai:MODEL, which is asked through the ledger.

    Raises:
        EmpathyEdgeError: no such kind of judge.
    """
    kind, _, name = spec.partition(":")
    if not name or kind not in ("local", "scorer", "file", "ratings", "openai"):
        raise EmpathyEdgeError(
            f"--judge '{spec}': give local:MODEL, openai:MODEL, scorer:FILE, file:VERDICTS.jsonl or ratings:FILE.jsonl."
        )
    if kind == "openai":
        with open_model_client(spec, api, run="compare") as client:
            yield AskedJudge(client)
    else:
        yield LocalJudge(name) if kind == "local" else _OF_FILES[kind](Path(name))


class LocalJudge:
    """A model in this process; its verdict is in the probabilities of the answer's token, so that nothing is sampled."""

    def __init__(self, model: str) -> None:
        ref = find_model(model)
        self.name = f"local:{ref.path.name}:{ref.sha256[:16]}:{load_prompts('judge').sha256}"
        self._runtime = open_runtime(model, threads=default_threads(), context=2048)
        self._tokens = {digit: self._runtime.tokenize(digit)[0] for digit in ANSWERS}

    def compare(self, pairs: Sequence[Pair], question: str) -> Iterator[Verdict]:
        for pair in pairs:
            logits = self._runtime.next_logits(self._runtime.encode(pair.messages(question)))
            answers = np.array([logits[token] for token in self._tokens.values()], dtype=float)
            likeliest = int(np.argmax(logits))
            chances = np.exp(answers - answers.max())
            first, second, tie = chances / chances.sum()
            equal = tie > max(first, second) or abs(first - second) < TIE_MARGIN
            verdict = "tie" if equal else "first" if first > second else "second"
            if likeliest not in self._tokens.values():
                # It would have said something else; the digits still have an order, but this is no answer.
                yield Verdict(
                    "unparsed", float(first), self._runtime.token_bytes(likeliest).decode("utf-8", "replace")
                )
            else:
                yield Verdict(verdict, round(float(first + tie / 2), 4))


class ScorerJudge:
    """The trained scorer as a judge: whose expected rating is higher. It sees each response alone, so order cannot matter."""

    def __init__(self, file: Path) -> None:
        from empathy_edge.judging.open_scorer import open_scorer

        self.file = file
        self.scorer = open_scorer(file)
        self.name = f"scorer:{sha256_file(file)[:16]}"
        self.seen = self.scorer.seen
        self._rated: dict[tuple[str, str], float] = {}

    def compare(self, pairs: Sequence[Pair], question: str) -> Iterator[Verdict]:
        ratings = self._rate(pairs)
        for pair in pairs:
            difference = ratings[pair.id, pair.first] - ratings[pair.id, pair.second]
            tie = abs(difference) < TIE_MARGIN
            yield Verdict("tie" if tie else "first" if difference > 0 else "second")

    def _rate(self, pairs: Sequence[Pair]) -> dict[tuple[str, str], float]:
        """Expected ratings by prompt and response; each is rated once, in however many pairs it stands."""
        from empathy_edge.judging.rated import rows_to_score
        from empathy_edge.judging.scorer_figures import expected

        asked = {(pair.id, text): pair for pair in pairs for text in (pair.first, pair.second)}
        new = [key for key in asked if key not in self._rated]
        if new:
            scores = expected(
                self.scorer.chances(rows_to_score([asked[key] for key in new], [text for _, text in new]))
            )
            self._rated |= {key: float(score) for key, score in zip(new, scores, strict=True)}
        return self._rated


class AskedJudge:
    """An LLM that is asked through the ledger: an answer that was paid for is not asked for again."""

    def __init__(self, client: ModelClient) -> None:
        self._client = client
        self._loop = asyncio.Runner()  # one for all batches: the client's connections belong to it
        self.name = f"{client.teacher.model}:{load_prompts('judge').sha256}"

    def compare(self, pairs: Sequence[Pair], question: str) -> Iterator[Verdict]:
        return iter(self._loop.run(self._all(pairs, question)))

    def spent(self) -> tuple[int, float | None]:
        """Calls that were made, and their cost in USD; None where the model's price is not known."""
        budget = self._client.budget
        return self._client.calls, None if budget.price is None else budget.cost

    async def _all(self, pairs: Sequence[Pair], question: str) -> list[Verdict]:
        return list(await asyncio.gather(*(self._ask(pair, question) for pair in pairs)))

    async def _ask(self, pair: Pair, question: str) -> Verdict:
        text = ""
        for sample in range(TRIES):
            request = Request(
                tuple(pair.messages(question)),
                0.0 if sample == 0 else 0.7,
                8,
                sample,
                f"{pair.id} {question}",
            )
            try:
                text = (await self._client.ask(request)).text
            except TeacherError as error:
                return Verdict("unparsed", answer=str(error))
            if (verdict := parse(text)) is not None:
                return Verdict(verdict, answer=text)
        return Verdict("unparsed", answer=text)


def parse(text: str) -> str | None:
    """first, second or tie from an answer that is one of the digits, and nothing that needs interpretation."""
    match = re.fullmatch(r"[\s\"'*(]*([012])[\s\"'*).]*", text)
    return ANSWERS[match[1]] if match else None


def key_alone(question: str, situation: str, utterance: str, reply: str) -> str:
    """What a rating of one reply is kept under."""
    return sha256_json([question, situation, utterance, reply])[:24]


class FileJudge:
    """Verdicts made elsewhere: JSONL rows with `key` (`Pair.key`) and `verdict`; `sheet read` makes them of a filled-in sheet.

    Rows that say who judged (`by`) make that the judge that is certified, in whatever file; without it, only this file's verdicts are.
    """

    def __init__(self, file: Path) -> None:
        self._verdicts: dict[str, Verdict] = {}
        rows = _rows_by_key(file, "'key' and 'verdict' (first, second, tie or unparsed)", _is_verdict)
        for row in rows:
            self._verdicts[row["key"]] = Verdict(row["verdict"], mirrored=bool(row.get("mirrored")))
        self.name = f"file:{file.name}:{sha256_file(file)[:16]}"
        self.certified_as = _raters(rows, "pairs", "judge") or self.name
        self.ids = {str(row.get("id")) for row in rows}

    def compare(self, pairs: Sequence[Pair], question: str) -> Iterator[Verdict]:
        _all_known(self.name, "pairs", [(pair.id, pair.key(question)) for pair in pairs], self._verdicts)
        for pair in pairs:
            yield self._verdicts[pair.key(question)]


class RatingsJudge:
    """Ratings of each reply alone, by people or a model: JSONL rows with `key` (`key_alone`), `rating` and `by`; whose is higher wins.

    The order cannot matter. Who rated is the judge that is certified, in whatever file.
    """

    def __init__(self, file: Path) -> None:
        rows = _rows_by_key(file, "'key' and 'rating' (a number)", _is_rating)
        self._ratings = {row["key"]: float(row["rating"]) for row in rows}
        self.name = f"ratings:{file.name}:{sha256_file(file)[:16]}"
        self.certified_as = _raters(rows, "alone", "alone") or self.name
        self.ids = {str(row.get("id")) for row in rows}

    def compare(self, pairs: Sequence[Pair], question: str) -> Iterator[Verdict]:
        asked = {
            (pair.id, text): key_alone(question, pair.situation, pair.utterance, text)
            for pair in pairs
            for text in (pair.first, pair.second)
        }
        _all_known(self.name, "replies", [(name, key) for (name, _), key in asked.items()], self._ratings)
        for pair in pairs:
            lead = self._ratings[asked[pair.id, pair.first]] - self._ratings[asked[pair.id, pair.second]]
            yield Verdict("tie" if abs(lead) < TIE_MARGIN else "first" if lead > 0 else "second")


_OF_FILES: dict[str, Callable[[Path], Judge]] = {
    "scorer": ScorerJudge,
    "file": FileJudge,
    "ratings": RatingsJudge,
}


def identity(judge: Judge) -> str:
    """Who is certified: for verdicts from a file the raters, who fill in other sheets too; else the judge's name."""
    return str(getattr(judge, "certified_as", judge.name))


def _rows_by_key(file: Path, needs: str, fits: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    rows = read_jsonl(file)
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or not isinstance(row.get("key"), str) or not fits(row):
            raise EmpathyEdgeError(f"{file}: row {number}: needs {needs}.")
    return rows


def _is_verdict(row: dict[str, Any]) -> bool:
    return row.get("verdict") in ("first", "second", "tie", "unparsed")


def _is_rating(row: dict[str, Any]) -> bool:
    rating = row.get("rating")
    return isinstance(rating, int | float) and not isinstance(rating, bool) and math.isfinite(rating)


def _raters(rows: list[dict[str, Any]], manner: str, prompts: str) -> str | None:
    """Who judged, what was shown and what was asked; None where not every row has the same raters."""
    raters = {tuple(row["by"]) if isinstance(row.get("by"), list) else None for row in rows}
    if len(raters) != 1 or not (names := raters.pop()):
        return None
    return f"raters:{'+'.join(sorted(map(str, names)))}:{manner}:{load_prompts(prompts).sha256}"


def _all_known(judge: str, what: str, asked: list[tuple[str, str]], known: Container[str]) -> None:
    missing = [(name, key) for name, key in asked if key not in known]
    if missing:
        raise EmpathyEdgeError(
            f"{judge}: {len(missing)} of {len(asked)} {what} are not in it (first: {missing[0][0]}, key {missing[0][1]}); "
            "texts or question are others than those that were judged."
        )


def record(judge: Judge, question: str, pair: Pair, verdict: Verdict) -> dict[str, Any]:
    """A verdict's row on the disk."""
    return {
        "judge": judge.name,
        "question": question,
        "key": pair.key(question),
        "id": pair.id,
        **asdict(verdict),
    }
