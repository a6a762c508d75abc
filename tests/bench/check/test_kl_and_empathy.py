"""The curve from KL divergence to what readers prefer: real tiny models, and artifacts whose W is known."""

import subprocess
import sys
from pathlib import Path

import numpy as np

from empathy_edge.bench.kl_and_empathy.curve import Point, fit, largest_kl
from empathy_edge.bench.kl_and_empathy.replies import read_answers
from tests.bench.check.test_sheet_rater import fill

SLOPE = 0.25


def command(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "empathy_edge.bench.kl_and_empathy", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


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


def test_the_largest_kl_is_where_the_prediction_meets_the_bound() -> None:
    curve = fit(made_up(0, prompts=4000))
    most = largest_kl(curve, 0.45)
    assert 0 < most < (0.05 / SLOPE) ** 2  # the curve itself meets 45 % there
    assert curve.at(most).low >= 0.45 - 1e-6 > curve.at(1.05 * most).low
    assert largest_kl(curve, 0.51) == 0


def test_artifacts_are_answered_rated_and_put_on_the_curve(
    baseline_file: Path, exported: Path, damaged: Path, tmp_path: Path
) -> None:
    folder, sheet = tmp_path / "tiny", tmp_path / "ratings.csv"
    noisy = tmp_path / "noisy"
    noisy.symlink_to(damaged)
    artifacts = [exported / "gguf-f16", exported / "gguf-q8_0", noisy]
    drawing = ["draw", folder, *artifacts, "--reference", exported / "gguf-f16", "--baseline", baseline_file]
    first = command(*drawing)
    assert first.returncode == 0, first.stderr
    baseline, answers = read_answers(folder)
    kl = {name: sum(answer.kl for answer in rows) for name, rows in answers.items()}
    assert abs(kl["gguf-f16"]) < 1e-6 < kl["gguf-q8_0"] < kl["noisy"]
    assert all(answer.same_top == answer.tokens for answer in answers["gguf-f16"])

    whole = (folder / "noisy.jsonl").read_text().splitlines(keepends=True)
    (folder / "noisy.jsonl").write_text("".join(whole[:40]))  # cut off: goes on at the last whole block
    unfinished = command("read", folder, "--sheet", sheet)
    assert unfinished.returncode == 2 and "40 of" in unfinished.stderr and "noisy.jsonl" in unfinished.stderr
    assert command(*drawing).returncode == 0
    assert (folder / "noisy.jsonl").read_text() == "".join(whole)

    waiting = command("read", folder, "--sheet", sheet)
    assert waiting.returncode == 4 and "have no rating yet" in waiting.stderr
    assert "noisy" not in sheet.read_text()  # nothing tells whose reply it is
    right = {record.replies[place].text for record in baseline.prompts for place in (0, 1)}
    fill(sheet, lambda _, reply: 60 if reply in right else 40)
    result = command("read", folder, "--sheet", sheet, "--picture", tmp_path / "curve.svg")
    assert result.returncode == 0, result.stderr
    rows = [line for line in result.stdout.splitlines() if line.startswith("| tiny")]
    assert [row.split(" | ")[1] for row in rows] == ["gguf-f16", "gguf-q8_0", "noisy"]
    assert "| noisy | " in rows[2] and "| 0.0% [" in rows[2]
    assert "All, 3 artifacts: W = 50 %" in result.stdout
    assert "<svg" in (tmp_path / "curve.svg").read_text()

    other = tmp_path / "other.json.gz"
    other.write_bytes(b"another")
    refused = command("draw", folder, noisy, "--reference", exported / "gguf-f16", "--baseline", other)
    assert refused.returncode == 2 and "Error:" in refused.stderr
