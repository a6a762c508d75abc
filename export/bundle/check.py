"""Check a bundle from someone else without running anything of it: hashes, formats, template, other files."""

from __future__ import annotations

import errno
import multiprocessing
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from empathy_edge.errors import EmpathyEdgeError, VerdictFailed, did_you_mean_path
from empathy_edge.export.bundle.ollama import MODELFILE, check_modelfile
from empathy_edge.export.record import ArtifactRecord
from empathy_edge.formats.chat_format import GOLDEN_CONVERSATION, render
from empathy_edge.formats.genai_config import GENAI_CONFIG, read_genai_config
from empathy_edge.formats.gguf_header import check_gguf
from empathy_edge.formats.litertlm_file import read_litertlm
from empathy_edge.formats.tensor_files import stored_tensors
from empathy_edge.system.files import MANIFEST, read_json
from empathy_edge.system.hash_cache import sha256_file
from empathy_edge.system.machine import require_space

if TYPE_CHECKING:
    from multiprocessing.queues import SimpleQueue

MAX_JSON_BYTES = 64 * 2**20
MAX_FILES = 1000
MAX_UNPACKED_RATIO = 20
"""How many times its own size a zip may unpack to; weights hardly compress."""

TEMPLATE_SECONDS = 10
TEMPLATE_BYTES = 2 * 2**30
"""How long a template may take to render, and how much memory."""

KNOWN_SUFFIXES = {
    ".gguf", ".onnx", ".data", ".pte", ".litertlm", ".json", ".jinja", ".md", ".safetensors", ".txt", "",
}  # fmt: skip
"""What a bundle may hold, by the end of the name; LICENSE and Modelfile have none."""

BINARY_SUFFIXES = (".data", ".onnx", ".pte")
"""Files that may begin with any bytes, so that those of a pickle prove nothing."""

ZIP_HEADER = b"PK\x03\x04"

DO_NOT_USE = "do not use it; ask whoever made it for a new one (`empathy-edge export bundle` writes it)"
"""The next step after a bundle with faults."""


@dataclass(frozen=True)
class CheckedBundle:
    """A bundle: the record of its artifact, how many files its manifest lists, and all its faults."""

    artifact: ArtifactRecord
    files: int
    faults: tuple[str, ...]

    def raise_if_faulty(self, bundle: Path) -> None:
        """Raise VerdictFailed with the faults, if there are any."""
        if self.faults:
            count = "1 fault" if len(self.faults) == 1 else f"{len(self.faults)} faults"
            raise VerdictFailed(f"{bundle}: {count}:\n  " + "\n  ".join(self.faults), DO_NOT_USE)


def check(bundle: Path) -> CheckedBundle:
    """Check a folder or a .zip.

    Raises:
        EmpathyEdgeError: no bundle at all.
        VerdictFailed: the faults, all of them.
    """
    found = look_at(bundle)
    found.raise_if_faulty(bundle)
    return found


def look_at(bundle: Path) -> CheckedBundle:
    """Look for faults in a folder or a .zip.

    Raises:
        EmpathyEdgeError: no bundle at all.
    """
    with _folder_of(bundle) as folder:
        artifact, outputs = _read_manifest(bundle, folder)
        faults = [*_unexpected_files(folder, outputs), *_wrong_hashes(folder, outputs)]
        for file in sorted(folder.rglob("*")):
            if file.is_file() and not file.is_symlink():
                try:
                    _check_format(file)
                except EmpathyEdgeError as error:
                    faults.append(str(error).replace(f"{folder}/", ""))
    return CheckedBundle(artifact, len(outputs), tuple(faults))


@contextmanager
def _folder_of(bundle: Path) -> Iterator[Path]:
    """The bundle's folder. A zip is unpacked into a scratch folder, after a check of its names and sizes."""
    if bundle.is_dir():
        yield bundle
        return
    if not bundle.is_file() or not zipfile.is_zipfile(bundle):
        raise EmpathyEdgeError(f"{bundle}: is neither a folder nor a zip.{did_you_mean_path(bundle)}")
    with tempfile.TemporaryDirectory(prefix="bundle-") as scratch:
        try:
            names = _unpack(bundle, Path(scratch))
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, OSError) as error:
            # zipfile raises RuntimeError for encrypted files and unknown kinds of compression, and OSError
            # with EINVAL for a place before the file's beginning.
            if isinstance(error, OSError) and error.errno != errno.EINVAL:
                raise
            raise EmpathyEdgeError(f"{bundle}: the zip is damaged or not readable ({error}).") from None
        top_names = {PurePosixPath(name).parts[0] for name in names}
        inside = Path(scratch) / top_names.pop() if len(top_names) == 1 else Path(scratch)
        yield inside if inside.is_dir() else Path(scratch)


def _unpack(bundle: Path, scratch: Path) -> list[str]:
    """Unpack a zip whose names and sizes are safe; returns the names."""
    with zipfile.ZipFile(bundle) as archive:
        members = archive.infolist()
        size = sum(item.file_size for item in members)
        names = [item.filename for item in members]
        unsafe = [item.filename for item in members if not _is_safe(item)]
        if unsafe or len(set(names)) != len(names) or len(names) > MAX_FILES:
            raise VerdictFailed(
                f"{bundle}: a name in it leads out of the folder, is a link, or comes twice: "
                f"{(unsafe or names)[0]!r}.",
                DO_NOT_USE,
            )
        if size > MAX_UNPACKED_RATIO * bundle.stat().st_size:
            raise VerdictFailed(
                f"{bundle}: would unpack to {size / 1e6:.0f} MB, far more than its own size; not unpacked.",
                DO_NOT_USE,
            )
        require_space(scratch, 1.05 * size / 1e6, "unpacking the bundle")
        archive.extractall(scratch)
        return names


def _is_safe(item: zipfile.ZipInfo) -> bool:
    """Whether a member of a zip is a plain file or folder below the folder that it is unpacked to."""
    mode = item.external_attr >> 16
    return not leads_out(item.filename) and stat.S_IFMT(mode) in (0, stat.S_IFREG, stat.S_IFDIR)


def leads_out(name: str) -> bool:
    """Whether a file's name could lead out of the folder that it is joined to, on any system."""
    path = PurePosixPath(name)
    is_inside = bool(path.parts) and not path.is_absolute() and ".." not in path.parts
    return not is_inside or "\\" in name or ":" in name


def _read_manifest(bundle: Path, folder: Path) -> tuple[ArtifactRecord, dict[str, Any]]:
    """The artifact's record, and what the manifest says of each file; that part is not checked yet."""
    if not (folder / MANIFEST).is_file():
        raise EmpathyEdgeError(f"{bundle}: has no manifest.json; it is no bundle.")
    _require_small(folder / MANIFEST)
    manifest = read_json(folder / MANIFEST)
    outputs = manifest.get("outputs") if isinstance(manifest, dict) else None
    if not isinstance(outputs, dict) or not isinstance(manifest.get("artifact"), dict):
        raise EmpathyEdgeError(f"{bundle}: its manifest.json lists no files; it is no bundle.")
    try:
        return ArtifactRecord.model_validate(manifest["artifact"]), outputs
    except ValidationError:
        raise EmpathyEdgeError(f"{bundle}: its manifest.json names no artifact; it is no bundle.") from None


def _unexpected_files(folder: Path, outputs: dict[str, Any]) -> Iterator[str]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            yield f"{name}: is a link; a bundle holds plain files only"
        elif path.is_file() and name not in outputs and name != MANIFEST:
            yield f"{name}: is not in the manifest"


def _wrong_hashes(folder: Path, outputs: dict[str, Any]) -> Iterator[str]:
    for name, item in outputs.items():
        path = folder / name
        if leads_out(name) or not path.is_file() or path.is_symlink():
            yield f"{name}: is missing"
        elif not isinstance(item, dict) or sha256_file(path) != item.get("sha256"):
            yield f"{name}: is not the file that the manifest names (other sha256)"


def _check_format(file: Path) -> None:
    """Whether a file is of a kind that a bundle may hold, and what its name says.

    Raises:
        EmpathyEdgeError: names the file and the fault.
    """
    if file.suffix not in KNOWN_SUFFIXES or _looks_pickled(file):
        raise EmpathyEdgeError(f"{file}: does not belong in a bundle (a pickle can run code).")
    if file.suffix == ".gguf":
        check_gguf(file)
    elif file.suffix == ".litertlm":
        read_litertlm(file)
    elif file.suffix == ".onnx":
        _check_onnx(file)
    elif file.suffix == ".safetensors":
        stored_tensors(file.parent)
    elif file.suffix == ".json":
        _require_small(file)
        read_json(file)
        if file.name.lower() == GENAI_CONFIG:
            read_genai_config(file)
    elif file.suffix == ".jinja":
        check_template(file)
    elif file.name == MODELFILE:
        check_modelfile(file)


def _looks_pickled(file: Path) -> bool:
    """Whether a file begins like a pickle, or like a zip (which torch.save writes), under whatever name."""
    with open(file, "rb") as handle:
        head = handle.read(4)
    is_pickle = head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")
    return (is_pickle and file.suffix not in BINARY_SUFFIXES) or head == ZIP_HEADER


def _require_small(file: Path) -> None:
    if file.stat().st_size > MAX_JSON_BYTES:
        raise EmpathyEdgeError(
            f"{file}: {file.stat().st_size / 1e6:.0f} MB of JSON; such a file is no part of a model."
        )


def _check_onnx(file: Path) -> None:
    """Refuse a graph whose weights are not beside it: other files of the user's machine would be read."""
    import onnx

    try:
        model = onnx.load(str(file), load_external_data=False)
        tensors = list(onnx.external_data_helper._get_all_tensors(model))
    except Exception as error:  # protobuf raises its own
        raise EmpathyEdgeError(f"{file}: is no ONNX model ({type(error).__name__}).") from None
    for tensor in tensors:
        for entry in tensor.external_data:
            if entry.key == "location" and not _is_beside(entry.value):
                raise EmpathyEdgeError(f"{file}: keeps weights outside of the bundle: {entry.value!r}.")


def _is_beside(location: object) -> bool:
    """Whether a location is the name of a file in the same folder; text that is not UTF-8 comes as bytes."""
    return isinstance(location, str) and PurePosixPath(location).name == location and "\\" not in location


def check_template(file: Path) -> None:
    """Check that a template renders a conversation in bounded time, and uses nothing outside its sandbox.

    Raises:
        EmpathyEdgeError: names the file and what the template does.
    """
    _require_small(file)
    text = file.read_text(encoding="utf-8", errors="replace")
    _refuse_outside_access(file, text)
    fault = _fault_in_rendering(text)
    if fault:
        raise EmpathyEdgeError(f"{file}: {fault}")


def _refuse_outside_access(file: Path, text: str) -> None:
    """Refuse a template that includes other files, or uses attributes that begin with an underscore."""
    import jinja2
    from jinja2 import nodes

    try:
        tree = jinja2.Environment(extensions=["jinja2.ext.loopcontrols"]).parse(text)
    except (jinja2.TemplateError, RecursionError) as error:
        raise EmpathyEdgeError(f"{file}: is no Jinja template ({error}).") from None
    inclusions = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)
    for node in tree.find_all((nodes.Getattr, nodes.Getitem, *inclusions)):
        name = ""
        if isinstance(node, nodes.Getattr):
            name = node.attr
        elif isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
            name = str(node.arg.value)
        if isinstance(node, inclusions) or name.startswith("_"):
            raise EmpathyEdgeError(
                f"{file}: line {node.lineno} reaches out of the template ({name or type(node).__name__})."
            )


def _fault_in_rendering(text: str) -> str:
    """What goes wrong when the golden conversation is rendered, in a process of its own; empty if nothing."""
    context = multiprocessing.get_context("spawn")
    queue: SimpleQueue[str] = context.SimpleQueue()
    process = context.Process(target=_render, args=(text, queue), daemon=True)
    process.start()
    process.join(TEMPLATE_SECONDS)
    if process.is_alive():
        process.kill()
        return f"does not finish within {TEMPLATE_SECONDS} s."
    return "it ended the process" if queue.empty() else queue.get()


def _render(text: str, queue: SimpleQueue[str]) -> None:
    _limit_memory(TEMPLATE_BYTES)
    try:
        render(text, GOLDEN_CONVERSATION)
        queue.put("")
    except EmpathyEdgeError as error:
        queue.put(str(error))
    except (MemoryError, RecursionError) as error:
        queue.put(f"takes more memory than a template needs ({type(error).__name__})")


def _limit_memory(size: int) -> None:
    """Let this process have `size` bytes at most. macOS and Windows cannot: there only time is limited."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (size, size))
    except (ImportError, AttributeError, ValueError, OSError):
        pass
