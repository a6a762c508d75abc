"""The terminal chat: any artifact, streaming, with its own figures."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

from empathy_edge.chat_format import Message
from empathy_edge.console import console, say
from empathy_edge.prompts import load_prompts
from empathy_edge.runtimes import Reply, Runtime, open_runtime

HELP = "/reset starts over, /stats shows speed and memory, /quit leaves."


@dataclass
class Conversation:
    """The turns so far, and as many of them as fit into the context window."""

    runtime: Runtime
    room: int
    system: str = field(default_factory=lambda: load_prompts("chat").text("system"))
    turns: list[Message] = field(default_factory=list)

    def prompt(self, said: str) -> tuple[list[Message], int]:
        """Add what the person said; returns the messages that fit and how many old turns had to go.

        The oldest turns go first, in pairs, until `room` tokens are left for the response.
        """
        self.turns.append({"role": "user", "content": said})
        dropped = 0
        while len(self.turns) > 1 and not self._fits():
            del self.turns[:2]
            dropped += 2
        return self._messages(), dropped

    def reset(self) -> None:
        """Forget every turn."""
        self.turns.clear()
        self.runtime.forget()

    def _messages(self) -> list[Message]:
        return [{"role": "system", "content": self.system}, *self.turns]

    def _fits(self) -> bool:
        return len(self.runtime.encode(self._messages())) + self.room <= self.runtime.context


def chat(
    model: str, *, threads: int | None, context: int, max_new_tokens: int, temperature: float, seed: int
) -> None:
    """Talk to a model on the terminal until /quit or the end of the input."""
    interactive = sys.stdin.isatty()
    runtime = open_runtime(model, threads=threads, context=context)
    conversation = Conversation(runtime, room=min(max_new_tokens, context // 2))
    if interactive:
        say(f"[bold]{runtime.name}[/] on {runtime.threads} threads. {HELP}")
    last: Reply | None = None
    while (said := _ask(interactive)) is not None:
        if not said:
            continue
        if said.startswith("/"):
            if said == "/quit":
                break
            if said == "/reset":
                conversation.reset()
                say("Started over.")
            elif said == "/stats":
                say(_stats(last))
            else:
                say(f"{said}: no such command. {HELP}")
            continue
        messages, dropped = conversation.prompt(said)
        if dropped:
            say(f"[dim]The context is full: the {dropped} oldest turns were left out.[/]")
        try:
            for piece in runtime.stream(messages, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed):
                if isinstance(piece, Reply):
                    last = piece
                else:
                    print(piece, end="", flush=True)
        except KeyboardInterrupt:
            print()
            say("[dim]Stopped.[/]")
            conversation.turns.pop()
            continue
        except BaseException:
            conversation.turns.pop()
            raise
        print(flush=True)
        if last is not None:
            conversation.turns.append({"role": "assistant", "content": last.text})
            if interactive:
                say(f"[dim]{_stats(last)}[/]")
    runtime.close()


def _ask(interactive: bool) -> str | None:
    try:
        return (console.input("[bold]› [/]") if interactive else input()).strip()
    except EOFError:
        return None


def _stats(reply: Reply | None) -> str:
    from empathy_edge.memory import memory_mb

    memory = memory_mb()
    used = f"{memory['anonymous']:.0f} MB anonymous + {memory['file_backed']:.0f} MB file-backed" if memory else ""
    if reply is None:
        return f"No response yet. {used}"
    speed = f"{reply.decode_tps:.0f} tokens/s" if reply.decode_tps else "one token"
    cut = ", cut off" if reply.finish_reason == "length" else ""
    return (
        f"first token {1000 * reply.ttft_s:.0f} ms, {speed}, {len(reply.token_ids)} tokens after "
        f"{reply.prompt_tokens} in the prompt{cut} · {used}"
    )
