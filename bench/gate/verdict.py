"""The verdict on each artifact: did it keep what fine-tuning gave? PASS, FAIL or INCONCLUSIVE, with the reasons.

FAIL needs evidence, PASS needs more of it. Two controls run along: the fine-tuned model against itself must not fail, and a model that
was damaged on purpose must; where they misbehave, nothing passes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from empathy_edge.bench.gate.attribution import (
    Points,
    describe_steps,
    diagnose,
    lost_by_step,
    merge_line,
    worse_dialogues,
    worse_line,
    worse_page,
)
from empathy_edge.bench.gate.winrate import BASE, FULL, KNOWN_BAD
from empathy_edge.console import out as stdout
from empathy_edge.console import table, tell
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.dialogue import read_jsonl
from empathy_edge.judging.statistics import sign_test
from empathy_edge.runs.recipe import GateSettings
from empathy_edge.runs.stage import open_stage
from empathy_edge.system.files import read_json, write_atomically, write_json

SIGNIFICANT = 0.05
RESAMPLES, SEED = 2000, 0
LEAST_GAIN = 0.05
"""A model whose win rate against the base is not surely this far above one half has no gain that could be kept or lost."""


def run(
    *,
    winrate: Path,
    out: Path,
    settings: GateSettings,
    verify: Path | None = None,
    update: bool = False,
) -> dict[str, Any]:
    """Judge every artifact of a `winrate` folder; writes `gate.json`, `gate.md`, `worse.md` and `junit.xml`, and shows the verdicts.

    Args:
        winrate: the folder that `winrate` made.
        out: the stage's folder.
        settings: the bounds.
        verify: the folder that `verify` made, to tell where a loss comes from.
        update: do it again where inputs or settings changed.
    """
    inputs = {"winrate": winrate} | ({"verify": verify} if verify else {})
    stage = open_stage(out, "gate", settings=settings.model_dump(), inputs=inputs, update=update)
    if not stage.done:
        result = read_json(winrate / "winrate.json")
        arms = [arm for arm in result["format"] if arm not in (BASE, FULL, KNOWN_BAD)]
        if not arms:
            raise EmpathyEdgeError(f"{winrate}: no artifact was compared, so there is nothing to judge.")
        points = _points(winrate / "verdicts.jsonl")
        controls = check_controls(result, points, settings)
        verdicts = {arm: decide(arm, result, settings, points, controls["doubts"]) for arm in arms}
        rows = {row["artifact"]: row for row in read_json(verify / "verify.json")} if verify else {}
        for arm, item in verdicts.items():
            item["points_lost"] = lost_by_step(arm, points)
            item["diagnosis"] = [*diagnose(arm, rows, settings), *describe_steps(item["points_lost"])]
            item["worse"] = worse_dialogues(arm, winrate, result, points)
        controls["merge"] = merge_line(verify)
        write_json(out / "gate.json", verdicts)
        write_atomically(out / "gate.md", "\n".join(markdown(verdicts, controls, result["prompts"])) + "\n")
        if worse := {arm: item["worse"] for arm, item in verdicts.items() if item["worse"]}:
            write_atomically(out / "worse.md", "\n".join(worse_page(worse)) + "\n")
        write_atomically(out / "junit.xml", junit(verdicts))
        counted = {arm: item | {"worse": len(item["worse"])} for arm, item in verdicts.items()}
        stage.finish(verdicts=counted, controls=controls)
    show(stage.manifest["results"]["verdicts"], stage.manifest["results"]["controls"])
    return stage.manifest


def _points(file: Path) -> Points:
    found: Points = {}
    for row in read_jsonl(file):
        found.setdefault((row["first"], row["second"]), {})[row["id"]] = row["points"]
    return found


def decide(
    arm: str,
    result: dict[str, Any],
    settings: GateSettings,
    points: Points | None = None,
    void: list[str] | None = None,
) -> dict[str, Any]:
    """The verdict on one artifact.

    FAIL needs evidence: significantly fewer well-formed responses than the fine-tuned model on the same prompts; or, by a
    certified judge, a win rate against it or a gain kept whose 95 % interval lies wholly below the bound. PASS needs the one-sided
    95 % lower bounds above them, a certified judge, well-formed responses, and controls that behaved. All else is INCONCLUSIVE.

    Args:
        arm: the artifact's name.
        result: what `winrate` wrote.
        settings: the bounds.
        points: each dialogue's points, for the gain kept; without them it is left out.
        void: why the controls let nothing pass.
    """
    fails: list[str] = []
    doubts: list[str] = list(void or [])
    certified = result["judge"]["certified"]
    formed = _check_format(arm, result, settings, fails, doubts)
    _check_safety(arm, result, fails, doubts)
    _check_severe(arm, result, settings, fails, doubts)
    rate = _rate(result, arm, FULL)["win_rate"]
    shown = f"win rate against fine-tuned {rate['mean']:.1%} [{rate['low']:.1%}, {rate['high']:.1%}], n={rate['n']}"
    if rate["high"] < settings.min_win_rate:
        (fails if certified else doubts).append(f"{shown}: below {settings.min_win_rate:.0%}")
    elif rate["lower_bound_one_sided"] <= settings.min_win_rate:  # what is only just reached is not passed
        doubts.append(
            f"{shown}: its one-sided lower bound {rate['lower_bound_one_sided']:.1%} does not pass "
            f"{settings.min_win_rate:.0%}; more prompts would tell"
        )
    _check_length(_rate(result, arm, FULL), settings, doubts)
    gain = gain_retained(arm, points) if points is not None else None
    if gain is not None:
        kept = f"{gain['mean']:.0%} [{gain['low']:.0%}, {gain['high']:.0%}] of the gain over the base is kept"
        if gain["lead_low"] < LEAST_GAIN:
            doubts.append(
                f"the fine-tuned model's own lead over the base may be as low as {gain['lead_low']:.1%}: "
                "there is no sure gain that could be kept"
            )
        elif gain["high"] < settings.min_gain_retained:
            (fails if certified else doubts).append(f"{kept}: below {settings.min_gain_retained:.0%}")
        elif gain["lower_bound_one_sided"] < settings.min_gain_retained:
            doubts.append(
                f"{kept}: its one-sided lower bound does not reach {settings.min_gain_retained:.0%}"
            )
    if not certified:
        doubts.append(f"the judge is not certified: {'; '.join(result['judge']['doubts'])}")
    return {
        "verdict": "FAIL" if fails else "INCONCLUSIVE" if doubts else "PASS",
        "reasons": [*fails, *doubts] or [f"{shown}; {formed:.1%} well-formed"],
        "gain_retained": gain,
    }


def _check_format(
    arm: str, result: dict[str, Any], settings: GateSettings, fails: list[str], doubts: list[str]
) -> float:
    compared = _rate(result, arm, FULL)
    formed, full = result["format"][arm]["ok"], result["format"][FULL]["ok"]
    worse, better = compared["only_second_well_formed"], compared["only_first_well_formed"]
    p = sign_test(worse, better)
    if p < SIGNIFICANT:
        fails.append(
            f"{formed:.1%} of responses are well-formed, of the fine-tuned model's {full:.1%}: worse on {worse} prompts, "
            f"better on {better} (p = {p:.2g})"
        )
    elif formed < settings.min_format_ok:
        doubts.append(
            f"{formed:.1%} of responses are well-formed (bound {settings.min_format_ok:.0%}), of the fine-tuned model's "
            f"{full:.1%}"
        )
    return float(formed)


def _check_safety(arm: str, result: dict[str, Any], fails: list[str], doubts: list[str]) -> None:
    """Not worse than the base on the prompts of prompts/safety.yaml: more flagged replies are a doubt, sure ones a FAIL."""
    guard = result.get("safety", {})
    if arm not in guard or BASE not in guard:
        return
    ours, base = set(guard[arm]["replies"]), set(guard[BASE]["replies"])
    worse, better = len(ours - base), len(base - ours)
    if worse <= better:
        return
    p = sign_test(worse, better)
    words = (
        f"{len(ours)} of {guard[arm]['prompts']} safety prompts get a reply that a rule flags, of the base's {len(base)}: worse on "
        f"{worse}, better on {better} (p = {p:.2g}; first: {min(ours - base)})"
    )
    (fails if p < SIGNIFICANT else doubts).append(words)


def _check_length(row: dict[str, Any], settings: GateSettings, doubts: list[str]) -> None:
    """Where the artifact's responses are surely longer or shorter, its win rate must hold at equal length too."""
    if not row.get("lengths_differ"):
        return
    words = f"its responses are {abs(row['mean_words_ahead']):.1f} words {'longer' if row['mean_words_ahead'] > 0 else 'shorter'} in the mean"
    adjusted = row["length_adjusted"]
    if adjusted is None:
        doubts.append(
            f"{words}, and what that did to the verdicts cannot be told: {row['length_adjusted_why_not']}"
        )
    elif adjusted["lower_bound_one_sided"] <= settings.min_win_rate:
        doubts.append(
            f"{words}; at equal length its win rate is {adjusted['mean']:.1%} [{adjusted['low']:.1%}, {adjusted['high']:.1%}], whose "
            f"one-sided lower bound {adjusted['lower_bound_one_sided']:.1%} does not pass {settings.min_win_rate:.0%}"
        )


def _check_severe(
    arm: str, result: dict[str, Any], settings: GateSettings, fails: list[str], doubts: list[str]
) -> None:
    """Responses that fell from 3 to 1 by an absolute scorer, where there is one: surely too many, and surely more than rose, are a FAIL."""
    severe = result.get("severe_flips")
    if not severe:
        return
    item, most = severe["arms"][arm], settings.max_severe_flips
    p = sign_test(len(item["fell"]), item["rose"])
    shown = f"{len(item['fell'])} of {item['prompts']} responses fall from a rating of 3 to 1, {item['rose']} rise (p = {p:.2g})"
    if item["low"] > most and p < SIGNIFICANT:
        first = (
            f"{shown} [{item['low']:.1%}, {item['high']:.1%}]: above {most:.0%} (first: {item['fell'][0]})"
        )
        if severe["certified"]:
            fails.append(first)
        else:
            doubts.append(f"{first}; but that scorer may not decide: {'; '.join(severe['doubts'])}")
    elif item["high"] > most:
        doubts.append(
            f"{shown}: their share may be as high as {item['high']:.1%} (bound {most:.0%}); more prompts would tell"
        )


def gain_retained(arm: str, points: Points) -> dict[str, float]:
    """(win rate of the artifact against the base − ½) / (that of the fine-tuned model − ½), by bootstrap over prompts.

    `lead_low` is the lower end of the fine-tuned model's own lead. Where that comes near 0 the ratio has no sense.
    """
    ours, full = points[(arm, BASE)], points[(FULL, BASE)]
    ids = sorted(set(ours) & set(full))
    leads = np.array([[ours[name], full[name]] for name in ids]) - 0.5
    drawn = np.random.default_rng(SEED).integers(0, len(ids), (RESAMPLES, len(ids)))
    means = leads[drawn].mean(1)
    safe = np.where(np.abs(means[:, 1]) < 1e-6, 1e-6, means[:, 1])
    ratios = means[:, 0] / safe
    whole = leads.mean(0)
    return {
        "mean": round(float(whole[0] / (whole[1] or 1e-6)), 4),
        "low": round(float(np.percentile(ratios, 2.5)), 4),
        "high": round(float(np.percentile(ratios, 97.5)), 4),
        "lower_bound_one_sided": round(float(np.percentile(ratios, 5)), 4),
        "lead_low": round(float(np.percentile(means[:, 1], 2.5)), 4),
    }


def check_controls(result: dict[str, Any], points: Points, settings: GateSettings) -> dict[str, Any]:
    """Does the measurement prove itself? The fine-tuned model must be as good as itself, and the damaged one must fail."""
    doubts = []
    same = points.get((FULL, FULL), {})
    found: dict[str, Any] = {
        "fine-tuned against itself": round(float(np.mean([*same.values()])), 4) if same else None
    }
    if not same:
        doubts.append("the fine-tuned model was not compared with itself")
    elif found["fine-tuned against itself"] < settings.min_win_rate:
        doubts.append(f"the fine-tuned model loses against itself ({found['fine-tuned against itself']:.1%})")
    if KNOWN_BAD not in result["format"]:
        return found | {"known-bad": None, "doubts": [*doubts, "no known-bad model was compared"]}
    bad = decide(KNOWN_BAD, result, settings, points)
    if bad["verdict"] != "FAIL":
        doubts.append("a model that was damaged on purpose does not fail: this comparison cannot see damage")
    return found | {"known-bad": bad["verdict"], "known_bad_reasons": bad["reasons"], "doubts": doubts}


def markdown(verdicts: dict[str, dict[str, Any]], controls: dict[str, Any], prompts: int) -> list[str]:
    """The verdicts as a table for a pull request, and below it the dialogues that got worse, by id."""
    lines = ["| artifact | verdict | why | diagnosis |", "|---|---|---|---|"]
    for arm, item in verdicts.items():
        lines.append(
            f"| {arm} | **{item['verdict']}** | {'; '.join(item['reasons'])} | {'; '.join(item['diagnosis'])} |"
        )
    lines += ["", _controls_line(controls)]
    if any(item["worse"] for item in verdicts.values()):
        lines += ["", *(f"- {worse_line(arm, item['worse'], prompts)}" for arm, item in verdicts.items())]
    return lines


def _controls_line(controls: dict[str, Any]) -> str:
    itself = controls["fine-tuned against itself"]
    merge = f" {controls['merge']}" if controls.get("merge") else ""
    return (
        f"Controls: fine-tuned against itself {'not compared' if itself is None else f'{itself:.1%}'}; "
        f"known-bad {controls['known-bad'] or 'not compared'}.{merge}"
    )


def junit(verdicts: dict[str, dict[str, Any]]) -> str:
    """JUnit XML: a test case for each artifact; FAIL is a failure, INCONCLUSIVE is skipped with its reasons."""
    counts = [item["verdict"] for item in verdicts.values()]
    suite = ElementTree.Element(
        "testsuite",
        name="empathy-edge gate",
        tests=str(len(counts)),
        failures=str(counts.count("FAIL")),
        skipped=str(counts.count("INCONCLUSIVE")),
    )
    for arm, item in verdicts.items():
        case = ElementTree.SubElement(suite, "testcase", classname="gate", name=arm)
        if item["verdict"] != "PASS":
            kind = "failure" if item["verdict"] == "FAIL" else "skipped"
            ElementTree.SubElement(case, kind, message="; ".join([*item["reasons"], *item["diagnosis"]]))
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def show(verdicts: dict[str, dict[str, Any]], controls: dict[str, Any]) -> None:
    """Print the verdicts as a table, and the controls below."""
    rows = [
        [arm, item["verdict"], "\n".join([*item["reasons"], *(f"({text})" for text in item["diagnosis"])])]
        for arm, item in verdicts.items()
    ]
    result = table("Gate: did the artifact keep what fine-tuning gave?", ["artifact", "verdict", "why"], rows)
    result.columns[2].justify = "left"
    stdout.print(result)
    tell(_controls_line(controls))
    if worse := [f"{arm} {item['worse']}" for arm, item in verdicts.items() if item["worse"]]:
        tell(f"Dialogues that got worse, with their texts in worse.md: {', '.join(worse)}.")


def overall(verdicts: dict[str, dict[str, Any]]) -> str:
    """The worst of the verdicts."""
    found = {item["verdict"] for item in verdicts.values()}
    return next(name for name in ("FAIL", "INCONCLUSIVE", "PASS") if name in found)


def _rate(result: dict[str, Any], first: str, second: str) -> dict[str, Any]:
    return next(row for row in result["win_rates"] if (row["first"], row["second"]) == (first, second))
