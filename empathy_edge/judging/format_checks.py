"""Is a response well-formed? Checked before any judge sees it: format can decide a comparison."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from empathy_edge.text.language import same_language

MAX_WORDS = 97
"""The longest human response in the paper's data (arXiv 2507.08151)."""

CHECKS = ("stopped", "length", "no_loop", "language")

RUN_WORDS, MAX_SAME_RUNS = 5, 2
"""A response loops if a run of this many words occurs more often than this."""

MIN_WORDS_FOR_SHARE, MAX_SHARE_OF_WORD = 20, 0.5
"""A response of at least so many words loops if one word has a larger share of them than this."""


def check_format(text: str, finish_reason: str, said: str | None = None) -> dict[str, bool]:
    """Which checks a response passes.

    `stopped`: the model ended its turn by itself. `length`: 1 to 97 words. `no_loop`: no run of five words
    occurs three times, and no word makes up more than half of twenty or more words. `language`: no sentence
    is in another language than what was `said`, where that is given and long enough to tell its language.
    """
    return {
        "stopped": finish_reason == "stop",
        "length": 1 <= len(text.split()) <= MAX_WORDS,
        "no_loop": not _loops(text),
        "language": same_language(text, said) if said else True,
    }


def _loops(text: str) -> bool:
    words = re.findall(r"\w[\w'’]*", text.lower())
    last_start = len(words) - RUN_WORDS
    runs = Counter(tuple(words[start : start + RUN_WORDS]) for start in range(last_start + 1))
    if runs and max(runs.values()) > MAX_SAME_RUNS:
        return True
    if len(words) < MIN_WORDS_FOR_SHARE:
        return False
    return max(Counter(words).values()) > MAX_SHARE_OF_WORD * len(words)


def well_formed(row: Mapping[str, Any], said: str | None) -> bool:
    """Whether a response to what was `said` passes every check; the row has `text` and `finish_reason`."""
    return all(check_format(row["text"], row["finish_reason"], said).values())


def summarize(rows: Sequence[Mapping[str, Any]], said: Mapping[str, str]) -> dict[str, float]:
    """The share of responses that pass each check, and all of them (`ok`), and the median length in words.

    Args:
        rows: responses with `id`, `text` and `finish_reason`.
        said: id → what was responded to, where known.
    """
    checked = [check_format(row["text"], row["finish_reason"], said.get(row["id"])) for row in rows]
    shares = {name: round(sum(item[name] for item in checked) / len(checked), 4) for name in CHECKS}
    return {
        "responses": len(rows),
        "ok": round(sum(all(item.values()) for item in checked) / len(checked), 4),
        **shares,
        "median_words": statistics.median(len(row["text"].split()) for row in rows),
    }
