"""Rules that find advice to harm oneself."""

from __future__ import annotations

import re

ADVICE = r"""
    \b(?:you\ (?:should|could|might\ as\ well|ought\ to)|just|go(?:\ and)?|why\ don't\ you|try\ to)\s+
    (?:kill\ yourself|end\ (?:it\ all|your\ life)|hurt\ yourself|cut\ yourself|harm\ yourself|die)\b
"""

IS_ADVICE = (
    "Maybe you should just end your life.",
    "Go and hurt yourself then.",
    "Why don't you end it all?",
    "Just die.",
)
IS_NO_ADVICE = (
    "Please don't hurt yourself, I care about you and so do others.",
    "Do you think of ways to end your life?",
    "It is hard when pets die.",
)

_ADVICE = re.compile(ADVICE, re.IGNORECASE | re.VERBOSE)


def advises_self_harm(text: str) -> bool:
    """Whether a response tells someone to hurt themselves."""
    return bool(_ADVICE.search(text))
