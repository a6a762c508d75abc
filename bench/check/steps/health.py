"""Step 2: are the artifact's replies well-formed where the reference's are? Paired and exact (McNemar)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from empathy_edge.judging.format_checks import CHECKS, check_format
from empathy_edge.judging.statistics import sign_test

ALPHA = 0.005
"""For each of the two looks, after the first prompts and at the end; its tests share it equally."""

NOT_EMPTY = "not_empty"
SINGLE_CHECKS = (*CHECKS, NOT_EMPTY)
"""What is tested alone, beside all checks together."""

ALPHA_TEST = ALPHA / (1 + len(SINGLE_CHECKS))
"""For each test of a look."""

LARGEST_LOSS = 0.05
"""An observed loss of well-formed replies of no more than five points is no FAIL by itself."""


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
        by_check: those checks that the artifact's replies fail surely more often by themselves, in words.
        all_empty: whether the artifact answered nothing at all, which alone is no FAIL.
    """

    prompts: int
    artifact: float
    reference: float
    worse: int
    better: int
    p: float
    by_check: tuple[str, ...]
    all_empty: bool

    @property
    def fails(self) -> bool:
        """Whether the artifact is surely, and by more than five points, less well-formed."""
        return bool(self.by_check) or (self.p <= ALPHA_TEST and self.loss > LARGEST_LOSS)

    @property
    def loss(self) -> float:
        """The reference's share less the artifact's."""
        return self.reference - self.artifact

    def words(self) -> str:
        """For a table or a reason."""
        if self.all_empty:
            return f"all {self.prompts} replies are empty"
        if self.by_check:
            return "; ".join(self.by_check)
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
    checked_reference = [_checks(answer) for answer in reference]
    of_reference = [all(item.values()) for item in checked_reference]
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
        by_check=tuple(_worse_checks(checked, checked_reference)),
        all_empty=not any(item[NOT_EMPTY] for item in checked),
    )


def _worse_checks(artifact: Sequence[dict[str, bool]], reference: Sequence[dict[str, bool]]) -> Iterator[str]:
    """Single checks, for references that seldom pass all of them."""
    pairs = list(zip(artifact, reference, strict=True))
    for name in SINGLE_CHECKS:
        worse = sum(theirs[name] and not ours[name] for ours, theirs in pairs)
        better = sum(ours[name] and not theirs[name] for ours, theirs in pairs)
        p = sign_test(worse, better)
        if p <= ALPHA_TEST and (worse - better) / len(pairs) > LARGEST_LOSS:
            yield f"its replies fail '{name}' on {worse} prompts, the reference's on {better} (p = {p:.2g})"


def _checks(answer: Answer) -> dict[str, bool]:
    found = check_format(answer.text, "stop" if answer.stopped else "length", answer.said)
    return found | {NOT_EMPTY: bool(answer.text.strip())}
