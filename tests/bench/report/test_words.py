"""The report's first sentences and its pictures, without a run."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from empathy_edge.bench.check.report import CheckedArtifact, CheckReport, Verdict
from empathy_edge.bench.release.results import ReleaseResults
from empathy_edge.bench.report.finished_run import ArtifactRow, FinishedRun
from empathy_edge.bench.report.line_breaks import prose_html
from empathy_edge.bench.report.svg import Picture
from empathy_edge.bench.report.words import (
    about_arms,
    figures_in_words,
    listed,
    next_steps,
    short_percent,
    verdict_sentence,
)
from empathy_edge.runs.recipe import load_recipe
from empathy_edge.runs.run_folder import RunFolder

Found = tuple[str, Verdict, float, float]
"""An artifact, its verdict and the bounds of its win rate."""

CASES: list[tuple[list[Found], str]] = [
    ([("a", "PASS", 0.4551, 1)], "a keeps the model's empathy."),
    ([("a", "PASS", 0.46, 1), ("b", "PASS", 0.47, 1)], "a and b keep the model's empathy."),
    (
        [("a", "PASS", 0.4551, 1), ("b", "UNDECIDED", 0.2356, 1)],
        "a keeps the model's empathy; b (between 23.6 % and 100 % of comparisons won) is undecided.",
    ),
    (
        [("a", "UNDECIDED", 0.2, 0.9), ("b", "FAIL", 0, 0.44)],
        "b does not keep the model's empathy; a (between 20 % and 90 % of comparisons won) is undecided.",
    ),
    (
        [("a", "PASS", 0.46, 1), ("b", "FAIL", 0, 1), ("c", "FAIL", 0, 0.4)],
        "a keeps the model's empathy; b and c do not keep it.",
    ),
    (
        [("a", "UNDECIDED", 0, 1), ("b", "UNDECIDED", 0, 0.5)],
        "It is undecided whether b (between 0 % and 50 % of comparisons won) keeps the model's empathy; "
        "of a nothing is known without a certified judge.",
    ),
    (
        [
            ("f", "PASS", 0.46, 1),
            ("a", "UNDECIDED", 0.258, 1),
            ("b", "UNDECIDED", 0, 1),
            ("c", "UNDECIDED", 0, 1),
        ],
        "f keeps the model's empathy; a (between 25.8 % and 100 % of comparisons won) is undecided; "
        "of b and c nothing is known without a certified judge.",
    ),
    (
        [("a", "PASS", 0.46, 1), ("b", "UNDECIDED", 0.004, 0.99), ("c", "UNDECIDED", 0, 1)],
        "a keeps the model's empathy; b and c are undecided: nothing is known without a certified judge.",
    ),
    (
        [(name, "UNDECIDED", 0, 1) for name in "abcdef"],
        "It is undecided whether a, b, c and 3 more keep the model's empathy: nothing is known without a "
        "certified judge.",
    ),
    ([], "No artifact was checked."),
]


def checked(artifact: str, verdict: Verdict, low: float, high: float) -> CheckedArtifact:
    """A verdict, with nothing else known."""
    nothing = dict.fromkeys(
        (
            "decided_by", "win_rate_by_judge", "effective_share", "total_variation", "sequence_kl",
            "same_replies", "well_formed", "well_formed_reference",
        )
    )  # fmt: skip
    return CheckedArtifact(
        artifact=artifact,
        identity="",
        verdict=verdict,
        sentence="",
        win_rate_low=low,
        win_rate_high=high,
        prompts_scored=0,
        prompts_answered=0,
        to_decide="",
        ratings_missing=0,
        notes=(),
        seconds=0,
        **nothing,
    )


def report_of(*artifacts: CheckedArtifact, **changes: object) -> CheckReport:
    """A check of these artifacts by a judge that nobody certified."""
    report = CheckReport(
        format="empathy-edge check 1",
        version="0",
        reference="merged",
        reference_identity="",
        reference_quantized=False,
        decoding="greedy",
        max_new_tokens=8,
        prompts=64,
        min_win_rate=0.45,
        judge="nobody",
        judge_agreement=None,
        judge_doubts=("nobody rated",),
        controls=None,
        artifacts=artifacts,
    )
    return report.model_copy(update=changes)


@pytest.mark.parametrize(("found", "sentence"), CASES)
def test_the_verdict_is_one_sentence(found: list[Found], sentence: str) -> None:
    assert verdict_sentence(report_of(*(checked(*item) for item in found))) == sentence


def test_results_are_shown_in_words_and_the_empty_ones_left_out() -> None:
    """The page had "left out as nearly in the test split: []" and "caught:"."""
    results = {
        "sft_rows": 0,
        "left_out_as_nearly_in_the_test_split": [],
        "caught": {},
        "failed": list("abcde"),
        "losses": [1.5, 2.25],
        "cost_usd": None,
        "median_words": {"chosen_ones": 12, "rejected": None},
        "passed": True,
    }
    assert figures_in_words(results) == {
        "sft rows": "0",
        "failed": "a, b, c and 2 more",
        "losses": "1.5, 2.25",
        "median words": "chosen ones 12",
        "passed": "yes",
    }
    caught = {"caught": {"too-long": {"count": 3, "examples": ["x"]}}}
    assert figures_in_words(caught) == {"caught": "too-long 3"}


def test_every_arm_is_explained() -> None:
    text = about_arms(ReleaseResults.model_construct(format={"base": None, "known": None}))
    assert text.startswith("Base and fine-tuned are") and "known are the responses that the data have" in text
    assert "known" not in about_arms(ReleaseResults.model_construct(format={"base": None}))


def test_the_next_step_of_a_failed_release_has_a_command(tmp_path: Path) -> None:
    recipe = load_recipe("quickstart")
    run = FinishedRun.__new__(FinishedRun)
    values = {
        "release": ReleaseResults.model_construct(verdict="FAIL"),
        "recipe": recipe.model_copy(update={"data": "sample"}),
        "folder": RunFolder(Path("runs/mine")),
        "check": report_of(),
        "latency": [],
        "verified": {},
    }
    for name, value in values.items():
        object.__setattr__(run, name, value)
    (step,) = next_steps(run)
    assert step.command == "empathy-edge run quickstart --out runs/mine --update"


def test_names_and_shares_are_written_as_people_do() -> None:
    assert [listed(list(names)) for names in ("", "a", "ab", "abc", "abcd")] == [
        "", "a", "a and b", "a, b and c", "a, b, c and d"
    ]  # fmt: skip
    assert [short_percent(share) for share in (1, 0.455, 0.2356, 0)] == ["100 %", "45.5 %", "23.6 %", "0 %"]


@pytest.mark.parametrize(
    ("word", "is_name"),
    [
        ("gguf-q8_0", True),
        ("(onnx-int4", True),
        ("gguf-iq4_nl-gptq,", True),
        ("--judge", True),
        ("fine-tuned", False),
        ("full-precision", False),
        ("q8_0", False),
        ("5", False),
    ],
)
def test_names_are_not_broken_at_their_hyphens(word: str, is_name: bool) -> None:
    kept = f'<span class="word">{word}</span>'
    assert prose_html(f"The <b> {word} is.") == f"The &lt;b&gt; {kept if is_name else word} is."


def drawn(*found: tuple[Found, float]) -> Picture:
    """The picture of artifacts with their sizes in MB."""
    pytest.importorskip("matplotlib", reason="the extra 'report' is not installed")
    from empathy_edge.bench.latency_summary import LatencySummary
    from empathy_edge.bench.report.retention import plot_retention

    rows = []
    for item, size_mb in found:
        speed = LatencySummary.model_construct(artifact=item[0], size_mb=size_mb, memory_mb={})
        rows.append(ArtifactRow(checked(*item), speed, None))
    return plot_retention(rows, 0.45)


def test_a_picture_stands_in_the_page_and_loads_nothing() -> None:
    name = "<script>$\\frac{x$ & --> </svg>"
    shown = drawn(((name, "PASS", 0.455, 1), 271.0), (("b", "UNDECIDED", 0, 1), 145.0))
    svg = ElementTree.fromstring(shown.svg)
    assert name in [element.text for element in svg.iter("text")]
    assert "<script" not in shown.svg and "http" not in shown.svg and "<style" not in shown.svg
    assert svg.attrib["role"] == "img" and svg.attrib["aria-labelledby"] == svg[0].attrib["id"]
    assert "45.5 % to 100 % of comparisons won" in (svg[1].text or "")
    assert "var(--pass)" in shown.svg and "var(--undecided)" in shown.svg and "#0101" not in shown.svg
    ids = {element.attrib["id"] for element in svg.iter() if "id" in element.attrib}
    assert all(item.startswith("retention-") for item in ids)
    assert set(re.findall(r"#([\w-]+)", shown.svg)) <= ids


def test_names_do_not_cover_each_other() -> None:
    """Four artifacts of nearly the same size and the same bounds."""
    names = ("gguf-q4_0", "gguf-q4_0-gptq", "gguf-q4_k_m", "onnx-int4")
    items: list[tuple[Found, float]] = []
    for place, name in enumerate(names):
        items.append(((name, "UNDECIDED", 0, 1), 90.0 + place))
    svg = ElementTree.fromstring(drawn((("gguf-f16", "PASS", 0.455, 1), 271.0), *items).svg)
    heights = {}
    for element in svg.iter("text"):
        if element.text in names:
            is_right = "text-anchor: start" in element.attrib["style"]
            heights[element.text] = (is_right, round(float(element.attrib["y"])))
    assert len(heights) == len(set(heights.values())) == len(names)
