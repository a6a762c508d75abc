"""The verdicts as people and build servers read them: a table, a Markdown page, JUnit XML."""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree import ElementTree

from empathy_edge.bench.gate.attribution import worse_line
from empathy_edge.bench.gate.verdict_results import ArtifactVerdict, Controls, GateResults
from empathy_edge.console import out as stdout
from empathy_edge.console import table, tell


def markdown(verdicts: Mapping[str, ArtifactVerdict], controls: Controls, prompts: int) -> list[str]:
    """The verdicts as a table for a pull request, and below it the dialogues that got worse, by id."""
    lines = ["| artifact | verdict | why | diagnosis |", "|---|---|---|---|"]
    for arm, item in verdicts.items():
        reasons, diagnosis = "; ".join(item.reasons), "; ".join(item.diagnosis)
        lines.append(f"| {arm} | **{item.verdict}** | {reasons} | {diagnosis} |")
    lines += ["", _controls_line(controls)]
    if any(item.worse for item in verdicts.values()):
        lines += ["", *(f"- {worse_line(arm, item.worse, prompts)}" for arm, item in verdicts.items())]
    return lines


def _controls_line(controls: Controls) -> str:
    itself = "not compared" if controls.against_itself is None else f"{controls.against_itself:.1%}"
    known_bad = controls.known_bad or "not compared"
    line = f"Controls: fine-tuned against itself {itself}; known-bad {known_bad}."
    return f"{line} {controls.merge}" if controls.merge else line


def junit(verdicts: Mapping[str, ArtifactVerdict]) -> str:
    """JUnit XML: a test case for each artifact; FAIL is a failure, INCONCLUSIVE is skipped, with reasons."""
    names = [item.verdict for item in verdicts.values()]
    suite = ElementTree.Element(
        "testsuite",
        name="empathy-edge gate",
        tests=str(len(names)),
        failures=str(names.count("FAIL")),
        skipped=str(names.count("INCONCLUSIVE")),
    )
    for arm, item in verdicts.items():
        case = ElementTree.SubElement(suite, "testcase", classname="gate", name=arm)
        if item.verdict != "PASS":
            kind = "failure" if item.verdict == "FAIL" else "skipped"
            ElementTree.SubElement(case, kind, message="; ".join([*item.reasons, *item.diagnosis]))
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def show(results: GateResults) -> None:
    """Print the verdicts as a table, and the controls below."""
    rows = []
    for arm, item in results.verdicts.items():
        diagnosis = [f"({text})" for text in item.diagnosis]
        rows.append([arm, item.verdict, "\n".join([*item.reasons, *diagnosis])])
    verdicts = table(
        "Gate: did the artifact keep what fine-tuning gave?", ["artifact", "verdict", "why"], rows
    )
    verdicts.columns[2].justify = "left"
    stdout.print(verdicts)
    tell(_controls_line(results.controls))
    worse = [f"{arm} {item.worse}" for arm, item in results.verdicts.items() if item.worse]
    if worse:
        tell(f"Dialogues that got worse, with their texts in worse.md: {', '.join(worse)}.")
