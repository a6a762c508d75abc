"""Judges from files: verdicts and ratings that people gave on a sheet, or another model."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterator, Sequence
from pathlib import Path
from typing import Any

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.json_lines import read_jsonl
from empathy_edge.judging.pairwise_judges import Judge
from empathy_edge.judging.verdicts import SWAPPED, Pair, Verdict, rating_key, verdict_of_ratings
from empathy_edge.prompts import load_prompts
from empathy_edge.system.hash_cache import sha256_file

REPLY_RATINGS = {str(level): level for level in range(1, 10)}
"""A person's answer about a reply that is seen alone (`prompts/alone.yaml`) → the rating."""


class VerdictFileJudge(Judge):
    """Verdicts made elsewhere: JSONL rows with `key` (`Pair.key`) and `verdict`.

    `judge sheet read` makes such a file of a filled-in sheet. Where the rows say who judged (`by`), a
    certificate is for those people, whatever the file; without it, the certificate is for this file's
    verdicts only.
    """

    def __init__(self, file: Path) -> None:
        rows = _read_rows(file, "'key' and 'verdict' (first, second, tie or unparsed)", _is_verdict)
        self._verdicts = {
            row["key"]: Verdict(row["verdict"], mirrored=bool(row.get("mirrored"))) for row in rows
        }
        self.name = f"file:{file.name}:{sha256_file(file)[:16]}"
        self.dialogue_ids = frozenset(str(row.get("id")) for row in rows)
        self._raters = _raters(rows, shown="pairs", prompts="judge")

    def identity(self) -> str:
        return self._raters or self.name

    def compare(self, pairs: Sequence[Pair], question: str) -> Iterator[Verdict]:
        keys = [(pair.id, pair.key(question)) for pair in pairs]
        _require_all(self.name, "pairs", keys, self._verdicts)
        for _, key in keys:
            yield self._verdicts[key]


class RatingFileJudge(Judge):
    """Ratings of single replies: JSONL rows with `key` (`rating_key`), `rating`, and `by` (who rated).

    The reply with the higher rating wins, so the order cannot matter. Who rated is the judge that is
    certified, whatever the file.
    """

    def __init__(self, file: Path) -> None:
        rows = _read_rows(file, "'key' and 'rating' (a number)", _is_rating)
        self._ratings = {row["key"]: float(row["rating"]) for row in rows}
        self.name = f"ratings:{file.name}:{sha256_file(file)[:16]}"
        self.dialogue_ids = frozenset(str(row.get("id")) for row in rows)
        self._raters = _raters(rows, shown="alone", prompts="alone")

    def identity(self) -> str:
        return self._raters or self.name

    def compare(self, pairs: Sequence[Pair], question: str) -> Iterator[Verdict]:
        keys: dict[tuple[str, str], str] = {}
        for pair in pairs:
            for text in (pair.first, pair.second):
                keys[pair.id, text] = rating_key(question, pair.situation, pair.utterance, text)
        _require_all(self.name, "replies", [(name, key) for (name, _), key in keys.items()], self._ratings)
        for pair in pairs:
            first, second = (self._ratings[keys[pair.id, text]] for text in (pair.first, pair.second))
            yield verdict_of_ratings(first, second)


def _read_rows(file: Path, needs: str, fits: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    rows = read_jsonl(file)
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or not isinstance(row.get("key"), str) or not fits(row):
            raise EmpathyEdgeError(f"{file}: row {number}: needs {needs}.")
    return rows


def _is_verdict(row: dict[str, Any]) -> bool:
    return row.get("verdict") in tuple(SWAPPED)


def _is_rating(row: dict[str, Any]) -> bool:
    rating = row.get("rating")
    return isinstance(rating, int | float) and not isinstance(rating, bool) and math.isfinite(rating)


def _raters(rows: list[dict[str, Any]], shown: str, prompts: str) -> str | None:
    """Who judged, what was shown and what was asked; None where not every row has the same raters."""
    raters = {tuple(row["by"]) if isinstance(row.get("by"), list) else None for row in rows}
    if len(raters) != 1 or not (names := raters.pop()):
        return None
    return f"raters:{'+'.join(sorted(map(str, names)))}:{shown}:{load_prompts(prompts).sha256}"


def _require_all(judge: str, what: str, keys: list[tuple[str, str]], known: Container[str]) -> None:
    missing = [(name, key) for name, key in keys if key not in known]
    if missing:
        raise EmpathyEdgeError(
            f"{judge}: {len(missing)} of {len(keys)} {what} are not in it (first: {missing[0][0]}, "
            f"key {missing[0][1]}); texts or question are others than those that were judged."
        )
