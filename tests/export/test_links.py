"""A foreign checkpoint's links to files outside its folder are not followed when its files are copied."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.export.artifact_files import copy_tokenizer
from empathy_edge.export.merged import merge
from empathy_edge.export.rounded_checkpoint import write_rounded
from empathy_edge.formats.tensor_files import write_safetensors


def refuses(copy: Callable[[], None], link: Path, out: Path) -> None:
    """The copy of `link`, which leads to a secret, ends in an error and leaves no such file."""
    secret = out.parent / "secret.txt"
    secret.write_text("{}")
    link.unlink(missing_ok=True)
    link.symlink_to(secret)
    with pytest.raises(EmpathyEdgeError, match=rf"{link.name}: is a link to a file outside its folder"):
        copy()
    assert not (out / link.name).exists()


def folders(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("checkpoint", "out"):
        (tmp_path / name).mkdir()
    return tmp_path / "checkpoint", tmp_path / "out"


def test_of_a_tokenizer(tmp_path: Path) -> None:
    checkpoint, out = folders(tmp_path)
    (checkpoint / "tokenizer.json").write_text("{}")
    (checkpoint / "vocab.json").symlink_to("tokenizer.json")  # inside of the folder
    copy_tokenizer(checkpoint, out)
    assert (out / "vocab.json").read_text() == "{}"
    refuses(lambda: copy_tokenizer(checkpoint, out), checkpoint / "merges.txt", out)


def test_of_the_settings_of_a_merged_checkpoint(tmp_path: Path) -> None:
    checkpoint, out = folders(tmp_path)
    write_safetensors(checkpoint / "model.safetensors", {"w": (2,)}, [[np.ones(2, np.float32)]])
    (checkpoint / "config.json").write_text("{}")
    refuses(lambda: merge(checkpoint, [], out), checkpoint / "generation_config.json", out)


def test_of_a_rounded_checkpoint(tiny_model: Path, tmp_path: Path) -> None:
    checkpoint, out = tmp_path / "checkpoint", tmp_path / "out"
    shutil.copytree(tiny_model, checkpoint)
    out.mkdir()
    write_rounded(checkpoint, lambda _name: None, out)
    assert (out / "tokenizer_config.json").is_file()
    refuses(lambda: write_rounded(checkpoint, lambda _name: None, out), checkpoint / "extra.json", out)
