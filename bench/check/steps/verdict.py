"""What the steps found of one artifact, its verdict in words, and both as one record."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from empathy_edge.bench.check import report
from empathy_edge.bench.check.report import CheckedArtifact
from empathy_edge.bench.check.steps.faults import JudgeError
from empathy_edge.bench.check.steps.health import Answer, Health
from empathy_edge.bench.check.steps.likelihood import PromptEvidence, WeightFigures, weight_figures
from empathy_edge.bench.check.steps.win_rate import Bounds, Decision, Step
from empathy_edge.judging.raters.sheet_rater import RatingsMissing
from empathy_edge.runs.settings import CheckSettings

SAMPLED_STEPS: dict[Step, report.DecidedBy] = {
    "any-judge": "likelihood, any judge",
    "likelihood": "likelihood",
    "judge": "judge",
}
GREEDY_STEPS = SAMPLED_STEPS | {"any-judge": "identical replies", "likelihood": "identical replies"}


@dataclass(frozen=True)
class Outcome:
    """The verdict and what led to it; see `CheckedArtifact`."""

    verdict: report.Verdict
    sentence: str
    decided_by: report.DecidedBy | None
    bounds: Bounds
    to_decide: str


def decided(label: str, decision: Decision, bounds: Bounds, settings: CheckSettings) -> Outcome:
    """PASS or FAIL by the evidence of a step."""
    decided_by = (GREEDY_STEPS if settings.greedy else SAMPLED_STEPS)[decision.step]
    low, high = f"{bounds.low:.1%}", f"{bounds.high:.1%}"
    if decision.verdict == "PASS":
        whose = ", whatever the judge" if decision.step == "any-judge" else ""
        sentence = f"{label} keeps it: at worst {low} of comparisons won{whose}, "
    else:
        bound = f"{settings.min_win_rate:.0%}"
        sentence = f"{label} does not keep it: at best {high} of comparisons won (bound {bound}), "
    sentence += f"decided by {decided_by}."
    return Outcome(decision.verdict, sentence, decided_by, bounds, "")


def undecided(label: str, bounds: Bounds, to_decide: str) -> Outcome:
    """UNDECIDED; `to_decide` says what would decide it."""
    sentence = f"{label} is undecided: between {bounds.low:.1%} and {bounds.high:.1%} of comparisons won."
    return Outcome("UNDECIDED", sentence, None, bounds, to_decide)


def broken(label: str, reason: str, decided_by: report.DecidedBy) -> Outcome:
    """FAIL of an artifact whose replies need not be compared."""
    sentence = f"{label} does not keep it: {reason.rstrip('.')}."
    return Outcome("FAIL", sentence, decided_by, Bounds(0.0, 1.0), "")


@dataclass
class Findings:
    """What the steps found so far; the lists grow as prompts are used.

    Attributes:
        answers: the artifact's first reply to each prompt.
        scored: step 3's evidence.
        same: ½ for each greedy reply that is the reference's text, else 0.
        judged: the points of each prompt's replies in step 4.
        notes: what was left out and why.
        health: after the last look.
        waits_for: ratings by people that are missing.
        judge_stopped: why the judge gave no more ratings.
        interrupted: whether something else than the artifact ended its check.
        identity: the hash of its files; empty until it is known.
        start: when its check began, as `time.perf_counter` has it.
    """

    answers: list[Answer] = field(default_factory=list)
    scored: list[PromptEvidence] = field(default_factory=list)
    same: list[float] = field(default_factory=list)
    judged: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    health: Health | None = None
    waits_for: RatingsMissing | None = None
    judge_stopped: JudgeError | None = None
    interrupted: bool = False
    identity: str = ""
    start: float = field(default_factory=time.perf_counter)

    def record(
        self, label: str, outcome: Outcome, by_judge: float | None, prompts_needed: int | None
    ) -> CheckedArtifact:
        """The record of the artifact's check.

        Args:
            label: the artifact's name in words.
            outcome: the verdict.
            by_judge: the win rate by the judge, 0 to 1; None where it rated nothing.
            prompts_needed: about how many would decide it without a judge; None where that is not known.
        """
        figures: WeightFigures | None = weight_figures(self.scored) if self.scored else None
        return CheckedArtifact(
            artifact=label,
            identity=self.identity,
            verdict=outcome.verdict,
            sentence=outcome.sentence,
            decided_by=outcome.decided_by,
            win_rate_low=round(outcome.bounds.low, 4),
            win_rate_high=round(outcome.bounds.high, 4),
            win_rate_by_judge=None if by_judge is None else round(by_judge, 4),
            prompts_scored=len(self.scored),
            prompts_answered=len(self.answers),
            effective_share=round(figures.effective_share, 4) if figures else None,
            total_variation=round(figures.total_variation, 4) if figures else None,
            sequence_kl=round(figures.sequence_kl, 4) if figures else None,
            same_replies=round(2 * sum(self.same) / len(self.same), 4) if self.same else None,
            well_formed=round(self.health.artifact, 4) if self.health else None,
            well_formed_reference=round(self.health.reference, 4) if self.health else None,
            to_decide=outcome.to_decide,
            ratings_missing=self.waits_for.missing if self.waits_for else 0,
            interrupted=self.interrupted or self.judge_stopped is not None,
            prompts_needed=prompts_needed,
            notes=tuple(self.notes),
            seconds=round(time.perf_counter() - self.start, 1),
        )
