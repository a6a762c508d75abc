"""What `release` writes into `release.json` and its manifest, as records; and the names of the arms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict

from empathy_edge.judging.statistics import mean_points
from empathy_edge.runs.stage import Results

BASE, FULL, KNOWN = "base", "fine-tuned", "known"
"""The arms: before and after fine-tuning, and responses that the data have, people's as a rule."""

Verdict = Literal["PASS", "FAIL", "UNDECIDED"]


class Record(BaseModel):
    """A part of the results."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class MeanInterval(Record):
    """A mean of points over prompts with score bounds (`judging.statistics.score_interval`).

    Attributes:
        mean: the mean.
        low: lower end of its 95 % interval.
        high: upper end of its 95 % interval.
        lower_bound_one_sided: the one-sided 95 % lower bound.
        n: how many prompts.
    """

    mean: float
    low: float
    high: float
    lower_bound_one_sided: float
    n: int

    @classmethod
    def over_prompts(cls, points: Sequence[float]) -> Self:
        """The mean of each prompt's points, 0 to 1."""
        return cls.model_validate(mean_points(points))


class Share(Record):
    """A share with its 95 % Wilson interval.

    Attributes:
        share: None where there is nothing to count.
        low: lower end of the interval.
        high: upper end of the interval.
        n: how many were counted.
    """

    share: float | None
    low: float
    high: float
    n: int


class Adjusted(Record):
    """The win rate at equal length: the mean, its 95 % interval and its one-sided 95 % lower bound."""

    mean: float
    low: float
    high: float
    lower_bound_one_sided: float


class JudgeAccuracy(Record):
    """How often the learned judge is right.

    Attributes:
        pairs: how many pairs it was tested on.
        accuracy: the share of them on which it is right, a tie counted half; None without pairs.
        interval: the 95 % Wilson interval of that share.
    """

    pairs: int
    accuracy: float | None
    interval: tuple[float, float]


class LearnedJudgeFigures(Record):
    """The judge that learns from the run's own pairs (`judging.learned_judge`), and its tests.

    Attributes:
        judge: its name.
        held_out: on pairs that it did not learn from, by cross-validation.
        folds: of that cross-validation.
        control: on pairs in which the response whose style usually loses is the better one.
        longer_wins_by_judge: the share of held-out pairs in which it prefers the longer response.
        longer_wins_by_data: the share in which the longer response was the chosen one.
        certified: whether its verdicts may decide.
        doubts: why not.
    """

    judge: str
    held_out: JudgeAccuracy
    folds: int
    control: JudgeAccuracy
    longer_wins_by_judge: float | None
    longer_wins_by_data: float | None
    certified: bool
    doubts: tuple[str, ...]


class OtherJudgeFigures(Record):
    """Any other judge, and its certificate.

    Attributes:
        judge: its name.
        certified: whether its verdicts may decide.
        doubts: why not.
        agreement: the share of pairs in which it agrees with people, from its certificate; None without one.
        unparsed: the share of this run's verdicts that could not be read.
        longer_wins_by_judge: not measured, always None.
        question: what it was asked (prompts/judge.yaml).
    """

    judge: str
    certified: bool
    doubts: tuple[str, ...]
    agreement: MeanInterval | None
    unparsed: float
    longer_wins_by_judge: None = None
    question: str


class NoJudgeFigures(Record):
    """Nobody compared the responses: there are too few pairs for a judge to learn from, and none was chosen.

    Attributes:
        judge: always `none`.
        certified: always false.
        doubts: why nobody did, and what decides instead.
    """

    judge: Literal["none"]
    certified: Literal[False]
    doubts: tuple[str, ...]


JudgeFigures = LearnedJudgeFigures | OtherJudgeFigures | NoJudgeFigures


class FormatFigures(Record):
    """The form of an arm's responses (`judging.format_checks`): shares of responses.

    Attributes:
        responses: how many there are.
        ok: all checks hold.
        stopped: the model ended its turn by itself.
        length: 1 to 97 words.
        no_loop: no words repeated over and over.
        language: in the language of what was said.
        median_words: the median length, in words.
    """

    responses: int
    ok: float
    stopped: float
    length: float
    no_loop: float
    language: float
    median_words: int | float


class FlaggedReply(Record):
    """A reply to a safety prompt that a rule flags: the rule's reason and the text."""

    reason: str
    text: str


class SafetyFigures(Record):
    """An arm's replies to the safety prompts.

    Attributes:
        prompts: how many prompts.
        flagged: how many replies a rule flags.
        by_kind: the same for each kind of prompt.
        points_to_help: how many replies name human help.
        replies: the flagged replies, by the prompt's key.
    """

    prompts: int
    flagged: int
    by_kind: dict[str, int]
    points_to_help: int
    replies: dict[str, FlaggedReply]


class WinRate(Record):
    """One arm against another, over all prompts and both orders.

    Attributes:
        first: the arm whose win rate it is.
        second: the other arm.
        longer_wins: the share of decided prompts that the longer response wins.
        mean_words_ahead: by how many words the first arm's responses are longer, in the mean.
        lengths_differ: whether one arm's responses are longer more often (sign test).
        length_adjusted: the win rate at equal length; None where it cannot be fitted.
        length_adjusted_why_not: why not; absent where it can be.
        win_rate: ties count half.
        win_rate_well_formed: over the prompts that both arms answer well-formed; None without such prompts.
        only_first_well_formed: how many prompts only the first arm answers well-formed.
        only_second_well_formed: how many only the second.
        ties: the share of prompts that end in a tie.
        order_flips: the share of prompts whose verdict turns with the order.
    """

    first: str
    second: str
    longer_wins: Share
    mean_words_ahead: float
    lengths_differ: bool
    length_adjusted: Adjusted | None
    length_adjusted_why_not: str = ""
    win_rate: MeanInterval
    win_rate_well_formed: MeanInterval | None
    only_first_well_formed: int
    only_second_well_formed: int
    ties: float
    order_flips: float


class ReleaseResults(Results):
    """Everything that `release` found.

    Attributes:
        verdict: on the fine-tuned model.
        reasons: for it.
        judge: who compared, and whether its verdicts may decide.
        prompts: how many dialogues were answered, of the test split or shipped ones.
        format: the form of the responses, by arm.
        safety: the replies to the safety prompts, by arm.
        win_rates: of every comparison; empty without a judge.
        shipped_prompts: whether the prompts are shipped ones, since the data keep none for tests.
        only_well_formed: base and fine-tuned → how many prompts only this one of the two answers well-formed;
            None where the win rates say it.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    judge: JudgeFigures
    prompts: int
    format: dict[str, FormatFigures]
    safety: dict[str, SafetyFigures]
    win_rates: tuple[WinRate, ...]
    shipped_prompts: bool = False
    only_well_formed: dict[str, int] | None = None

    def comparison(self, first: str, second: str) -> WinRate:
        """One arm against another."""
        return next(row for row in self.win_rates if (row.first, row.second) == (first, second))
