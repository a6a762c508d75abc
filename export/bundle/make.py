"""Make a bundle from an artifact: its files, licence, model card, generation settings and instructions."""

from __future__ import annotations

import glob
import shutil
import zipfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from empathy_edge.console import say
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.export.bundle.app_settings import AppSettings, settings_of
from empathy_edge.export.bundle.apps import EXTRA_FILES, chosen_apps, files_for
from empathy_edge.export.bundle.card import Origin, model_card, origin_of
from empathy_edge.export.bundle.check import leads_out
from empathy_edge.export.record import ArtifactManifest, read_manifest
from empathy_edge.models.shipped import package_of
from empathy_edge.runs.stage import Results, open_stage
from empathy_edge.system.files import (
    MANIFEST,
    file_record,
    own_file,
    read_json,
    write_json,
    writing_atomically,
)
from empathy_edge.system.locks import holding, lock_in_cache
from empathy_edge.system.machine import require_space

TEXTS = ("chat_template.jinja", "LICENSE", "MODEL_CARD.md", "README.md")
"""The files of a bundle that explain the artifact's own files."""

OWN_PACKAGE = "empathy-edge"
"""Its licence is that of the shipped models, where the package that brings them is not installed."""


class BundleResults(Results):
    """What the making of a bundle found.

    Attributes:
        chain: where the artifact comes from.
    """

    chain: Origin


def make(
    *,
    artifact: Path,
    out: Path,
    apps: Sequence[str] = (),
    licence: Path | None = None,
    as_zip: bool = False,
    update: bool = False,
) -> BundleResults:
    """Write the bundle of an artifact folder into `out`.

    Args:
        artifact: a folder that `export` made.
        out: the bundle's folder.
        apps: which it is for, by their names in `APPS`; none: the artifact's own runtime.
        licence: the licence's text; for a shipped base it comes with the base.
        as_zip: also write `out`.zip beside it.
        update: make it again where inputs changed.

    Raises:
        EmpathyEdgeError: no artifact, or one with a changed file; a base whose licence is not known; or an
            app that cannot open it.
    """

    def refuse() -> None:
        raise EmpathyEdgeError(
            f"{out}: another command is writing this bundle; wait until it ends."
        ) from None

    with holding(lock_in_cache(out), refuse):
        return _make(artifact, out, apps, licence, as_zip, update)


def _make(
    artifact: Path, out: Path, apps: Sequence[str], licence: Path | None, as_zip: bool, update: bool
) -> BundleResults:
    """As `make`, whose arguments these are, in a folder that no other command writes into."""
    manifest = read_manifest(artifact)
    names = chosen_apps(manifest.artifact, apps)
    zip_file = _zip_beside(out)
    if as_zip and zip_file.exists():
        _require_replaceable(zip_file, update)
    origin = origin_of(artifact)
    app = settings_of(artifact, manifest.artifact)
    # What is missing is said before anything is written.
    texts = _texts(artifact, manifest, licence, origin) | files_for(names, artifact, app)
    texts["chat_template.jinja"] = app.template
    _require_unchanged(artifact, manifest)
    settings: dict[str, Any] = {"licence": licence.name if licence else None}
    stage = open_stage(
        out,
        "bundle",
        settings=settings | ({"for": names} if apps else {}),
        inputs={"artifact": artifact},
        files=(*manifest.outputs, *TEXTS, *EXTRA_FILES, "generation.json"),
        update=update,
    )
    if stage.done:
        results = stage.results(BundleResults)
    else:
        require_space(out, 1.1 * manifest.size_mb * (2 if as_zip else 1), "the bundle")
        results = BundleResults(chain=origin)
        _write_files(artifact, manifest, out, texts, app)
        stage.finish(results, artifact=manifest.artifact.as_json())
    if as_zip:
        _zip(out, zip_file)
    files = read_json(out / MANIFEST)["outputs"].values()
    size_mb = sum(file["bytes"] for file in files) / 1e6
    say(f"{len(files)} files, {size_mb:.0f} MB in {out}" + (f" and {zip_file}" if as_zip else ""))
    return results


def _zip_beside(folder: Path) -> Path:
    """The zip of a bundle's folder, which may be given as `.`."""
    named = folder if folder.name not in ("", "..") else folder.resolve()
    return named.with_name(f"{named.name}.zip")


def _require_replaceable(file: Path, update: bool) -> None:
    """Refuse to write over a zip without `--update`, and over one that is no bundle.

    Raises:
        EmpathyEdgeError: names it.
    """
    if not update:
        raise EmpathyEdgeError(f"{file}: exists already. Use --update to write it again, or another --out.")
    try:
        with zipfile.ZipFile(file) as archive:
            is_ours = f"{file.stem}/{MANIFEST}" in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        is_ours = False
    if not is_ours:
        raise EmpathyEdgeError(
            f"{file}: is no bundle that was made here, and was not touched. Move it away, or choose another "
            "--out."
        )


def _require_unchanged(artifact: Path, manifest: ArtifactManifest) -> None:
    """Refuse files that are not those of the manifest: the figures of the model card are of the latter."""
    for name, made in manifest.outputs.items():
        if leads_out(name):
            raise EmpathyEdgeError(
                f"{artifact / MANIFEST}: lists {name!r}, which is outside of the folder; it is not bundled."
            )
        own_file(artifact / name)
        if file_record(artifact / name)["sha256"] != made.sha256:
            raise EmpathyEdgeError(
                f"{artifact / name}: is not the file that was exported (the folder's {MANIFEST} has another "
                "sha256).\n  Put it back, or export it again with --update."
            )


def _texts(
    artifact: Path, manifest: ArtifactManifest, licence: Path | None, origin: Origin
) -> dict[str, str]:
    """The files that explain the artifact's own files, by name."""
    return {
        "LICENSE": _licence(manifest.artifact.base or origin.base, licence),
        "MODEL_CARD.md": model_card(artifact, manifest, origin),
    }


def _write_files(
    artifact: Path, manifest: ArtifactManifest, out: Path, texts: dict[str, str], app: AppSettings
) -> None:
    """The artifact's own files, and those that explain them."""
    for name in manifest.outputs:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(own_file(artifact / name), out / name)
    for name, text in texts.items():
        (out / name).write_text(text, encoding="utf-8", newline="\n")
    write_json(out / "generation.json", app.generation())


def _licence(base: str | None, given: Path | None) -> str:
    """The text that the user gave, or the one that comes with a shipped base."""
    if given is not None:
        try:
            return given.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise EmpathyEdgeError(f"{given}: not readable as the licence's text ({error}).") from None
    package = package_of(base)
    found = (_licence_of(package) or _licence_of(OWN_PACKAGE)) if package else None
    if found is None:
        raise EmpathyEdgeError(
            f"The licence of {base or 'the base'} is not known here; give its text with --license FILE."
        )
    return found


def _licence_of(package: str) -> str | None:
    """The licence's text in an installed package; None where there is no such package or text."""
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        return None
    found = next((item for item in files if item.name == "LICENSE"), None)
    return found.read_text(encoding="utf-8") if found else None


def _zip(folder: Path, file: Path) -> None:
    """Every file of the manifest, and the manifest; stored, since weights do not compress."""
    for left in file.parent.glob(f".{glob.escape(file.name)}.*.tmp"):  # of a process that was killed
        if left.name.split(".")[-2].isdecimal():
            left.unlink(missing_ok=True)
    with writing_atomically(file) as handle, zipfile.ZipFile(handle, "w", zipfile.ZIP_STORED) as archive:
        for name in (MANIFEST, *read_json(folder / MANIFEST)["outputs"]):
            archive.write(folder / name, f"{file.stem}/{name}")
