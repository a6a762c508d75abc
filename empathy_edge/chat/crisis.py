"""What chat says to a person in danger: the model is not asked, and human help is named."""

from __future__ import annotations

import locale
import os
import re
from collections.abc import Iterable

from empathy_edge.chat.crisis_signs import FIGURES_OF_SPEECH, SIGNS, Sign
from empathy_edge.prompts import load_prompts


def _any_of(signs: Iterable[Sign]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{sign.pattern})" for sign in signs), re.IGNORECASE | re.VERBOSE)


_SIGNS = _any_of(SIGNS)
_FIGURES_OF_SPEECH = _any_of(FIGURES_OF_SPEECH)


def shows_signs(said: str) -> bool:
    """Whether someone says openly that they want to die or to hurt themselves."""
    text = said.replace("’", "'")
    return bool(_SIGNS.search(text)) and not _FIGURES_OF_SPEECH.search(text)


def crisis_reply(country: str | None = None) -> str:
    """A reply that says that a small program answers, and where human help is.

    Args:
        country: two letters, as DE; by default that of the locale. An unknown one gets a general line.
    """
    prompts = load_prompts("crisis")
    code = (country or _country()).upper()
    is_known = len(code) == 2 and code in prompts.texts
    return prompts.text("reply", line=prompts.texts[code if is_known else "other"])


def _country() -> str:
    """The country of the user's locale, or nothing."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if match := re.match(r"[a-z]{2,3}_([A-Z]{2})\b", os.environ.get(name, "")):
            return match[1]
    language_and_country = locale.getlocale()[0] or ""
    return language_and_country.partition("_")[2][:2]
