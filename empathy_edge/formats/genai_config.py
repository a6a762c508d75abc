"""What genai_config.json may say: ONNX Runtime GenAI does all of it, and the file may be from anyone.

Options in it can load a library of native code (`custom_ops_library`, provider options), or write to any
path (`enable_profiling`).
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from empathy_edge.errors import EmpathyEdgeError, no_such_file

GENAI_CONFIG = "genai_config.json"

OPTIONS: dict[str, set[str]] = {
    "session_options": {
        "enable_cpu_mem_arena",
        "enable_mem_pattern",
        "ep.cuda.fpa_intb_gemm",
        "graph_optimization_level",
        "inter_op_num_threads",
        "intra_op_num_threads",
        "log_id",
        "log_severity_level",
        "log_verbosity_level",
        "optimization.disable_specified_optimizers",
        "provider_options",
        "session.use_device_allocator_for_initializers",
    },
    "run_options": set(),
}
"""The objects of options → the keys that they may have: what onnxruntime_genai.models.builder may write."""

CPU_PROVIDERS = ("cpu", "cpuexecutionprovider")


def read_genai_config(file: Path) -> dict[str, Any]:
    """Read a genai_config.json that loads no code, and no file from outside its folder.

    Raises:
        EmpathyEdgeError: it is missing, no JSON object, or says more than that; names the file and the key.
    """
    try:
        text = file.read_text(encoding="utf-8")
        config = json.loads(text, object_pairs_hook=partial(_checked_object, file))
    except FileNotFoundError:
        raise no_such_file(file) from None
    except (ValueError, RecursionError) as error:
        raise EmpathyEdgeError(f"{file}: not readable as JSON ({error}).") from None
    if not isinstance(config, dict):
        raise EmpathyEdgeError(f"{file}: holds no JSON object.")
    return config


def _checked_object(file: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of the file, at any depth.

    A key that comes twice is refused: ONNX Runtime GenAI takes both of its values, a dict the last alone.
    """
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise EmpathyEdgeError(f"{file}: has the key '{key}' twice in one object; it is not used.")
        if key in OPTIONS:
            _check_options(file, key, value)
        elif (key.endswith("filename") or key == "data_file") and not _is_plain_name(value):
            raise EmpathyEdgeError(
                f"{file}: '{key}' is {value!r}, not the name of a file beside it; it is not used."
            )
        found[key] = value
    return found


def _check_options(file: Path, kind: str, options: object) -> None:
    if not isinstance(options, dict):
        raise EmpathyEdgeError(f"{file}: '{kind}' is no JSON object; it is not used.")
    for key, value in options.items():
        if key not in OPTIONS[kind]:
            raise EmpathyEdgeError(
                f"{file}: has '{key}' in {kind}, which could run code or write files; it is not used. "
                "Take the key out, or export the model again."
            )
        if key == "provider_options" and not _is_only_cpu(value):
            raise EmpathyEdgeError(
                f"{file}: 'provider_options' names more than the CPU; it is not used. Make it [], or export "
                "the model again."
            )


def _is_only_cpu(providers: object) -> bool:
    """Whether a list of {provider: its options} names the CPU at most, without options."""
    if not isinstance(providers, list):
        return False
    return all(
        isinstance(item, dict) and all(name.lower() in CPU_PROVIDERS and item[name] == {} for name in item)
        for item in providers
    )


def _is_plain_name(name: object) -> bool:
    """Whether it is the name of a file in the same folder, on every system."""
    if not isinstance(name, str) or name in ("", ".", ".."):
        return False
    return PurePosixPath(name).name == name and not set(name) & {"\\", ":"}
