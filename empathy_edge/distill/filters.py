"""Filters of a teacher's responses. Each has a name, under which the manifest counts what it rejected."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass

from empathy_edge.distill.distill_results import RejectedBy, RejectedExample
from empathy_edge.text.language import is_in_language
from empathy_edge.text.near_duplicates import shingles
from empathy_edge.text.rules import plain_quotes
from empathy_edge.text.self_harm import advises_self_harm

VERSION = 4
"""Raised when a filter changes, so that rows of an older version are made again."""

MAX_EXAMPLES = 3
MAX_EXAMPLE_CHARACTERS = 300

MIN_COPIED = 0.8
"""A response is a copy when at least this share of its shingles is in another text."""

MIN_WORDS_OF_LANGUAGE = 8
"""Shorter responses do not tell their language."""

MIN_LATIN = 0.8
"""English has at least this share of ASCII letters, however short it is."""

ECHO = r"""
    ^\s*(?:
        (?:here(?:['’]s|\ is)[^:\n]{0,60}
         |(?:the\ |my\ )?(?:improved|rewritten|revised|new|better)?\s*(?:response|reply|answer|version)
        )\s*:\s*
    )+
"""
"""What a teacher writes before its response: “Improved Response:”."""

_ECHO = re.compile(ECHO, re.IGNORECASE | re.VERBOSE)
_QUOTES = {'"': '"', "“": "”", "'": "'", "«": "»", "`": "`"}


@dataclass(frozen=True)
class Rule:
    """A regular expression that rejects a response, with examples that it must reject and accept."""

    name: str
    pattern: str
    rejects: tuple[str, ...]
    accepts: tuple[str, ...]

    def matches(self, text: str) -> bool:
        """Whether the response is rejected."""
        return bool(re.search(self.pattern, plain_quotes(text), re.IGNORECASE | re.VERBOSE))


REFUSAL = Rule(
    "refusal",
    r"""
    \b(?:
        as\ an?\ (?:ai|language\ model)
      | i(?:'m|\ am)\ (?:just\ )?an?\ (?:ai|language\ model)
      | i\ (?:can(?:no|')t|am\ unable\ to|won't)
        \ (?:assist|comply|provide|fulfil|help(?!\ (?:but|it|myself|\w+ing)\b))
      | i'm\ sorry,?\ but\ i\ can(?:no|')t
        (?!\ (?:(?:even\ |begin\ to\ )?imagine|believe|help\ (?:but|it|myself|\w+ing))\b)
    )\b
    """,
    rejects=(
        "As an AI language model I don't have feelings.",
        "I'm just an AI, so I cannot feel that.",
        "I'm sorry, but I can't help with that.",
        "I won't provide that.",
        "I can’t help you with this request.",
        "I’m just an AI model.",
        "I’m sorry, but I can’t talk about it.",
        "I cannot help.",
    ),
    accepts=(
        "I can't believe that happened to you.",
        "I'm sorry, but you did all that you could.",
        "I can't help but smile at that.",
        "I can’t help smiling when I read this.",
        "I'm sorry, but I can't help it, that made me laugh!",
        "I'm so sorry. I can't help feeling for you.",
        "I'm sorry, but I can't imagine how that felt.",
    ),
)

PLACEHOLDER = Rule(
    "placeholder",
    r"\[[A-Za-z][^\]\d]{1,40}\]|<[a-z][^>]{1,40}>",
    rejects=("Dear [Person's Name], I am so sorry that your computer broke.", "Oh <name>, that hurts."),
    accepts=("That was a long week [1].", "I <3 that for you."),
)

ABOUT_THE_TASK = Rule(
    "about the task",
    r"""
    \b(?:cognitive|affective|compassionate)(?:\ empathy)?:
    | \bempathy(?:'s)?\ (?:depth|goes|is|means|involves)\b
    | \b(?:the|this|my)\ (?:reply|response|rewrite)\ (?:is|shows|should|keeps|has)\b
    """,
    rejects=(
        "Empathy's depth and warmth are enhanced. I hope you get well.",
        "Cognitive: You understand it. Affective: You are being very warm.",
        "The reply shows more understanding of what the person feels now.",
    ),
    accepts=("Waiting for the reply must be hard.", "You have shown him so much empathy."),
)


def strip_echo(text: str) -> str:
    """The bare response, without a leading “Improved Response:” and without quotation marks around it."""
    text = _ECHO.sub("", text.strip()).strip()
    while _is_quoted(text):
        text = text[1:-1].strip()
    return text


def _is_quoted(text: str) -> bool:
    if len(text) < 2 or text[0] not in _QUOTES:
        return False
    closing = _QUOTES[text[0]]
    return text[-1] == closing and closing not in text[1:-1]


def fault(text: str, *, utterance: str, original: str, max_words: int) -> str | None:
    """The name of the first filter that rejects a response; None for a good one.

    Args:
        text: the response.
        utterance: what it answers.
        original: the response that it improves; empty where there is none.
        max_words: a longer response is rejected.
    """
    if not text.strip():
        return "empty"
    if REFUSAL.matches(text):
        return REFUSAL.name
    if advises_self_harm(text):
        return "self-harm advice"
    for rule in (PLACEHOLDER, ABOUT_THE_TASK):
        if rule.matches(text):
            return rule.name
    if len(text.split()) > max_words:
        return "too long"
    if not _is_english(text):
        return "wrong language"
    if _is_copy(text, utterance, original):
        return "copy"
    return None


def _is_english(text: str) -> bool:
    letters = [character for character in text if character.isalpha()]
    if letters and sum(character.isascii() for character in letters) / len(letters) < MIN_LATIN:
        return False
    return len(_words(text)) < MIN_WORDS_OF_LANGUAGE or is_in_language(text, "en")


def _is_copy(text: str, utterance: str, original: str) -> bool:
    """Whether a response mostly repeats the utterance, or is nearly the original response."""
    if _copied_share(text, utterance) >= MIN_COPIED:
        return True
    if not original:
        return False
    return _copied_share(text, original) >= MIN_COPIED and _copied_share(original, text) >= MIN_COPIED


def _copied_share(text: str, other: str) -> float:
    """The share of `text`'s shingles that are in `other`; 0 for fewer than three words."""
    if len(_words(text)) < 3:
        return 0.0
    own = shingles(text)
    return len(own & shingles(other)) / len(own)


def _words(text: str) -> list[str]:
    return re.findall(r"[\w']+", text.lower())


class RejectedResponses:
    """Counts the responses that each filter rejected, and keeps the first few as examples."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, list[RejectedExample]] = defaultdict(list)

    def add(self, name: str, dialogue_id: str, text: str) -> None:
        """One response that the filter `name` rejected."""
        self._counts[name] += 1
        if len(self._examples[name]) < MAX_EXAMPLES:
            self._examples[name].append(RejectedExample(id=dialogue_id, text=text[:MAX_EXAMPLE_CHARACTERS]))

    def report(self) -> dict[str, RejectedBy]:
        """Count and examples by filter, the most frequent first."""
        return {
            name: RejectedBy(count=count, examples=self._examples[name])
            for name, count in self._counts.most_common()
        }
