"""What a check can decide, and how much work its reference takes: said before anything is drawn."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape

from empathy_edge.bench.check.prompts import FEWEST
from empathy_edge.console import say

FEWER_PROMPTS = 96
"""With so many an F16 artifact passes, as with all of them."""


def say_what_can_pass(prompts: int, judge: str, doubts: Sequence[str] | None) -> None:
    """Say on stderr what these settings cannot decide; nothing where everything can pass.

    Args:
        prompts: how many there are.
        judge: its name.
        doubts: why it is not certified; None: not known yet, its certificate is made later.
    """
    for line in what_can_pass(prompts, judge, doubts):
        say(escape(line))


def what_can_pass(prompts: int, judge: str, doubts: Sequence[str] | None) -> list[str]:
    """The lines of `say_what_can_pass`."""
    lines = []
    if prompts < FEWEST:
        lines.append(
            f"With {number_of(prompts, 'prompt')} nothing can pass, it takes at least {FEWEST}; a ruined "
            "artifact is still found, from 11 prompts on."
        )
    if doubts:
        enough = f"With {FEWEST} or more, only" if lines else "Only"
        lines.append(
            f"{enough} artifacts nearly identical to the reference can pass (F16, BF16): the judge {judge} "
            "is not certified. Others end UNDECIDED, or FAIL where they are ruined."
        )
    return lines


def work_of_the_reference(prompts: int, each: int, command: str = "") -> str:
    """How many replies the reference gives first, and which option makes them fewer.

    Args:
        prompts: that have no replies yet.
        each: replies to a prompt.
        command: the name of one that has --max-prompts; empty: no option is named.
    """
    replies = number_of(prompts * each, "reply", "replies")
    found = f"First {replies} of the reference ({each} to each prompt); they are kept for later checks."
    if command and prompts > FEWER_PROMPTS:
        found += f" `{command} --max-prompts {FEWER_PROMPTS}` needs {FEWER_PROMPTS * each}."
    return found


def number_of(count: int, one: str, more: str = "") -> str:
    """A count with its noun: 1 prompt, 8 prompts."""
    return f"{count} {one if count == 1 else more or one + 's'}"
