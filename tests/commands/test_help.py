"""What a person sees first: the program's own page, every command's help, and examples that can be pasted."""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path

import click
import pytest

from empathy_edge.commands import WAYS_IN, cli
from empathy_edge.formats.artifact_names import parse_artifact
from tests.commands.tree import all_commands, help_of, parse
from tests.conftest import ROOT, run_command

WIDTH = 80
GROUPS = [words for words, item in all_commands().items() if isinstance(item, click.Group)]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(?:bash|sh|console|text)?\n(.*?)^```", re.MULTILINE | re.DOTALL)
EXAMPLE = re.compile(r"\s*(?:\$ |sudo |eval \"\$\()?(?:[^`]*\| )?(empathy-edge(?: .*)?)$")
"""A command line of ours, perhaps with what stands before it."""

HOLES = re.compile(r"…|\.\.\.|<[a-z]|\[[-A-Z]")
"""A line of a document with these is a form to be filled in, not a command."""


def examples_in(text: str) -> list[str]:
    """The command lines in a text, those that go on after a backslash joined."""
    joined = re.sub(r"\\\n\s*", "", text)
    found = re.findall(
        r"^\s*(?:\$ |sudo |eval \"\$\()?(?:[^\n`]*\| )?(empathy-edge(?: .*)?)$", joined, re.MULTILINE
    )
    return [line for line in found if not line.startswith("empathy-edge:")]


def arguments_of(line: str) -> list[str]:
    """The program's arguments: comments, pipes, redirections and what follows are the shell's."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|;&<>()")
    lexer.whitespace_split, lexer.commenters = True, "#"
    words = []
    for word in lexer:
        if set(word) <= set("|;&<>()"):
            break
        words.append(word)
    return words[1:]


def test_the_program_alone_shows_five_ways_in() -> None:
    result = run_command()
    assert result.returncode == 0 and result.stderr == ""
    ways = examples_in(result.stdout)
    assert [way.split()[1] for way in ways] == ["chat", "run", "export", "check", "choose"]
    assert result.stdout == WAYS_IN and "`empathy-edge --help` lists all commands" in WAYS_IN


def test_help_lists_every_command_once_below_its_heading() -> None:
    text = help_of(cli, "")
    headings = re.findall(r"^(\w.*):$", text, re.MULTILINE)
    assert headings == ["Options", *cli.sections]
    assert {"Prepare data", "Train", "Export", "Check", "Measure", "Chat"} <= set(headings)
    listed = re.findall(r"^  ([a-z]\S*)  +\S", text, re.MULTILINE)
    assert sorted(listed) == sorted(cli.commands)


@pytest.mark.parametrize(
    "words", [name for name, item in all_commands().items() if isinstance(item, click.Group)]
)
def test_each_command_is_one_whole_line_of_its_group(words: str) -> None:
    group = all_commands()[words]
    assert isinstance(group, click.Group)
    lines = help_of(group, words, WIDTH).splitlines()
    for name, command in group.commands.items():
        (line,) = [line for line in lines if line.startswith(f"  {name} ")]
        first = re.split(r"\.\s|\.$", command.help or "")[0]
        assert line.endswith(f"{' '.join(first.split())}."), line
        assert len(line) <= WIDTH


@pytest.mark.parametrize("words", list(all_commands()))
def test_every_help_ends_with_examples_that_parse(words: str) -> None:
    if not words:
        return
    _, _, text = help_of(all_commands()[words], words).partition("Examples:")
    lines = examples_in(text)
    assert any(f"{line} ".startswith(f"empathy-edge {words.removesuffix(' run')} ") for line in lines)
    for line in lines:
        assert_parses(line)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_in_documents_parse(document: Path) -> None:
    blocks = re.findall(
        r"^```(?:bash|sh|console|text)?\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL
    )
    for block in blocks:
        for line in examples_in(block):
            if not HOLES.search(line) and not line.split()[-1].endswith(":"):
                assert_parses(line)


def test_the_ways_in_parse() -> None:
    for line in examples_in(WAYS_IN.rpartition("\n\n")[0]):
        assert_parses(line)


def assert_parses(line: str) -> None:
    """No unknown option, missing argument or wrong choice; devices, recipes and artifacts are known."""
    from empathy_edge.devices import load_device
    from empathy_edge.runs.recipe import recipe_names

    arguments = arguments_of(line)
    try:
        command = parse(arguments)
    except click.ClickException as error:
        pytest.fail(f"{line}\n{error.format_message()}")
    for option, value in itertools.pairwise(arguments):
        if option == "--to" and command != "empathy-edge convert":
            parse_artifact(value)
        if option == "--device" and value != "all" and not value.endswith(".yaml"):
            assert "choose" in command or "bench" in command or value in ("cpu", "cuda", "auto", "mps"), line
            if "choose" in command or "bench" in command:
                load_device(value)
    if command == "empathy-edge run":
        assert arguments[1].endswith(".yaml") or arguments[1] in recipe_names(), line
