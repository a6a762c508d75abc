"""The verdict on each artifact: did it keep what fine-tuning gave? PASS, FAIL or INCONCLUSIVE, with the reasons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from empathy_edge.console import out as stdout
from empathy_edge.console import table
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.recipe import GateSettings
from empathy_edge.run import open_stage, read_json, write_json

from .stats import sign_test
from .winrate import BASE, FULL

SIGNIFICANT = 0.05


def run(*, winrate: Path, out: Path, settings: GateSettings, update: bool = False) -> dict[str, Any]:
    """Judge every artifact of a `winrate` folder; writes `gate.json` and shows the verdicts."""
    stage = open_stage(out, "gate", settings=settings.model_dump(), inputs={"winrate": winrate}, update=update)
    if not stage.done:
        result = read_json(winrate / "winrate.json")
        arms = [arm for arm in result["format"] if arm not in (BASE, FULL)]
        if not arms:
            raise EmpathyEdgeError(f"{winrate}: no artifact was compared, so there is nothing to judge.")
        verdicts = {arm: decide(arm, result, settings) for arm in arms}
        write_json(out / "gate.json", verdicts)
        stage.finish(verdicts=verdicts)
    show(stage.manifest["results"]["verdicts"])
    return stage.manifest


def decide(arm: str, result: dict[str, Any], settings: GateSettings) -> dict[str, Any]:
    """The verdict on one artifact.

    FAIL needs evidence: significantly fewer well-formed responses than the fine-tuned model on the same prompts, or a
    win rate against it whose 95 % interval lies wholly below the bound, by a certified judge. PASS needs the one-sided
    95 % lower bound above it, a certified judge, and well-formed responses. All else is INCONCLUSIVE.
    """
    fails, doubts = [], []
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
    rate = compared["win_rate"]
    certified = result["judge"]["certified"]
    shown = f"win rate against fine-tuned {rate['mean']:.1%} [{rate['low']:.1%}, {rate['high']:.1%}], n={rate['n']}"
    if rate["high"] < settings.min_win_rate:
        (fails if certified else doubts).append(f"{shown}: below {settings.min_win_rate:.0%}")
    elif rate["lower_bound_one_sided"] < settings.min_win_rate:
        doubts.append(
            f"{shown}: its one-sided lower bound {rate['lower_bound_one_sided']:.1%} does not reach "
            f"{settings.min_win_rate:.0%}; more prompts would tell"
        )
    if not certified:
        doubts.append(f"the judge is not certified: {'; '.join(result['judge']['doubts'])}")
    return {
        "verdict": "FAIL" if fails else "INCONCLUSIVE" if doubts else "PASS",
        "reasons": [*fails, *doubts] or [f"{shown}; {formed:.1%} well-formed"],
    }


def show(verdicts: dict[str, dict[str, Any]]) -> None:
    """Print the verdicts as a table."""
    rows = [[arm, item["verdict"], "\n".join(item["reasons"])] for arm, item in verdicts.items()]
    result = table("Gate: did the artifact keep what fine-tuning gave?", ["artifact", "verdict", "why"], rows)
    result.columns[2].justify = "left"
    stdout.print(result)


def overall(verdicts: dict[str, dict[str, Any]]) -> str:
    """The worst of the verdicts."""
    found = {item["verdict"] for item in verdicts.values()}
    return next(name for name in ("FAIL", "INCONCLUSIVE", "PASS") if name in found)


def _rate(result: dict[str, Any], first: str, second: str) -> dict[str, Any]:
    return next(row for row in result["win_rates"] if (row["first"], row["second"]) == (first, second))
