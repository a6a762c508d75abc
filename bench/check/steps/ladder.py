"""One artifact against a baseline: the steps, cheapest first, until one decides."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from empathy_edge.bench.check import report
from empathy_edge.bench.check.baseline.record import Baseline, PromptRecord
from empathy_edge.bench.check.check_judge import CheckJudge, Compared
from empathy_edge.bench.check.prompts import FEWEST
from empathy_edge.bench.check.report import CheckedArtifact
from empathy_edge.bench.check.steps.controls import SURELY, Controls
from empathy_edge.bench.check.steps.faults import JudgeError, reason_of
from empathy_edge.bench.check.steps.health import Answer, Health, compare_health
from empathy_edge.bench.check.steps.likelihood import (
    PromptEvidence,
    WeightFigures,
    prompt_evidence,
    weight_figures,
)
from empathy_edge.bench.check.steps.same_question import compare_questions, same_tokens
from empathy_edge.bench.check.steps.what_decides import prompts_without_a_judge, what_would_decide
from empathy_edge.bench.check.steps.win_rate import (
    SMALLEST_EFFECTIVE_SHARE,
    Bounds,
    Decision,
    Evidence,
    Step,
    bounds_of,
    decide,
    estimate,
)
from empathy_edge.errors import PrerequisiteError
from empathy_edge.judging.raters.sheet_rater import RatingsMissing
from empathy_edge.models.find import find_model
from empathy_edge.runs.settings import CheckSettings
from empathy_edge.runtimes import Runtime, open_runtime
from empathy_edge.runtimes.base import Sampling

CONTEXT = 2048
FIRST_HEALTH = 32
"""Prompts that an artifact answers in step 2; a ruined one fails on them."""

OWN_REPLIES = 2
"""Replies of the artifact to each prompt that are judged in step 4."""

LOOK_EVERY = 16
"""Prompts between two looks at the evidence."""

FEWEST_FOR_WEIGHTS = 64
"""Prompts before the effective sample size is believed."""

NO_LIKELIHOOD = "how likely it finds the reference's replies was not looked at"

SAMPLED_STEPS: dict[Step, report.DecidedBy] = {
    "any-judge": "likelihood, any judge",
    "likelihood": "likelihood",
    "judge": "judge",
}
GREEDY_STEPS = SAMPLED_STEPS | {"any-judge": "identical replies", "likelihood": "identical replies"}


@dataclass
class Ladder:
    """The steps for one artifact; the lists grow as prompts are used.

    Attributes:
        label: the artifact's name in words.
        name: what `open_runtime` takes.
        baseline: what it is compared with.
        settings: the bound, and how the app chooses tokens.
        controls: of the baseline; None without a certified judge.
        judge: of the baseline.
        advance: called after each prompt of each step.
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

    label: str
    name: str
    baseline: Baseline
    settings: CheckSettings
    controls: Controls | None
    judge: CheckJudge
    advance: Callable[[], None]
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

    def run(self) -> CheckedArtifact:
        """Take the steps in order until one decides.

        Raises:
            JudgeError: the judge cannot start.
            PrerequisiteError: a package or memory is missing.
        """
        try:
            self.identity = find_model(self.name).identity
            runtime = open_runtime(self.name, context=CONTEXT)
        except Exception as error:
            return self._broken(f"cannot be opened: {reason_of(self.name, error)}")
        try:
            if runtime.context < self._tokens_needed():
                return self._too_long_for(runtime)
            return self._take_steps(runtime)
        except Exception as error:
            return self._broken(f"fails while it runs: {reason_of(self.name, error)}")
        finally:
            runtime.close()

    def stopped(self, error: JudgeError | PrerequisiteError) -> CheckedArtifact:
        """UNDECIDED by what `run` raised, which says nothing of the artifact."""
        self.notes.append(str(error))
        self.interrupted = True
        return self._undecided("the cause (above) removed, and the same command again")

    def _too_long_for(self, runtime: Runtime) -> CheckedArtifact:
        self.notes.append(
            f"its context window has {runtime.context} tokens; the longest prompt of the baseline with its "
            f"reply needs {self._tokens_needed()}"
        )
        return self._undecided("a baseline with fewer --max-new-tokens, or with shorter prompts")

    def _tokens_needed(self) -> int:
        longest = max(len(record.token_ids) for record in self.baseline.prompts)
        return longest + self.baseline.settings.max_new_tokens

    def _take_steps(self, runtime: Runtime) -> CheckedArtifact:
        question = compare_questions(self.baseline, runtime)
        if question.stops:
            return self._broken(question.stops, decided_by="same question")
        self.notes += [question.note] if question.note else []
        self.notes += [f"{NO_LIKELIHOOD}: {text}" for text in question.tokens]
        self._answer(runtime, FIRST_HEALTH)
        health = self._look_at_health()
        if health.fails:
            return self._broken(health.words())
        if not self.settings.greedy and not question.tokens:
            self._score(runtime)
        if self._decision() is None:
            self._answer_all(runtime)
        health = self._look_at_health()
        if health.fails:
            return self._broken(health.words())
        return self._decided()

    def _answer(self, runtime: Runtime, most: int) -> None:
        """Let the artifact answer the next prompts up to `most`."""
        places = range(len(self.answers), min(most, len(self.baseline.prompts)))
        for place, (answer,) in zip(places, self._replies(runtime, places, 1, 0), strict=True):
            self.answers.append(answer)
            if self.settings.greedy:
                self.same.append(0.5 * (answer.text == self.baseline.prompts[place].greedy.text))

    def _look_at_health(self) -> Health:
        """Step 2, on all replies so far."""
        theirs = []
        for record in self.baseline.prompts[: len(self.answers)]:
            reply = record.greedy if self.settings.greedy else record.replies[0]
            theirs.append(Answer(_said(record), reply.text, reply.stopped))
        self.health = compare_health(self.answers, theirs)
        return self.health

    def _replies(
        self, runtime: Runtime, places: Sequence[int], samples: int, stream: int
    ) -> list[list[Answer]]:
        """The artifact's replies to some prompts; each stream has random numbers of its own."""
        if not places:
            return []
        settings = self.baseline.settings
        sampling = Sampling(
            temperature=0.0 if self.settings.greedy else settings.temperature,
            seed=(settings.seed + 1) * 1_000_003 + places[0] * 2 + stream,
            max_new_tokens=settings.max_new_tokens,
            ignore_stop=False,
        )
        prompts = [runtime.encode(list(self.baseline.prompts[place].messages)) for place in places]
        drawn = runtime.draw(prompts, samples, sampling)
        answers = []
        for number, place in enumerate(places):
            said = _said(self.baseline.prompts[place])
            replies = drawn[number * samples : (number + 1) * samples]
            answers.append([Answer(said, runtime.text_of(reply), reply.stopped) for reply in replies])
            self.advance()
        return answers

    def _score(self, runtime: Runtime) -> None:
        """Step 3, until it decides, the weights are of no use, or the prompts are used up."""
        for number, record in enumerate(self.baseline.prompts, 1):
            if not same_tokens(record, runtime):
                self.scored.clear()
                self.notes.append(f"{NO_LIKELIHOOD}: {record.id} has other token ids")
                return
            self.scored.append(prompt_evidence(record, runtime, self.baseline.settings.temperature))
            self.advance()
            if number % LOOK_EVERY or number < FEWEST:
                continue
            if self._decision() is not None:
                return
            if not self._judge_counts and self._too_far_for_any_judge():
                self.notes.append(
                    f"without a certified judge {number} prompts show no more than about "
                    f"{self._mean_for_any_judge():.1%} of comparisons won, by how likely it finds the "
                    f"reference's replies; more prompts would not bring this to "
                    f"{self.settings.min_win_rate:.0%}"
                )
                return
            if number >= FEWEST_FOR_WEIGHTS and not self._weights_hold:
                self.notes.append(
                    "how likely it finds the reference's replies tells nothing, the two models are too far "
                    f"apart: after {number} prompts the weights stand for "
                    f"{weight_figures(self.scored).effective_share:.0%} of the replies "
                    f"(needed: {SMALLEST_EFFECTIVE_SHARE:.0%})"
                )
                return

    def _answer_all(self, runtime: Runtime) -> None:
        """Step 4 (and step 1 where replies are greedy), until it decides or the prompts are used up."""
        total = len(self.baseline.prompts)
        if not (self._may_judge or self.settings.greedy):
            self._answer(runtime, self.settings.health_prompts)
            self.notes.append(f"no judge compared its replies with the reference's: {self._why_no_judge()}")
            return
        done: list[float] = self.judged if self._may_judge else self.same
        block = self.judge.block if self._may_judge else LOOK_EVERY
        while self._decision() is None and len(done) < total:
            self._answer(runtime, len(done) + block)
            if self._may_judge:
                try:
                    self._judge_answers(runtime)
                except RatingsMissing as missing:
                    self.waits_for = missing
                    return
                except JudgeError as error:
                    if error.cannot_start:
                        raise
                    self.judge_stopped = error
                    self.notes.append(f"{error} (after {len(self.judged)} of {total} prompts)")
                    return

    def _judge_answers(self, runtime: Runtime) -> None:
        places = range(len(self.judged), len(self.answers))
        more: list[list[Answer]] = [[] for _ in places]
        if not self.settings.greedy:
            more = self._replies(runtime, places, OWN_REPLIES - 1, 1)
        compared = []
        for place, others in zip(places, more, strict=True):
            record = self.baseline.prompts[place]
            theirs = [record.greedy] if self.settings.greedy else list(record.replies)
            answers = [answer.text for answer in (self.answers[place], *others)]
            compared.append(Compared(record, answers, theirs))
        self.judged += self.judge.points(compared)

    @cached_property
    def _judge_counts(self) -> bool:
        """Whether the ratings in the baseline count."""
        in_order = self.controls is not None and not self.controls.doubts
        return self.baseline.judge.certified and in_order

    @property
    def _may_judge(self) -> bool:
        """Whether the judge may be asked for more."""
        return self._judge_counts and self.judge.may_be_opened

    def _why_no_judge(self) -> str:
        if not self.baseline.judge.certified:
            return f"{self.baseline.judge.name} is not certified"
        if self.controls and self.controls.doubts:
            return "a control is out of order"
        return f"name the baseline's judge, to have it opened: --judge {self.judge.spec}"

    @property
    def _weights_hold(self) -> bool:
        if len(self.scored) < FEWEST_FOR_WEIGHTS:
            return True
        return weight_figures(self.scored).effective_share >= SMALLEST_EFFECTIVE_SHARE

    def _mean_for_any_judge(self) -> float:
        return float(np.mean([item.any_judge for item in self.scored]))

    def _too_far_for_any_judge(self) -> bool:
        """Whether the win rate that holds for every judge is surely below the bound."""
        values = [item.any_judge for item in self.scored]
        error = float(np.std(values)) / len(values) ** 0.5
        return self._mean_for_any_judge() + SURELY * error < self.settings.min_win_rate

    @property
    def _evidence(self) -> Evidence:
        return Evidence(
            judge=self.baseline.judge,
            any_judge=self.same if self.settings.greedy else [item.any_judge for item in self.scored],
            wins=[item.wins for item in self.scored],
            losses=[item.losses for item in self.scored],
            judged=self.judged,
            weights_hold=self._weights_hold,
            judge_counts=self._judge_counts,
        )

    def _decision(self) -> Decision | None:
        """What the evidence so far decides; nothing on too few prompts."""
        if max(len(self.scored), len(self.answers)) < FEWEST:
            return None
        return decide(self._evidence, self.settings.min_win_rate)

    def _decided(self) -> CheckedArtifact:
        decision = self._decision()
        if decision is None:
            return self._undecided(self._to_decide())
        bounds = bounds_of(self._evidence, decision)
        low, high = f"{bounds.low:.1%}", f"{bounds.high:.1%}"
        decided_by = (GREEDY_STEPS if self.settings.greedy else SAMPLED_STEPS)[decision.step]
        if decision.verdict == "PASS":
            whose = ", whatever the judge" if decision.step == "any-judge" else ""
            sentence = f"{self.label} keeps it: at worst {low} of comparisons won{whose}, "
        else:
            bound = f"{self.settings.min_win_rate:.0%}"
            sentence = f"{self.label} does not keep it: at best {high} of comparisons won (bound {bound}), "
        sentence += f"decided by {decided_by}."
        return self._record(_Outcome(decision.verdict, sentence, decided_by, bounds, ""))

    def _undecided(self, to_decide: str) -> CheckedArtifact:
        bounds = bounds_of(self._evidence, None)
        sentence = (
            f"{self.label} is undecided: between {bounds.low:.1%} and {bounds.high:.1%} of comparisons won."
        )
        return self._record(_Outcome("UNDECIDED", sentence, None, bounds, to_decide))

    def _to_decide(self) -> str:
        if self.waits_for:
            return (
                f"ratings of {self.waits_for.missing} replies: fill in {self.waits_for.file} and run the "
                "same command again"
            )
        if self.judge_stopped:
            return (
                f"the other ratings by {self.judge.spec}, which stopped: remove the cause (above) and run "
                "the same command again"
            )
        used = max(len(self.judged), len(self.scored))
        return what_would_decide(
            self.baseline, self.controls, self.judge, self._evidence, used, self.settings.min_win_rate
        )

    def _prompts_needed(self) -> int | None:
        if self.waits_for or self.judge_stopped or len(self.baseline.prompts) < FEWEST:
            return None
        return prompts_without_a_judge(self._evidence, self.settings.min_win_rate)

    def _broken(self, reason: str, decided_by: report.DecidedBy = "health") -> CheckedArtifact:
        sentence = f"{self.label} does not keep it: {reason.rstrip('.')}."
        return self._record(_Outcome("FAIL", sentence, decided_by, Bounds(0.0, 1.0), ""))

    def _record(self, outcome: _Outcome) -> CheckedArtifact:
        figures: WeightFigures | None = weight_figures(self.scored) if self.scored else None
        by_judge = estimate(self._evidence)
        return CheckedArtifact(
            artifact=self.label,
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
            prompts_needed=self._prompts_needed() if outcome.verdict == "UNDECIDED" else None,
            notes=tuple(self.notes),
            seconds=round(time.perf_counter() - self.start, 1),
        )


@dataclass(frozen=True)
class _Outcome:
    """The verdict and what led to it; see `CheckedArtifact`."""

    verdict: report.Verdict
    sentence: str
    decided_by: report.DecidedBy | None
    bounds: Bounds
    to_decide: str


def _said(record: PromptRecord) -> str:
    return record.messages[-1]["content"]
