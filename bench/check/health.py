"""Step 2: are the artifact's replies well-formed where the reference's are? Paired and exact (McNemar)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from empathy_edge.judging.format_checks import CHECKS, check_format
from empathy_edge.judging.statistics import sign_test

ALPHA = 0.01
LARGEST_LOSS = 0.05
"""A loss of well-formed replies below five points is no FAIL by itself, however sure it is."""


@dataclass(frozen=True)
class Health:
    """Well-formed replies of artifact and reference to the same prompts.

    Attributes:
        prompts: how many.
        artifact: the share of the artifact's replies that are well-formed.
        reference: of the reference's.
        worse: prompts with a well-formed reply of the reference only.
        better: of the artifact only.
        p: one-sided, of so many worse ones by chance (exact McNemar test).
        by_check: how many replies of the artifact fail each check.
        all_empty: whether the artifact answered nothing at all.
    """

    prompts: int
    artifact: float
    reference: float
    worse: int
    better: int
    p: float
    by_check: dict[str, int]
    all_empty: bool

    @property
    def fails(self) -> bool:
        """Whether the artifact is surely, and by more than five points, less well-formed."""
        return self.all_empty or (self.p <= ALPHA and self.loss > LARGEST_LOSS)

    @property
    def loss(self) -> float:
        """The reference's share less the artifact's."""
        return self.reference - self.artifact

    def words(self) -> str:
        """For a table or a reason."""
        if self.all_empty:
            return f"all {self.prompts} replies are empty"
        return (
            f"{self.artifact:.0%} of {self.prompts} replies are well-formed, of the reference's "
            f"{self.reference:.0%} (worse on {self.worse}, better on {self.better}, p = {self.p:.2g})"
        )


@dataclass(frozen=True)
class Answer:
    """A reply to what was said; `stopped` is False where it was cut off."""

    said: str
    text: str
    stopped: bool


def compare_health(artifact: Sequence[Answer], reference: Sequence[Answer]) -> Health:
    """Compare replies to the same prompts, in the same order."""
    checked = [_checks(answer) for answer in artifact]
    of_artifact = [all(item.values()) for item in checked]
    of_reference = [all(_checks(answer).values()) for answer in reference]
    pairs = list(zip(of_artifact, of_reference, strict=True))
    worse = sum(theirs and not ours for ours, theirs in pairs)
    better = sum(ours and not theirs for ours, theirs in pairs)
    return Health(
        prompts=len(pairs),
        artifact=sum(of_artifact) / len(pairs),
        reference=sum(of_reference) / len(pairs),
        worse=worse,
        better=better,
        p=sign_test(worse, better),
        by_check={name: sum(not item[name] for item in checked) for name in CHECKS},
        all_empty=all(not answer.text for answer in artifact),
    )


def _checks(answer: Answer) -> dict[str, bool]:
    return check_format(answer.text, "stop" if answer.stopped else "length", answer.said)
