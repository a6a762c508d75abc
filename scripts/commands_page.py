"""Print `docs/commands.md`, made from the command line's own help; a test compares the two."""

from __future__ import annotations

from collections.abc import Iterator

import click

from empathy_edge.commands import cli

HEAD = """# Commands

Made by `make docs` from the command line's own help; a test fails when it is stale. \
`--debug` on any command shows
the traceback of an error. Exit codes: 0 done, 1 a verdict of FAIL, 2 usage or input, \
3 a prerequisite is missing, 4 undecided,
130 interrupted.
"""


def commands_markdown() -> str:
    """The help of the program and of every command."""
    return "\n".join([HEAD, *_sections("empathy-edge", cli)])


def _sections(name: str, command: click.Command) -> Iterator[str]:
    """A section for a command, then those of its subcommands."""
    yield _section(name, command)
    if isinstance(command, click.Group):
        for below, item in command.commands.items():
            yield from _sections(f"{name} {below}", item)


def _section(name: str, command: click.Command) -> str:
    context = click.Context(
        command,
        info_name=name,
        max_content_width=100,
        terminal_width=100,
        help_option_names=cli.context_settings["help_option_names"],
    )
    return f"## {name}\n\n```\n{command.get_help(context)}\n```\n"


if __name__ == "__main__":
    print(commands_markdown(), end="")
