"""A choice as people read it: a table, a sentence, what is not known, a picture, and JSON."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from empathy_edge.bench.check.baseline.record import Baseline
from empathy_edge.bench.check.beforehand import number_of
from empathy_edge.bench.check.prompts import read_prompts
from empathy_edge.bench.check.steps.win_rate import ALPHA
from empathy_edge.bench.choose.candidate import Candidate
from empathy_edge.bench.choose.search import Choice
from empathy_edge.bench.phones.predict import Estimate
from empathy_edge.console import out as stdout
from empathy_edge.console import table, tell
from empathy_edge.runs.settings import ReplySettings

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = (
    "artifact",
    "MB",
    "decode tok/s",
    "first token s",
    "memory MB",
    "limits",
    "verdict",
    "win rate at least",
    "KL/token",
    "",
)
NEAR_KL = 0.01
"""Nats a token that are near, as Q8_0 is to its model (docs/choose.md)."""

_COLOURS = {"PASS": "#2a7f9e", "UNDECIDED": "#d08c2a", "FAIL": "#b4436c", "–": "#999"}


def work_of_the_search(
    artifacts: int, given: Baseline | ReplySettings, *, goal: str, all_of_them: bool
) -> str:
    """What a search will do, and about how much: artifacts × replies.

    Args:
        artifacts: how many are tried at most.
        given: the baseline, or how its replies will be made.
        goal: smallest or fastest.
        all_of_them: whether the search goes on after one that can be shipped.
    """
    if isinstance(given, Baseline):
        prompts, samples = len(given.prompts), given.settings.samples
    else:
        prompts, samples = len(read_prompts(None, given.max_prompts, given.seed)), given.samples
    replies = prompts * samples
    until = "" if all_of_them else ", until one can be shipped"
    return (
        f"Makes and checks at most {number_of(artifacts, 'artifact')}, the {goal} first{until}: each on "
        f"at most {number_of(replies, 'reply', 'replies')} to {number_of(prompts, 'prompt')}, "
        f"{artifacts * replies} in all."
    )


def show(choice: Choice) -> None:
    """Print the table, what was chosen or what comes nearest, and what is not known."""
    wish = choice.wish
    title = (
        f"{choice.reference} for {wish.device.name}, {wish.goal} first (speeds are predicted, 90 % intervals)"
    )
    efficient = {item.name for item in pareto(choice.candidates)}
    rows = [_row(item, item.name in efficient, item is choice.chosen) for item in choice.candidates]
    shown = table(title, list(COLUMNS), rows)
    for place in (5, 6, 9):
        shown.columns[place].justify = "left"
    stdout.print(shown)
    stdout.print(sentence(choice), markup=False, highlight=False)
    for line in unknowns(choice):
        tell(f"  {line}")


def _row(item: Candidate, is_efficient: bool, is_chosen: bool) -> list[str]:
    prediction, checked = item.prediction, item.checked
    mark = "chosen" if is_chosen else item.skipped or ("Pareto" if is_efficient else "")
    return [
        item.name,
        f"{item.size_mb:.0f}{'' if item.made else ' (planned)'}" if item.size_mb else "–",
        _estimate(prediction.decode_tps if prediction else None),
        _estimate(prediction.ttft_s if prediction else None),
        f"{prediction.memory.need_mb}" if prediction else "unknown",
        item.state if item.size_mb else "–",
        checked.verdict if checked else "–",
        f"{checked.win_rate_low:.1%}" if checked else "–",
        "–" if item.kl is None else f"{item.kl:.3g}",
        mark,
    ]


def _estimate(estimate: Estimate | None) -> str:
    return f"{estimate.value:g} [{estimate.low:g}, {estimate.high:g}]" if estimate else "unknown"


def pareto(candidates: list[Candidate]) -> list[Candidate]:
    """Those that no other beats in size, predicted speed and worst-case win rate; FAIL is left out."""
    known = [item for item in candidates if item.decode_tps and not _failed(item)]
    return [item for item in known if not any(_beats(other, item) for other in known)]


def _failed(item: Candidate) -> bool:
    return item.checked is not None and item.checked.verdict == "FAIL"


def _figures(item: Candidate) -> tuple[float, float, float]:
    """Larger is better in each."""
    return -item.size_mb, item.decode_tps, item.checked.win_rate_low if item.checked else 0.0


def _beats(other: Candidate, item: Candidate) -> bool:
    theirs, ours = _figures(other), _figures(item)
    return theirs != ours and all(their >= our for their, our in zip(theirs, ours, strict=True))


def sentence(choice: Choice) -> str:
    """What to ship; or what comes nearest, and by how much it misses."""
    chosen, perhaps = choice.chosen, choice.perhaps
    if chosen is not None:
        assert chosen.checked is not None
        words = "PASS" if chosen.checked.verdict == "PASS" else f"UNDECIDED, KL {chosen.kl:.3g} nats a token"
        ship = f"Ship {chosen.name}: {chosen.size_mb:.0f} MB, {words}, within all limits."
        return ship + chance_of_a_wrong_pass(choice)
    if perhaps is not None:
        assert perhaps.checked is not None
        limits = "within all limits" if perhaps.state == "meets" else "perhaps within the limits"
        near = "" if perhaps.kl is None else f", KL {perhaps.kl:.3g} nats a token"
        found = (
            f"Nothing is both surely within the limits and shown to be as good. Nearest: {perhaps.name}, "
            f"{perhaps.size_mb:.0f} MB, {perhaps.checked.verdict}{near}, {limits}."
        )
        return found + chance_of_a_wrong_pass(choice)
    item = nearest(choice.candidates)
    if item is None:
        return "None of these artifacts can be made here."
    missed = [margin for margin in item.margins if margin.state == "misses"]
    if not missed:
        keeps = "keeps to the limits" if item.state == "meets" else "perhaps keeps to the limits"
        return f"Nothing can be shipped. Nearest: {item.name}, which {keeps} and fails the check."
    words = "; ".join(f"{margin.what}: {100 * math.expm1(margin.miss or 0.0):.0f} % off" for margin in missed)
    return f"Nothing meets the limits. Nearest: {item.name}, {words}."


def chance_of_a_wrong_pass(choice: Choice) -> str:
    """In words, for all checks together; empty where nothing passed or only one was checked.

    Each check passes an artifact that is worse with a chance of at most ALPHA. That one of several does has
    at most the sum of their chances (Bonferroni's inequality), whatever they have in common.
    """
    verdicts = [item.checked.verdict for item in choice.candidates if item.checked is not None]
    if len(verdicts) < 2 or "PASS" not in verdicts:
        return ""
    return (
        f" {len(verdicts)} artifacts were checked: the chance that any PASS is wrong is at most "
        f"{min(1.0, len(verdicts) * ALPHA):.0%}."
    )


def nearest(candidates: list[Candidate]) -> Candidate | None:
    """The one whose likeliest values are the least beyond the limits, all together."""
    possible = [item for item in candidates if item.size_mb]
    return min(possible, key=_beyond, default=None)


def _beyond(item: Candidate) -> float:
    return sum(max(0.0, margin.miss) for margin in item.margins if margin.miss is not None)


def unknowns(choice: Choice) -> list[str]:
    """What would have made the answer better."""
    lines: dict[str, list[str]] = {}
    for item in choice.candidates:
        for what in item.unknown:
            lines.setdefault(f"is not known: {what}", []).append(item.name)
        for margin in item.margins:
            if item.state == margin.state == "perhaps" and margin.miss is not None:
                device = choice.wish.device.id
                what = f"a run on the device would tell ({margin.what.split(' (')[0].split('] ')[-1]})"
                lines.setdefault(f"{what}: bench device, then bench ingest for {device}", []).append(
                    item.name
                )
        if item.checked is not None and item.checked.to_decide:
            lines.setdefault(f"to decide, it takes {item.checked.to_decide}", []).append(item.name)
        if item.checked is not None and item.checked.verdict == "UNDECIDED" and choice.wish.max_kl is None:
            what = (
                f"--max-kl would take an undecided one that is near enough ({NEAR_KL} nats a token is near)"
            )
            lines.setdefault(what, []).append(item.name)
    return [f"{', '.join(names)}: {what}." for what, names in lines.items()]


def what_next(choice: Choice) -> str:
    """What to do where nothing is chosen, in words."""
    item = choice.perhaps
    if item is None:
        return "allow more (--max-mb, --min-tps, --max-first-token), or try others (--to, docs/choose.md)"
    is_near = item.kl is not None and item.kl <= NEAR_KL
    if item.state == "meets" and is_near:
        return f"what would decide is above; or take it as it is: the same command with --max-kl {NEAR_KL}"
    return "what would decide is above"


def as_json(choice: Choice) -> dict[str, Any]:
    """Everything, for a program."""
    wish = choice.wish
    rows = []
    for item in choice.candidates:
        rows.append(
            {
                "artifact": item.name,
                "size_mb": round(item.size_mb, 1),
                "made": item.made,
                "prediction": asdict(item.prediction) if item.prediction else None,
                "limits": [asdict(margin) for margin in item.margins],
                "state": item.state,
                "checked": item.checked.model_dump(mode="json") if item.checked else None,
                "kl_per_token": item.kl,
                "skipped": item.skipped,
                "unknown": item.unknown,
            }
        )
    return {
        "format": "empathy-edge choose 1",
        "device": wish.device.id,
        "reference": choice.reference,
        "limits": wish.limits.model_dump(),
        "goal": wish.goal,
        "max_kl": wish.max_kl,
        "chosen": choice.chosen.name if choice.chosen else None,
        "perhaps": choice.perhaps.name if choice.perhaps else None,
        "sentence": sentence(choice),
        "needed_to_know": unknowns(choice),
        "pareto": [item.name for item in pareto(choice.candidates)],
        "candidates": rows,
    }


def draw(choice: Choice, file: Path) -> bool:
    """Size and predicted speed of each candidate as an SVG; False where matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("svg")
    from matplotlib import pyplot

    pyplot.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "font.size": 9})
    figure, axis = pyplot.subplots(figsize=(7, 4), layout="constrained")
    known = sorted((item for item in choice.candidates if item.decode_tps), key=lambda item: item.size_mb)
    for place, item in enumerate(known):
        _draw_one(axis, item, place, is_chosen=item is choice.chosen)
    limits = choice.wish.limits
    if limits.max_mb is not None:
        axis.axvline(limits.max_mb, color="#999", linestyle=":", linewidth=0.8)
    if limits.min_tps is not None:
        axis.axhline(limits.min_tps, color="#999", linestyle=":", linewidth=0.8)
    edge = [item for item in pareto(choice.candidates) if item in known]
    edge.sort(key=lambda item: item.size_mb)
    axis.plot([item.size_mb for item in edge], [item.decode_tps for item in edge], color="#ccc", zorder=0)
    axis.set(xlabel="MB", ylabel=f"decode on {choice.wish.device.name}, tokens/s (predicted)", ylim=(0, None))
    axis.margins(x=0.15)
    figure.savefig(file, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    return True


def _draw_one(axis: Axes, item: Candidate, place: int, *, is_chosen: bool) -> None:
    assert item.prediction is not None and item.prediction.decode_tps is not None
    speed = item.prediction.decode_tps
    colour = _COLOURS[item.checked.verdict if item.checked else "–"]
    error = [[speed.value - speed.low], [speed.high - speed.value]]
    marker = "s" if is_chosen else "o"
    axis.errorbar(item.size_mb, speed.value, yerr=error, fmt=marker, color=colour, ecolor="#bbb", linewidth=1)
    verdict = item.checked.verdict if item.checked else "not checked"
    offset = (6, 8) if place % 2 == 0 else (6, -14)
    axis.annotate(
        f"{item.name}, {verdict}", (item.size_mb, speed.value), offset, textcoords="offset points", fontsize=7
    )
