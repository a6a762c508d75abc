"""A check as people and build servers read it: sentences and a table, Markdown, JUnit XML."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

from empathy_edge.bench.check.certificate import AGREES
from empathy_edge.bench.check.report import POWER, CheckedArtifact, CheckReport, ControlFigures
from empathy_edge.bench.check.steps.controls import MILD
from empathy_edge.console import out as stdout
from empathy_edge.console import table, tell

COLUMNS = (
    "artifact",
    "verdict",
    "win rate at least",
    "at most",
    "by judge",
    "decided by",
    "well-formed",
    "seconds",
)


def show(checked: CheckReport) -> None:
    """Print a sentence for each artifact, the table, the controls and what would decide."""
    for line in sentences(checked):
        stdout.print(line, markup=False, highlight=False)
    shown = table("", list(COLUMNS), [_row(item) for item in checked.artifacts])
    shown.columns[5].justify = "left"
    stdout.print(shown)
    tell(conditions(checked))


def sentences(checked: CheckReport) -> list[str]:
    """A sentence for each artifact with its notes; then what would decide those that are undecided."""
    lines = []
    undecided: dict[str, list[str]] = {}
    for item in checked.artifacts:
        lines.append(f"{item.verdict}: {item.sentence}")
        lines += [f"  ({note})" for note in item.notes]
        if item.to_decide:
            undecided.setdefault(item.to_decide, []).append(item.artifact)
    lines += [f"To decide {', '.join(names)}, it takes {what}." for what, names in undecided.items()]
    return lines


def markdown(checked: CheckReport) -> str:
    """For a job's summary or a pull request."""
    lines = [f"- {line}" if not line.startswith(" ") else f"  -{line[1:]}" for line in sentences(checked)]
    lines += ["", _line(COLUMNS), _line(["---"] * len(COLUMNS))]
    lines += [_line(_row(item)) for item in checked.artifacts]
    return "\n".join([*lines, "", conditions(checked)]) + "\n"


def junit(checked: CheckReport) -> str:
    """A test case for each artifact: FAIL is a failure, UNDECIDED is skipped, with the sentence."""
    verdicts = [item.verdict for item in checked.artifacts]
    suite = ElementTree.Element(
        "testsuite",
        name="empathy-edge check",
        tests=str(len(verdicts)),
        failures=str(verdicts.count("FAIL")),
        skipped=str(verdicts.count("UNDECIDED")),
    )
    for item in checked.artifacts:
        case = ElementTree.SubElement(
            suite, "testcase", classname="check", name=item.artifact, time=f"{item.seconds:.1f}"
        )
        if item.verdict != "PASS":
            kind = "failure" if item.verdict == "FAIL" else "skipped"
            ElementTree.SubElement(case, kind, message=item.sentence)
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _row(item: CheckedArtifact) -> list[str]:
    return [
        item.artifact,
        item.verdict,
        f"{item.win_rate_low:.1%}",
        f"{item.win_rate_high:.1%}",
        "–" if item.win_rate_by_judge is None else f"{item.win_rate_by_judge:.1%}",
        item.decided_by or "–",
        "–" if item.well_formed is None else f"{item.well_formed:.0%} of {item.well_formed_reference:.0%}",
        f"{item.seconds:.0f}",
    ]


def conditions(checked: CheckReport) -> str:
    """What holds for all verdicts of a check: reference, prompts, replies, bound, judge and controls."""
    quantized = ", whose own weights are quantized" if checked.reference_quantized else ""
    agreement = ""
    is_in_a_doubt = any(doubt.startswith(AGREES) for doubt in checked.judge_doubts)
    if checked.judge_agreement is not None and not is_in_a_doubt:
        agreement = f", right on {checked.judge_agreement:.0%} of unequal pairs"
    controls = checked.controls
    found = (*checked.judge_doubts, *(controls.doubts if controls else ()))
    doubts = "".join(f"; {doubt}" for doubt in found)
    return (
        f"Each file was compared with {checked.reference}{quantized} itself (is that better than its base? "
        f"`empathy-edge release`); {checked.prompts} prompts, replies {checked.decoding}, at "
        f"most {checked.max_new_tokens} tokens; PASS from {checked.min_win_rate:.0%} of comparisons won, "
        f"bounds of 95 %. Judge: {checked.judge}{agreement}{doubts}.{_controls(controls)}{_power(checked)}"
    )


def _controls(controls: ControlFigures | None) -> str:
    if controls is None:
        return ""
    damaged = ", ".join(
        f"{rate:.1%} with {share:.0%} of the replies misplaced"
        for share, rate in zip(MILD, controls.damaged, strict=True)
    )
    q2_k = controls.q2_k
    rounded = f"; its own Q2_K form wins {q2_k.mean:.1%} [{q2_k.low:.1%}, {q2_k.high:.1%}]" if q2_k else ""
    return f" Controls: the reference against itself {controls.against_itself:.1%}; {damaged}{rounded}."


def _power(checked: CheckReport) -> str:
    """Which loss would have been seen, and how often an artifact without one would have passed."""
    power = checked.power
    if power is None:
        in_order = not checked.judge_doubts and checked.controls and not checked.controls.doubts
        if in_order:
            return ""
        return " Power: without a judge that counts no loss is seen; only what is ruined FAILs."
    if power.loss is None:
        seen = "not even replies to other prompts alone"
    else:
        truth = "how much in truth is not known"
        if power.loss_in_truth is not None:
            truth = f"at most {100 * power.loss_in_truth:.1f} in truth"
        seen = f"a loss of {100 * power.loss:.1f} points (by the judge; {truth})"
    unharmed = ""
    if power.unharmed_passes is not None:
        unharmed = f"; an artifact that lost nothing would PASS in {power.unharmed_passes:.0%}"
    return f" Power of step 4: {seen} would FAIL in {POWER:.0%} of such runs{unharmed}."


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
