"""The number format of weights: measured once, or as requested; the same wherever a model is loaded."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from empathy_edge.runtimes import precision
from empathy_edge.runtimes.precision import Probe, choose_precision, gpu_precision, linear_shapes, measure
from empathy_edge.runtimes.torch_loading import load_base
from empathy_edge.system.cache import cache_folder
from empathy_edge.system.files import read_json

SetProbe = Callable[[Probe], list[int]]
"""Sets the result of the next measurements; returns a list to which each adds its number of tokens."""

SLOW_BF16, FAST_BF16 = Probe(0.02, 0.3, 64), Probe(0.02, 0.01, 1024)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[SetProbe]:
    """Lets a test set what this machine measures; each test has a model cache of its own."""
    monkeypatch.setenv("EMPATHY_EDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    measure.cache_clear()
    taken: list[int] = []

    def set_probe(result: Probe) -> list[int]:
        def probe(shapes: Counter[tuple[int, int]], tokens: int) -> Probe:
            taken.append(tokens)
            return result

        monkeypatch.setattr(precision, "probe", probe)
        return taken

    yield set_probe
    measure.cache_clear()


def test_auto_takes_the_faster_one_and_says_why(measured: SetProbe, tiny_model: Path) -> None:
    measured(SLOW_BF16)
    found = choose_precision("auto", tiny_model)
    assert (
        found.weights == "fp32"
        and "bf16 is 15.0 times slower than fp32" in found.reason
        and not found.warning
    )
    measured(FAST_BF16)
    found = choose_precision("auto", tiny_model, tokens=512)
    assert found.weights == "bf16" and "bf16 is 2.0 times as fast as fp32" in found.reason


def test_what_is_asked_for_is_obeyed_with_a_warning_where_it_is_slow(
    measured: SetProbe, tiny_model: Path
) -> None:
    measured(SLOW_BF16)
    found = choose_precision("bf16", tiny_model)
    assert (
        found.weights == "bf16" and "15.0 times slower" in found.warning and "weights: auto" in found.warning
    )
    assert choose_precision("nf4", tiny_model).compute == "fp32"
    assert choose_precision("fp32", tiny_model).record() == {
        "weights": "fp32",
        "compute": "fp32",
        "reason": "asked for",
    }


def test_a_measurement_is_kept_and_a_broken_or_read_only_cache_is_no_fault(
    measured: SetProbe,
    tiny_model: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    taken = measured(SLOW_BF16)
    choose_precision("auto", tiny_model)
    measure.cache_clear()  # as a new process
    choose_precision("auto", tiny_model)
    assert taken == [1024]
    choose_precision("auto", tiny_model, tokens=128)
    assert taken == [1024, 128]  # other shapes are measured anew
    file = cache_folder() / "precision.json"
    assert len(read_json(file)) == 2
    file.write_text("{ not json")
    measure.cache_clear()
    assert choose_precision("auto", tiny_model).weights == "fp32" and len(taken) == 3
    file.unlink()
    cache_folder().rmdir()
    cache_folder().write_text("a file where the folder should be")
    measure.cache_clear()
    assert choose_precision("auto", tiny_model).weights == "fp32" and len(taken) == 4
    assert "is not kept" in capsys.readouterr().err.replace("\n", " ")


def test_the_probe_measures_the_models_own_shapes(tiny_model: Path) -> None:
    shapes = linear_shapes(tiny_model)
    assert shapes == Counter({(64, 64): 2, (32, 64): 2, (128, 64): 2, (64, 128): 1})
    found = precision.probe(shapes, 128)
    assert found.fp32_s > 0 and found.bf16_s > 0 and found.tokens in (64, 128)


@pytest.mark.parametrize(("has_bf16", "weights"), [(True, "bf16"), (False, "fp16")])
def test_a_gpu_is_not_measured(has_bf16: bool, weights: str) -> None:
    assert gpu_precision("auto", has_bf16).weights == weights
    assert gpu_precision("nf4", has_bf16).compute == weights
    assert bool(gpu_precision("bf16", has_bf16).warning) is not has_bf16


def test_a_model_is_loaded_in_the_format_that_was_measured(
    measured: SetProbe,
    tiny_model: Path,
    tmp_path: Path,
) -> None:
    import torch

    measured(FAST_BF16)
    assert next(load_base(tiny_model, "auto", [], tmp_path).model.parameters()).dtype == torch.bfloat16
    measure.cache_clear()
    os.unlink(cache_folder() / "precision.json")
    measured(SLOW_BF16)
    assert next(load_base(tiny_model, "auto", [], tmp_path).model.parameters()).dtype == torch.float32


def test_sampling_and_likelihoods_use_it_too(
    measured: SetProbe,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from empathy_edge.distill.own_samples import Prompt, draw_samples
    from empathy_edge.models.find import find_model
    from empathy_edge.runs.settings import OwnPairSettings
    from empathy_edge.runtimes.likelihood import log_probs_per_character

    measured(SLOW_BF16)
    asked = []

    def spy(folder: Path, weights: str, *rest: object, **options: object) -> object:
        asked.append(weights)
        return load_base(folder, weights, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("empathy_edge.runtimes.torch_loading.load_base", spy)
    base, said = find_model(str(tiny_model)), [{"role": "user", "content": "My cat died."}]
    log_probs_per_character(base, [], [said], ["I'm so sorry."], "test")
    settings = OwnPairSettings(samples=2, max_new_tokens=8)
    draw_samples([Prompt("d", said, ["So sorry."])], base, [], tmp_path / "samples.jsonl", settings)
    assert asked == ["auto", "auto"]


def test_manifests_say_what_was_taken(finished_sft: Path) -> None:
    record = json.loads((finished_sft / "manifest.json").read_text())
    assert record["settings"]["weights"] == "auto"
    assert record["results"]["weights"]["weights"] in ("fp32", "bf16")
    assert "times" in record["results"]["weights"]["reason"]


@pytest.fixture
def finished_sft(tiny_model: Path, tmp_path: Path) -> Path:
    from empathy_edge.data import sample_dialogues
    from empathy_edge.distill import from_ratings as distill
    from empathy_edge.finetune import sft
    from empathy_edge.models.find import find_model
    from empathy_edge.runs.settings import DistillSettings, TrainSettings

    settings = DistillSettings(reference="first-draft", models=("editor",), max_sft=4, max_pairs=2)
    distill.run(data=sample_dialogues(), out=tmp_path / "rows", settings=settings)
    sft.run(
        rows=tmp_path / "rows" / "sft.jsonl",
        base=find_model(str(tiny_model)),
        out=tmp_path / "sft",
        settings=TrainSettings(batch_size=4),
    )
    return tmp_path / "sft"
