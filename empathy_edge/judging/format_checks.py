"""Is a response well-formed at all? Checked before any judge looks at it, since format can win a comparison."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any

from empathy_edge.errors import require_extra

MOST_WORDS = 97
"""The longest human response in the paper's data (arXiv 2507.08151)."""

CHECKS = ("stopped", "length", "no_loop", "language")

LEAST_BYTES = 12
"""Shorter sentences ("Oh no!") tell no language."""

SURE, FOREIGN = 0.5, 0.001
"""What was said is of a language from this probability on; a sentence is foreign below that one. None of 57,156 English sentences of
people and models is (EmpatheticDialogues and five models' responses to it), and each of 46 in 15 other languages that were tried is."""


def check_format(text: str, finish_reason: str, said: str | None = None) -> dict[str, bool]:
    """What holds of a response.

    `stopped`: the model ended its turn by itself; `length`: 1–97 words; `no_loop`: no run of five words comes three
    times, and no word makes up half of twenty or more; `language`: no sentence is in another language than what was `said`, where that is
    known and long enough to tell.
    """
    words = re.findall(r"\w[\w'’]*", text.lower())
    runs = Counter(zip(words, words[1:], words[2:], words[3:], words[4:], strict=False))
    looping = bool(runs) and max(runs.values()) >= 3
    if len(words) >= 20 and max(Counter(words).values()) > len(words) / 2:
        looping = True
    return {
        "stopped": finish_reason == "stop",
        "length": 1 <= len(text.split()) <= MOST_WORDS,
        "no_loop": not looping,
        "language": _same_language(text, said) if said else True,
    }


def well_formed(row: Mapping[str, Any], said: str | None) -> bool:
    """Whether every check holds of a response to what was `said`."""
    return all(check_format(row["text"], row["finish_reason"], said).values())


@lru_cache(maxsize=1 << 15)
def _same_language(text: str, said: str) -> bool:
    language = _language_of(said)
    if language is None:
        return True
    sentences = [
        part for part in re.split(r"(?<=[.!?…。！？।])\s*|\n+", text) if len(part.encode()) >= LEAST_BYTES
    ]
    return all(dict(_identifier().rank(part))[language] >= FOREIGN for part in sentences)


@lru_cache(maxsize=1 << 15)
def _language_of(said: str) -> str | None:
    language, chance = _identifier().classify(said)
    return language if chance >= SURE else None


@cache
def _identifier() -> Any:
    """py3langid's model of 100 languages and more, 4.5 MB, which comes with the package."""
    require_extra("py3langid", "judge", "Telling languages apart")
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def summarize(rows: list[dict[str, Any]], said: Mapping[str, str]) -> dict[str, float]:
    """The share of responses for which each check holds, all of them together, and the median length in words; `said` by id."""
    import statistics

    checked = [check_format(row["text"], row["finish_reason"], said.get(row["id"])) for row in rows]
    shares = {name: round(sum(item[name] for item in checked) / len(checked), 4) for name in CHECKS}
    return {
        "responses": len(rows),
        "ok": round(sum(all(item.values()) for item in checked) / len(checked), 4),
        **shares,
        "median_words": statistics.median(len(row["text"].split()) for row in rows),
    }
