"""For families that our own writer does not support: conversion by llama.cpp's script.

The source of llama-cpp-python holds the script of the llama.cpp that it compiles. It is fetched once, by pip,
checked against the hash below, and kept in the cache.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

from empathy_edge.console import say
from empathy_edge.errors import EmpathyEdgeError, PrerequisiteError, did_you_mean_path, require_extra
from empathy_edge.export.external_program import run_external_program
from empathy_edge.system.cache import cache_folder
from empathy_edge.system.files import own_file, part_of, read_json_object, write_json
from empathy_edge.system.hash_cache import sha256_file
from empathy_edge.system.processes import run_captured

VERSION = "0.3.36"
SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
"""Of llama-cpp-python's source archive, 77 MB."""

SCRIPT = "convert_hf_to_gguf.py"
_PARTS = (SCRIPT, "conversion", "gguf-py")
"""What is kept of the archive's folder vendor/llama.cpp, 2 MB."""

_KEPT_VARIABLES = ("PATH", "HOME", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "LD_LIBRARY_PATH", "LANG")
"""What the script sees of this process's environment: no keys, no tokens."""

_WITH_SPECULATIVE_HEAD = ("Qwen3_5", "Qwen3Next")
"""Architectures whose heads for speculative decoding are left out: the runtime here does not use them."""


def run_converter(script: Path, checkpoint: Path, file: Path, kind: str) -> None:
    """Write `checkpoint` as GGUF by `convert_hf_to_gguf.py`.

    Args:
        script: in a llama.cpp checkout, or as `fetch_converter` gives it; it is run with this Python.
        checkpoint: a folder of safetensors.
        file: what is written, whole or not at all.
        kind: `f32`, `f16` or `bf16`.

    Raises:
        EmpathyEdgeError: no such script, or it failed; with its last lines.
        PrerequisiteError: a package that the script imports is not installed.
    """
    require_script(script)
    require_packages()
    temporary = part_of(file)
    options = ["--outtype", kind, "--outfile", str(temporary)]
    architecture = (read_json_object(checkpoint / "config.json").get("architectures") or [""])[0]
    if str(architecture).startswith(_WITH_SPECULATIVE_HEAD):
        options.append("--no-nextn")
    environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    environment |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    with tempfile.TemporaryDirectory(prefix=".source-", dir=file.parent) as scratch:
        copy = _without_code(checkpoint, Path(scratch))
        try:
            run_external_program(
                [sys.executable, str(script), str(copy), *options],
                output=temporary,
                failure=f"{checkpoint}: llama.cpp's {script.name} cannot convert {architecture or 'it'}",
                environment=environment,
            )
            os.replace(temporary, file)
        finally:
            temporary.unlink(missing_ok=True)


def require_packages() -> None:
    """Refuse to begin without the packages that the script imports.

    Raises:
        PrerequisiteError: one is missing; says how to install it.
    """
    require_extra("torch", "train", "llama.cpp's script")
    require_extra("sentencepiece", "convert", "llama.cpp's script")


def require_script(script: Path) -> None:
    """Refuse a path that is no file.

    Raises:
        EmpathyEdgeError: there is no such script.
    """
    if not script.is_file():
        raise EmpathyEdgeError(
            f"{script}: no such script; give {SCRIPT} of a llama.cpp checkout, or leave --converter out."
            f"{did_you_mean_path(script)}"
        )


def _without_code(checkpoint: Path, scratch: Path) -> Path:
    """The checkpoint's files under another path, without what could make transformers run code of theirs."""
    folder = scratch / "model"
    folder.mkdir()
    for source in checkpoint.iterdir():
        target = folder / source.name
        if source.suffix == ".json" and source.name in ("config.json", "tokenizer_config.json"):
            write_json(target, {k: v for k, v in read_json_object(source).items() if k != "auto_map"})
        elif source.is_file() and source.suffix not in (".py", ".bin", ".pt", ".pth", ".pkl"):
            _link_or_copy(own_file(source), target)
    return folder


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        target.symlink_to(source)
    except OSError:  # Windows without the right to make links
        shutil.copyfile(source, target)


def fetch_converter() -> Path:
    """The path of llama.cpp's script in the cache; fetched once.

    Raises:
        PrerequisiteError: it is not in the cache, and pip cannot get it.
        EmpathyEdgeError: what pip got is another file than the one that was tested.
    """
    folder = cache_folder() / "converters" / SHA256[:16]
    if (folder / SCRIPT).is_file():
        return folder / SCRIPT
    say(f"  Fetching llama.cpp's {SCRIPT}: the source of llama-cpp-python {VERSION}, 77 MB, once.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=folder.parent) as scratch:
        archive = _download(Path(scratch))
        unpacked = Path(scratch) / "unpacked"
        _unpack(archive, unpacked)
        with contextlib.suppress(OSError):  # another process may have been faster
            os.replace(unpacked, folder)
    return folder / SCRIPT


def _download(folder: Path) -> Path:
    """The source archive, as pip finds it (its mirrors and settings count)."""
    name = f"llama-cpp-python=={VERSION}"
    # pip checks the hash before it runs the archive's own code for the metadata.
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{name} --hash=sha256:{SHA256}\n", encoding="utf-8")
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--no-binary", "llama-cpp-python"]
    command += ["--disable-pip-version-check", "--quiet", "--dest", str(folder)]
    command += ["--require-hashes", "-r", str(wanted)]
    ended = run_captured(command)
    archive = next(folder.glob("llama_cpp_python-*.tar.gz"), None)
    if "DO NOT MATCH THE HASHES" in ended.stderr or (archive and sha256_file(archive) != SHA256):
        raise EmpathyEdgeError(
            f"{name}: pip's source archive is not the tested one (sha256 {SHA256[:16]}…); it is not run.\n"
            "  Look at pip's index and mirrors (pip config list)."
        )
    if archive is None:
        errors = [line for line in ended.stderr.splitlines() if line.startswith("ERROR")] or ["pip failed"]
        raise PrerequisiteError(
            f"llama.cpp's {SCRIPT} is not on this machine, and pip cannot get {name} ({errors[-1][:160]}).",
            f"Go online once (it is kept), or give a llama.cpp checkout's: --converter PATH/{SCRIPT}",
        )
    return archive


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack the script and the modules that it imports."""
    folder.mkdir()
    with tarfile.open(archive) as opened:
        for member in opened:
            parts = PurePosixPath(member.name).parts
            if member.isfile() and parts[1:3] == ("vendor", "llama.cpp") and parts[3] in _PARTS:
                target = folder.joinpath(*parts[3:])
                if ".." in parts:
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                content = opened.extractfile(member)
                assert content is not None
                target.write_bytes(content.read())
