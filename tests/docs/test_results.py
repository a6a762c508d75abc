"""The figures of the documentation: each page is in the catalogue, and the commands can be run.

One set of figures is made again for real, and must be what its page shows.
"""

import json
import re
import subprocess
import sys
from datetime import date
from importlib.util import find_spec
from pathlib import Path

import click
import pytest

from scripts.figures import Catalogue, Figures, Thing, read_catalogue
from scripts.markdown import ROOT, anchors
from scripts.results import Places, listing, rerun
from scripts.results_page import INDEX, index_markdown, pages_with_lines
from tests.commands.tree import parse
from tests.conftest import assert_one_clear_error
from tests.docs.test_commands_in_docs import commands_of

CATALOGUE = read_catalogue()
MODULE = re.compile(r"python -m ([\w.]+)")
IMPORT = re.compile(r"^from empathy_edge[\w.]* import [\w, ]+$", re.MULTILINE)
TARGET = re.compile(r"\bmake (?:-C \S+ )?([a-z-]+)")
TEST_FILE = re.compile(r"tests/\S+\.py")


def results(*arguments: str | Path, runs: Path) -> subprocess.CompletedProcess[str]:
    """The real script."""
    command = [sys.executable, "-m", "scripts.results", *map(str, arguments), "--runs", str(runs)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_each_page_is_in_the_catalogue_and_the_other_way_round() -> None:
    shown = {item.file for item in CATALOGUE.figures}
    assert set((ROOT / "docs" / "results").glob("*.md")) - {INDEX} - shown == set()
    for item in CATALOGUE.figures:
        for page in (item.page, *item.also):
            file, _, anchor = page.partition("#")
            assert (ROOT / file).is_file(), page
            assert not anchor or anchor in anchors((ROOT / file).read_text()), page


def test_the_index_and_the_lines_beside_figures_are_fresh() -> None:
    assert INDEX.read_text() == index_markdown(CATALOGUE), "run `make docs`"
    for file, text in pages_with_lines(CATALOGUE):
        assert file.read_text() == text, "run `make docs`"


@pytest.mark.parametrize("item", CATALOGUE.figures, ids=lambda item: item.name)
def test_the_commands_are_there(item: Figures, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands of ours parse with their settings; modules, targets and tests exist."""
    monkeypatch.setenv("EMPATHY_EDGE_DEVICE", "cpu")  # `--device` sets it; it is taken back
    script = "\n".join(item.commands)
    for _, arguments in commands_of(script):
        try:
            parse(arguments)
        except click.ClickException as error:
            pytest.fail(f"{arguments}: {error.format_message()}")
    for module in MODULE.findall(script):
        assert module == "llama_cpp.server" or find_spec(module), module
    for line in IMPORT.findall(script):
        exec(line, {})
    targets = (ROOT / "Makefile").read_text()
    for target in TARGET.findall(script):
        assert f"\n{target}:" in targets, target
    for file in TEST_FILE.findall(script):
        assert (ROOT / file).is_file(), file


def test_the_commits_are_of_this_repository() -> None:
    git = ["git", "-C", str(ROOT)]
    asked = subprocess.run([*git, "rev-parse", "--is-shallow-repository"], capture_output=True, text=True)
    if asked.returncode or asked.stdout.strip() != "false":
        pytest.skip("no git repository here, or a shallow one")
    for item in CATALOGUE.figures:
        for commit in item.commits:
            found = subprocess.run([*git, "cat-file", "-e", f"{commit}^{{commit}}"], capture_output=True)
            assert found.returncode == 0, f"{item.name}: {commit}"


def test_figures_made_again_are_those_of_the_page(tmp_path: Path) -> None:
    done = results("judges-formats", runs=tmp_path)
    assert done.returncode == 0, done.stderr
    page = (ROOT / "docs" / "results" / "judges.md").read_text()
    for model, start in (("| SmolLM2-135M, fine-tuned |", "smollm2"), ("| Qwen2.5-Coder-0.5B |", "Qwen")):
        cells = page.split(model)[1].split("\n")[0]
        shown = re.findall(r"(\d+) \[(\d+), (\d+)\]", cells)
        again = re.findall(rf"^{start}.*?: (\d+)% \[(\d+)%, (\d+)%\]", done.stdout, re.MULTILINE)
        assert len(shown) == 8 and sorted(shown) == sorted(again)
    folder = tmp_path / "judges-formats"
    assert "Qwen2.5-Coder-0.5B-Instruct gguf-q8_0: 50%" in (folder / "output.txt").read_text()
    record = json.loads((folder / "run.json").read_text())
    assert record["measured_at"] == ["7a4ade5"] and record["machine"]["cores"]
    assert [command["exit_code"] for command in record["commands"]] == [0]


def test_what_is_missing_is_named_before_anything_is_made(tmp_path: Path) -> None:
    assert_one_clear_error(
        results("paper", runs=tmp_path / "runs"), 3, "rated_responses_5way.csv", "2507.08151"
    )
    assert_one_clear_error(
        results("bench-chat", runs=tmp_path / "runs"), 3, "make results NAME=bench-standard"
    )
    assert_one_clear_error(
        results("paper", "--data", tmp_path / "no", runs=tmp_path / "runs"), 2, "no such folder"
    )
    assert not (tmp_path / "runs").exists()


def test_an_unknown_name_gets_the_nearest_one_and_no_command_its_reason(tmp_path: Path) -> None:
    assert_one_clear_error(results("gate-simulatoin", runs=tmp_path), 2, "Did you mean gate-simulation?")
    assert_one_clear_error(results("check-readers", runs=tmp_path), 2, "no command", "sheet of 4096 rows")
    assert list(tmp_path.iterdir()) == []


def test_all_are_listed() -> None:
    text = listing(CATALOGUE)
    for item in CATALOGUE.figures:
        assert f"\n{item.name}  (" in f"\n{text}"


def figures(name: str, *commands: str, needs: tuple[str, ...] = ()) -> Figures:
    return Figures(
        name=name, page="README.md", gives="a sum", commands=commands, needs=needs, minutes=1,
        machine="any", commits=("0123456",), date=date(2026, 11, 29),
    )  # fmt: skip


@pytest.fixture
def catalogue() -> Catalogue:
    """Of a table that a person has, and one that commands write."""
    things = {"table.csv": Thing(get="from you"), "out/sum.txt": Thing(get="made", made_by="sum")}
    return Catalogue(
        things=things,
        figures=(
            figures("sum", "mkdir out", "wc -l < table.csv > out/sum.txt", needs=("table.csv",)),
            figures("shown", "cat out/sum.txt", "exit 7", "touch never", needs=("out/sum.txt",)),
        ),
    )


def test_what_is_needed_is_linked_and_nothing_is_written_over(catalogue: Catalogue, tmp_path: Path) -> None:
    data, runs = tmp_path / "data", tmp_path / "runs"
    data.mkdir()
    (data / "table.csv").write_text("a\nb\n")
    for expected in ("2\n", "3\n"):
        assert rerun(catalogue, "sum", Places(data, tmp_path / "checkout", runs)) == 0
        newest = max(runs.iterdir(), key=lambda folder: folder.stat().st_mtime_ns)
        assert (newest / "out" / "sum.txt").read_text().strip() == expected.strip()
        assert (newest / "table.csv").is_symlink()
        (data / "table.csv").write_text("a\nb\nc\n")
    assert sorted(folder.name for folder in runs.iterdir()) == ["sum", "sum-2"]
    assert (data / "table.csv").read_text() == "a\nb\nc\n"


def test_a_former_run_gives_what_another_needs_and_a_failure_ends_it(
    catalogue: Catalogue, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "table.csv").write_text("a\nb\n")
    places = Places(tmp_path, tmp_path, tmp_path / "runs")
    assert rerun(catalogue, "sum", places) == 0
    assert rerun(catalogue, "shown", places) == 7
    captured = capfd.readouterr()
    assert "\n2\n" in captured.out and "Error: exit code 7" in captured.err
    folder = tmp_path / "runs" / "shown"
    assert not (folder / "never").exists()
    record = json.loads((folder / "run.json").read_text())
    assert [command["exit_code"] for command in record["commands"]] == [0, 7]
