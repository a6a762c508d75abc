"""How often a judge agrees with blind readers, and how sure that is: its certificate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil, floor
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from empathy_edge.bench.check.baseline.record import JudgeRecord
from empathy_edge.bench.check.steps.win_rate import ALPHA_JUDGE
from empathy_edge.console import progress, say
from empathy_edge.data import certification_pairs, judges_file
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.chat_format import Message
from empathy_edge.formats.json_lines import read_jsonl
from empathy_edge.judging.raters.open_rater import open_rater
from empathy_edge.judging.raters.rater import Rater, ToRate
from empathy_edge.judging.statistics import binomial_tail
from empathy_edge.llm.api_settings import ApiSettings
from empathy_edge.system.cache import cache_folder
from empathy_edge.system.files import read_json, read_json_object, sha256_json, write_json
from empathy_edge.system.hash_cache import sha256_file

BISECTIONS = 50
CERTIFICATE_PAIRS = 448
"""Pairs that a judge rates for its certificate."""

FEWEST_PAIRS = 60
"""Unequal pairs; with fewer no judge is certified."""

LEAST_AGREEMENT = 0.55
"""The lower bound of a judge's agreement; below it a loss of five points looks like one of half a point."""

AGREES = "it agrees with readers"
"""How a doubt begins that holds the judge's agreement."""

MOST_LENGTH_BIAS = 0.2
"""How much more often the longer reply may win than with the readers."""

METHOD = 2
"""How certificates are made; one more whenever `Agreement` or how it is counted changes. Those that a machine
has kept are then made again.
"""


Half = Literal["tune", "certify"]
Reading = Literal["reference", "artifact", "equal"]
Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class ReadPair:
    """Two replies of a model and of a quantized form of it to one prompt, read blind by several readers.

    Attributes:
        id: of the pair.
        prompt: the prompt's id; a model's and another model's pairs may share it.
        half: `tune` for choosing and training judges, `certify` for testing them; by prompt.
        messages: the conversation.
        model: whose replies they are.
        artifact_format: of the quantized one.
        reference: the full-precision model's reply.
        artifact: the quantized model's reply.
        readings: which one each reader preferred.
    """

    id: str
    prompt: str
    half: Half
    messages: list[Message]
    model: str
    artifact_format: str
    reference: str
    artifact: str
    readings: tuple[Reading, ...]

    @property
    def preferred(self) -> Reading:
        """What most readers preferred; `equal` where none has a majority."""
        ((first, count), *others) = Counter(self.readings).most_common()
        if others and others[0][1] == count:
            return "equal"
        return first


def read_pairs(half: Half | None = None) -> list[ReadPair]:
    """The shipped pairs of one half, or all of them."""
    pairs = []
    for row in read_jsonl(certification_pairs()):
        if half in (None, row["half"]):
            pairs.append(ReadPair(**(row | {"readings": tuple(row["readings"])})))
    return pairs


class Agreement(BaseModel):
    """A judge beside the readers.

    Only pairs that they do not call equal count. No shipped pair is equal, so whether a judge favours one
    side of equally good replies is not known.

    Attributes:
        share: of unequal pairs on which it prefers the same reply; its own ties count half.
        low: one-sided 99 % lower bound, pairs of one prompt counted as dependent: the lower one of pairs
            where readers prefer the reference and of those where they prefer the artifact. A judge that is
            right on one kind only would see too little, or too much, of a loss.
        high: the upper bound, the higher one of both.
        pairs: unequal ones.
        longer_by_judge: how often the longer reply wins, by the judge.
        longer_by_readers: by the readers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    share: Share
    low: Share
    high: Share
    pairs: Annotated[int, Field(ge=0)]
    longer_by_judge: Share
    longer_by_readers: Share

    def doubts(self) -> tuple[str, ...]:
        """Why the judge is not certified; none where it is."""
        found = []
        if self.pairs < FEWEST_PAIRS:
            found.append(f"only {self.pairs} unequal pairs (needed: {FEWEST_PAIRS})")
        if self.low < LEAST_AGREEMENT:
            found.append(
                f"{AGREES} on {self.share:.0%} of {self.pairs} unequal pairs, with its interval on at least "
                f"{self.low:.0%}; more than {LEAST_AGREEMENT:.0%} is needed"
            )
        if abs(self.longer_by_judge - self.longer_by_readers) > MOST_LENGTH_BIAS:
            found.append(
                f"the longer reply wins {self.longer_by_judge:.0%} by it, "
                f"{self.longer_by_readers:.0%} by readers"
            )
        return tuple(found)


def judge_record(rater: Rater) -> JudgeRecord:
    """The judge with its certificate, which is made if this machine has none yet."""
    agreement = _certificate_of(rater)
    return JudgeRecord(
        name=rater.name,
        identity=rater.identity,
        agreement=round(agreement.share, 4),
        agreement_low=max(0.5, agreement.low),
        agreement_high=agreement.high,
        pairs=agreement.pairs,
        doubts=agreement.doubts(),
    )


def known_doubts(rater: Rater) -> tuple[str, ...] | None:
    """Why the judge is not certified, where that is known without asking it; else None."""
    known = _known_certificate(rater)
    return known.doubts() if known else None


def _known_certificate(rater: Rater) -> Agreement | None:
    """The judge's certificate that is shipped, or was made before on this machine."""
    shipped = read_json(judges_file()).get(rater.identity)
    if shipped and shipped["pairs_sha256"] == sha256_file(certification_pairs()):
        return Agreement.model_validate(shipped["agreement"])
    try:
        return Agreement.model_validate(read_json_object(_kept_certificate(rater)).get("agreement"))
    except (EmpathyEdgeError, OSError, ValidationError):
        return None


def _kept_certificate(rater: Rater) -> Path:
    """The file in the cache for a certificate that is made here."""
    key = sha256_json([METHOD, rater.identity, sha256_file(certification_pairs()), rater.tuned])
    return cache_folder() / "judges" / f"{key[:32]}.json"


def _certificate_of(rater: Rater) -> Agreement:
    """The judge's certificate: shipped, made before on this machine, or made now (a minute or two)."""
    if known := _known_certificate(rater):
        return known
    say(f"{rater.name}: has no certificate yet; it rates the pairs that readers have read.")
    pairs = read_pairs("certify" if rater.tuned else None)
    agreement = agreement_with_readers(pairs, rate_pairs(rater, pairs))
    kept = _kept_certificate(rater)
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_json(kept, {"judge": rater.name, "agreement": agreement.model_dump()})
    return agreement


def agreement_with_readers(pairs: Sequence[ReadPair], ratings: Sequence[tuple[float, float]]) -> Agreement:
    """Compare ratings (of reference and artifact) with what readers preferred."""
    right: dict[Reading, list[float]] = {"reference": [], "artifact": []}
    prompts: dict[Reading, list[str]] = {"reference": [], "artifact": []}
    longer, longer_read = [], []
    for pair, (reference, artifact) in zip(pairs, ratings, strict=True):
        if pair.preferred == "equal":
            continue
        points = 0.5 if reference == artifact else float(reference > artifact)
        truth = float(pair.preferred == "reference")
        right[pair.preferred].append(points if truth else 1 - points)
        prompts[pair.preferred].append(pair.prompt)
        words = len(pair.reference.split()) - len(pair.artifact.split())
        if words:
            longer.append(points if words > 0 else 1 - points)
            longer_read.append(truth if words > 0 else 1 - truth)
    sides = [_bounds(right[side], prompts[side]) for side in ("reference", "artifact")]
    every = right["reference"] + right["artifact"]
    return Agreement(
        share=float(np.mean(every)) if every else 0.5,
        low=min(low for low, _ in sides),
        high=max(high for _, high in sides),
        pairs=len(every),
        longer_by_judge=float(np.mean(longer)) if longer else 0.5,
        longer_by_readers=float(np.mean(longer_read)) if longer else 0.5,
    )


def _bounds(right: Sequence[float], prompts: Sequence[str]) -> tuple[float, float]:
    """The bounds of the share that is right; whole pairs are rounded so that the bounds get wider."""
    if not right:
        return 0.0, 1.0
    effective = _effective_pairs(np.array(right), prompts)
    correct = float(np.mean(right)) * effective
    return agreement_bound(floor(correct), effective), agreement_upper_bound(ceil(correct), effective)


def _effective_pairs(right: np.ndarray, prompts: Sequence[str]) -> int:
    """How many independent pairs say as much: fewer where pairs of one prompt go together (Kish 1965)."""
    errors = right - right.mean()
    _, names = np.unique(list(prompts), return_inverse=True)
    clustered = float((np.bincount(names, errors) ** 2).sum())
    if clustered == 0:
        return len(set(prompts))
    return max(1, min(len(right), int(len(right) * float((errors**2).sum()) / clustered)))


def open_judge(spec: str, api: ApiSettings) -> Rater:
    """A judge of `check` from its name; people rate the pairs of their certificate among the others.

    Raises:
        EmpathyEdgeError: there is no such judge.
    """
    return open_rater(spec, api, "check", certifying_items())


def certifying_items() -> list[ToRate]:
    """What a judge rates for its certificate, if it was not tuned on a part of it."""
    return [_to_rate(pair) for pair in read_pairs()]


def _to_rate(pair: ReadPair) -> ToRate:
    return ToRate(pair.messages, [pair.reference, pair.artifact])


def rate_pairs(rater: Rater, pairs: Sequence[ReadPair]) -> list[tuple[float, float]]:
    """The ratings of reference and artifact of each pair."""
    items = [_to_rate(pair) for pair in pairs]
    with progress() as bar:
        task = bar.add_task("certificate", total=len(pairs))
        ratings = rater.rate_many(items, lambda: bar.advance(task))
    return [(reference, artifact) for reference, artifact in ratings]


@cache
def agreement_bound(right: int, pairs: int, alpha: float = ALPHA_JUDGE) -> float:
    """The exact one-sided lower bound of a share (Clopper and Pearson 1934).

    Args:
        right: pairs on which the judge agrees.
        pairs: all of them, independent of each other.
        alpha: the probability with which the bound may be wrong.
    """
    if right == 0 or pairs == 0:
        return 0.0
    low, high = 0.0, right / pairs
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if binomial_tail(right, pairs, middle) >= alpha:
            high = middle
        else:
            low = middle
    return low


def agreement_upper_bound(right: int, pairs: int, alpha: float = ALPHA_JUDGE) -> float:
    """The exact one-sided upper bound; see `agreement_bound`."""
    return 1 - agreement_bound(pairs - right, pairs, alpha)
