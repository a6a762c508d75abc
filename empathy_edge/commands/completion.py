"""The command that makes a shell complete the others."""

from __future__ import annotations

import click

from empathy_edge.commands.options import EXAMPLES

VARIABLE = "_EMPATHY_EDGE_COMPLETE"
"""By this variable of the environment the shell asks; click makes it of the program's name."""


@click.command(
    epilog=EXAMPLES + '  eval "$(empathy-edge completion bash)"                 # now; always: in ~/.bashrc\n'
    '  eval "$(empathy-edge completion zsh)"                  # now; always: in ~/.zshrc\n'
    "  empathy-edge completion fish > ~/.config/fish/completions/empathy-edge.fish"
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that makes your shell complete commands.

    It completes commands, options, the values of options, shipped models, devices, recipes, artifacts, and
    files.
    """
    from click.shell_completion import get_completion_class

    program = click.get_current_context().find_root().command
    kind = get_completion_class(shell)
    assert kind is not None, "click knows the three shells"
    click.echo(kind(program, {}, "empathy-edge", VARIABLE).source(), nl=False)
