"""A judge's certificate: how often it agrees with people, how it errs, and whether its verdicts count.

One person rated each response, so no judge agrees with the ratings always: sentence embeddings with a linear
classifier order about 65 % of such pairs as rated. What matters is that a judge is significantly better than
chance, does not decide by order or length, and answers. `judge certify` makes certificates; here they are
judged and read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.judging.comparison_figures import ComparisonFigures
from empathy_edge.judging.pairwise_judges import Judge
from empathy_edge.judging.self_preference import SelfPreference
from empathy_edge.system.files import read_json

FILE = "certificate.json"

THRESHOLDS = {
    "agreement_low": 0.55,  # lower end of the 95 % interval: better than chance, by a margin
    "order_flips": 0.25,  # of pairs; MT-Bench's GPT-4 has 13 %
    "first_position": 0.15,  # difference from one half
    "longer_wins": 0.15,  # difference from what people prefer
    "unparsed": 0.05,  # of answers
    "self_preference": 0.1,  # significantly above what people prefer
}
"""What a judge must keep; each is a share."""

MIN_PAIRS = 40
"""A judge is tested on at least this many pairs."""

PEOPLE_PREFER_LONGER = 0.51
"""How often people rated the longer of two responses higher, in the paper's data."""


class Certification(TypedDict):
    """Whether a judge is certified for one question, and why not; its figures, where it was tested."""

    certified: bool
    doubts: list[str]
    win_rate: NotRequired[dict[str, float]]
    self_preference: NotRequired[SelfPreference]


Certifications = dict[str, Certification]
"""By question."""


class QuestionCertificate(ComparisonFigures):
    """A judge's figures on one question.

    `win_rate` is its agreement with people: the mean points of the response that they rated better.
    `seconds_per_verdict` and `usd_per_1000_calls` are None where nothing was asked, or no price is known.
    `experts_own`: each expert's agreement with the mean of the others, where experts rated.
    The others are those of `ComparisonFigures`.
    """

    seconds_per_verdict: float | None
    usd_per_1000_calls: float | None
    self_preference: NotRequired[SelfPreference]
    experts_own: NotRequired[dict[str, float]]
    doubts: list[str]
    certified: bool


class Certificate(TypedDict):
    """The file `certificate.json`.

    `judge`: who is certified (`Judge.identity`). `data`: the rated data's file and sha256. `pairs`: how many
    were judged. `longer_is_better_by_people`: how often the longer response was rated better in these pairs.
    """

    judge: str
    data: dict[str, str]
    pairs: int
    seed: int
    thresholds: dict[str, float]
    longer_is_better_by_people: float
    questions: dict[str, QuestionCertificate]


@dataclass(frozen=True)
class JudgeErrors:
    """A judge's figures that decide whether it is certified; each is a share, None where it is not known.

    Attributes:
        agreement_low: lower end of the 95 % interval of its agreement with people.
        order_flips: of pairs, where the verdict changes with the order; None: asked in one order only.
        first_position_wins: how often the response shown first wins.
        longer_wins: how often the longer response wins.
        longer_is_better: how often people rated the longer response better, on the same pairs.
        unparsed: of answers that could not be read.
        self_preference: how often it prefers its own family's responses.
    """

    agreement_low: float
    order_flips: float | None
    first_position_wins: float | None
    longer_wins: float | None
    longer_is_better: float | None
    unparsed: float
    self_preference: SelfPreference | None = None


def doubts(errors: JudgeErrors) -> list[str]:
    """Why a judge is not certified; empty where it is."""
    found = []
    if errors.agreement_low < THRESHOLDS["agreement_low"]:
        found.append(
            f"its agreement with people may be as low as {errors.agreement_low:.0%} "
            f"(needed: {THRESHOLDS['agreement_low']:.0%})"
        )
    if errors.order_flips is None:
        found.append("it was asked in one order only")
    elif errors.order_flips > THRESHOLDS["order_flips"]:
        found.append(f"its verdict turns with the order in {errors.order_flips:.0%} of pairs")
    position = errors.first_position_wins
    if position is not None and abs(position - 0.5) > THRESHOLDS["first_position"]:
        found.append(f"what it is shown first wins in {position:.0%}")
    longer = errors.longer_wins
    people = errors.longer_is_better
    if longer is not None and people is not None and abs(longer - people) > THRESHOLDS["longer_wins"]:
        found.append(f"the longer response wins in {longer:.0%} (by people: {people:.0%})")
    own = errors.self_preference
    if own and "judge" in own and own["low"] - own["people"] > THRESHOLDS["self_preference"]:
        found.append(
            f"it prefers responses of its own family ({own['family']}) in {own['judge']:.0%} of pairs, "
            f"people in {own['people']:.0%}"
        )
    if errors.unparsed > THRESHOLDS["unparsed"]:
        found.append(f"{errors.unparsed:.0%} of its answers cannot be read")
    return found


def not_certified(doubt: str) -> Certification:
    """The certification of a judge that has no certificate."""
    return {"certified": False, "doubts": [doubt]}


def certificate_of(judge: Judge, certificates: Sequence[Path]) -> Path | None:
    """The certificate, of several, that is this judge's; None where none is."""
    for file in certificates:
        content = read_json(file)
        if isinstance(content, dict) and content.get("judge") == judge.identity():
            return file
    return None


def certifications(certificate: Path | None, judge: Judge, questions: Sequence[str]) -> Certifications:
    """For each question whether this judge is certified for it, and why not.

    Raises:
        EmpathyEdgeError: the certificate is of another judge (another model, other prompts).
    """
    if certificate is None:
        return {question: not_certified("no certificate was given") for question in questions}
    content = read_json(certificate)
    if not isinstance(content, dict) or not isinstance(content.get("questions"), dict):
        raise EmpathyEdgeError(f"{certificate}: is no certificate; `empathy-edge judge certify` writes one.")
    if content.get("judge") != judge.identity():
        raise EmpathyEdgeError(
            f"{certificate}: is of another judge ({content.get('judge')}, not {judge.identity()}): "
            "another model or other prompts."
        )
    tested: dict[str, dict[str, Any]] = content["questions"]
    found: Certifications = {}
    for question in questions:
        if question in tested:
            found[question] = _certification(tested[question])
        else:
            found[question] = not_certified(f"its certificate does not cover the question '{question}'")
    return found


def _certification(figures: dict[str, Any]) -> Certification:
    found: Certification = {"certified": figures["certified"], "doubts": figures["doubts"]}
    if "win_rate" in figures:
        found["win_rate"] = figures["win_rate"]
    if "self_preference" in figures:
        found["self_preference"] = figures["self_preference"]
    return found
