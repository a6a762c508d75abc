"""Is a response well-formed at all? Checked before any judge looks at it, since format can win a comparison."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

MOST_WORDS = 97
"""The longest human response in the paper's data (arXiv 2507.08151)."""

CHECKS = ("stopped", "length", "no_loop")


def check_format(text: str, finish_reason: str) -> dict[str, bool]:
    """What holds of a response.

    `stopped`: the model ended its turn by itself; `length`: 1–97 words; `no_loop`: no run of five words comes three
    times, and no word makes up half of twenty or more.
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
    }


def summarize(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The share of responses for which each check holds, all of them together, and the median length in words."""
    import statistics

    checked = [check_format(row["text"], row["finish_reason"]) for row in rows]
    shares = {name: round(sum(item[name] for item in checked) / len(checked), 4) for name in CHECKS}
    return {
        "responses": len(rows),
        "ok": round(sum(all(item.values()) for item in checked) / len(checked), 4),
        **shares,
        "median_words": statistics.median(len(row["text"].split()) for row in rows),
    }
