"""Files that hold no data are named by what they are."""

import gzip
import pickle
import sqlite3
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.binary_files import kind_of
from empathy_edge.formats.dialogue import read_dialogues
from tests.conftest import assert_one_clear_error, run_command


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", "<w/>")


def _database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("create table rows (text)")


def _tar(path: Path) -> None:
    path.with_suffix(".txt").write_text("I lost.")
    with tarfile.open(path, "w") as archive:
        archive.add(path.with_suffix(".txt"), "a.txt")


NO_DATA: dict[str, Callable[[Path], object]] = {
    "a PDF": lambda path: path.write_bytes(b"%PDF-1.7\n%\xb5\xb5\xb5\xb5\n1 0 obj\n"),
    "a zip archive": _zip,
    "a PNG picture": lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"),
    "a JPEG picture": lambda path: path.write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF"),
    "an SQLite database": _database,
    "a pickle": lambda path: path.write_bytes(pickle.dumps([{"text": "I lost."}])),
    "a tar archive": _tar,
    "an RTF document": lambda path: path.write_bytes(b"{\\rtf1\\ansi I lost.}"),
}


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.bin"])
@pytest.mark.parametrize("kind", NO_DATA)
def test_what_is_no_data_is_named_by_its_first_bytes(
    kind: str, name: str, zipped: bool, tmp_path: Path
) -> None:
    """A PDF was to be saved as UTF-8."""
    file = tmp_path / name
    NO_DATA[kind](file)
    if zipped:
        file.write_bytes(gzip.compress(file.read_bytes()))
    with pytest.raises(EmpathyEdgeError) as caught:
        read_dialogues(file)
    assert str(caught.value).startswith(f"{file}: is {kind}")
    assert "Give JSON Lines, JSON, CSV, Parquet or text" in str(caught.value)


def test_no_text_is_taken_for_something_else(tmp_path: Path) -> None:
    texts = ("GGUF is a format.", "PK said it.", "GIF or JPEG?", "OggS, ARROW1, BZh.", "7z and Rar!", "%PDF")
    file = tmp_path / "a.txt"
    file.write_text("\n".join(texts))
    found = read_dialogues(file)
    assert tuple(item.utterance for item in found) == texts
    for text in texts:
        assert kind_of(text.encode()) is None


@pytest.mark.parametrize("command", [("data", "inspect"), ("distill", "--out", "rows", "--data")])
def test_a_command_says_what_it_was_given(command: tuple[str, ...], tmp_path: Path) -> None:
    paper = tmp_path / "paper.pdf"
    NO_DATA["a PDF"](paper)
    refused = run_command(*command, paper, cwd=tmp_path)
    assert_one_clear_error(refused, 2, f"{paper}: is a PDF, which is no data")
    assert not (tmp_path / "rows").exists()
