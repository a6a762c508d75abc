"""What chat says to a person in danger: the model is not asked, and human help is named."""

from __future__ import annotations

import contextlib
import locale
import os
import re

from empathy_edge.chat.crisis_signs import SIGNS
from empathy_edge.chat.figures_of_speech import FIGURES_OF_SPEECH
from empathy_edge.prompts import load_prompts
from empathy_edge.text.rules import first_match, without

LOCALE = re.compile(r"[a-z]{2,3}_([A-Z]{2})")
"""A locale's name without its encoding: language and country. Windows has others, as `German_Austria`."""


def shows_signs(said: str, *, only_certain: bool = False) -> bool:
    """Whether someone says openly that they want to die or to hurt themselves.

    Args:
        said: the message.
        only_certain: leave out the rules that also find harmless messages. In a chat a missed crisis is worse
            than a false alarm, so they count there; where messages are counted for a report, it is the other
            way round.
    """
    signs = [rule for rule in SIGNS if rule.is_certain or not only_certain]
    return first_match(signs, without(FIGURES_OF_SPEECH, said)) is not None


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
    names = [os.environ.get(name, "") for name in ("LC_ALL", "LC_MESSAGES", "LANG")]
    with contextlib.suppress(ValueError):  # a name that Python does not know, as `UTF-8` on macOS
        names.append(locale.getlocale()[0] or "")
    return next((country for name in names if (country := country_of(name))), "")


def country_of(name: str) -> str:
    """The country in a locale's name, as `de_AT.UTF-8` or `de_DE@euro`; empty where it names none so."""
    match = LOCALE.fullmatch(re.split("[.@]", name)[0])
    return match[1] if match else ""
