"""The curve from KL divergence to what readers prefer: real tiny models, and artifacts whose W is known."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from empathy_edge.bench.kl_and_empathy.curve import Point, fit, models_of
from empathy_edge.bench.kl_and_empathy.replies import read_answers
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


def test_artifacts_are_answered_rated_and_put_on_the_curve(
    baseline_file: Path, exported: Path, damaged: Path, tmp_path: Path
) -> None:
    folder, sheet = tmp_path / "tiny", tmp_path / "ratings.csv"
    noisy = tmp_path / "noisy"
    noisy.symlink_to(damaged)
    artifacts = [exported / "gguf-q8_0", noisy]
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
    assert [row.split(" | ")[1] for row in rows] == ["gguf-q8_0", "noisy"]
    assert "| noisy | " in rows[1] and "| 0.0% [" in rows[1]
    assert "All, 2 artifacts: W = 50 %" in result.stdout
    assert "<svg" in (tmp_path / "curve.svg").read_text()

    other = tmp_path / "other.json.gz"
    other.write_bytes(b"another")
    refused = command("draw", folder, noisy, "--reference", exported / "gguf-f16", "--baseline", other)
    assert refused.returncode == 2 and "Error:" in refused.stderr


def test_the_kept_ratings_give_the_figures_of_the_page() -> None:
    results = ROOT / "docs" / "results"
    folders = sorted((results / "responses" / "kl-and-empathy").iterdir())
    models = models_of(folders, results / "verdicts" / "kl-and-empathy.csv")
    page = (results / "kl-and-empathy.md").read_text()
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
