"""Every `empathy-edge` command in the documentation is one that the command line takes.

Commands are parsed by the real click commands, which are not run: a command or option that is not there, a
choice or number out of range, an argument that is missing or too many is an error.
"""

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from empathy_edge.commands import cli
from scripts.markdown import blocks, pages

SHELLS = ("", "sh", "bash", "console")
"""Languages of fenced blocks that may hold commands; `text` is output."""

HEREDOC = re.compile(r"<<-?\s*(['\"]?)(\w+)\1.*?\n.*?^\2$", re.DOTALL | re.MULTILINE)
REMARK = re.compile(r"\s{2,}\([^()]*\)$")
"""What help texts say about an example."""

ASSIGNMENT = re.compile(r"\w+=.*")
OPERATORS = {"|", "||", "&&", ";", "&", ">", ">>", "<"}
BEFORE_A_COMMAND = ("$", "sudo", "nice")


def commands_of(text: str) -> Iterator[tuple[int, list[str]]]:
    """The arguments of each `empathy-edge` command of a block, with its line from 0."""
    without_heredocs = HEREDOC.sub(lambda match: "\n" * match[0].count("\n"), text)
    line = 0
    for joined in re.split(r"(?<!\\)\n", without_heredocs):
        start, line = line, line + joined.count("\n") + 1
        if "empathy-edge" in joined or "-m empathy_edge" in joined:
            said = REMARK.sub("", joined.replace("\\\n", " "))
            yield from ((start, arguments) for arguments in _of_line(said))


def _of_line(line: str) -> Iterator[list[str]]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError:
        return  # a line of output with one quotation mark
    command: list[str] = []
    for word in [*words, ";"]:
        if word not in OPERATORS:
            command.append(word)
            continue
        yield from _arguments(command)
        command = []


def _arguments(command: list[str]) -> Iterator[list[str]]:
    while command and (command[0] in BEFORE_A_COMMAND or ASSIGNMENT.fullmatch(command[0])):
        command = command[1:]
    if command and command[0].split("/")[-1] == "empathy-edge":
        yield command[1:]
    for place in range(len(command) - 1):
        if command[place : place + 2] == ["-m", "empathy_edge"]:
            yield command[place + 2 :]


def parse(arguments: list[str], command: click.Command = cli, parent: click.Context | None = None) -> None:
    """Parse as the command line does.

    Raises:
        click.UsageError: it refuses them.
    """
    context = command.make_context(command.name, list(arguments), parent=parent)
    rest = [*context._protected_args, *context.args]
    if isinstance(command, click.Group) and rest:
        _, below, rest = command.resolve_command(context, rest)
        assert below is not None
        parse(rest, below, context)


def refusals(page: Path) -> Iterator[str]:
    """Commands of a page that the command line refuses, with the reasons."""
    for block in blocks(page.read_text(encoding="utf-8")):
        if block.language not in SHELLS:
            continue
        for line, arguments in commands_of(block.text):
            try:
                parse(arguments)
            except click.UsageError as error:
                said = " ".join(arguments)
                yield f"{page.name}:{block.line + line + 1}: empathy-edge {said}: {error.format_message()}"


@pytest.fixture(autouse=True)
def _same_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--device` sets a variable while it is parsed."""
    monkeypatch.setattr(os, "environ", os.environ.copy())


def test_commands_of_the_documentation() -> None:
    assert [fault for page in pages() for fault in refusals(page)] == []


def test_commands_are_found() -> None:
    text = """
echo hello | empathy-edge chat model.gguf --once   # a comment; empathy-edge no-command
empathy-edge export a --to x \\
    --out b && empathy-edge bench b/x > figures
cat > my.yaml <<'END'
empathy-edge in-a-file
END
KEY=1 accelerate launch -m empathy_edge finetune rows --out tuned
Read about empathy-edge here.
"""
    assert list(commands_of(text)) == [
        (1, ["chat", "model.gguf", "--once"]),
        (2, ["export", "a", "--to", "x", "--out", "b"]),
        (2, ["bench", "b/x"]),
        (7, ["finetune", "rows", "--out", "tuned"]),
    ]


@pytest.mark.parametrize(
    "command",
    [
        "no-such-command",
        "export bundel exported/gguf-q8_0",  # two arguments: `export` takes one model
        "bench compare one.json",
        "check a.gguf --baselin b.json.gz",
        "distill --data sample --method guess --out rows",
        "bench a.gguf --repetitions 0",
        "finetune rows",
        "data inspect posts.csv --map text",
    ],
)
def test_wrong_commands_are_refused(command: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"```sh\nempathy-edge {command}\n```\n")
    assert len(list(refusals(page))) == 1
    page.write_text(f"```text\nempathy-edge {command}\n```\n")
    assert list(refusals(page)) == []
