"""One artifact against a baseline: the steps, cheapest first, until one decides."""

from __future__ import annotations

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
from empathy_edge.bench.check.steps.likelihood import prompt_evidence, weight_figures
from empathy_edge.bench.check.steps.same_question import compare_questions, same_tokens
from empathy_edge.bench.check.steps.verdict import Findings, Outcome, broken, decided, undecided
from empathy_edge.bench.check.steps.what_decides import prompts_without_a_judge, what_would_decide
from empathy_edge.bench.check.steps.win_rate import (
    SMALLEST_EFFECTIVE_SHARE,
    Decision,
    Evidence,
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


@dataclass
class Ladder:
    """The steps for one artifact.

    Attributes:
        label: the artifact's name in words.
        name: what `open_runtime` takes.
        baseline: what it is compared with.
        settings: the bound, and how the app chooses tokens.
        controls: of the baseline; None without a certified judge.
        judge: of the baseline.
        advance: called after each prompt of each step.
        found: what the steps found so far.
    """

    label: str
    name: str
    baseline: Baseline
    settings: CheckSettings
    controls: Controls | None
    judge: CheckJudge
    advance: Callable[[], None]
    found: Findings = field(default_factory=Findings)

    def run(self) -> CheckedArtifact:
        """Take the steps in order until one decides.

        Raises:
            JudgeError: the judge cannot start.
            PrerequisiteError: a package or memory is missing.
        """
        try:
            self.found.identity = find_model(self.name).identity
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
        self.found.notes.append(str(error))
        self.found.interrupted = True
        return self._undecided("the cause (above) removed, and the same command again")

    def _too_long_for(self, runtime: Runtime) -> CheckedArtifact:
        self.found.notes.append(
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
        self.found.notes += [question.note] if question.note else []
        self.found.notes += [f"{NO_LIKELIHOOD}: {text}" for text in question.tokens]
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
        places = range(len(self.found.answers), min(most, len(self.baseline.prompts)))
        for place, (answer,) in zip(places, self._replies(runtime, places, 1, 0), strict=True):
            self.found.answers.append(answer)
            if self.settings.greedy:
                self.found.same.append(0.5 * (answer.text == self.baseline.prompts[place].greedy.text))

    def _look_at_health(self) -> Health:
        """Step 2, on all replies so far."""
        theirs = []
        for record in self.baseline.prompts[: len(self.found.answers)]:
            reply = record.greedy if self.settings.greedy else record.replies[0]
            theirs.append(Answer(_said(record), reply.text, reply.stopped))
        health = compare_health(self.found.answers, theirs)
        self.found.health = health
        return health

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
                self.found.scored.clear()
                self.found.notes.append(f"{NO_LIKELIHOOD}: {record.id} has other token ids")
                return
            self.found.scored.append(prompt_evidence(record, runtime, self.baseline.settings.temperature))
            self.advance()
            if number % LOOK_EVERY or number < FEWEST:
                continue
            if self._decision() is not None:
                return
            if not self._judge_counts and self._too_far_for_any_judge():
                self.found.notes.append(
                    f"without a certified judge {number} prompts show no more than about "
                    f"{self._mean_for_any_judge():.1%} of comparisons won, by how likely it finds the "
                    f"reference's replies; more prompts would not bring this to "
                    f"{self.settings.min_win_rate:.0%}"
                )
                return
            if number >= FEWEST_FOR_WEIGHTS and not self._weights_hold:
                self.found.notes.append(
                    "how likely it finds the reference's replies tells nothing, the two models are too far "
                    f"apart: after {number} prompts the weights stand for "
                    f"{weight_figures(self.found.scored).effective_share:.0%} of the replies "
                    f"(needed: {SMALLEST_EFFECTIVE_SHARE:.0%})"
                )
                return

    def _answer_all(self, runtime: Runtime) -> None:
        """Step 4 (and step 1 where replies are greedy), until it decides or the prompts are used up."""
        total = len(self.baseline.prompts)
        if not (self._may_judge or self.settings.greedy):
            self._answer(runtime, self.settings.health_prompts)
            why = self._why_no_judge()
            self.found.notes.append(f"no judge compared its replies with the reference's: {why}")
            return
        done: list[float] = self.found.judged if self._may_judge else self.found.same
        block = self.judge.block if self._may_judge else LOOK_EVERY
        while self._decision() is None and len(done) < total:
            self._answer(runtime, len(done) + block)
            if self._may_judge:
                try:
                    self._judge_answers(runtime)
                except RatingsMissing as missing:
                    self.found.waits_for = missing
                    return
                except JudgeError as error:
                    if error.cannot_start:
                        raise
                    self.found.judge_stopped = error
                    self.found.notes.append(f"{error} (after {len(self.found.judged)} of {total} prompts)")
                    return

    def _judge_answers(self, runtime: Runtime) -> None:
        places = range(len(self.found.judged), len(self.found.answers))
        more: list[list[Answer]] = [[] for _ in places]
        if not self.settings.greedy:
            more = self._replies(runtime, places, OWN_REPLIES - 1, 1)
        compared = []
        for place, others in zip(places, more, strict=True):
            record = self.baseline.prompts[place]
            theirs = [record.greedy] if self.settings.greedy else list(record.replies)
            answers = [answer.text for answer in (self.found.answers[place], *others)]
            compared.append(Compared(record, answers, theirs))
        self.found.judged += self.judge.points(compared)

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
        if len(self.found.scored) < FEWEST_FOR_WEIGHTS:
            return True
        return weight_figures(self.found.scored).effective_share >= SMALLEST_EFFECTIVE_SHARE

    def _mean_for_any_judge(self) -> float:
        return float(np.mean([item.any_judge for item in self.found.scored]))

    def _too_far_for_any_judge(self) -> bool:
        """Whether the win rate that holds for every judge is surely below the bound."""
        values = [item.any_judge for item in self.found.scored]
        error = float(np.std(values)) / len(values) ** 0.5
        return self._mean_for_any_judge() + SURELY * error < self.settings.min_win_rate

    @property
    def _evidence(self) -> Evidence:
        scored = self.found.scored
        return Evidence(
            judge=self.baseline.judge,
            any_judge=self.found.same if self.settings.greedy else [item.any_judge for item in scored],
            wins=[item.wins for item in scored],
            losses=[item.losses for item in scored],
            judged=self.found.judged,
            weights_hold=self._weights_hold,
            judge_counts=self._judge_counts,
        )

    def _decision(self) -> Decision | None:
        """What the evidence so far decides; nothing on too few prompts."""
        if max(len(self.found.scored), len(self.found.answers)) < FEWEST:
            return None
        return decide(self._evidence, self.settings.min_win_rate)

    def _decided(self) -> CheckedArtifact:
        decision = self._decision()
        if decision is None:
            return self._undecided(self._to_decide())
        bounds = bounds_of(self._evidence, decision)
        return self._record(decided(self.label, decision, bounds, self.settings))

    def _undecided(self, to_decide: str) -> CheckedArtifact:
        return self._record(undecided(self.label, bounds_of(self._evidence, None), to_decide))

    def _to_decide(self) -> str:
        if sheet := self.found.waits_for:
            return f"ratings of {sheet.missing} replies: fill in {sheet.file} and run the same command again"
        if self.found.judge_stopped:
            return (
                f"the other ratings by {self.judge.spec}, which stopped: remove the cause (above) and run "
                "the same command again"
            )
        used = max(len(self.found.judged), len(self.found.scored))
        return what_would_decide(
            self.baseline, self.controls, self.judge, self._evidence, used, self.settings.min_win_rate
        )

    def _prompts_needed(self) -> int | None:
        if self.found.waits_for or self.found.judge_stopped or len(self.baseline.prompts) < FEWEST:
            return None
        return prompts_without_a_judge(self._evidence, self.settings.min_win_rate)

    def _broken(self, reason: str, decided_by: report.DecidedBy = "health") -> CheckedArtifact:
        return self._record(broken(self.label, reason, decided_by))

    def _record(self, outcome: Outcome) -> CheckedArtifact:
        needed = self._prompts_needed() if outcome.verdict == "UNDECIDED" else None
        return self.found.record(self.label, outcome, estimate(self._evidence), needed)


def _said(record: PromptRecord) -> str:
    return record.messages[-1]["content"]
