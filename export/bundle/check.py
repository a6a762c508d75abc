"""Check a bundle that someone was handed, without running anything of it: hashes, formats, template, nothing besides."""

from __future__ import annotations

import errno
import multiprocessing
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from empathy_edge.errors import EmpathyEdgeError, VerdictFailed
from empathy_edge.formats.chat_format import GOLDEN_CONVERSATION, render
from empathy_edge.formats.gguf_header import check_gguf
from empathy_edge.formats.tensor_files import stored_tensors
from empathy_edge.system.files import MANIFEST, read_json, sha256_file
from empathy_edge.system.machine import require_space

MOST_JSON = 64 * 2**20
MOST_FILES = 1000
MOST_UNPACKED_RATIO = 20
TEMPLATE_SECONDS = 10

KNOWN = {".gguf", ".onnx", ".data", ".pte", ".json", ".jinja", ".md", ".safetensors", ".txt", ""}
"""What a bundle may hold, by the end of the name; LICENSE has none."""


def check(bundle: Path) -> dict[str, Any]:
    """Check a folder or a .zip; returns its manifest.

    Raises:
        EmpathyEdgeError: no bundle at all.
        VerdictFailed: the faults, all of them.
    """
    with _opened(bundle) as folder:
        if not (folder / MANIFEST).is_file():
            raise EmpathyEdgeError(f"{bundle}: has no manifest.json; it is no bundle.")
        _require_small(folder / MANIFEST)
        manifest: dict[str, Any] = read_json(folder / MANIFEST)
        outputs = manifest.get("outputs") if isinstance(manifest, dict) else None
        if not isinstance(outputs, dict) or not isinstance(manifest.get("artifact"), dict):
            raise EmpathyEdgeError(f"{bundle}: its manifest.json lists no files; it is no bundle.")
        faults = [*_unexpected(folder, outputs), *_wrong_hashes(folder, outputs)]
        for file in sorted(folder.rglob("*")):
            if file.is_file() and not file.is_symlink():
                try:
                    _check_format(file)
                except EmpathyEdgeError as error:
                    faults.append(str(error).replace(f"{folder}/", ""))
    if faults:
        raise VerdictFailed(
            f"{bundle}: {len(faults)} fault{'s' * (len(faults) > 1)}:\n  " + "\n  ".join(faults)
        )
    return manifest


@contextmanager
def _opened(bundle: Path) -> Iterator[Path]:
    """The bundle's folder; a zip is unpacked into a scratch folder once its names and sizes are found harmless."""
    if bundle.is_dir():
        yield bundle
        return
    if not bundle.is_file() or not zipfile.is_zipfile(bundle):
        raise EmpathyEdgeError(f"{bundle}: is neither a folder nor a zip.")
    with tempfile.TemporaryDirectory(prefix="bundle-") as scratch:
        try:
            names = _unpack(bundle, Path(scratch))
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, OSError) as error:
            # RuntimeError: encrypted, or a compression that zipfile does not know; EINVAL: a place before the file's beginning
            if isinstance(error, OSError) and error.errno != errno.EINVAL:
                raise
            raise EmpathyEdgeError(f"{bundle}: the zip is damaged or not readable ({error}).") from None
        tops = {PurePosixPath(name).parts[0] for name in names}
        inside = Path(scratch) / tops.pop() if len(tops) == 1 else Path(scratch)
        yield inside if inside.is_dir() else Path(scratch)


def _unpack(bundle: Path, scratch: Path) -> list[str]:
    """Unpack a zip whose names and sizes are harmless; returns the names."""
    with zipfile.ZipFile(bundle) as archive:
        members = archive.infolist()
        size = sum(item.file_size for item in members)
        names = [item.filename for item in members]
        bad = next((item.filename for item in members if not _harmless(item)), None)
        if bad is not None or len(set(names)) != len(names) or len(names) > MOST_FILES:
            raise VerdictFailed(
                f"{bundle}: a name in it leads out of the folder, is a link, or comes twice: {bad or names[0]!r}."
            )
        if size > MOST_UNPACKED_RATIO * bundle.stat().st_size:
            raise VerdictFailed(
                f"{bundle}: would unpack to {size / 1e6:.0f} MB, far more than its own size; not unpacked."
            )
        require_space(scratch, 1.05 * size / 1e6, "unpacking the bundle")
        archive.extractall(scratch)
        return names


def _harmless(item: zipfile.ZipInfo) -> bool:
    path = PurePosixPath(item.filename)
    mode = item.external_attr >> 16
    return (
        bool(path.parts)
        and not path.is_absolute()
        and ".." not in path.parts
        and "\\" not in item.filename
        and ":" not in item.filename
        and stat.S_IFMT(mode) in (0, stat.S_IFREG, stat.S_IFDIR)
    )


def _unexpected(folder: Path, outputs: dict[str, Any]) -> Iterator[str]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            yield f"{name}: is a link; a bundle holds plain files only"
        elif path.is_file() and name not in outputs and name != MANIFEST:
            yield f"{name}: is not in the manifest"


def _wrong_hashes(folder: Path, outputs: dict[str, Any]) -> Iterator[str]:
    for name, item in outputs.items():
        path = folder / name
        inside = not PurePosixPath(name).is_absolute() and ".." not in PurePosixPath(name).parts
        if not inside or not path.is_file() or path.is_symlink():
            yield f"{name}: is missing"
        elif not isinstance(item, dict) or sha256_file(path) != item.get("sha256"):
            yield f"{name}: is not the file that the manifest names (other sha256)"


def _check_format(file: Path) -> None:
    with open(file, "rb") as handle:
        head = handle.read(4)
    if file.suffix not in KNOWN or _looks_pickled(file, head):
        raise EmpathyEdgeError(f"{file}: is of a kind that a bundle does not hold; pickles can run code.")
    if file.suffix == ".gguf":
        check_gguf(file)
    elif file.suffix == ".onnx":
        _check_onnx(file)
    elif file.suffix == ".safetensors":
        stored_tensors(file.parent)
    elif file.suffix == ".json":
        _require_small(file)
        read_json(file)
    elif file.suffix == ".jinja":
        check_template(file)


def _looks_pickled(file: Path, head: bytes) -> bool:
    """A pickle's first opcode, or a zip (what torch.save writes), under whatever name."""
    begins = (
        head[:1] == b"\x80"
        and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")
        and file.suffix not in (".data", ".onnx", ".pte")
    )
    return begins or head == b"PK\x03\x04"


def _require_small(file: Path) -> None:
    if file.stat().st_size > MOST_JSON:
        raise EmpathyEdgeError(
            f"{file}: {file.stat().st_size / 1e6:.0f} MB of JSON; such a file is no part of a model."
        )


def _check_onnx(file: Path) -> None:
    """A graph whose outside weights lie beside it; a place elsewhere would be read from the reader's machine."""
    import onnx

    try:
        model = onnx.load(str(file), load_external_data=False)
        tensors = list(onnx.external_data_helper._get_all_tensors(model))
    except Exception as error:  # protobuf raises its own
        raise EmpathyEdgeError(f"{file}: is no ONNX model ({type(error).__name__}).") from None
    for place in (
        entry.value for tensor in tensors for entry in tensor.external_data if entry.key == "location"
    ):
        # Text that is not UTF-8 comes as bytes.
        if not isinstance(place, str) or PurePosixPath(place).name != place or "\\" in place:
            raise EmpathyEdgeError(f"{file}: keeps weights outside of the bundle: {place!r}.")


def check_template(file: Path) -> None:
    """A chat template that renders a conversation, in bounded time, and reaches for nothing outside of its sandbox.

    Raises:
        EmpathyEdgeError: names the file and what the template does.
    """
    import jinja2
    from jinja2 import nodes

    _require_small(file)
    text = file.read_text(encoding="utf-8", errors="replace")
    try:
        tree = jinja2.Environment(extensions=["jinja2.ext.loopcontrols"]).parse(text)
    except (jinja2.TemplateError, RecursionError) as error:
        raise EmpathyEdgeError(f"{file}: is no Jinja template ({error}).") from None
    for node in tree.find_all(
        (nodes.Getattr, nodes.Getitem, nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)
    ):
        name = (
            node.attr if isinstance(node, nodes.Getattr) else getattr(getattr(node, "arg", None), "value", "")
        )
        if not isinstance(node, (nodes.Getattr, nodes.Getitem)) or str(name).startswith("_"):
            raise EmpathyEdgeError(
                f"{file}: line {node.lineno} reaches out of the template ({name or type(node).__name__})."
            )
    queue: Any = multiprocessing.get_context("spawn").SimpleQueue()
    process = multiprocessing.get_context("spawn").Process(target=_render, args=(text, queue), daemon=True)
    process.start()
    process.join(TEMPLATE_SECONDS)
    if process.is_alive():
        process.kill()
        raise EmpathyEdgeError(f"{file}: does not come to an end within {TEMPLATE_SECONDS} s.")
    fault = queue.get() if not queue.empty() else "it ended the process"
    if fault:
        raise EmpathyEdgeError(f"{file}: {fault}")


def _limit_memory(size: int) -> None:
    """Let this process have `size` bytes at most; where the system cannot (macOS, Windows) the time limit remains."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (size, size))
    except (ImportError, AttributeError, ValueError, OSError):
        pass


def _render(text: str, queue: Any) -> None:
    _limit_memory(2 * 2**30)
    try:
        render(text, GOLDEN_CONVERSATION)
        queue.put("")
    except EmpathyEdgeError as error:
        queue.put(str(error))
    except (MemoryError, RecursionError) as error:
        queue.put(f"takes more memory than a template needs ({type(error).__name__})")
