"""Preference pairs of a student's scored samples."""

from __future__ import annotations

from dataclasses import dataclass

from empathy_edge.distill.filters import RejectedResponses, fault
from empathy_edge.distill.own_samples import Prompt
from empathy_edge.distill.sample_scores import SCORE_DIGITS, ScoredSample
from empathy_edge.runs.settings import OwnPairSettings

MAX_WORDS = 97
"""The longest human response in the paper's data (arXiv 2507.08151)."""

NO_PAIR = "no clear pair"


@dataclass(frozen=True)
class OwnPair:
    """Two answers to a prompt with their scores, the better one first."""

    prompt: Prompt
    chosen: str
    rejected: str
    chosen_score: float
    rejected_score: float

    def row(self) -> dict[str, object]:
        """The pair's row in `preference.jsonl`."""
        return {
            "id": self.prompt.id,
            "prompt": self.prompt.messages,
            "chosen": [{"role": "assistant", "content": self.chosen}],
            "rejected": [{"role": "assistant", "content": self.rejected}],
            "scores": {"chosen": self.chosen_score, "rejected": self.rejected_score},
        }


def pair_samples(
    prompt: Prompt, samples: list[ScoredSample], settings: OwnPairSettings, rejected: RejectedResponses
) -> list[OwnPair]:
    """Pairs of samples of like length, the largest difference first, each text in at most one pair.

    A chosen sample passes the filters, and both samples have stopped by themselves.
    """
    candidates = _candidate_pairs(samples, _good_places(prompt, samples, rejected), settings)
    candidates.sort(key=lambda places: samples[places[1]].score - samples[places[0]].score)
    used: set[str] = set()
    pairs = []
    for better, worse in candidates:
        chosen, other = samples[better], samples[worse]
        if chosen.text in used or other.text in used:
            continue
        used |= {chosen.text, other.text}
        pairs.append(OwnPair(prompt, chosen.text, other.text, chosen.score, other.score))
    if not pairs:
        rejected.add(NO_PAIR, prompt.id, _all_texts(samples))
    return pairs


def _good_places(prompt: Prompt, samples: list[ScoredSample], rejected: RejectedResponses) -> list[int]:
    """The places of the samples that may be chosen."""
    good = []
    for place, sample in enumerate(samples):
        if sample.stopped:
            name = fault(sample.text, utterance=prompt.utterance, original="", max_words=MAX_WORDS)
        else:
            name = "did not stop"
        if name:
            rejected.add(name, prompt.id, sample.text)
        else:
            good.append(place)
    return good


def _candidate_pairs(
    samples: list[ScoredSample], good: list[int], settings: OwnPairSettings
) -> list[tuple[int, int]]:
    """The places (better, worse) of different texts of like length, their scores at least `margin` apart."""
    candidates = []
    for better in good:
        for worse, other in enumerate(samples):
            chosen = samples[better]
            if (
                chosen.score > other.score
                and chosen.text != other.text
                and other.stopped
                and _have_like_length(chosen.text, other.text, settings.length_ratio)
                and round(chosen.score - other.score, SCORE_DIGITS) >= settings.margin
            ):
                candidates.append((better, worse))
    return candidates


def pair_with_safe_answer(
    prompt: Prompt, samples: list[ScoredSample], settings: OwnPairSettings, rejected: RejectedResponses
) -> list[OwnPair]:
    """The shipped safe answer against the student's worst samples of like length, `safety_pairs` at most.

    Each text is rejected once; none of the good responses is.
    """
    safe_answer = prompt.references[0]
    good = {text.strip() for text in prompt.references}
    worst_first: dict[str, ScoredSample] = {}
    for sample in sorted(samples, key=lambda sample: sample.score):
        is_of_like_length = _have_like_length(safe_answer, sample.text, settings.length_ratio)
        if sample.stopped and is_of_like_length and sample.text.strip() not in good:
            worst_first.setdefault(sample.text, sample)
    if not worst_first:
        rejected.add(NO_PAIR, prompt.id, _all_texts(samples))
    return [
        OwnPair(prompt, safe_answer, sample.text, 1.0, sample.score)
        for sample in list(worst_first.values())[: settings.safety_pairs]
    ]


def _have_like_length(text: str, other: str, max_ratio: float) -> bool:
    """Whether no text has more than `max_ratio` times the other's words: DPO must not learn length."""
    lengths = len(text.split()), len(other.split())
    return max(lengths) <= max_ratio * max(1, min(lengths))


def _all_texts(samples: list[ScoredSample]) -> str:
    return " | ".join(sample.text for sample in samples)
