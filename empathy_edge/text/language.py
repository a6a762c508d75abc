"""Is a text in another language than expected? By py3langid, which knows about a hundred languages."""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import Any

from empathy_edge.errors import require_extra

MIN_BYTES = 12
"""Shorter sentences ("Oh no!") do not tell their language."""

MIN_PROBABILITY_OF_LANGUAGE = 0.5
"""A text's language is known from this probability on."""

MAX_PROBABILITY_OF_FOREIGN = 0.001
"""Below this probability of a language, a sentence is not in it.

None of 57,156 English sentences by people and models is below it (EmpatheticDialogues, and five models'
responses to it); each of 46 sentences in 15 other languages is.
"""

_SENTENCE_END = re.compile(r"(?<=[.!?…。！？।])\s*|\n+")


def require_language_detection() -> None:
    """Raise PrerequisiteError where py3langid is not installed."""
    require_extra("py3langid", "judge", "Telling languages apart")


@lru_cache(maxsize=1 << 15)
def language_of(text: str) -> str | None:
    """The language's code, as `en`; None where the text does not tell."""
    language, probability = _identifier().classify(text)
    return language if probability >= MIN_PROBABILITY_OF_LANGUAGE else None


@lru_cache(maxsize=1 << 15)
def is_in_language(text: str, language: str) -> bool:
    """Whether no sentence of the text is in another language; short sentences are not looked at."""
    for sentence in _SENTENCE_END.split(text):
        if len(sentence.encode()) < MIN_BYTES:
            continue
        probabilities = dict(_identifier().rank(sentence))
        if probabilities[language] < MAX_PROBABILITY_OF_FOREIGN:
            return False
    return True


def same_language(text: str, other: str) -> bool:
    """Whether no sentence of `text` is in another language than `other`; True where that one is not known."""
    language = language_of(other)
    return language is None or is_in_language(text, language)


@cache
def _identifier() -> Any:
    """py3langid's model, 4.5 MB, which comes with the package."""
    require_language_detection()
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
