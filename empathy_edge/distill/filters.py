"""What a teacher's answer may not be: each filter has a name, and the manifest counts and shows what it caught."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from typing import Any

from empathy_edge.text.near_duplicates import shingles
from empathy_edge.text.self_harm import advises_self_harm

VERSION = 2
"""Raised when a filter changes, so that rows made with older ones are not taken for the same."""

EXAMPLES = 3
COPIED = 0.8

_ECHO = re.compile(
    r"^\s*(?:(?:here(?:'s| is)[^:\n]{0,60}|(?:the |my )?(?:improved|rewritten|revised|new|better)?\s*(?:response|reply|answer|version))\s*:\s*)+",
    re.IGNORECASE,
)
_REFUSAL = re.compile(
    r"\b(?:as an? (?:ai|language model)|i(?:'m| am) (?:just )?an? (?:ai|language model)|i (?:can(?:no|')t|am unable to|won't) "
    r"(?:assist|help|comply|provide|fulfil)|i'm sorry,? but i can(?:no|')t)\b",
    re.IGNORECASE,
)
_PLACEHOLDER = re.compile(r"\[[A-Za-z][^\]\d]{1,40}\]|<[a-z][^>]{1,40}>", re.IGNORECASE)
_ABOUT_THE_TASK = re.compile(
    r"\b(?:cognitive|affective|compassionate)(?: empathy)?:|\bempathy(?:'s)? (?:depth|goes|is|means|involves)\b|"
    r"\b(?:the|this|my) (?:reply|response|rewrite) (?:is|shows|should|keeps|has)\b",
    re.IGNORECASE,
)
_COMMON = frozenset(
    [
        "the",
        "a",
        "an",
        "and",
        "or",
        "but",
        "of",
        "to",
        "in",
        "on",
        "for",
        "with",
        "at",
        "it",
        "is",
        "are",
        "was",
        "were",
        "be",
        "been",
        "have",
        "has",
        "had",
        "do",
        "does",
        "did",
        "not",
        "no",
        "so",
        "that",
        "this",
        "i",
        "you",
        "he",
        "she",
        "we",
        "they",
        "me",
        "my",
        "your",
        "his",
        "her",
        "our",
        "their",
        "it's",
        "i'm",
        "you're",
        "that's",
        "what",
        "how",
        "when",
        "if",
        "as",
        "from",
        "about",
        "can",
        "will",
    ]
)
_QUOTES = {'"': '"', "“": "”", "'": "'", "«": "»", "`": "`"}


def strip_echo(text: str) -> str:
    """The bare reply: without a leading “Improved Response:” and without quotation marks around the whole."""
    text = _ECHO.sub("", text.strip()).strip()
    while (
        len(text) > 1 and text[0] in _QUOTES and text[-1] == _QUOTES[text[0]] and text[-1] not in text[1:-1]
    ):
        text = text[1:-1].strip()
    return text


def fault(text: str, *, utterance: str, original: str, most_words: int) -> str | None:
    """The name of the first filter that catches a response; None for a good one.

    `copy` is a response that mostly repeats the utterance, or the response that it was to improve.
    """
    if not text.strip():
        return "empty"
    if _REFUSAL.search(text):
        return "refusal"
    if advises_self_harm(text):
        return "self-harm advice"
    if _PLACEHOLDER.search(text):
        return "placeholder"
    if _ABOUT_THE_TASK.search(text):
        return "about the task"
    if len(text.split()) > most_words:
        return "too long"
    if not _is_english(text):
        return "wrong language"
    if _overlap(text, utterance) >= COPIED or (
        original and _overlap(text, original) >= COPIED and _overlap(original, text) >= COPIED
    ):
        return "copy"
    return None


class Caught:
    """Counts what each filter caught, with the first few examples, for the manifest."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, list[dict[str, str]]] = defaultdict(list)

    def add(self, name: str, dialogue_id: str, text: str) -> None:
        """One response caught by the filter `name`."""
        self._counts[name] += 1
        if len(self._examples[name]) < EXAMPLES:
            self._examples[name].append({"id": dialogue_id, "text": text[:300]})

    def report(self) -> dict[str, Any]:
        """Count and examples by filter."""
        return {
            name: {"count": count, "examples": self._examples[name]}
            for name, count in self._counts.most_common()
        }


def _is_english(text: str) -> bool:
    """Mostly Latin letters and, from eight words on, a tenth of the commonest English words."""
    letters = [char for char in text if char.isalpha()]
    if letters and sum(char.isascii() for char in letters) / len(letters) < 0.8:
        return False
    words = _words(text)
    return len(words) < 8 or sum(word in _COMMON for word in words) / len(words) >= 0.1


def _words(text: str) -> list[str]:
    return re.findall(r"[\w']+", text.lower())


def _overlap(text: str, other: str) -> float:
    """The share of `text`'s three-word runs that stand in `other`."""
    mine, theirs = shingles(text), shingles(other)
    return len(mine & theirs) / len(mine) if len(_words(text)) >= 3 else 0.0
