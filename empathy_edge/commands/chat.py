"""The command that talks."""

from __future__ import annotations

import click

from empathy_edge.commands.options import EXAMPLES, threads_option


@click.command(
    epilog=EXAMPLES + "  empathy-edge chat\n  empathy-edge chat runs/quickstart/export/gguf-q4_0\n"
    "  echo 'I failed my exam.' | empathy-edge chat model.gguf --once"
)
@click.argument("artifact", default="smollm2-135m")
@click.option("--once", is_flag=True, help="Answer the standard input as one message, and end.")
@threads_option()
@click.option(
    "--context", default=2048, show_default=True, type=click.IntRange(256), help="Context window, tokens."
)
@click.option("--max-new-tokens", default=160, show_default=True, type=click.IntRange(1))
@click.option("--temperature", default=0.0, show_default=True, type=click.FloatRange(0, 2))
@click.option("--seed", default=0, show_default=True)
@click.option("--system", help="What the model is told before the conversation. [default: prompts/chat.yaml]")
@click.option("--markdown", is_flag=True, help="Show answers as Markdown.")
@click.option(
    "--crisis-help/--no-crisis-help",
    default=True,
    show_default=True,
    help="On open signs of self-harm, name human help instead of letting the model answer.",
)
@click.option("--country", help="Two letters, as DE, for that help. [default: from the locale]")
def chat(  # noqa: PLR0913 - each is an option
    artifact: str,
    once: bool,
    threads: int | None,
    context: int,
    max_new_tokens: int,
    temperature: float,
    seed: int,
    system: str | None,
    markdown: bool,
    crisis_help: bool,
    country: str | None,
) -> None:
    """Talk to ARTIFACT in the terminal.

    ARTIFACT is an artifact folder, a .gguf file, a checkpoint, or a shipped model's name.


    /help lists the commands: /stats, /system, /reset, /save, /load, /compare, /quit.
    """
    from empathy_edge.chat.session import chat as talk
    from empathy_edge.chat.settings import ChatSettings

    settings = ChatSettings(
        threads=threads,
        context=context,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        seed=seed,
        markdown=markdown,
        crisis_help=crisis_help,
        country=country,
    )
    talk(artifact, settings, once=once, system=system)


COMMANDS = (chat,)
