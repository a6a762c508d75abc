"""Responses within the reach of a small student: short, about what was said, without the phrases that fit everything.

A 135M model picks up a large model's manner before its sense. What it can carry is plain mirroring and support: so each
response is shortened to whole sentences without stock phrases, and of several responses to a dialogue those are kept that
are nearest in meaning to what the person said. Measured in docs/results/paper-study.md.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from typing import Any

from empathy_edge.distill.filters import Caught
from empathy_edge.formats.dialogue import Dialogue, Response
from empathy_edge.runs.recipe import FitSettings

_STOCK = re.compile(
    r"\b(?:remember,|it's (?:okay|ok|normal|natural) to|you(?:'re| are) not alone|(?:i'm |we're )?here (?:for you|to (?:listen|help|support))|"
    r"completely (?:understandable|normal)|hear that you(?:'re| are) (?:feeling|going through)|feeling this way|your feelings are|"
    r"valid|as an ai|reach out|thank you for sharing|mental health|take care of yourself)\b",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def shorten(text: str, settings: FitSettings) -> str:
    """The first sentences that hold no stock phrase, as many as fit."""
    kept: list[str] = []
    for sentence in _SENTENCE_END.split(text.strip()):
        if _STOCK.search(sentence):
            continue
        if kept and len(" ".join([*kept, sentence]).split()) > settings.most_words:
            break
        kept.append(sentence)
        if len(kept) == settings.most_sentences:
            break
    return " ".join(kept)


def fit(
    dialogues: list[Dialogue], sources: tuple[str, ...], settings: FitSettings, caught: Caught
) -> list[Dialogue]:
    """The same dialogues with the responses of `sources` shortened, and of those rated 3 only the nearest kept.

    Nearness is the cosine similarity of sentence embeddings to the utterance. What is left out is counted in `caught`.
    """
    from empathy_edge.text.embeddings import embed

    shortened = [_shortened(dialogue, sources, settings, caught) for dialogue in dialogues]
    good = [
        (place, response)
        for place, dialogue in enumerate(shortened)
        for response in dialogue.responses
        if response.source in sources and response.rating == 3
    ]
    if not good:
        return shortened
    said = embed([dialogue.utterance for dialogue in shortened])
    answered = embed([response.text for _, response in good])
    near: dict[int, list[tuple[float, Response]]] = {}
    for (place, response), vector in zip(good, answered, strict=True):
        near.setdefault(place, []).append((float(said[place] @ vector), response))
    kept: list[tuple[float, Response]] = []
    for place, dialogue in enumerate(shortened):
        for rank, item in enumerate(sorted(near.get(place, []), key=lambda item: -item[0])):
            if item[0] < settings.least_similarity:
                caught.add("far from what was said", dialogue.id, item[1].text)
            elif rank >= settings.per_dialogue:
                caught.add("others are nearer", dialogue.id, item[1].text)
            else:
                kept.append(item)
    chosen = {
        id(response)
        for response in _varied([response for _, response in sorted(kept, key=_nearest)], settings, caught)
    }
    return [
        replace(
            dialogue,
            responses=tuple(
                response
                for response in dialogue.responses
                if response.source not in sources or response.rating != 3 or id(response) in chosen
            ),
        )
        for dialogue in shortened
    ]


def _nearest(item: tuple[float, Response]) -> float:
    return -item[0]


def _varied(responses: list[Response], settings: FitSettings, caught: Caught) -> list[Response]:
    """Of responses that begin with the same two words, only so many, the first ones: a small model says what is commonest."""
    most = max(1, round(settings.most_alike * len(responses)))
    counts: Counter[str] = Counter()
    kept = []
    for response in responses:
        words = " ".join(response.text.lower().split()[:2])
        counts[words] += 1
        if counts[words] <= most:
            kept.append(response)
        else:
            caught.add("begins like too many others", words, response.text)
    return kept


def _shortened(
    dialogue: Dialogue, sources: tuple[str, ...], settings: FitSettings, caught: Caught
) -> Dialogue:
    responses: list[Any] = []
    for response in dialogue.responses:
        if response.source not in sources:
            responses.append(response)
            continue
        text = shorten(response.text, settings)
        if len(text.split()) < settings.least_words:
            caught.add("stock phrases and little else", dialogue.id, response.text)
        elif len(text.split()) > settings.most_words + settings.least_words:
            caught.add("one long sentence", dialogue.id, response.text)
        else:
            responses.append(replace(response, text=text))
    return replace(dialogue, responses=tuple(responses))
