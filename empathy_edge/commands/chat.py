"""The command that talks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from empathy_edge.commands import completers
from empathy_edge.commands.options import (
    EXAMPLES,
    FromSettings,
    SettingsCommand,
    takes_settings,
    template_option,
)

if TYPE_CHECKING:
    from empathy_edge.chat.chat_settings import ChatSettings


def _chat_settings() -> type[ChatSettings]:
    from empathy_edge.chat.chat_settings import ChatSettings

    return ChatSettings


@takes_settings(
    settings=FromSettings(
        _chat_settings,
        (
            "threads",
            "context",
            "max_new_tokens",
            "temperature",
            "seed",
            "markdown",
            "history",
            "crisis_help",
            "country",
        ),
    )
)
@click.command(
    cls=SettingsCommand,
    epilog=EXAMPLES + "  empathy-edge chat\n  empathy-edge chat runs/quickstart/export/gguf-q4_0\n"
    "  echo 'I failed my exam.' | empathy-edge chat model.gguf --once",
)
@click.argument("artifact", default="smollm2-135m", shell_complete=completers.models)
@click.option("--once", is_flag=True, help="Answer the standard input as one message, and end.")
@click.option("--system", help="What the model is told before the conversation. [default: prompts/chat.yaml]")
@template_option()
def chat(artifact: str, once: bool, system: str | None, template: str | None, settings: ChatSettings) -> None:
    """Talk to ARTIFACT in the terminal.

    ARTIFACT is an artifact folder, a .gguf file, a checkpoint, or a shipped model's name.

    Inside, /help lists the commands: /stats, /system, /reset, /save, /load, /compare, /quit.
    """
    from empathy_edge.chat.session import chat as talk
    from empathy_edge.models.templates import name_with_template

    talk(name_with_template(artifact, template), settings, once=once, system=system)
