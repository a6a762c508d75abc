"""The folder that measures an artifact on a real phone: by adb, or in Termux."""

from __future__ import annotations

import shlex
import shutil
from importlib import resources
from pathlib import Path

from empathy_edge.console import say
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.models.beside import models_beside
from empathy_edge.models.find import ModelRef, find_model
from empathy_edge.system.files import read_json, write_atomically
from empathy_edge.system.machine import require_space

_AARCH64 = 183
"""e_machine in an ELF header (elf(5))."""


def write_folder(
    kind: str,
    artifact: str,
    out: Path,
    *,
    binary: Path | None,
    prompt_tokens: int,
    decode_tokens: int,
    threads: int,
) -> None:
    """Write the script, its README, the model and, for adb, llama-bench.

    Args:
        kind: `android` (adb) or `termux`.
        artifact: a GGUF.
        out: a new or empty folder.
        binary: llama-bench for arm64; may be put into the folder later.
        prompt_tokens: the prompt length that is measured.
        decode_tokens: the number of new tokens that is measured.
        threads: CPU threads on the phone.

    Raises:
        EmpathyEdgeError: the folder is not empty, the artifact is no GGUF, or the program is not for arm64.
    """
    model = gguf_file(artifact)
    if binary is not None:
        _check_program(binary)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise EmpathyEdgeError(f"{out}: exists and is not an empty folder; choose another --out.")
    require_space(out, model.stat().st_size / 1e6 + 50, "the model")
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(model, out / "model.gguf")
    texts = resources.files("empathy_edge.bench.phones") / "device"
    script = (texts / f"{kind}.sh").read_text(encoding="utf-8")
    values = {"@PROMPT@": prompt_tokens, "@DECODE@": decode_tokens, "@THREADS@": threads}
    for name, value in values.items():
        script = script.replace(name, str(value))
    target = out / ("run.sh" if kind == "android" else "bench.sh")
    write_atomically(target, script)
    target.chmod(0o755)
    write_atomically(out / "README.md", (texts / f"{kind}.md").read_text(encoding="utf-8"))
    if binary is not None:
        shutil.copyfile(binary, out / "llama-bench")
        (out / "llama-bench").chmod(0o755)
    say(f"{out}: {model.stat().st_size / 1e6:.0f} MB")


def gguf_file(artifact: str, program: str = "llama-bench") -> Path:
    """The GGUF of an artifact folder, or the file itself.

    Args:
        artifact: what `find_model` takes.
        program: what is to run it, for the message.

    Raises:
        EmpathyEdgeError: it is something else; names a GGUF in the same folder.
    """
    ref = find_model(artifact)
    file = _single_gguf(ref)
    if file is None:
        remedy = _gguf_instead(artifact, ref)
        raise EmpathyEdgeError(f"{artifact}: is no single GGUF, and {program} runs nothing else.\n  {remedy}")
    return file


def _gguf_instead(artifact: str, ref: ModelRef) -> str:
    """Which GGUF to give instead: those in the same folder, or how one is made."""
    there = Path(artifact).expanduser().parent
    beside = [str(there / name) for name, path in models_beside(ref.path).items() if _is_gguf(path)]
    if beside and Path(artifact).expanduser().exists():
        return f"Give {' or '.join(beside[:3])}."
    if ref.kind == "checkpoint":
        return f"Make one: empathy-edge export {shlex.quote(artifact)} --to gguf-q4_0 --out exported"
    return (
        "Make one of the model that it was made of: empathy-edge export MODEL --to gguf-q4_0 --out exported"
    )


def _single_gguf(ref: ModelRef) -> Path | None:
    """The file of a model that is one GGUF; None for other formats, and for an adapter beside its base."""
    if ref.kind == "gguf":
        return ref.path
    manifest = ref.path / "manifest.json"
    about = read_json(manifest).get("artifact", {}) if manifest.is_file() else {}
    if about.get("format") != "gguf" or "adapter" in about:
        return None
    return ref.path / str(about["file"])


def _is_gguf(path: Path) -> bool:
    try:
        return _single_gguf(find_model(str(path))) is not None
    except EmpathyEdgeError:  # a damaged one is not offered
        return False


def _check_program(binary: Path) -> None:
    try:
        head = binary.read_bytes()[:20]
    except OSError as error:
        raise EmpathyEdgeError(f"{binary}: cannot be read: {error.strerror}.") from None
    if head[:2] == b"#!":
        return  # a script that starts the program
    if head[:4] != b"\x7fELF" or int.from_bytes(head[18:20], "little") != _AARCH64:
        raise EmpathyEdgeError(
            f"{binary}: is not a program for 64-bit ARM; build llama-bench with Android's NDK."
        )
