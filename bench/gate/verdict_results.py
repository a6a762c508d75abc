"""What `gate` writes into `gate.json` and its manifest, as records."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from empathy_edge.bench.gate.winrate_results import MeanInterval, Record
from empathy_edge.runs.stage import Results

VerdictName = Literal["PASS", "FAIL", "INCONCLUSIVE"]

Points = dict[tuple[str, str], dict[str, float]]
"""(first arm, second arm) → dialogue id → the first arm's points over both orders, 0 to 1."""


class Gain(Record):
    """The share of the fine-tuned model's gain over the base that an artifact keeps.

    Attributes:
        mean: (win rate of the artifact against the base − ½) / (that of the fine-tuned model − ½).
        low: lower end of its 95 % interval.
        high: upper end of its 95 % interval.
        lower_bound_one_sided: the one-sided 95 % lower bound.
        lead_low: lower end of the interval of the fine-tuned model's own lead, its win rate − ½. Where that
            comes near 0 the ratio has no meaning.
    """

    mean: float
    low: float
    high: float
    lower_bound_one_sided: float
    lead_low: float


class Decision(Record):
    """The verdict on one arm.

    Attributes:
        verdict: PASS, FAIL or INCONCLUSIVE.
        reasons: those that decide come first; for a PASS, the main figures.
        gain_retained: None where it was not computed.
    """

    verdict: VerdictName
    reasons: tuple[str, ...]
    gain_retained: Gain | None


class WorseDialogue(Record):
    """A dialogue on which an artifact does worse than the fine-tuned model.

    Attributes:
        id: the dialogue's.
        why: the reasons.
        said: what the person said; None where that is not known.
        fine_tuned: the fine-tuned model's response.
        artifact: the artifact's response.
    """

    id: str
    why: tuple[str, ...]
    said: str | None
    fine_tuned: str
    artifact: str


class DiagnosedDecision(Decision):
    """A verdict and where the loss comes from.

    Attributes:
        points_lost: by step (`conversion`, `quantization`), points of the win rate that it costs; empty where
            the steps cannot be told apart.
        diagnosis: the same and the findings of `verify`, in words.
    """

    points_lost: dict[str, MeanInterval]
    diagnosis: tuple[str, ...]


class ArtifactVerdict(DiagnosedDecision):
    """What `gate.json` says of an artifact; `worse` are the dialogues on which it does worse."""

    worse: tuple[WorseDialogue, ...]

    def summary(self) -> VerdictSummary:
        """The same without the texts."""
        return VerdictSummary(
            verdict=self.verdict,
            reasons=self.reasons,
            gain_retained=self.gain_retained,
            points_lost=self.points_lost,
            diagnosis=self.diagnosis,
            worse=len(self.worse),
        )


class VerdictSummary(DiagnosedDecision):
    """What the manifest says of an artifact; `worse` is the number of dialogues on which it does worse."""

    worse: int


class Controls(Record):
    """Whether the comparison can be trusted: two comparisons whose outcome is known.

    Attributes:
        against_itself: the fine-tuned model's mean points against itself; None where it was not compared.
        known_bad: the verdict on the damaged model; None where it was not compared.
        known_bad_reasons: its reasons; absent where it was not compared.
        doubts: why nothing may pass.
        merge: how far the merged checkpoint is from the adapter model, in words; None where that is not
            known.
    """

    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)

    against_itself: float | None = Field(
        validation_alias="fine-tuned against itself", serialization_alias="fine-tuned against itself"
    )
    known_bad: VerdictName | None = Field(validation_alias="known-bad", serialization_alias="known-bad")
    known_bad_reasons: tuple[str, ...] = ()
    doubts: tuple[str, ...]
    merge: str | None = None


class GateResults(Results):
    """The verdict on every artifact, and the controls."""

    verdicts: dict[str, VerdictSummary]
    controls: Controls

    def worst(self) -> VerdictName:
        """The worst of the verdicts."""
        return worst_of([item.verdict for item in self.verdicts.values()])


def worst_of(verdicts: list[VerdictName]) -> VerdictName:
    """FAIL if there is one, else INCONCLUSIVE if there is one, else PASS."""
    order: tuple[VerdictName, ...] = ("FAIL", "INCONCLUSIVE", "PASS")
    return next(name for name in order if name in verdicts)
