"""Groups of commands: their help in order of use, and the nearest command where one does not exist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from empathy_edge.errors import did_you_mean

FORMER = {
    "winrate": "release",
    "gate": "check",
    "verify": "export",
    "power": "check",
    "certify": "judge certify",
    "compare": "judge compare",
    "sheet": "judge sheet",
}
"""Commands of earlier versions → those that took their place."""


SURELY_NEAR = 0.75
"""So near is a word to a command (`difflib`) that no name of a model is meant."""


class Group(click.Group):
    """A group that lists its commands in the order in which a person uses them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names in the order in which they were added."""
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does it; an unknown command is answered with the nearest one."""
        name = str(args[0])
        if name in self.commands or name.startswith("-") or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        raise no_such_command(name, self, ctx)


def no_such_command(name: str, group: click.Group, ctx: click.Context) -> click.UsageError:
    """The error about a command that `group` does not have."""
    if name in FORMER and ctx.parent is None:
        successor = f"{ctx.command_path} {FORMER[name]}"
        return click.UsageError(f"No such command '{name}': `{successor}` took its place.", ctx)
    return click.UsageError(f"No such command '{name}'.{did_you_mean(name, group.commands)}", ctx)


def refuse_misspelled(word: str, group: click.Group, ctx: click.Context) -> None:
    """Refuse a word that is nearly a command, where the first word may also be something else, as a model.

    Raises:
        click.UsageError: it is no command, no file here, and near to a command.
    """
    from difflib import get_close_matches
    from pathlib import Path

    if word in group.commands or ctx.resilient_parsing or Path(word).exists():
        return
    if get_close_matches(word, group.commands, n=1, cutoff=SURELY_NEAR):
        raise no_such_command(word, group, ctx)


class Program(Group):
    """The program itself: its commands in sections.

    Attributes:
        sections: heading → its commands, in the order of a person's work.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.sections: dict[str, Sequence[click.Command]] = {}

    def add_sections(self, sections: Mapping[str, Sequence[click.Command]]) -> None:
        """Add commands below their headings."""
        self.sections.update(sections)
        for commands in sections.values():
            for command in commands:
                self.add_command(command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each section with its heading, a line for each command."""
        width = max(map(len, self.commands))
        for heading, commands in self.sections.items():
            with formatter.section(heading):
                formatter.write_dl(
                    [(str(item.name).ljust(width), item.get_short_help_str(limit=100)) for item in commands]
                )
