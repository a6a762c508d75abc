"""Is a response well-formed at all? Checked before any judge looks at it, since format can win a comparison."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from empathy_edge.text.language import same_language

MOST_WORDS = 97
"""The longest human response in the paper's data (arXiv 2507.08151)."""

CHECKS = ("stopped", "length", "no_loop", "language")


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
        "language": same_language(text, said) if said else True,
    }


def well_formed(row: Mapping[str, Any], said: str | None) -> bool:
    """Whether every check holds of a response to what was `said`."""
    return all(check_format(row["text"], row["finish_reason"], said).values())


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
