"""The command `respond`: one arm's responses to the test split, and what can be measured without a judge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.markup import escape

from empathy_edge.bench.release.responses import ResponseRow, respond
from empathy_edge.bench.release.results import FormatFigures
from empathy_edge.console import out as stdout
from empathy_edge.console import say, table
from empathy_edge.formats.dialogue import Dialogue, read_dialogues
from empathy_edge.judging.format_checks import summarize
from empathy_edge.text.tone import clashes

BEGINNING_WORDS = 3
"""How many words make a beginning."""


@dataclass(frozen=True)
class Beginning:
    """The words that most responses begin with, and how many do (a share): a sign of stock phrases."""

    words: str
    share: float


@dataclass(frozen=True)
class Similarity:
    """How near the responses come in meaning; cosines are between −1 and 1.

    Attributes:
        to_utterance: the mean cosine similarity to what the person said.
        to_known_responses: to the responses that are known for the dialogue, in the mean; NaN where none is.
        tone_clashes: the share of responses that console where the known ones congratulate, or the other way
            round.
    """

    to_utterance: float
    to_known_responses: float
    tone_clashes: float


@dataclass(frozen=True)
class ArmFigures:
    """What is shown of an arm's responses; `similarity` is None where it was not asked for."""

    format: FormatFigures
    beginning: Beginning
    similarity: Similarity | None


def run(
    model: str,
    adapters: list[Path],
    dialogues: Path,
    out: Path,
    max_prompts: int | None,
    max_new_tokens: int,
    similarity: bool,
) -> ArmFigures:
    """Answer the test dialogues of a file with `model`, or a checkpoint and its adapters; prints the figures.

    Of a file without a test split every dialogue is answered.

    Args:
        model: what `open_runtime` takes.
        adapters: added to `model`, a checkpoint.
        dialogues: the file.
        out: the JSONL of responses; one that was cut off is continued.
        max_prompts: only so many of the first dialogues.
        max_new_tokens: the maximum length of a response.
        similarity: also measure how near in meaning the responses come.
    """
    test = _to_answer(dialogues)[:max_prompts]
    rows = respond(model, test, out, max_new_tokens=max_new_tokens, arm=out.stem, adapters=adapters)
    figures = ArmFigures(
        format=FormatFigures.model_validate(summarize(rows, {item.id: item.utterance for item in test})),
        beginning=most_common_beginning(rows),
        similarity=similarity_of(test, rows) if similarity else None,
    )
    show(out.stem, figures)
    return figures


def _to_answer(data: Path) -> list[Dialogue]:
    """The test split, or all dialogues where there is none."""
    dialogues = read_dialogues(data)
    test = [item for item in dialogues if item.split == "test"]
    if not test:
        say(f"  {escape(str(data))}: no test split; all {len(dialogues)} dialogues are answered.")
    return test or dialogues


def show(arm: str, figures: ArmFigures) -> None:
    """Print the figures as a table of one row."""
    form = figures.format
    cells = {
        "responses": str(form.responses),
        "well-formed": f"{form.ok:.1%}",
        "stopped": f"{form.stopped:.1%}",
        "no loop": f"{form.no_loop:.1%}",
        "same language": f"{form.language:.1%}",
        "median words": f"{form.median_words:g}",
        "same beginning": f"{figures.beginning.share:.0%} {figures.beginning.words}",
    }
    if figures.similarity is not None:
        cells |= {
            "similarity: said": f"{figures.similarity.to_utterance:.3f}",
            "to responses": f"{figures.similarity.to_known_responses:.3f}",
            "tone clashes": f"{figures.similarity.tone_clashes:.1%}",
        }
    stdout.print(table(arm, list(cells), [list(cells.values())]))


def most_common_beginning(rows: Sequence[ResponseRow]) -> Beginning:
    """The words that most responses begin with, and their share."""
    beginnings = Counter(" ".join(row["text"].split()[:BEGINNING_WORDS]) for row in rows)
    ((words, count),) = beginnings.most_common(1)
    return Beginning(words, round(count / len(rows), 4))


def similarity_of(dialogues: list[Dialogue], rows: Sequence[ResponseRow]) -> Similarity:
    """How near the responses come to the utterances and to the known responses, by sentence embeddings."""
    from empathy_edge.text.embeddings import embed

    answers = embed([row["text"] or "…" for row in rows])
    utterances = embed([dialogue.utterance for dialogue in dialogues])
    to_known = []
    clashing = 0
    for dialogue, row, answer in zip(dialogues, rows, answers, strict=True):
        known = [response.text for response in dialogue.responses]
        if known:
            to_known.append(float((embed(known) @ answer).mean()))
        clashing += clashes(row["text"], known)
    return Similarity(
        to_utterance=round(float((answers * utterances).sum(axis=1).mean()), 4),
        to_known_responses=round(float(np.mean(to_known)), 4) if to_known else float("nan"),
        tone_clashes=round(clashing / len(rows), 4),
    )
