"""One arm's responses to the test split, kept as JSONL, ready to be judged; and what can be measured without a judge."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from empathy_edge.bench.gate.responses import respond
from empathy_edge.console import out as stdout
from empathy_edge.console import table
from empathy_edge.formats.dialogue import Dialogue, read_dialogues
from empathy_edge.judging.format_checks import summarize
from empathy_edge.text.tone import clashes


def run(
    model: str,
    adapters: list[Path],
    dialogues: Path,
    out: Path,
    max_prompts: int | None,
    max_new_tokens: int,
    similarity: bool,
) -> dict[str, Any]:
    """Answer the test dialogues of a file with `model`, or with a checkpoint and its adapters; shows the figures."""
    test = [item for item in read_dialogues(dialogues) if item.split == "test"][:max_prompts]
    rows = respond(model, test, out, max_new_tokens=max_new_tokens, arm=out.stem, adapters=adapters)
    summary: dict[str, Any] = summarize(rows, {item.id: item.utterance for item in test}) | {
        "most_common_beginning": beginning(rows)
    }
    head = [
        "responses",
        "well-formed",
        "stopped",
        "no loop",
        "same language",
        "median words",
        "same beginning",
    ]
    cells = [
        str(len(rows)),
        *(f"{summary[key]:.1%}" for key in ("ok", "stopped", "no_loop", "language")),
        f"{summary['median_words']:g}",
        f"{summary['most_common_beginning']['share']:.0%} {summary['most_common_beginning']['words']}",
    ]
    if similarity:
        summary["similarity"] = nearness(test, rows)
        head += ["similarity: said", "to responses", "tone clashes"]
        cells += [f"{summary['similarity'][key]:.3f}" for key in ("to_what_was_said", "to_known_responses")]
        cells.append(f"{summary['similarity']['tone_clashes']:.1%}")
    stdout.print(table(out.stem, head, [cells]))
    return summary


def beginning(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The three words that most responses begin with, and their share: a sign of stock phrases."""
    ((words, count),) = Counter(" ".join(row["text"].split()[:3]) for row in rows).most_common(1)
    return {"words": words, "share": round(count / len(rows), 4)}


def nearness(dialogues: list[Dialogue], rows: list[dict[str, Any]]) -> dict[str, float]:
    """Mean cosine similarity, in meaning, to the utterance and to the responses that are known for the dialogue.

    `tone_clashes` is the share that consoles where the known responses congratulate, or the other way round.
    """
    import numpy as np

    from empathy_edge.text.embeddings import embed

    answers = embed([row["text"] or "…" for row in rows])
    said = embed([dialogue.utterance for dialogue in dialogues])
    known = [
        embed([response.text for response in dialogue.responses]) if dialogue.responses else None
        for dialogue in dialogues
    ]
    near = [
        float((vectors @ answer).mean())
        for vectors, answer in zip(known, answers, strict=True)
        if vectors is not None
    ]
    clashing = sum(
        clashes(row["text"], [response.text for response in dialogue.responses])
        for dialogue, row in zip(dialogues, rows, strict=True)
    )
    return {
        "to_what_was_said": round(float((answers * said).sum(axis=1).mean()), 4),
        "to_known_responses": round(float(np.mean(near)), 4) if near else float("nan"),
        "tone_clashes": round(clashing / len(rows), 4),
    }
