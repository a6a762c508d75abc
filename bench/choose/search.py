"""The search: all candidates are planned, those that surely miss a limit are left out, and the others are
made and checked in the order of preference until one can be shipped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from empathy_edge.bench.check.baseline.record import Baseline
from empathy_edge.bench.check.report import CheckedArtifact
from empathy_edge.bench.check.run import check
from empathy_edge.bench.choose.candidate import Candidate, Maker, measure_made, planned
from empathy_edge.bench.choose.limits import Limits, state_of
from empathy_edge.bench.phones.prediction_settings import PredictionSettings
from empathy_edge.console import say
from empathy_edge.devices import Device
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.models.find import find_model
from empathy_edge.runs.settings import CheckSettings
from empathy_edge.system.files import read_json, sha256_json, write_json

Goal = Literal["smallest", "fastest"]


@dataclass(frozen=True)
class Wish:
    """What is asked for.

    Attributes:
        device: that the artifact is for.
        limits: it has to keep to.
        goal: what is preferred among those that do.
        max_kl: an undecided artifact counts as kept up to this KL divergence, nats a token; None: never.
        all: check every candidate within the limits, for the whole picture.
        lengths: of prompt, cache and context, for the prediction.
    """

    device: Device
    limits: Limits
    goal: Goal
    max_kl: float | None
    all: bool
    lengths: PredictionSettings


@dataclass(frozen=True)
class Choice:
    """What was found.

    Attributes:
        wish: what was asked for.
        reference: the full-precision model's name.
        candidates: in the order of preference.
        chosen: kept its empathy and surely keeps to the limits; None where nothing does.
        perhaps: the first whose limits (or else whose verdict) are open, where nothing was chosen.
    """

    wish: Wish
    reference: str
    candidates: list[Candidate]
    chosen: Candidate | None
    perhaps: Candidate | None

    def exit_code(self) -> int:
        """0 where one was chosen, 4 where something is open, 1 where nothing can be shipped."""
        if self.chosen is not None:
            return 0
        return 1 if self.perhaps is None else 4


class _KeptCheck(BaseModel):
    """A check's result in its file, with what it depends on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    checked: CheckedArtifact


def choose(
    kinds: list[str], maker: Maker, baseline: Baseline, settings: CheckSettings, wish: Wish, out: Path
) -> Choice:
    """Search in the order of preference.

    Args:
        kinds: names of artifacts.
        maker: plans and makes them.
        baseline: of the full-precision model.
        settings: of the check.
        wish: device, limits and goal.
        out: where the results of checks are kept, so that a second search begins with them.
    """
    candidates = [planned(name, maker, wish.device, wish.limits, wish.lengths) for name in kinds]
    preference = _preference(wish.goal)  # what can never be surely within the limits comes last
    candidates.sort(key=lambda item: (item.needs_unknown_memory, preference(item)))
    chosen: Candidate | None = None
    for candidate in candidates:
        if chosen is not None and not wish.all:
            candidate.skipped = candidate.skipped or f"not needed: {chosen.name} comes first"
            continue
        _try(candidate, maker, baseline, settings, wish, out)
        if chosen is None and candidate.kept(wish.max_kl) and candidate.state == "meets":
            chosen = candidate
    open_ones = [item for item in candidates if _is_open(item, wish.max_kl)]
    open_ones.sort(key=lambda item: (not item.kept(wish.max_kl), item.state != "meets"))
    perhaps = open_ones[0] if open_ones and chosen is None else None
    return Choice(wish, Path(baseline.reference.name).name, candidates, chosen, perhaps)


def _preference(goal: Goal) -> Callable[[Candidate], tuple[float, float]]:
    if goal == "smallest":
        return lambda item: (item.size_mb, -item.decode_tps)
    return lambda item: (-item.decode_tps, item.size_mb)


def _is_open(candidate: Candidate, max_kl: float | None) -> bool:
    """Neither refused nor shown to be good: the verdict or a limit is undecided."""
    if candidate.checked is None or candidate.checked.verdict == "FAIL" or candidate.state == "misses":
        return False
    return candidate.state == "perhaps" or not candidate.kept(max_kl)


def _try(
    candidate: Candidate, maker: Maker, baseline: Baseline, settings: CheckSettings, wish: Wish, out: Path
) -> None:
    """Make and check one, unless that cannot help any more."""
    if candidate.skipped:
        return
    if candidate.state == "misses":
        candidate.skipped = "misses a limit"
        return
    try:
        folder = measure_made(candidate, maker, wish.device, wish.limits, wish.lengths)
    except EmpathyEdgeError as error:
        candidate.skipped = f"cannot be made: {' '.join(str(error).split())}"
        return
    if state_of(candidate.margins) == "misses":
        candidate.skipped = "made, misses a limit"
        return
    candidate.checked = _checked(candidate.name, folder, baseline, settings, out)
    candidate.kl = kl_per_token(candidate.checked, baseline)


def _checked(
    name: str, folder: Path, baseline: Baseline, settings: CheckSettings, out: Path
) -> CheckedArtifact:
    """The check's result: an earlier one of the same artifact, baseline and settings, or a new one."""
    facts = {
        "artifact": find_model(str(folder)).identity,
        "baseline": sha256_json(baseline.model_dump(mode="json")),
        "settings": settings.model_dump(mode="json"),
    }
    key, file = sha256_json(facts), out / f"{name}.json"
    if file.is_file():
        try:
            kept = _KeptCheck.model_validate(read_json(file))
        except (ValidationError, EmpathyEdgeError):
            kept = None
        if kept is not None and kept.key == key:
            say(f"  {name}: {kept.checked.verdict}, as it was checked before")
            return kept.checked
    (found,) = check([str(folder)], baseline, settings).artifacts
    say(f"  {name}: {found.verdict}")
    out.mkdir(parents=True, exist_ok=True)
    write_json(file, _KeptCheck(key=key, checked=found).model_dump(mode="json"))
    return found


def kl_per_token(checked: CheckedArtifact, baseline: Baseline) -> float | None:
    """The KL divergence of the artifact from the reference in nats a token, from that of whole replies."""
    if checked.sequence_kl is None:
        return None
    scored = baseline.prompts[: max(1, checked.prompts_scored)]
    lengths = [len(reply.token_ids) for record in scored for reply in record.replies]
    return checked.sequence_kl * len(lengths) / sum(lengths)
