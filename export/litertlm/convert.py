"""A checkpoint as .litertlm, by litert-torch and ai-edge-quantizer in an environment of their own.

litert-torch needs torchao, JAX and its own versions of many packages; torchao would slow the rest down
(docs/decisions/010).
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from empathy_edge.console import progress, say
from empathy_edge.errors import EmpathyEdgeError, PrerequisiteError, require_extra
from empathy_edge.export.external_program import offline_environment, run_external_program
from empathy_edge.export.litertlm import launcher, worker
from empathy_edge.export.litertlm.package import package
from empathy_edge.export.litertlm.prompts_check import require_same_prompts
from empathy_edge.export.onnx.genai import architecture_of
from empathy_edge.formats.chat_format import read_template
from empathy_edge.formats.litertlm_file import MODEL, read_litertlm
from empathy_edge.runtimes.held_weights import fp32_size_mb
from empathy_edge.runtimes.litert_lm_runtime import require_vulkan
from empathy_edge.system.machine import require_memory
from empathy_edge.system.memory import PeakMemory

ENVIRONMENT = "EMPATHY_EDGE_LITERT"
"""The variable that names the environment's folder; by default it is .venv-litert in the working folder."""

CONTEXT = 1024
"""Tokens. LiteRT-LM's buffers have this length from the beginning, and each step computes over all of it."""

PREFILL = 128
"""Tokens that are read at once."""

CONVERSION_SHARE, CONVERSION_MB = 3.6, 500
"""What the conversion takes: so many times the weights in fp32, and so many MB for the libraries. Seen with
SmolLM2-135M: 2.36 GB of 538 MB."""


def write_float(checkpoint: Path, folder: Path) -> None:
    """Write model.litertlm with all weights in fp32 into `folder`.

    Args:
        checkpoint: a folder of safetensors.
        folder: where the file goes; it exists.

    Raises:
        PrerequisiteError: the environment, or memory, is missing.
        EmpathyEdgeError: litert-torch failed, with its last lines; or LiteRT-LM renders other prompts.
    """
    _program("litert-torch")
    python = _program("python")
    require_memory_for(checkpoint)
    read_template(checkpoint)  # a missing one is said before minutes of conversion
    with tempfile.TemporaryDirectory(prefix=".converting-", dir=folder) as scratch:
        command = [
            str(python),
            str(Path(launcher.__file__)),
            "export_hf",
            f"--model={checkpoint}",
            f"--output_dir={scratch}",
        ]
        command += [f"--cache_length={CONTEXT}", f"--prefill_lengths=[{PREFILL}]"]
        # The lightweight conversion takes two thirds of the memory, for the same graph.
        command += ["--quantization_recipe=none", "--experimental_lightweight_conversion=True"]
        with _shown("litert-torch converts the checkpoint"):
            run_external_program(
                command,
                output=Path(scratch) / MODEL,
                failure=f"{checkpoint}: litert-torch cannot convert {architecture_of(checkpoint)}",
                remedy="Others may: --to gguf-q8_0 (llama.cpp), --to onnx-int4 (ONNX Runtime GenAI).",
                environment=_environment(),
            )
        with _parts(Path(scratch) / MODEL, Path(scratch)) as (graph, executor):
            package(checkpoint, graph, executor, CONTEXT, folder / MODEL)
    require_same_prompts(folder / MODEL, checkpoint)


def write_quantized(source: Path, folder: Path, recipe: str) -> None:
    """Write model.litertlm into `folder`, quantized.

    Args:
        source: a folder with model.litertlm in fp32, its tokenizer and its template.
        folder: where the file goes; it exists.
        recipe: of `worker.recipe_of`.

    Raises:
        PrerequisiteError: the environment is missing.
        EmpathyEdgeError: ai-edge-quantizer failed, with its last lines; or LiteRT-LM renders other prompts.
    """
    python = _program("python")
    with (
        _parts(source / MODEL, folder) as (graph, executor),
        tempfile.TemporaryDirectory(prefix=".converting-", dir=folder) as scratch,
    ):
        quantized = Path(scratch) / "model.tflite"
        with _shown("ai-edge-quantizer quantizes the graph"):
            run_external_program(
                [str(python), str(Path(worker.__file__)), recipe, str(graph), str(quantized)],
                output=quantized,
                failure=f"{source}: ai-edge-quantizer cannot quantize it",
                environment=_environment(),
            )
        package(source, quantized, executor, CONTEXT, folder / MODEL)
    require_same_prompts(folder / MODEL, source)


@contextmanager
def _parts(file: Path, folder: Path) -> Iterator[tuple[Path, Path]]:
    """The graph, and what the runtime must know of its caches, as files in a folder inside `folder`.

    That is the folder of the artifact that is made, and not that of `file`, which is finished.
    """
    opened = read_litertlm(file)
    executor = opened.read("ExecutorMetadataProto")
    if executor is None:
        raise EmpathyEdgeError(f"{file}: has no ExecutorMetadata; litert-torch made it in another version.")
    with tempfile.TemporaryDirectory(prefix=".parts-", dir=folder) as scratch:
        graph = Path(scratch) / "model.tflite"
        graph.write_bytes(opened.graph())
        (Path(scratch) / "executor_metadata.pb").write_bytes(executor)
        yield graph, Path(scratch) / "executor_metadata.pb"


@contextmanager
def _shown(label: str) -> Iterator[None]:
    """Show a bar while another program runs, and then its time and memory."""
    start = time.perf_counter()
    with PeakMemory() as memory, progress() as bar:
        task = bar.add_task(label, total=1)
        yield
        bar.advance(task)
    say(f"  {label}: {time.perf_counter() - start:.0f} s, {memory.peak_mb / 1000:.1f} GB at most")


def _environment() -> dict[str, str]:
    environment = offline_environment()
    environment.pop("PYTHONPATH", None)
    return environment


def require_environment() -> None:
    """Refuse to begin an export that would miss something in its middle: the converter, or the runtime.

    Raises:
        PrerequisiteError: it is not there.
    """
    _program("litert-torch")
    for module in ("litert_lm", "litert_lm_builder", "ai_edge_litert"):
        require_extra(module, "litert", "Making a .litertlm file")
    require_vulkan()


def require_memory_for(checkpoint: Path) -> None:
    """Refuse a conversion for which too little memory is free.

    Raises:
        PrerequisiteError: says how much is needed.
    """
    needed_mb = CONVERSION_SHARE * fp32_size_mb(checkpoint) + CONVERSION_MB
    require_memory(needed_mb, needed_mb, "converting to LiteRT-LM", "convert on a larger machine")


def _program(name: str) -> Path:
    """A program of the environment.

    Raises:
        PrerequisiteError: it is not there.
    """
    environment = Path(os.environ.get(ENVIRONMENT, ".venv-litert")).expanduser().absolute()
    program = environment / (f"Scripts/{name}.exe" if os.name == "nt" else f"bin/{name}")
    if not program.is_file():
        raise PrerequisiteError(
            "litert-torch is not installed in an environment of its own (2.3 GB).",
            f"make setup-litert, or: python -m venv {environment.name} && {environment.name}/bin/pip install "
            f"torch==2.13.0 transformers==5.23.0 litert-torch==0.9.4 ({ENVIRONMENT} says where it is)",
        )
    return program
