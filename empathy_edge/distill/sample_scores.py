"""Scores of the student's samples: nearness to good responses, and likelihood under a larger model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from empathy_edge.distill.own_samples import Prompt, Samples
from empathy_edge.distill.ranker import log_probs_by_ranker
from empathy_edge.runs.settings import OwnPairSettings
from empathy_edge.text.embeddings import embed
from empathy_edge.text.tone import clashes

SCORE_DIGITS = 4
"""Scores are rounded to so many."""

NO_TEXT = "…"
"""What is embedded in place of an empty answer."""


@dataclass(frozen=True)
class ScoredSample:
    """A sample and its score; `nats` is the ranker's log-probability per character, if there is a ranker."""

    text: str
    stopped: bool
    score: float
    nats: float | None = None

    def row(self, prompt_id: str) -> dict[str, object]:
        """The sample's row in `samples.jsonl`."""
        row: dict[str, object] = {
            "id": prompt_id,
            "text": self.text,
            "stopped": self.stopped,
            "score": self.score,
        }
        return row if self.nats is None else {**row, "nats": self.nats}


def score_samples(
    prompts: list[Prompt], samples: Samples, settings: OwnPairSettings, file: Path
) -> list[list[ScoredSample]]:
    """Score each prompt's samples, in the order of the prompts.

    The score is the mean cosine similarity to the prompt's good responses (without any: to what the person
    says), less `tone_penalty` where the tone clashes with theirs. A ranker's log-probability per character,
    less the mean of the prompt's samples, is added `likelihood_weight` times.

    Args:
        prompts: what was answered.
        samples: `settings.samples` for each prompt.
        settings: the weights, and the ranker's name.
        file: where the ranker's values are kept.
    """
    similarities = _similarities(prompts, samples, settings.samples)
    log_probs = _log_probs(prompts, samples, settings, file)
    scored = []
    for prompt, similar, nats in zip(prompts, similarities, log_probs, strict=True):
        mean_nats = float(np.mean(nats))
        of_prompt = []
        for sample, similarity, likelihood in zip(samples[prompt.id], similar, nats, strict=True):
            score = (
                float(similarity)
                - settings.tone_penalty * clashes(sample.text, prompt.references)
                + settings.likelihood_weight * (likelihood - mean_nats)
            )
            known_nats = round(likelihood, 4) if settings.ranker else None
            of_prompt.append(
                ScoredSample(sample.text, sample.stopped, round(score, SCORE_DIGITS), known_nats)
            )
        scored.append(of_prompt)
    return scored


def _similarities(prompts: list[Prompt], samples: Samples, count: int) -> list[np.ndarray]:
    """For each prompt, each sample's mean cosine similarity to the good responses, float32 [count]."""
    references: list[str] = []
    answers: list[str] = []
    for prompt in prompts:
        references += prompt.compared_with
        answers += [sample.text or NO_TEXT for sample in samples[prompt.id]]
    of_references = embed(references)
    of_answers = embed(answers)
    similarities = []
    first_reference = 0
    for number, prompt in enumerate(prompts):
        own_answers = of_answers[number * count : (number + 1) * count]
        own_references = of_references[first_reference : first_reference + len(prompt.compared_with)]
        first_reference += len(prompt.compared_with)
        similarities.append((own_answers @ own_references.T).mean(axis=1))
    return similarities


def _log_probs(
    prompts: list[Prompt], samples: Samples, settings: OwnPairSettings, file: Path
) -> list[list[float]]:
    """For each prompt, each sample's log-probability by the ranker, nats per character; 0 without one."""
    count = settings.samples
    if settings.ranker is None:
        return [[0.0] * count for _ in prompts]
    asked = []
    texts = []
    for prompt in prompts:
        for sample in samples[prompt.id]:
            asked.append(prompt.messages)
            texts.append(sample.text)
    found = log_probs_by_ranker(settings.ranker, asked, texts, file)
    return [found[start : start + count] for start in range(0, len(found), count)]
