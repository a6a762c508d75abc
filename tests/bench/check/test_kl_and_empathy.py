"""The curve from KL divergence to what readers prefer: real tiny models, and artifacts whose W is known."""

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from empathy_edge.bench.kl_and_empathy.curve import Point, fit, models_of
from empathy_edge.bench.kl_and_empathy.replies import draw, read_answers
from empathy_edge.errors import EmpathyEdgeError
from tests.bench.check.test_sheet_rater import fill
from tests.conftest import ROOT, run_module

command = partial(run_module, "empathy_edge.bench.kl_and_empathy")

SLOPE = 0.25


def made_up(seed: int, prompts: int = 400, artifacts: int = 20) -> list[Point]:
    """Artifacts of two models on the curve W = 1/2 - SLOPE × √KL, each prompt won or lost."""
    generator = np.random.default_rng(seed)
    points = []
    for number, kl in enumerate(np.geomspace(0.001, 0.5, artifacts)):
        won = (generator.random(prompts) < 0.5 - SLOPE * np.sqrt(kl)).astype(float)
        points.append(Point(f"model-{number % 2}", f"artifact-{number}", float(kl), 0.9, 1000, won))
    return points


def test_the_curve_finds_a_known_slope_and_its_intervals_hold() -> None:
    slopes_covered = others_covered = 0
    for seed in range(40):
        *known, another = made_up(seed, artifacts=21)
        curve = fit(known)
        slopes_covered += curve.slope_interval.low <= SLOPE <= curve.slope_interval.high
        predicted = curve.at(another.mean_kl)
        others_covered += predicted.low <= another.points.mean() <= predicted.high
        assert curve.left_out < curve.without
    assert 35 <= slopes_covered <= 40 and 35 <= others_covered <= 40


def test_the_curve_tells_at_which_kl_it_falls_to_a_win_rate() -> None:
    bound = fit(made_up(0, prompts=4000)).meets(0.45)
    assert bound.low < (0.05 / SLOPE) ** 2 < bound.high and bound.high < 2 * bound.low
    level = fit([replace(point, points=np.full(100, 0.5)) for point in made_up(0)])
    assert level.meets(0.45).high == float("inf")


@pytest.mark.parametrize("artifacts", [0, 1, 2])
def test_too_few_artifacts_make_no_curve(artifacts: int) -> None:
    with pytest.raises(EmpathyEdgeError, match=f"at least 3 artifacts; there are {artifacts}"):
        fit(made_up(0, artifacts=3)[:artifacts])
    assert fit(made_up(0, artifacts=3)).artifacts == 3


RESULTS = ROOT / "docs" / "results"


def some_of_the_kept(folder: Path, *artifacts: str) -> Path:
    """A folder with the kept replies of some artifacts, by its name."""
    folder.mkdir(parents=True)
    for name in ("baseline.json.gz", *(f"{artifact}.jsonl" for artifact in artifacts)):
        shutil.copy(RESULTS / "responses" / "kl-and-empathy" / folder.name / name, folder)
    return folder


def test_too_few_artifacts_are_refused_before_people_rate_them(tmp_path: Path) -> None:
    folder, sheet = some_of_the_kept(tmp_path / "smollm2-135m", "gguf-q4_0", "gguf-q8_0"), tmp_path / "r.csv"
    result = command("read", folder, "--sheet", sheet)
    assert result.returncode == 2 and "at least 3 artifacts; there are 2" in result.stderr
    assert not sheet.exists()


def test_a_model_with_too_few_artifacts_has_no_curve_of_its_own(tmp_path: Path) -> None:
    few = some_of_the_kept(tmp_path / "smollm2-135m", "gguf-q4_0")
    more = some_of_the_kept(tmp_path / "qwen2.5-coder-0.5b", "gguf-q2_k", "gguf-q4_0", "gguf-q8_0")
    sheet = tmp_path / "ratings.csv"
    assert command("read", few, more, "--sheet", sheet).returncode == 4
    fill(sheet, lambda _, reply: len(set(reply)))
    result = command("read", few, more, "--sheet", sheet)
    assert result.returncode == 0, result.stderr
    assert "smollm2-135m: fewer than 3 artifacts" in result.stdout
    assert "qwen2.5-coder-0.5b, 3 artifacts: W = 50 %" in result.stdout
    assert "All, 4 artifacts: W = 50 %" in result.stdout and "nan" not in result.stdout


def test_two_of_one_name_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    folder, missing = tmp_path / "drawn", tmp_path / "missing"
    for other in ("gguf-q4_0", "GGUF-Q4_0"):
        artifacts = [tmp_path / "a" / "gguf-q4_0", tmp_path / "b" / other]
        with pytest.raises(EmpathyEdgeError, match="the same last name") as caught:
            draw(folder, missing, missing, artifacts)
        assert all(str(artifact) in str(caught.value) for artifact in artifacts)
        assert not folder.exists()
    with pytest.raises(EmpathyEdgeError, match="the same last name"):
        models_of([tmp_path / "a" / "smollm2", tmp_path / "b" / "smollm2"], tmp_path / "ratings.csv")


def test_artifacts_are_answered_rated_and_put_on_the_curve(
    baseline_file: Path, exported: Path, damaged: Path, tmp_path: Path
) -> None:
    folder, sheet = tmp_path / "tiny", tmp_path / "ratings.csv"
    noisy, noisier = tmp_path / "noisy", tmp_path / "noisier"
    for link in (noisy, noisier):
        link.symlink_to(damaged)
    artifacts = [exported / "gguf-q8_0", noisy, noisier]
    drawing = ["draw", folder, *artifacts, "--reference", exported / "gguf-f16", "--baseline", baseline_file]
    first = command(*drawing)
    assert first.returncode == 0, first.stderr
    baseline, answers = read_answers(folder)
    kl = {name: sum(answer.kl for answer in rows) for name, rows in answers.items()}
    assert 0 < 10 * kl["gguf-q8_0"] < kl["noisy"]
    assert {answer.tokens > 0 for answer in answers["noisy"][:64]} == {True}

    file = folder / "noisy.jsonl"
    whole = file.read_text().splitlines(keepends=True)
    file.write_text("".join(whole[:40]))  # cut off: goes on after the last whole block
    unfinished = command("read", folder, "--sheet", sheet)
    assert unfinished.returncode == 2 and "40 of" in unfinished.stderr and "noisy.jsonl" in unfinished.stderr
    assert command(*drawing).returncode == 0
    assert file.read_text().startswith("".join(whole[:32]))
    again = read_answers(folder)[1]
    assert [answer.text for answer in again["noisy"]] == [answer.text for answer in answers["noisy"]]
    assert again["gguf-q8_0"] == answers["gguf-q8_0"]

    waiting = command("read", folder, "--sheet", sheet)
    assert waiting.returncode == 4 and "have no rating yet" in waiting.stderr
    assert "noisy" not in sheet.read_text()  # nothing tells whose reply it is
    right = {record.replies[place].text for record in baseline.prompts for place in (0, 1)}
    fill(sheet, lambda _, reply: 60 if reply in right else 40)
    result = command("read", folder, "--sheet", sheet, "--picture", tmp_path / "curve.svg")
    assert result.returncode == 0, result.stderr
    rows = [line for line in result.stdout.splitlines() if line.startswith("| tiny")]
    assert [row.split(" | ")[1] for row in rows] == ["gguf-q8_0", "noisier", "noisy"]
    assert "| noisy | " in rows[2] and "| 0.0% [" in rows[2]
    assert "All, 3 artifacts: W = 50 %" in result.stdout
    assert "<svg" in (tmp_path / "curve.svg").read_text()

    other = tmp_path / "other.json.gz"
    other.write_bytes(b"another")
    refused = command("draw", folder, noisy, "--reference", exported / "gguf-f16", "--baseline", other)
    assert refused.returncode == 2 and "Error:" in refused.stderr


def test_the_kept_ratings_give_the_figures_of_the_page() -> None:
    folders = sorted((RESULTS / "responses" / "kl-and-empathy").iterdir())
    models = models_of(folders, RESULTS / "verdicts" / "kl-and-empathy.csv")
    page = (RESULTS / "kl-and-empathy.md").read_text()
    points = [point for model in models for point in model.points]
    for point in points:
        won = point.win_rate
        interval = f"{won.mean:.1%} [{100 * won.low:.1f}, {100 * won.high:.1f}]".replace("%", " %")
        assert (
            f"| {point.name} | {point.mean_kl:.4f} | {point.top_1:.1%} | ".replace("%", " %") + interval
            in page
        )
    assert len(models) == 2
    for fitted in (*(model.points for model in models), points):
        slope = fit(fitted).slope_interval
        assert f"{100 * slope.mean:.1f} [{100 * slope.low:.1f}, {100 * slope.high:.1f}] points" in page
