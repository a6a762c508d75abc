"""Make a bundle from an artifact: its files, licence, model card, generation settings, instructions, and the manifest."""

from __future__ import annotations

import os
import shutil
import zipfile
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.export.bundle.card import chain_of, model_card
from empathy_edge.formats.chat_format import read_template, turn_end
from empathy_edge.models.find import SHIPPED
from empathy_edge.prompts import load_prompts
from empathy_edge.runs.recipe import WinrateSettings
from empathy_edge.runs.stage import open_stage
from empathy_edge.system.files import read_json, write_json
from empathy_edge.system.machine import require_space

RUNTIME_OF = {
    "gguf": "llama.cpp",
    "onnx-genai": "onnxruntime-genai",
    "onnx-portable": "onnxruntime",
    "executorch": "executorch",
}
"""An artifact's format → the file of instructions that goes along."""


def make(
    *, artifact: Path, out: Path, licence: Path | None = None, as_zip: bool = False, update: bool = False
) -> dict[str, Any]:
    """Write the bundle of an artifact folder into `out`; returns its manifest.

    Args:
        artifact: a folder that `export` made.
        out: the bundle's folder.
        licence: the licence's text; for a shipped base it comes with the base.
        as_zip: also write `out`.zip beside it.
        update: make it again where inputs changed.

    Raises:
        EmpathyEdgeError: no artifact, or a base whose licence is not known.
    """
    made = read_json(artifact / "manifest.json")
    if "artifact" not in made:
        raise EmpathyEdgeError(
            f"{artifact}: is no artifact; give a folder that export made, as export/gguf-q4_0."
        )
    zipped = out.with_name(out.name + ".zip")
    if as_zip and zipped.exists() and not update:
        raise EmpathyEdgeError(
            f"{zipped}: is there already. Use --update to write it anew, or another --out."
        )
    stage = open_stage(
        out,
        "bundle",
        settings={"licence": licence.name if licence else None},
        inputs={"artifact": artifact},
        update=update,
    )
    if not stage.done:
        size = sum(item["bytes"] for item in made["outputs"].values()) / 1e6
        require_space(out, 1.1 * size * (2 if as_zip else 1), "the bundle")
        for name in made["outputs"]:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(artifact / name, out / name)
        chain = chain_of(artifact)
        template = read_template(artifact)
        (out / "chat_template.jinja").write_text(template, encoding="utf-8")
        (out / "LICENSE").write_text(_licence(chain.get("base"), licence), encoding="utf-8")
        (out / "MODEL_CARD.md").write_text(model_card(artifact, made, chain), encoding="utf-8")
        (out / "README.md").write_text(_instructions(made["artifact"]), encoding="utf-8")
        generation = {
            "system_prompt": load_prompts("chat").text("system"),
            "stop": [turn_end(template)],
            "temperature": 0,
            "max_new_tokens": WinrateSettings().max_new_tokens,
        }
        write_json(out / "generation.json", generation)
        stage.finish(artifact=made["artifact"], chain=chain)
    if as_zip:
        _zip(out, zipped)
    return stage.manifest


def _licence(base: str | None, given: Path | None) -> str:
    if given is not None:
        return given.read_text(encoding="utf-8")
    package = SHIPPED[base][0] if base in SHIPPED else None
    files = (metadata.files(package) or []) if package else []
    found = next((item for item in files if item.name == "LICENSE"), None)
    if found is None:
        raise EmpathyEdgeError(
            f"The licence of {base or 'the base'} is not known here; give its text with --licence FILE."
        )
    return found.read_text(encoding="utf-8")


def _instructions(artifact: dict[str, Any]) -> str:
    name = RUNTIME_OF[artifact["format"]]
    text = (resources.files("empathy_edge.export.bundle") / f"{name}.md").read_text(encoding="utf-8")
    lora = " --lora adapter.gguf" if "adapter" in artifact else ""
    return text.replace("{lora}", lora).replace("{name}", artifact["name"])


def _zip(folder: Path, file: Path) -> None:
    """Every file of the manifest, and the manifest; stored, since weights do not compress."""
    temporary = file.with_suffix(".tmp")
    try:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            for name in ("manifest.json", *read_json(folder / "manifest.json")["outputs"]):
                archive.write(folder / name, f"{folder.name}/{name}")
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)
