"""The commands as a tree, and a parse of a command line that runs nothing."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from empathy_edge.commands import cli


def all_commands() -> dict[str, click.Command]:
    """Every command by its words, as `bench predict`; the program itself is ``."""
    return dict(_below("", cli))


def _below(words: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield words, command
    if isinstance(command, click.Group):
        for name, item in command.commands.items():
            yield from _below(f"{words} {name}".strip(), item)


def help_of(command: click.Command, words: str, width: int = 80) -> str:
    """The help in a terminal of this width."""
    context = click.Context(command, info_name=f"empathy-edge {words}".strip(), terminal_width=width)
    return command.get_help(context)


def parse(arguments: list[str]) -> str:
    """Parse a command line, settings included; returns the command that it would have run.

    Raises:
        click.ClickException: an option, an argument or a choice is wrong.
    """
    found: list[str] = []

    def stop(command: click.Command, context: click.Context) -> None:
        found.append(context.command_path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(click.Command, "invoke", stop)
        cli.main(arguments, "empathy-edge", standalone_mode=False)
    return found[-1]


def assert_says_next(result: subprocess.CompletedProcess[str], words: str = "") -> None:
    """The last line on stderr is `Next: ` and a command line that parses, or words where `words` says so."""
    last = result.stderr.rstrip().splitlines()[-1]
    assert last.startswith(f"Next: {words}"), result.stderr
    assert "Next: " not in result.stdout
    if last.startswith("Next: empathy-edge "):
        parse(shlex.split(last)[2:])


def assert_reported(content: str | Path, kind: str) -> dict[str, object]:
    """What `--json` gave, on stdout or in a file: one JSON object that names its layout."""
    text = content.read_text() if isinstance(content, Path) else content
    found = json.loads(text)
    assert found["format"] == f"empathy-edge {kind}"
    assert "NaN" not in text
    return dict(found)
