"""The commands of the guides are run as they stand there, in order, each guide in a folder of its own.

A block of commands says what happens to it by a comment on the line before, which readers do not see:

- `<!-- run -->`: it is run and must succeed; `<!-- run; exit 4 -->`: its last command must end so;
- `<!-- not run: REASON -->`: it needs a key, a phone or a model that is not here;
- `<!-- run first: COMMAND -->`, before one of these: what a person does by hand.

`openai:` teachers are answered by a server on this machine. In place of the shipped model stands a tiny one,
with which each command takes seconds; its licence is given, as it is not known. `make test` runs the shipped
one elsewhere.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.markdown import ROOT, Block, blocks
from tests.llm.fault_server import FaultServer

GUIDES = sorted((ROOT / "docs" / "guides").glob("*.md"))
RUN = re.compile(r"run(?:; exit (\d+))?")
FIRST = re.compile(r"run first: (.+)")
NOT_RUN = re.compile(r"not run: .+")


def command_blocks(guide: Path) -> list[Block]:
    """The blocks of commands; those of output have the language `text`."""
    return [
        block for block in blocks(guide.read_text(encoding="utf-8")) if block.language in ("sh", "bash", "")
    ]


SHIPPED = re.compile(r"\bsmollm2-135m\b")
BUNDLE = re.compile(r"(?<=export bundle )")


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The program on the PATH, a ledger of its own, and an endpoint that answers everything."""
    program = tmp_path / "bin" / "empathy-edge"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m empathy_edge "$@"\n')
    program.chmod(0o755)
    with FaultServer(fault_rate=0.0) as server:
        yield {
            **os.environ,
            "PATH": os.pathsep.join(
                [str(program.parent), str(Path(sys.executable).parent), os.environ["PATH"]]
            ),
            "COLUMNS": "100",
            "EMPATHY_EDGE_LEDGER": str(tmp_path / "ledger.sqlite"),
            "OPENAI_API_KEY": "sk-of-a-test",
            "OPENAI_BASE_URL": server.url,
        }


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
def test_each_block_says_whether_it_is_run(guide: Path) -> None:
    found = command_blocks(guide)
    assert found
    for block in found:
        said = [mark for mark in block.marks if RUN.fullmatch(mark) or NOT_RUN.fullmatch(mark)]
        others = [mark for mark in block.marks if mark not in said and not FIRST.fullmatch(mark)]
        assert len(said) == 1 and not others, f"{guide.name}:{block.line}: {block.marks}"


@pytest.mark.slow
@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
def test_the_commands_of_a_guide(
    guide: Path, environment: dict[str, str], tiny_model: Path, tmp_path: Path
) -> None:
    folder, licence = tmp_path / "guide", tmp_path / "LICENSE"
    folder.mkdir()
    licence.write_text("Do what you like.")
    for block in command_blocks(guide):
        for mark in block.marks:
            if first := FIRST.fullmatch(mark):
                assert shell(first[1], folder, environment).returncode == 0, mark
        expected = next((RUN.fullmatch(mark) for mark in block.marks if RUN.fullmatch(mark)), None)
        if expected:
            text = BUNDLE.sub(f"--license {licence} ", SHIPPED.sub(str(tiny_model), block.text))
            done = shell(text, folder, environment)
            assert done.returncode == int(expected[1] or 0), f"{guide.name}:{block.line}\n{done.stdout}"


def shell(script: str, folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run as build servers do: an error ends the script. Both outputs are in `stdout`, as in a terminal."""
    command = ["bash", "-eo", "pipefail", "-c", script]
    return subprocess.run(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
