"""A model's files with another chat template: a folder of links in the cache. The model's own stays as it is.

All else sees a model that has that template: training, merges, identities, exports, runtimes.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from empathy_edge.errors import PrerequisiteError
from empathy_edge.formats.chat_format import has_template, read_template
from empathy_edge.system.cache import cache_folder
from empathy_edge.system.files import (
    MANIFEST,
    own_file,
    read_json_object,
    sha256_json,
    write_atomically,
    write_json,
)

TEMPLATE = "chat_template.jinja"
RECORD = "template.json"
"""Beside the folder of links: the model's name as the user gave it, and the template's."""

_COPIED = (".json", ".jinja", ".model", ".txt")
"""How small files end, which are copied; the others are linked."""

_OTHER_TEMPLATES = (TEMPLATE, "chat_template.json")


def templates_folder() -> Path:
    """Where the folders of links are; each is in a folder of its own."""
    return cache_folder() / "templates"


def is_templated(folder: Path) -> bool:
    """Whether a folder is one of links, with a template that the user chose."""
    parent = folder.resolve().parent
    return parent.parent == templates_folder().resolve() and (parent / RECORD).is_file()


def name_of_templated(folder: Path) -> str | None:
    """The model's name as the user gave it; None for a folder that is not of links."""
    return str(read_json_object(folder.resolve().parent / RECORD)["model"]) if is_templated(folder) else None


def templated_folder(
    model: Path, kind: Literal["gguf", "artifact", "checkpoint"], name: str, template: str, label: str
) -> Path:
    """Make the folder, unless it is there.

    Args:
        model: the model's file or folder.
        kind: of the model; a GGUF file becomes an artifact's folder.
        name: the model's, as the user gave it.
        template: Jinja source.
        label: what the template is called.

    Raises:
        PrerequisiteError: the cache cannot be written.
    """
    files = dict(_files_of(model, kind))
    state = {file: [str(source), *_size_and_time(source)] for file, source in files.items()}
    parent = templates_folder() / sha256_json([kind, name, template, state])[:16]
    folder = parent / model.resolve().name
    if (parent / RECORD).is_file():
        return folder
    try:
        templates_folder().mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".making-", dir=templates_folder()))
    except OSError as error:
        raise PrerequisiteError(
            f"The model cache cannot be written: {templates_folder()} ({error.strerror}).",
            "Point EMPATHY_EDGE_CACHE at a folder that can be written.",
        ) from None
    try:
        _fill(scratch / folder.name, files, kind, template)
        write_json(scratch / RECORD, {"model": name, "template": label})
        os.rename(scratch, parent)
    except OSError:
        if not (parent / RECORD).is_file():  # another process may have been faster
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def _files_of(model: Path, kind: str) -> Iterator[tuple[str, Path]]:
    """The files to link or copy, by the names that they get."""
    if kind == "gguf":
        yield "model.gguf", model.resolve()
        return
    for path in sorted(model.iterdir()):
        left_out = path.name in _OTHER_TEMPLATES or (path.name == MANIFEST and kind == "checkpoint")
        if path.is_file() and not left_out:
            yield path.name, own_file(path) if path.suffix in _COPIED else path.resolve()


def _size_and_time(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns


def _fill(folder: Path, files: dict[str, Path], kind: str, template: str) -> None:
    folder.mkdir()
    for name, source in files.items():
        if Path(name).suffix in _COPIED:  # the source may be a blob of the hub's cache, without a suffix
            shutil.copyfile(source, folder / name)
        else:
            link(source, folder / name)
    write_atomically(folder / TEMPLATE, template)
    config = folder / "tokenizer_config.json"
    if config.is_file():
        settings = read_json_object(config)
        if settings.pop("chat_template", None) is not None:
            write_json(config, settings)
    if kind != "checkpoint":
        write_json(folder / MANIFEST, _manifest(folder, sorted(files)))


def _manifest(folder: Path, files: list[str]) -> dict[str, Any]:
    """The artifact's manifest, which names the template: a GGUF has one of its own inside."""
    file = folder / MANIFEST
    if file.is_file():
        known = read_json_object(file)
    else:
        known = {"artifact": {"format": "gguf", "file": "model.gguf"}, "outputs": files}
    outputs = {*(known.get("outputs") or ()), TEMPLATE}
    return known | {"artifact": known["artifact"] | {"template": TEMPLATE}, "outputs": sorted(outputs)}


def link(source: Path, target: Path) -> None:
    """Link a file, or copy it where the system allows no links."""
    try:
        target.symlink_to(source)
    except OSError:  # Windows without the right to make links
        try:
            os.link(source, target)
        except OSError:  # another drive
            shutil.copyfile(source, target)


def template_for(base: Path, adapters: list[Path]) -> str:
    """The chat template of a model with adapters: the user's choice, or the last adapter's, or the base's.

    Raises:
        EmpathyEdgeError: there is none.
    """
    source = base if is_templated(base) else _last_with_template(adapters) or base
    return read_template(source)


def _last_with_template(adapters: list[Path]) -> Path | None:
    return next((adapter for adapter in reversed(adapters) if has_template(adapter)), None)


def keep_template(base: Path, adapters: list[Path], out: Path) -> None:
    """Write the template beside a new adapter, where it is not that of the base: it was trained with it."""
    if is_templated(base) or _last_with_template(adapters):
        write_atomically(out / TEMPLATE, template_for(base, adapters))
