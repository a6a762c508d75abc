"""Which artifact for which device: tiny real models, the real command line."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from empathy_edge.bench.check.report import CheckedArtifact
from empathy_edge.bench.choose.candidate import Candidate, default_kinds, planned
from empathy_edge.bench.choose.limits import Limits, Margin, margins, state_of
from empathy_edge.bench.choose.output import nearest, pareto, sentence, what_next, work_of_the_search
from empathy_edge.bench.choose.search import Choice, Wish
from empathy_edge.bench.phones.predict import Estimate, Prediction, predict_workload
from empathy_edge.bench.phones.prediction_settings import PredictionSettings
from empathy_edge.bench.phones.workload import workload_of, workload_of_tensors
from empathy_edge.devices import load_device
from empathy_edge.export.choices import ArtifactMaker
from empathy_edge.models.find import checkpoint_of
from empathy_edge.runs.settings import ReplySettings
from tests.commands.tree import assert_reported, assert_says_next
from tests.conftest import assert_one_clear_error, run_command


def prediction(exported: Path) -> Prediction:
    workload = workload_of(str(exported / "gguf-q8_0"))
    return predict_workload(workload, load_device("pixel-8"), PredictionSettings())


def test_a_choice_is_made_kept_and_drawn(
    tiny_model: Path, exported: Path, baseline_file: Path, tmp_path: Path
) -> None:
    arguments = [
        "choose", tiny_model, "--device", "pixel-8", "--max-mb", "100", "--min-tps", "1", "--max-kl", "0.5",
        "--to", "gguf-q8_0", "--to", "gguf-f16", "--baseline", baseline_file, "--artifacts", exported,
        "--out", tmp_path,
    ]  # fmt: skip
    first = run_command(*arguments, "--json", tmp_path / "given.json")
    assert first.returncode == 0, first.stdout + first.stderr
    assert_says_next(first, f"empathy-edge export bundle {exported / 'gguf-q8_0'}")
    assert_reported(tmp_path / "given.json", "choose 1")
    assert "Ship gguf-q8_0" in first.stdout
    found = json.loads((tmp_path / "choice.json").read_text())
    assert found["chosen"] == "gguf-q8_0" and found["device"] == "pixel-8"
    small, large = found["candidates"]
    assert small["checked"]["verdict"] in ("PASS", "UNDECIDED") and small["kl_per_token"] < 0.5
    assert large["skipped"].startswith("not needed") and not large["made"]
    assert "gguf-q8_0" in (tmp_path / "choice.svg").read_text()
    again = run_command(*arguments)
    assert again.returncode == 0 and "as it was checked before" in " ".join(again.stderr.split())


def test_a_search_with_fewer_prompts_says_its_work_first(
    tiny_model: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMPATHY_EDGE_CACHE", str(tmp_path / "cache"))
    arguments = [
        "choose", tiny_model, "--device", "pixel-6a", "--max-mb", "0.5", "--to", "gguf-q8_0",
        "--artifacts", exported, "--out", tmp_path / "out",
    ]  # fmt: skip
    few = run_command(*arguments, "--max-prompts", "2")
    assert few.returncode == 1, few.stdout + few.stderr
    work = "Makes and checks at most 1 artifact, the smallest first, until one can be shipped: each on at "
    said = " ".join(few.stderr.split())
    assert 0 <= said.find(f"{work}most 8 replies to 2 prompts, 8 in all.") < said.find("First 10 replies")
    assert "--max-prompts" not in said
    kept = (tmp_path / "out" / "baseline.json.gz").read_bytes()
    again = run_command(*arguments, "--max-prompts", "3")
    assert_one_clear_error(again, 2, "a baseline of 2 prompts, not of 3")
    assert run_command(*arguments).returncode == 1
    assert (tmp_path / "out" / "baseline.json.gz").read_bytes() == kept, "it was made again unasked"


def test_the_work_of_a_search() -> None:
    said = work_of_the_search(11, ReplySettings(), goal="fastest", all_of_them=True)
    assert "11 artifacts, the fastest first: each on at most 2560 replies to 640 prompts, " in said
    assert said.endswith("28160 in all.")


def test_limits_that_nothing_meets(
    tiny_model: Path, exported: Path, baseline_file: Path, tmp_path: Path
) -> None:
    result = run_command(
        "choose", tiny_model, "--device", "pixel-6a", "--max-mb", "0.5", "--to", "gguf-q8_0",
        "--baseline", baseline_file, "--artifacts", exported, "--out", tmp_path,
    )  # fmt: skip
    assert result.returncode == 1, result.stdout + result.stderr
    assert_says_next(result, "allow more")
    said = " ".join(result.stdout.split())
    assert "Nothing meets the limits. Nearest: gguf-q8_0" in said and "% off" in said
    assert not (tmp_path / "checks").exists()


def test_bad_input(tiny_model: Path, exported: Path, baseline_file: Path, tmp_path: Path) -> None:
    where = ["--baseline", baseline_file, "--out", tmp_path]
    unknown = run_command("choose", tiny_model, "--device", "galaxy23", *where)
    assert_one_clear_error(unknown, 2, "Did you mean galaxy-s23")
    kind = run_command("choose", tiny_model, "--device", "pixel-8", "--to", "gguf-q9", *where)
    assert_one_clear_error(kind, 2, "no such artifact: gguf-q9")
    other = run_command("choose", "smollm2-135m", "--device", "pixel-8", *where)
    assert_one_clear_error(other, 2, "another model")
    theirs = ["--artifacts", exported, "--out", tmp_path]
    folder = run_command("choose", "smollm2-135m", "--device", "pixel-8", *theirs)
    assert_one_clear_error(folder, 2, "gguf-f16", "other inputs")
    fewer = run_command("choose", tiny_model, "--device", "pixel-8", "--max-prompts", "8", *where)
    assert_one_clear_error(fewer, 2, "--max-prompts is set by the baseline")


def test_what_is_planned_is_what_is_made(tiny_model: Path, exported: Path) -> None:
    maker = ArtifactMaker(checkpoint_of(str(tiny_model)), exported)
    plan = maker.plan("gguf-q8_0")
    made = exported / "gguf-q8_0"
    assert plan.size_mb == pytest.approx((made / "model.gguf").stat().st_size / 1e6, rel=0.01)
    assert plan.tensors is not None
    assert workload_of_tensors(plan.tensors, "x", 1).decode_gb == workload_of(str(made)).decode_gb
    assert maker.plan("gguf-12mb").tensors is None and maker.plan("gguf-12mb").size_mb == 12


def test_an_interval_across_a_limit_is_open(exported: Path) -> None:
    found = prediction(exported)
    speed = found.decode_tps
    assert speed is not None
    for least, state in ((speed.low / 2, "meets"), (speed.value, "perhaps"), (2 * speed.high, "misses")):
        assert state_of(margins(4.0, found, Limits(min_tps=least), None)) == state
    assert state_of(margins(4.0, None, Limits(min_tps=1), None)) == "perhaps"
    assert state_of(margins(4.0, None, Limits(max_mb=3), None)) == "misses"
    assert state_of(margins(4.0, None, Limits(), None)) == "meets"
    assert state_of(margins(4.0, found, Limits(), 10.0 * found.memory.high_mb)) == "meets"
    assert state_of(margins(4.0, found, Limits(), 0.5 * found.memory.low_mb)) == "misses"


class Told:
    """Plans an artifact that nobody can predict."""

    def plan(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(size_mb=4.0, size_is_known=True, tensors=None)


def test_an_unknown_memory_is_not_within_a_known_limit() -> None:
    """The limit was taken from the prediction: without one there was none, and all limits were kept."""
    known, unknown = load_device("galaxy-s23"), load_device("pixel-8")
    candidate = planned("onnx-int4", Told(), known, Limits(max_mb=5), PredictionSettings())  # type: ignore[arg-type]
    assert candidate.state == "perhaps" and "memory" in " ".join(candidate.unknown)
    assert any(margin.what.startswith("MB of memory: unknown") for margin in candidate.margins)
    free = planned("onnx-int4", Told(), unknown, Limits(max_mb=5), PredictionSettings())  # type: ignore[arg-type]
    assert free.state == "meets"


def checked(name: str, verdict: str, kl: float | None = None) -> Candidate:
    found = CheckedArtifact.model_construct(verdict=verdict)  # type: ignore[arg-type]
    return Candidate(name, 20.0, made=True, checked=found, kl=kl)


def choice(*candidates: Candidate, chosen: Candidate | None = None) -> Choice:
    """Of the candidates one, or the first perhaps."""
    wish = Wish(load_device("pixel-8"), Limits(), "smallest", None, False, PredictionSettings())
    return Choice(wish, "model", list(candidates), chosen, None if chosen else candidates[0])


def test_the_chance_of_a_wrong_pass_is_that_of_all_checks() -> None:
    good = checked("b", "PASS")
    ship = "Ship b: 20 MB, PASS, within all limits."
    assert sentence(choice(good, chosen=good)) == ship
    several = choice(checked("a", "UNDECIDED"), good, Candidate("c", 30.0), chosen=good)
    assert sentence(several) == (
        f"{ship} 2 artifacts were checked: the chance that any PASS is wrong is at most 10%."
    )
    near = checked("a", "UNDECIDED", kl=0.001)
    assert "chance" not in sentence(choice(near, checked("c", "FAIL"), chosen=near)), "nothing passed"


def test_max_kl_is_proposed_only_where_it_would_take_it() -> None:
    """It was proposed for any KL divergence, and where a limit was open."""
    near = checked("a", "UNDECIDED", kl=0.009)
    assert what_next(choice(near)).endswith("the same command with --max-kl 0.01")
    assert what_next(choice(checked("a", "UNDECIDED", kl=0.5))) == "what would decide is above"
    assert what_next(choice(checked("a", "UNDECIDED"))) == "what would decide is above"
    near.margins = [Margin("a limit", "perhaps", None)]
    assert what_next(choice(near)) == "what would decide is above"
    nothing = Choice(choice(near).wish, "model", [near], None, None)
    assert what_next(nothing).startswith("allow more")


def test_the_nearest_and_the_efficient_ones(exported: Path) -> None:
    base = prediction(exported)
    candidates = []
    for name, size_mb, tps in (("a", 10.0, 5.0), ("b", 20.0, 4.0), ("c", 30.0, 9.0), ("d", 31.0, 9.0)):
        speed = Estimate(tps, tps / 2, 2 * tps)
        known = Prediction(**{**base.__dict__, "decode_tps": speed})
        found = margins(size_mb, known, Limits(max_mb=8, min_tps=1), None)
        candidates.append(Candidate(name, size_mb, known, found))
    assert [item.name for item in pareto(candidates)] == ["a", "c"]
    closest = nearest(candidates)
    assert closest is not None and closest.name == "a"


def test_a_mix_of_types_is_tried_within_a_size() -> None:
    assert "gguf-120mb" in default_kinds(Limits(max_mb=120.5))
    assert all("mb" not in name for name in default_kinds(Limits()))
