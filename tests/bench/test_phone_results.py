"""Results of other programs: what cannot be is refused, and of several settings one is taken and named."""

import json
from pathlib import Path

import pytest

from empathy_edge.bench.phones.ingest import ingest
from empathy_edge.bench.phones.phone_results import PhoneSpeed, read_results
from empathy_edge.bench.phones.predict import predict
from empathy_edge.devices import load_device
from empathy_edge.errors import EmpathyEdgeError


def written(path: Path, *rows: dict[str, object]) -> Path:
    """llama-bench's JSONL."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def prefill(tps: float, threads: int = 4, length: int = 256, depth: int = 0) -> dict[str, object]:
    counts = {"n_threads": threads, "n_prompt": length, "n_gen": 0, "n_depth": depth}
    return {**counts, "avg_ts": tps}


def decode(tps: float, threads: int = 4, length: int = 64, depth: int = 0) -> dict[str, object]:
    counts = {"n_threads": threads, "n_prompt": 0, "n_gen": length, "n_depth": depth}
    return {**counts, "avg_ts": tps}


def pocketpal(**changes: object) -> dict[str, object]:
    settings = {"n_threads": 6, "n_gpu_layers": 99, "devices": ["CPU"]}
    row = {"ppAvg": 100.5, "tgAvg": 17.25, "modelSize": 91_000_000, "config": {"pp": 512, "tg": 128}}
    return {**row, "initSettings": settings, **changes}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("r.json", '{"hello": 1}', "neither llama-bench"),
        ("r.jsonl", '{"avg_ts": 1,\n', "line 1 is not JSON"),
        ("r.jsonl", '{"avg_ts": -3, "n_prompt": 8}', "no speed"),
        ("r.jsonl", '{"avg_ts": 30, "n_prompt": "many"}', "n_prompt is 'many'"),
        ("r.jsonl", '{"avg_ts": 30, "n_prompt": 8, "model_size": 5000000000}', "5000 MB"),
        ("r.jsonl", '{"avg_ts": 30, "n_prompt": 8, "backends": "OpenCL", "n_gpu_layers": 99}', "CPU"),
        ("r.jsonl", '{"avg_ts": 30, "n_prompt": 8, "backends": "Vulkan", "n_gpu_layers": -1}', "CPU"),
        ("r.jsonl", '{"avg_ts": 30, "n_prompt": 8, "n_gen": 8}', "no row of prefill alone"),
        ("r.csv", "speed\n3\n", "decode_tps"),
        ("r.csv", "decode_tps,threads\n20,four\n", "row 2: 'four' is no number of threads"),
        ("r.csv", "decode_tps,threads\n,4\n", "no rows with a speed"),
    ],
)
def test_results_that_cannot_be(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(EmpathyEdgeError, match=words):
        read_results(tmp_path / name, 92_000_000)


def test_other_layouts(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("prefill_tps,decode_tps,threads\n120,20.5,6\n")
    assert read_results(tmp_path / "a.csv", 1) == PhoneSpeed(6, 120.0, 20.5)
    (tmp_path / "p.json").write_text(
        json.dumps([{"ppAvg": 100.5, "tgAvg": 17.25, "initSettings": {"n_threads": 6}}])
    )
    assert read_results(tmp_path / "p.json", 1) == PhoneSpeed(6, 100.5, 17.25)


def test_one_number_of_threads_is_taken_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The mean over 2, 4 and 8 threads is the speed of none of them."""
    rows = [prefill(100, 2), decode(20, 2), prefill(200, 4), decode(30, 4), prefill(400, 8), decode(25, 8)]
    assert read_results(written(tmp_path / "r.jsonl", *rows), 1) == PhoneSpeed(4, 200, 30)
    assert "4 threads, the fastest" in " ".join(capsys.readouterr().err.split())
    (tmp_path / "r.csv").write_text("prefill_tps,threads\n100,2\n300,4\n200,8\n")
    assert read_results(tmp_path / "r.csv", 1) == PhoneSpeed(4, 300, None)


def test_runs_with_the_least_filled_cache_are_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`bench --llama-bench` decodes after a prompt: its rows were left out, all of them."""
    file = written(tmp_path / "r.jsonl", prefill(200), decode(30), decode(9, depth=4096))
    assert read_results(file, 1) == PhoneSpeed(4, 200, 30)
    assert "1 of 2 rows of decode began with more tokens" in " ".join(capsys.readouterr().err.split())
    ours = written(tmp_path / "ours.jsonl", prefill(200), decode(28, depth=128), decode(9, depth=4096))
    assert read_results(ours, 1) == PhoneSpeed(4, 200, 28)
    assert "decode was measured with 128 tokens in the cache" in " ".join(capsys.readouterr().err.split())


def test_a_run_that_is_not_used_is_not_said_to_be(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = str(exported / "gguf-q8_0")
    for name, row in (("eight", "200,80,8"), ("two", "100,20,2")):
        (tmp_path / f"{name}.csv").write_text(f"prefill_tps,decode_tps,threads\n{row}\n")
    ingest(tmp_path / "eight.csv", artifact, "pixel-8", tmp_path / "a.yaml")
    assert "are based on it" in " ".join(capsys.readouterr().err.split())
    ingest(tmp_path / "two.csv", artifact, str(tmp_path / "a.yaml"), tmp_path / "b.yaml")
    assert "In prefill and decode it is slower than a run of the same file" in " ".join(
        capsys.readouterr().err.split()
    )


def test_of_several_lengths_the_usual_one_is_taken_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last row was taken, whichever that was."""
    rows = [prefill(90, length=128), prefill(40, length=1024), decode(30), decode(28), decode(12, length=512)]
    assert read_results(written(tmp_path / "r.jsonl", *rows), 1) == PhoneSpeed(4, 90, 30)
    said = " ".join(capsys.readouterr().err.split())
    assert "a prompt of 128 tokens, nearest to 256" in said and "64 new tokens, nearest to 64" in said
    read_results(written(tmp_path / "plain.jsonl", prefill(90), decode(30)), 1)
    assert "Taken" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"modelSize": 5e9}, "5000 MB, --artifact has 92"),
        ({"initSettings": {"n_gpu_layers": 99}}, "99 layers on a GPU"),
        ({"initSettings": {"n_gpu_layers": 24, "devices": ["Metal"]}}, "Metal"),
        ({"initSettings": {"n_gpu_layers": 99, "devices": ["CPU", "HTP0"]}}, "HTP0"),
    ],
)
def test_a_pocketpal_run_of_another_model_or_on_a_gpu_is_refused(
    tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    (tmp_path / "p.json").write_text(json.dumps([pocketpal(**changes)]))
    with pytest.raises(EmpathyEdgeError, match=words):
        read_results(tmp_path / "p.json", 92_000_000)


@pytest.mark.parametrize("settings", [{}, {"n_gpu_layers": 0}, {"n_gpu_layers": 99, "devices": ["CPU"]}])
def test_a_pocketpal_run_on_the_cpu_is_read(tmp_path: Path, settings: dict[str, object]) -> None:
    row = pocketpal(initSettings={"n_threads": 6, **settings})
    (tmp_path / "p.json").write_text(json.dumps([row]))
    assert read_results(tmp_path / "p.json", 92_000_000) == PhoneSpeed(6, 100.5, 17.25)


def test_a_profile_with_runs_of_several_numbers_of_threads_is_that_of_the_fastest(
    exported: Path, tmp_path: Path
) -> None:
    """Also where they were read in one after the other."""
    artifact = str(exported / "gguf-q8_0")
    for name, row in (("two", "200,20,2"), ("eight", "100,80,8")):
        (tmp_path / f"{name}.csv").write_text(f"prefill_tps,decode_tps,threads\n{row}\n")
    ingest(tmp_path / "two.csv", artifact, "pixel-8", tmp_path / "a.yaml")
    ingest(tmp_path / "eight.csv", artifact, str(tmp_path / "a.yaml"), tmp_path / "b.yaml")
    assert len(load_device(str(tmp_path / "b.yaml")).runs) == 2
    found = predict(artifact, str(tmp_path / "b.yaml"))
    assert found.decode_tps and found.decode_tps.value == pytest.approx(80, rel=0.01)
    assert found.prefill_tps and found.prefill_tps.value == pytest.approx(200, rel=0.02)


def test_a_profile_whose_name_cannot_be_given_is_refused_first(exported: Path, tmp_path: Path) -> None:
    """It was written, and then refused, since --device takes a file by its .yaml."""
    (tmp_path / "r.csv").write_text("decode_tps\n20\n")
    with pytest.raises(EmpathyEdgeError, match=r"ends in \.yaml; give .*mine\.yaml"):
        ingest(tmp_path / "r.csv", str(exported / "gguf-q8_0"), "pixel-8", tmp_path / "mine")
    assert not (tmp_path / "mine").exists()
