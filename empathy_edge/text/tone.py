"""Does a response console or congratulate? Condolence for good news is a small model's commonest fault.

Sentence embeddings see the topic and hardly the tone: “I'm sorry to hear that you got a lamp” is near to “What a lovely
lamp”. So the first sentence's own words decide.
"""

from __future__ import annotations

import re
from typing import Literal

Tone = Literal["consoling", "congratulating", "neither"]

_CONSOLING = re.compile(
    r"\b(?:sorry|oh no|condolences|tough|hard|difficult|frustrat\w*|disappoint\w*|upset\w*|awful|terrible|heartbreak\w*|"
    r"stressful|scary|frighten\w*|unsettling|annoying|challenging|overwhelm\w*|embarrass\w*|painful|sad|hurt\w*)\b",
    re.IGNORECASE,
)
_CONGRATULATING = re.compile(
    r"\b(?:congrat\w*|wonderful|great|glad|awesome|fantastic|amazing|exciting|excited|happy|delight\w*|lovely|proud|"
    r"beautiful|fun|heartwarming|thrill\w*|sweet|joy\w*)\b",
    re.IGNORECASE,
)


def tone(text: str) -> Tone:
    """The tone of a response's first sentence, by which of the two kinds of words comes first in it."""
    first = re.split(r"(?<=[.!?])\s+", text.strip())[0]
    consoling, congratulating = _CONSOLING.search(first), _CONGRATULATING.search(first)
    if consoling and (not congratulating or consoling.start() < congratulating.start()):
        return "consoling"
    return "congratulating" if congratulating else "neither"


def clashes(text: str, references: list[str]) -> bool:
    """Whether a response consoles where the known good responses congratulate, or the other way round."""
    mine = tone(text)
    wanted = {tone(reference) for reference in references} - {"neither"}
    return mine != "neither" and len(wanted) == 1 and mine not in wanted
