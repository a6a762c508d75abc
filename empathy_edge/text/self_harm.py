"""Rules that find advice to harm oneself."""

from __future__ import annotations

import re

_SELF_HARM_ADVICE = re.compile(
    r"\b(?:you (?:should|could|might as well|ought to)|just|go(?: and)?|why don't you|try to)\s+"
    r"(?:kill yourself|end (?:it all|your life)|hurt yourself|cut yourself|harm yourself|die)\b",
    re.IGNORECASE,
)


def advises_self_harm(text: str) -> bool:
    """Whether a response tells someone to hurt themselves."""
    return bool(_SELF_HARM_ADVICE.search(text))
