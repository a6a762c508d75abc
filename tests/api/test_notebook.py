"""Notebooks: the example is executed in a kernel, and messages and progress are readable there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

from tests.conftest import ROOT  # noqa: E402

QUICKSTART = ROOT / "docs" / "examples" / "quickstart.ipynb"

ABSOLUTE_PATH = re.compile(r"/(?:home|root|Users|tmp|work|usr|private)/|[A-Z]:\\\\")
"""Of a folder on some machine."""


def executed(notebook: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """The notebook after all its cells were run in a kernel of this environment."""
    client = nbclient.NotebookClient(
        notebook, timeout=500, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    return client.execute()


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """In their order."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """Of all code cells."""
    return [item for cell in code_cells(notebook) for item in cell.outputs]


def assert_all_were_run(notebook: nbformat.NotebookNode) -> None:
    """Every code cell, once, from the first to the last."""
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))


@pytest.mark.slow
def test_the_example_runs(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMPATHY_EDGE_BASE", str(tiny_model))
    notebook = nbformat.read(QUICKSTART, as_version=4)
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
    notebook = executed(notebook, tmp_path)
    assert_all_were_run(notebook)
    shown = outputs(notebook)
    stdout = [item for item in shown if item.output_type == "stream" and item.name == "stdout"]
    assert not stdout  # results are returned; on stderr llama.cpp warns of the tiny context window
    data = [item.data for item in shown if item.output_type == "execute_result"]
    results = [item.get("text/html", item["text/plain"]) for item in data]
    text = "".join(results)
    for word in ("SFT rows", "reward accuracy", "gguf-q8_0", "win rate", "first token"):
        assert word in text, word


def test_the_example_is_a_valid_notebook_with_its_outputs() -> None:
    """Who reads it on a web page sees what the cells give, and nothing of the machine that ran them."""
    notebook = nbformat.read(QUICKSTART, as_version=4)
    nbformat.validate(notebook)
    assert_all_were_run(notebook)
    kinds = {item.output_type for item in outputs(notebook)}
    assert "execute_result" in kinds and "error" not in kinds
    assert not ABSOLUTE_PATH.search(QUICKSTART.read_text(encoding="utf-8"))


PROGRESS = """\
from empathy_edge import console
from empathy_edge.console import progress, say, set_quiet
console.FIRST_LINE_S = console.NOTEBOOK_INTERVAL_S = 0.0
say("[bold]One[/] message" + " that has more characters than a line of 115" * 4)
with progress() as bar:
    task = bar.add_task("SFT", total=3)
    for step in range(3):
        bar.update(task, advance=1, note=f"loss {step}")
set_quiet()
say("not shown")
with progress() as bar:
    bar.advance(bar.add_task("DPO", total=2))
"""


def test_a_tasks_line_is_written_over(tmp_path: Path) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(PROGRESS)])
    message, line = outputs(executed(notebook, tmp_path))
    assert message.output_type == line.output_type == "display_data"
    assert "<pre" in message.data["text/html"] and "One</span> message" in message.data["text/html"]
    assert line.data["text/plain"].startswith("  SFT: 3 in ")
