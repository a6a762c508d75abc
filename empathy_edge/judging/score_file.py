"""`empathy-edge score rate`: rate the responses in files, and say why each got its score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from empathy_edge.console import out as stdout
from empathy_edge.console import say, table, tell
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.dialogue import Dialogue, read_dialogues
from empathy_edge.formats.json_lines import write_jsonl
from empathy_edge.judging.base_scorer import Reasons, describe, describe_reasons, expected_rating
from empathy_edge.judging.open_scorer import open_scorer
from empathy_edge.judging.rated import rows_to_score
from empathy_edge.judging.response_pairs import read_responses
from empathy_edge.judging.statistics import bootstrap

RESAMPLES, SEED = 2000, 0
MIN_PROMPTS = 20
"""With fewer prompts the bootstrap's interval is clearly too narrow."""


def rate(responses: tuple[Path, ...], dialogues: Path, scorer_file: Path, out: Path | None) -> None:
    """Score each file of responses (`id`, `text`), and show each file's mean with its interval over prompts.

    Args:
        responses: files; each is one arm.
        dialogues: what was responded to.
        scorer_file: what `score train` or `score tune` wrote.
        out: a new file for every score with its reasons, if wanted.

    Raises:
        EmpathyEdgeError: a row without its dialogue, or `out` exists.
    """
    if out is not None and out.exists():
        raise EmpathyEdgeError(f"{out}: exists already; choose another name. Nothing was scored.")
    scorer = open_scorer(scorer_file)
    by_id = {item.id: item for item in read_dialogues(dialogues)}
    lines, records = [], []
    for file in responses:
        rows = list(read_responses(file).values())
        answered = _dialogues_of(rows, by_id, file, dialogues)
        probabilities, reasons = scorer.score(rows_to_score(answered, [row["text"] for row in rows]))
        scores = expected_rating(probabilities)
        lines.append([file.stem, str(len(rows)), _mean_rating(scores)])
        _show_extremes(file.stem, rows, scores, reasons)
        for row, score, chances, why in zip(rows, scores, probabilities, reasons, strict=True):
            records.append(
                {
                    "arm": file.stem,
                    "id": row["id"],
                    "score": round(float(score), 4),
                    "probabilities": [round(float(value), 4) for value in chances],
                    "why": why,
                }
            )
    stdout.print(table("Expected rating, 1 to 3", ["arm", "responses", "mean [95 %]"], lines))
    tell(f"The scorer's own figures: {describe(scorer.figures)}.")
    if out is not None:
        write_jsonl(out, records)


def _mean_rating(scores: np.ndarray) -> str:
    """The mean with its interval over prompts, which needs some prompts."""
    if len(scores) < MIN_PROMPTS:
        return f"{scores.mean():.3f} (too few for an interval)"
    mean = bootstrap(scores, resamples=RESAMPLES, seed=SEED)
    return f"{mean.mean:.3f} [{mean.low:.3f}, {mean.high:.3f}]"


def _dialogues_of(
    rows: list[dict[str, Any]], by_id: dict[str, Dialogue], file: Path, dialogues: Path
) -> list[Dialogue]:
    """The dialogue of each row."""
    for number, row in enumerate(rows, 1):
        if row.get("id") not in by_id:
            raise EmpathyEdgeError(f"{file}: row {number}: no dialogue '{row.get('id')}' in {dialogues}.")
    return [by_id[row["id"]] for row in rows]


def _show_extremes(arm: str, rows: list[dict[str, Any]], scores: np.ndarray, reasons: list[Reasons]) -> None:
    for word, place in (("best", int(scores.argmax())), ("worst", int(scores.argmin()))):
        say(
            f"{arm}, {word} ({scores[place]:.2f}): {rows[place]['text']}\n"
            f"    {describe_reasons(reasons[place])}"
        )
