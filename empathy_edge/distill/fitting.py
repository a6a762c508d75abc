"""Make responses fit for a small student: short, about what the person said, without stock phrases.

A 135M model learns a large model's style before its sense. What it can learn is plain mirroring and support.
So each response is shortened to whole sentences without stock phrases. Of several responses to a dialogue,
those nearest in meaning to the utterance are kept. Measured in docs/results/paper-study.md.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace

from empathy_edge.distill.filters import RejectedResponses
from empathy_edge.formats.dialogue import Dialogue, Response
from empathy_edge.runs.settings import FitSettings
from empathy_edge.text.rules import plain_quotes

STOCK_PHRASES = r"""
    \b(?:
        remember,
      | it's\ (?:okay|ok|normal|natural)\ to
      | you(?:'re|\ are)\ not\ alone
      | (?:i'm\ |we're\ )?here\ (?:for\ you|to\ (?:listen|help|support))
      | completely\ (?:understandable|normal)
      | hear\ that\ you(?:'re|\ are)\ (?:feeling|going\ through)
      | feeling\ this\ way
      | your\ feelings\ are
      | valid
      | as\ an\ ai
      | reach\ out
      | thank\ you\ for\ sharing
      | mental\ health
      | take\ care\ of\ yourself
    )\b
"""
"""Phrases that fit every dialogue."""

_STOCK_PHRASES = re.compile(STOCK_PHRASES, re.IGNORECASE | re.VERBOSE)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True)
class _Candidate:
    """A good response and its cosine similarity to the utterance of the dialogue at `place` in the list."""

    place: int
    dialogue_id: str
    response: Response
    similarity: float


def shorten(text: str, settings: FitSettings) -> str:
    """The first sentences without a stock phrase, as many as the settings allow."""
    kept: list[str] = []
    for sentence in _SENTENCE_END.split(text.strip()):
        if _STOCK_PHRASES.search(plain_quotes(sentence)):
            continue
        if kept and len(" ".join([*kept, sentence]).split()) > settings.most_words:
            break
        kept.append(sentence)
        if len(kept) == settings.most_sentences:
            break
    return " ".join(kept)


def fit_responses(
    dialogues: list[Dialogue], sources: tuple[str, ...], settings: FitSettings, rejected: RejectedResponses
) -> list[Dialogue]:
    """Shorten the responses of `sources`, and of those rated 3 keep only the nearest ones.

    Nearness is the cosine similarity of sentence embeddings to the utterance. What is left out is added to
    `rejected`.
    """
    shortened = [_shorten_responses(dialogue, sources, settings, rejected) for dialogue in dialogues]
    candidates = _candidates(shortened, sources)
    if not candidates:
        return shortened
    nearest = _nearest(candidates, settings, rejected)
    nearest.sort(key=lambda item: -item.similarity)
    kept = _limit_equal_beginnings(nearest, settings, rejected)
    kept_objects = {id(item.response) for item in kept}

    def is_kept(response: Response) -> bool:
        is_candidate = response.source in sources and response.rating == 3
        return not is_candidate or id(response) in kept_objects

    return [replace(dialogue, responses=tuple(filter(is_kept, dialogue.responses))) for dialogue in shortened]


def _shorten_responses(
    dialogue: Dialogue, sources: tuple[str, ...], settings: FitSettings, rejected: RejectedResponses
) -> Dialogue:
    """Shorten the responses of `sources`, and leave out those that get too short or stay too long."""
    responses: list[Response] = []
    for response in dialogue.responses:
        if response.source not in sources:
            responses.append(response)
            continue
        text = shorten(response.text, settings)
        words = len(text.split())
        if words < settings.least_words:
            rejected.add("stock phrases and little else", dialogue.id, response.text)
        elif words > settings.most_words + settings.least_words:
            rejected.add("one long sentence", dialogue.id, response.text)
        else:
            responses.append(replace(response, text=text))
    return replace(dialogue, responses=tuple(responses))


def _candidates(dialogues: list[Dialogue], sources: tuple[str, ...]) -> list[_Candidate]:
    """The responses of `sources` that are rated 3, with their similarity to the utterance."""
    from empathy_edge.text.embeddings import embed

    good: list[tuple[int, Response]] = []
    for place, dialogue in enumerate(dialogues):
        for response in dialogue.responses:
            if response.source in sources and response.rating == 3:
                good.append((place, response))
    if not good:
        return []
    of_utterances = embed([dialogue.utterance for dialogue in dialogues])
    of_responses = embed([response.text for _, response in good])
    return [
        _Candidate(place, dialogues[place].id, response, float(of_utterances[place] @ vector))
        for (place, response), vector in zip(good, of_responses, strict=True)
    ]


def _nearest(
    candidates: list[_Candidate], settings: FitSettings, rejected: RejectedResponses
) -> list[_Candidate]:
    """Of each dialogue's candidates the `per_dialogue` nearest ones, if they are near enough."""
    kept: list[_Candidate] = []
    by_dialogue: dict[int, list[_Candidate]] = {}
    for item in candidates:
        by_dialogue.setdefault(item.place, []).append(item)
    for group in by_dialogue.values():
        nearest_first = sorted(group, key=lambda item: -item.similarity)
        for rank, item in enumerate(nearest_first):
            if item.similarity < settings.least_similarity:
                rejected.add("far from what was said", item.dialogue_id, item.response.text)
            elif rank >= settings.per_dialogue:
                rejected.add("others are nearer", item.dialogue_id, item.response.text)
            else:
                kept.append(item)
    return kept


def _limit_equal_beginnings(
    candidates: list[_Candidate], settings: FitSettings, rejected: RejectedResponses
) -> list[_Candidate]:
    """Of the responses that begin with the same two words, keep a limited share, the first ones.

    Otherwise a small model learns to begin every response like that.
    """
    max_equal = max(1, round(settings.most_alike * len(candidates)))
    counts: Counter[str] = Counter()
    kept = []
    for item in candidates:
        beginning = " ".join(item.response.text.lower().split()[:2])
        counts[beginning] += 1
        if counts[beginning] <= max_equal:
            kept.append(item)
        else:
            rejected.add("begins like too many others", item.dialogue_id, item.response.text)
    return kept
