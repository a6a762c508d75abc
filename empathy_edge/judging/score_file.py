"""`empathy-edge score rate`: responses of an arm in, a score with its reasons for each out."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from empathy_edge.console import out as stdout
from empathy_edge.console import say, table, tell
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.dialogue import read_dialogues, read_jsonl, write_jsonl
from empathy_edge.judging.open_scorer import open_scorer
from empathy_edge.judging.rated import rows_to_score
from empathy_edge.judging.scorer_figures import describe, expected, reason


def rate(responses: tuple[Path, ...], dialogues: Path, scorer: Path, out: Path | None) -> None:
    """Score each file of responses (`id`, `text`), and show each arm's mean with its interval over prompts.

    Raises:
        EmpathyEdgeError: a row without its dialogue, or `out` exists.
    """
    if out is not None and out.exists():
        raise EmpathyEdgeError(f"{out}: exists already; choose another name. Nothing was scored.")
    judge = open_scorer(scorer)
    spoken = {item.id: item for item in read_dialogues(dialogues)}
    lines, records = [], []
    for file in responses:
        rows = read_jsonl(file)
        for number, row in enumerate(rows, 1):
            if row.get("id") not in spoken:
                raise EmpathyEdgeError(f"{file}: row {number}: no dialogue '{row.get('id')}' in {dialogues}.")
        said = [spoken[row["id"]] for row in rows]
        chances, moves = judge.score(rows_to_score(said, [row["text"] for row in rows]))
        scores = expected(chances)
        records += [
            {
                "arm": file.stem,
                "id": row["id"],
                "score": round(float(score), 4),
                "probabilities": [round(float(value), 4) for value in chance],
                "why": why,
            }
            for row, score, chance, why in zip(rows, scores, chances, moves, strict=True)
        ]
        drawn = scores[np.random.default_rng(0).integers(0, len(scores), (2000, len(scores)))].mean(1)
        low, high = np.percentile(drawn, [2.5, 97.5])
        best, worst = int(scores.argmax()), int(scores.argmin())
        lines.append([file.stem, str(len(rows)), f"{scores.mean():.3f} [{low:.3f}, {high:.3f}]"])
        for word, place in (("best", best), ("worst", worst)):
            say(
                f"{file.stem}, {word} ({scores[place]:.2f}): {rows[place]['text']}\n    {reason(moves[place])}"
            )
    stdout.print(table("Expected rating, 1 to 3", ["arm", "responses", "mean [95 %]"], lines))
    tell(f"The scorer's own figures: {describe(judge.figures)}.")
    if out is not None:
        write_jsonl(out, records)
