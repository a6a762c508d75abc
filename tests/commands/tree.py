"""The commands as a tree, and a parse of a command line that runs nothing."""

from __future__ import annotations

from collections.abc import Iterator

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


def parse(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Parse a command line, settings included; returns the command that it would have run.

    Raises:
        click.ClickException: an option, an argument or a choice is wrong.
    """
    found: list[str] = []

    def stop(command: click.Command, context: click.Context) -> None:
        found.append(context.command_path)

    with monkeypatch.context() as patch:
        patch.setattr(click.Command, "invoke", stop)
        cli.main(arguments, "empathy-edge", standalone_mode=False)
    return found[-1]
