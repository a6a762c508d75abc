"""Signs that a person is in danger, and what chat says then. A few plain patterns: they catch what is said openly, they
miss what is hinted at, and they are no assessment of anybody."""

from __future__ import annotations

import locale
import os
import re

from empathy_edge.prompts import load_prompts

_SIGNS = re.compile(
    r"""
    \b(?:kill|hang|shoot|drown|poison)(?:ing)?\s+myself\b
    | \b(?:end|ending|take|taking)\s+(?:my\s+(?:own\s+)?life|it\s+all)\b
    | \bsuicid(?:e|al)\b
    | \b(?:want|wanted|wish|ready|plan(?:ning)?|rather)\s+(?:to\s+)?(?:die|be\s+dead|be\s+gone\s+for\s+good)\b
    | \bi(?:\s+a|')m\s+going\s+to\s+die\s+by\s+my\s+own\b
    | \bi\s+wish\s+i\s+(?:was|were)\s+(?:dead|never\s+born)\b
    | \b(?:don'?t|do\s+not|no\s+longer)\s+(?:want\s+to|wanna)\s+(?:live(?!\s+(?:there|here|in|with|near|on|alone|like))|be\s+alive|exist|wake\s+up\s+again)\b
    | \b(?:no|any)\s+(?:reason|point)\s+(?:to\s+live|in\s+living|to\s+go\s+on\s+living)\b
    | \bbetter\s+off\s+(?:dead|without\s+me)\b
    | \b(?:cut|cutting|hurt|hurting|harm|harming|burn|burning)\s+myself\b(?!\s+(?:on|by\s+accident|while|when\s+cooking|shaving))
    | \boverdos(?:e|ed|ing)\s+on\b
    | \bself[-\s]?harm(?:ing)?\b
    | \b(?:don'?t|do\s+not)\s+(?:want\s+to|wanna)\s+(?:be\s+here|be\s+around|go\s+on)\b(?=\s*(?:[.!,]|any\s?more|without|$))
    | \b(?:sleep\s+and\s+)?never\s+wake\s+up\b
    | \bi\s+should\s+(?:just\s+)?(?:die|disappear|be\s+dead)\b
    | \b(?:if|when)\s+i\s+(?:was|were)\s+(?:gone|dead|no\s+longer\s+(?:here|alive))\b
    | \b(?:wrote|writing|written)\s+(?:\w+\s+){0,2}(?:goodbye|suicide|farewell)\s+(?:letter|note)s?\b
    | \b(?:cut|cutting|slit|slitting)\s+my\s+(?:arms?|wrists?|legs?|thighs?|skin)\b(?!\s+(?:on|by\s+accident|while|when\s+(?:i|cooking|shaving)|shaving))
    | \b(?:hit|hitting|bang|banging)\s+my\s+head\s+(?:against|on)\b
    | \bscratch(?:ing)?\s+my\s+(?:arms?|legs?|skin|face)\s+(?:until|bloody)\b
    | \b(?:tak(?:e|ing)|swallow(?:ing)?)\s+(?:all\s+(?:of\s+)?(?:them|my\s+(?:pills|tablets|medicine))|the\s+whole\s+(?:pack|bottle)\s+of\s+pills)\b
    | \bhow\s+many\s+(?:of\s+)?(?:my\s+)?(?:\w+\s+)?(?:pills|tablets)\s+(?:it\s+)?would\s+(?:it\s+)?take\b
    | \b(?:least\s+painful|painless|easiest|quickest)\s+way\s+to\s+(?:go|die)\b
    | \binsurance\b.{0,40}\b(?:worth\s+more\s+than\s+i\b|more\s+than\s+they\s+need\s+me)
    | \bi(?:'ve|\s+have)?\s+stopped\s+eating\b(?=\s*(?:[.!,]|$|\w+\s+(?:days?|weeks?)|last|this|because|since|and))
    | \b(?:throw(?:ing)?|threw)\s+up\s+after\s+(?:every|each)\s+meal\b
    """,
    re.IGNORECASE | re.VERBOSE,
)
_NOT_SIGNS = re.compile(
    r"laugh(?:ed|ing)?\s+(?:so\s+hard|to)|die\s+of\s+(?:laughter|embarrassment|boredom|shame)|to\s+die\s+for"
    r"|killing\s+myself\s+laughing|(?:movie|film|book|novel|song|series|game|squad)\b.{0,40}\bsuicid|suicide\s+squad",
    re.IGNORECASE,
)


def shows_signs(said: str) -> bool:
    """Whether someone says openly that they want to die or hurt themselves."""
    plain = said.replace("’", "'")
    return bool(_SIGNS.search(plain)) and not _NOT_SIGNS.search(plain)


def crisis_reply(country: str | None = None) -> str:
    """What to say: a small program speaks, and human help is there.

    Args:
        country: two letters, as DE; the system's locale tells it otherwise; unknown ones get a general line.
    """
    prompts = load_prompts("crisis")
    code = (country or _country()).upper()
    line = prompts.texts[code if len(code) == 2 and code in prompts.texts else "other"]
    return prompts.text("reply", line=line)


def _country() -> str:
    """The country of the user's locale, or nothing."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if match := re.match(r"[a-z]{2,3}_([A-Z]{2})\b", os.environ.get(name, "")):
            return match[1]
    found = locale.getlocale()[0] or ""
    return found.partition("_")[2][:2]
