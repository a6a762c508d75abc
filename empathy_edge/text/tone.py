"""Does a response console or congratulate? A small model's most common fault is to console for good news.

Sentence embeddings tell the topic, and hardly the tone: "I'm sorry to hear that you got a lamp" is near to
"What a lovely lamp". So the words of the first sentence decide.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

Tone = Literal["consoling", "congratulating", "neither"]

CONSOLING = (
    "sorry", "oh no", "condolences", "tough", "hard", "difficult", r"frustrat\w*", r"disappoint\w*",
    r"upset\w*", "awful", "terrible", r"heartbreak\w*", "stressful", "scary", r"frighten\w*", "unsettling",
    "annoying", "challenging", r"overwhelm\w*", r"embarrass\w*", "painful", "sad", r"hurt\w*",
)  # fmt: skip
CONGRATULATING = (
    r"congrat\w*", "wonderful", "great", "glad", "awesome", "fantastic", "amazing", "exciting", "excited",
    "happy", r"delight\w*", "lovely", "proud", "beautiful", "fun", "heartwarming", r"thrill\w*", "sweet",
    r"joy\w*",
)  # fmt: skip


def _any_of(words: Iterable[str]) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{'|'.join(words)})\b", re.IGNORECASE)


_CONSOLING = _any_of(CONSOLING)
_CONGRATULATING = _any_of(CONGRATULATING)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def tone(text: str) -> Tone:
    """The tone of a response's first sentence: that of the first word in it that belongs to either list."""
    first_sentence = _SENTENCE_END.split(text.strip())[0]
    consoling = _CONSOLING.search(first_sentence)
    congratulating = _CONGRATULATING.search(first_sentence)
    if consoling and (not congratulating or consoling.start() < congratulating.start()):
        return "consoling"
    return "congratulating" if congratulating else "neither"


def clashes(text: str, references: list[str]) -> bool:
    """Whether a response consoles where the good responses congratulate, or the other way round.

    Good responses without a tone do not count; where the others disagree, nothing clashes.
    """
    found = tone(text)
    expected = {tone(reference) for reference in references} - {"neither"}
    return found != "neither" and len(expected) == 1 and found not in expected
