"""One arm's responses to the test split, and whether they are well-formed: kept as JSONL, ready to be judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from empathy_edge.console import out as stdout
from empathy_edge.console import table
from empathy_edge.dialogue import read_dialogues

from .format_checks import summarize
from .responses import respond


def run(
    model: str, adapters: list[Path], dialogues: Path, out: Path, max_prompts: int | None, max_new_tokens: int
) -> dict[str, Any]:
    """Answer the test dialogues of a file with `model`, or with a checkpoint and its adapters; shows the format checks."""
    test = [item for item in read_dialogues(dialogues) if item.split == "test"][:max_prompts]
    rows = respond(model, test, out, max_new_tokens=max_new_tokens, arm=out.stem, adapters=adapters)
    summary = summarize(rows)
    head = ["responses", "well-formed", "stopped", "1–97 words", "no loop", "median words"]
    shares = [f"{summary[key]:.1%}" for key in ("ok", "stopped", "length", "no_loop")]
    stdout.print(table(out.stem, head, [[str(len(rows)), *shares, f"{summary['median_words']:g}"]]))
    return summary
