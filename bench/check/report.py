"""What a check found, as a record: the JSON of `check --json` is exactly this."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, field_validator

FORMAT: Literal["empathy-edge check 1"] = "empathy-edge check 1"
POWER = 0.8
"""In which share of runs the loss of `PowerFigures` FAILs."""

Verdict = Literal["PASS", "FAIL", "UNDECIDED"]
DecidedBy = Literal[
    "same question", "health", "identical replies", "likelihood, any judge", "likelihood", "judge"
]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def _plain(cls, value: object) -> object:
        """Text without line breaks and control characters: names in files from others may have any."""
        if isinstance(value, str):
            return "".join(character if character.isprintable() else " " for character in value)
        if isinstance(value, list | tuple):
            return tuple(map(cls._plain, value))
        return value


class CheckedArtifact(_Record):
    """The verdict on one artifact.

    Attributes:
        artifact: its name.
        identity: the hash of its files; empty where it could not be read.
        verdict: PASS, FAIL or UNDECIDED.
        sentence: the verdict and its reason in one sentence.
        decided_by: the step that decided; None: none did.
        win_rate_low: W is at least this (95 %, one-sided).
        win_rate_high: W is at most this.
        win_rate_by_judge: the judge's estimate, not corrected for its errors; None without one.
        prompts_scored: in step 3.
        prompts_answered: by the artifact itself, in steps 2 and 4.
        effective_share: of the weights, a share of the replies.
        total_variation: between the two distributions of replies.
        sequence_kl: of a reply, nats.
        same_replies: the share of greedy replies that are the same text; None for sampled ones.
        well_formed: the share of the artifact's replies that are.
        well_formed_reference: of the reference's.
        to_decide: what would decide it, in words; empty where it is decided.
        ratings_missing: how many ratings by people it waits for.
        prompts_needed: about how many prompts would decide it without any judge; None where none would.
        interrupted: whether the judge stopped, or something was missing on this machine: no more is known.
        notes: what was left out and why.
        seconds: that the check took.
    """

    artifact: str
    identity: str
    verdict: Verdict
    sentence: str
    decided_by: DecidedBy | None
    win_rate_low: float
    win_rate_high: float
    win_rate_by_judge: float | None
    prompts_scored: int
    prompts_answered: int
    effective_share: float | None
    total_variation: float | None
    sequence_kl: float | None
    same_replies: float | None
    well_formed: float | None
    well_formed_reference: float | None
    to_decide: str
    ratings_missing: int
    notes: tuple[str, ...]
    seconds: float
    prompts_needed: int | None = None
    interrupted: bool = False


class WinRate(_Record):
    """A share of comparisons won, with its 95 % interval over prompts."""

    mean: float
    low: float
    high: float


class ControlFigures(_Record):
    """The controls: win rates of replies whose loss is known.

    Attributes:
        against_itself: the reference's replies against its own.
        misplaced: replies to other prompts.
        damaged: with those in 5, 10 and 20 % of prompts.
        doubts: what is out of order.
        q2_k: the reference's own Q2_K form; None where the baseline has no replies of it.
    """

    against_itself: float
    misplaced: float
    damaged: tuple[float, ...]
    doubts: tuple[str, ...]
    q2_k: WinRate | None = None


class PowerFigures(_Record):
    """Which loss step 4 would have seen in a run like this, by simulation.

    Attributes:
        loss: that FAILs in 80 % of runs, by the judge: ½ minus the win rate; None where not even replies to
            other prompts alone would.
        loss_in_truth: it is at most this; None where the judge's certificate gives no bound.
        unharmed_passes: how often an artifact that lost nothing would PASS; None for greedy replies.
    """

    loss: float | None
    loss_in_truth: float | None
    unharmed_passes: float | None


class CheckReport(_Record):
    """All of a check.

    Attributes:
        format: the layout and its version.
        version: of empathy-edge.
        reference: its name.
        reference_identity: the hash of its files.
        reference_quantized: whether its own weights are quantized.
        decoding: `greedy`, or `sampled at T`.
        max_new_tokens: of a reply.
        prompts: how many there are.
        min_win_rate: the bound.
        judge: who compares.
        judge_agreement: with blind readers, on unequal pairs.
        judge_doubts: why it is not certified.
        controls: see there; None without a certified judge.
        power: see there; None where no judge decides: it is not certified, a control is out of order, or it
            may not be opened.
        artifacts: the verdicts.
    """

    format: Literal["empathy-edge check 1"]
    version: str
    reference: str
    reference_identity: str
    reference_quantized: bool
    decoding: str
    max_new_tokens: int
    prompts: int
    min_win_rate: float
    judge: str
    judge_agreement: float | None
    judge_doubts: tuple[str, ...]
    controls: ControlFigures | None
    artifacts: tuple[CheckedArtifact, ...]
    power: PowerFigures | None = None

    def exit_code(self) -> int:
        """0 when all pass, 1 when one fails, 4 when one is undecided."""
        verdicts = {item.verdict for item in self.artifacts}
        if "FAIL" in verdicts:
            return 1
        return 4 if "UNDECIDED" in verdicts else 0
