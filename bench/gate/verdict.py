"""The verdict on each artifact, with reasons: did it keep what fine-tuning gave?

FAIL needs evidence, PASS needs more of it, and the rest is INCONCLUSIVE. Two controls are compared as well.
The fine-tuned model against itself must not fail. A model that was damaged on purpose must fail. Where a
control does not behave so, nothing passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from empathy_edge.bench.gate import verdict_checks as checks
from empathy_edge.bench.gate.attribution import (
    describe_merge,
    describe_steps,
    diagnose,
    lost_by_step,
    worse_dialogues,
    worse_page,
)
from empathy_edge.bench.gate.verdict_checks import Objection
from empathy_edge.bench.gate.verdict_files import junit, markdown, show
from empathy_edge.bench.gate.verdict_results import (
    ArtifactVerdict,
    Controls,
    Decision,
    GateResults,
    Points,
    VerdictName,
)
from empathy_edge.bench.gate.verified import read_verified
from empathy_edge.bench.gate.winrate_results import BASE, FULL, KNOWN_BAD, WinrateResults, read_winrate
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.json_lines import read_jsonl
from empathy_edge.runs.settings import GateSettings
from empathy_edge.runs.stage import open_stage
from empathy_edge.system.files import write_atomically, write_json


def run(
    *,
    winrate: Path,
    out: Path,
    settings: GateSettings,
    verify: Path | None = None,
    update: bool = False,
) -> GateResults:
    """Judge every artifact of a `winrate` folder, and print the verdicts.

    Writes `gate.json`, `gate.md`, `junit.xml`, and `worse.md` where dialogues got worse.

    Args:
        winrate: the folder that `winrate` made.
        out: the stage's folder.
        settings: the bounds.
        verify: the folder that `verify` made, to tell where a loss comes from.
        update: do it again where inputs or settings changed.
    """
    inputs = {"winrate": winrate} | ({"verify": verify} if verify else {})
    stage = open_stage(
        out,
        "gate",
        settings=settings.model_dump(),
        inputs=inputs,
        files=("gate.json", "gate.md", "junit.xml", "worse.md"),
        update=update,
    )
    if stage.done:
        found = stage.results(GateResults)
    else:
        found = _judge(winrate, out, settings, verify)
        stage.finish(found)
    show(found)
    return found


def _judge(winrate: Path, out: Path, settings: GateSettings, verify: Path | None) -> GateResults:
    """Judge the artifacts and write the files."""
    results = read_winrate(winrate)
    arms = [arm for arm in results.format if arm not in (BASE, FULL, KNOWN_BAD)]
    if not arms:
        raise EmpathyEdgeError(f"{winrate}: no artifact was compared, so there is nothing to judge.")
    points = read_points(winrate / "verdicts.jsonl")
    verified = read_verified(verify) if verify else {}
    controls = check_controls(results, points, settings)
    verdicts = {}
    for arm in arms:
        decision = decide(arm, results, settings, points, controls.doubts)
        lost = lost_by_step(arm, points)
        verdicts[arm] = ArtifactVerdict(
            verdict=decision.verdict,
            reasons=decision.reasons,
            gain_retained=decision.gain_retained,
            points_lost=lost,
            diagnosis=(*diagnose(arm, verified, settings), *describe_steps(lost)),
            worse=tuple(worse_dialogues(arm, winrate, results, points)),
        )
    controls = controls.model_copy(update={"merge": describe_merge(verify)})
    _write_files(out, verdicts, controls, results.prompts)
    summaries = {arm: item.summary() for arm, item in verdicts.items()}
    return GateResults(verdicts=summaries, controls=controls)


def read_points(file: Path) -> Points:
    """Each comparison's points by dialogue, from `verdicts.jsonl`."""
    points: Points = {}
    for row in read_jsonl(file):
        points.setdefault((row["first"], row["second"]), {})[row["id"]] = row["points"]
    return points


def _write_files(out: Path, verdicts: dict[str, ArtifactVerdict], controls: Controls, prompts: int) -> None:
    content = {arm: item.model_dump(mode="json", exclude_unset=True) for arm, item in verdicts.items()}
    write_json(out / "gate.json", content)
    write_atomically(out / "gate.md", "\n".join(markdown(verdicts, controls, prompts)) + "\n")
    worse = {arm: item.worse for arm, item in verdicts.items() if item.worse}
    if worse:
        write_atomically(out / "worse.md", "\n".join(worse_page(worse)) + "\n")
    write_atomically(out / "junit.xml", junit(verdicts))


def decide(
    arm: str,
    results: WinrateResults,
    settings: GateSettings,
    points: Points | None = None,
    control_doubts: Sequence[str] = (),
) -> Decision:
    """The verdict on one artifact.

    FAIL needs evidence: significantly fewer well-formed responses, or significantly more unsafe replies or
    severe flips; or, by a certified judge, a win rate or a gain kept whose 95 % interval lies wholly below
    the bound. PASS needs the one-sided 95 % lower bounds above them, a certified judge, well-formed
    responses, and controls that behaved. All else is INCONCLUSIVE.

    Args:
        arm: the artifact's name.
        results: what `winrate` found.
        settings: the bounds.
        points: each dialogue's points, for the gain kept; without them it is left out.
        control_doubts: why nothing may pass, from the controls.
    """
    gain = checks.gain_retained(arm, points) if points is not None else None
    objections = [
        *(Objection(doubt, False) for doubt in control_doubts),
        *checks.check_format(arm, results, settings),
        *checks.check_safety(arm, results),
        *checks.check_severe_flips(arm, results, settings),
        *checks.check_win_rate(arm, results, settings),
        *checks.check_length(arm, results, settings),
        *(checks.check_gain(gain, results, settings) if gain is not None else []),
        *checks.check_judge(results),
    ]
    deciding = [objection.text for objection in objections if objection.decides]
    doubts = [objection.text for objection in objections if not objection.decides]
    verdict: VerdictName = "PASS"
    if objections:
        verdict = "FAIL" if deciding else "INCONCLUSIVE"
    shown = checks.describe_win_rate(results.comparison(arm, FULL))
    figures = f"{shown}; {results.format[arm].ok:.1%} well-formed"
    reasons = (*deciding, *doubts) or (figures,)
    return Decision(verdict=verdict, reasons=reasons, gain_retained=gain)


def check_controls(results: WinrateResults, points: Points, settings: GateSettings) -> Controls:
    """Can the comparison be trusted?

    The fine-tuned model must be as good as itself, and the damaged one must fail.
    """
    doubts = []
    itself = points.get((FULL, FULL), {})
    against_itself = round(float(np.mean(list(itself.values()))), 4) if itself else None
    if against_itself is None:
        doubts.append("the fine-tuned model was not compared with itself")
    elif against_itself < settings.min_win_rate:
        doubts.append(f"the fine-tuned model loses against itself ({against_itself:.1%})")
    if KNOWN_BAD not in results.format:
        doubts.append("no known-bad model was compared")
        return Controls(against_itself=against_itself, known_bad=None, doubts=tuple(doubts))
    bad = decide(KNOWN_BAD, results, settings, points)
    if bad.verdict != "FAIL":
        doubts.append("a model that was damaged on purpose does not fail: this comparison cannot see damage")
    return Controls(
        against_itself=against_itself,
        known_bad=bad.verdict,
        known_bad_reasons=bad.reasons,
        doubts=tuple(doubts),
    )
