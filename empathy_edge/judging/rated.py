"""Responses that people rated 1–3, one row each: read from the papers' CSVs, balanced as in the paper, faults found.

The paper is *Scoring with Large Language Models* (arXiv 2412.20264); its data are Welivita and Pu's (arXiv 2403.05572).
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from empathy_edge.errors import EmpathyEdgeError, require_extra
from empathy_edge.formats.dialogue import read_dialogues
from empathy_edge.text.near_duplicates import leaked_ids

if TYPE_CHECKING:
    import pandas as pd

MITI_CODES = (
    "Closed Question", "Open Question", "Simple Reflection", "Complex Reflection", "Give Information",
    "Advise with Permission", "Advise without Permission", "Affirm", "Emphasize Autonomy", "Confront", "Direct", "Support",
    "Warn", "Self-Disclose", "Other",
)  # fmt: skip
"""The behaviour codes of Motivational Interviewing Treatment Integrity that the responses were coded with."""

PAPER_SOURCES = ("human", "chatgpt", "chatgpt_empathy")
PAPER_SHA256 = "310b08fb5ddc"
"""The beginning of the sha256 of the paper's balanced set, written as CSV."""


class Said(Protocol):
    """Something that was answered: a dialogue, or a judge's pair."""

    @property
    def situation(self) -> str: ...
    @property
    def utterance(self) -> str: ...


SPOKEN = ["dialog_id", "situation", "speaker_uttr"]


def read_rated(path: Path) -> pd.DataFrame:
    """Every rated response of a CSV with the columns response_X and rating_X for some sources X.

    Returns:
        One row a response: dialog_id, situation, speaker_uttr, response, rating (1–3), miti (the codes as the file has
        them, or missing), type (the source); in the order of dialogues, then of sources.

    Raises:
        EmpathyEdgeError: the file is missing, or a column or a rating is wrong; names it.
    """
    require_extra("sklearn", "score", "Scoring")
    import pandas as pd

    if not path.is_file():
        raise EmpathyEdgeError(f"{path}: no such file. Give a CSV of rated responses.")
    try:
        table = pd.read_csv(path)
    except (ValueError, UnicodeDecodeError) as error:
        raise EmpathyEdgeError(f"{path}: not readable as CSV ({str(error).splitlines()[0]}).") from None
    sources = [name.removeprefix("rating_") for name in table.columns if name.startswith("rating_")]
    sources = [name for name in sources if f"response_{name}" in table.columns]
    missing = [name for name in SPOKEN if name not in table.columns]
    if missing or not sources:
        wanted = missing or ["response_X and rating_X for a source X"]
        raise EmpathyEdgeError(f"{path}: has no column {', '.join(wanted)}.")
    parts = []
    for source in sources:
        columns = [*SPOKEN, f"response_{source}", f"rating_{source}"]
        coded = f"miti_{source}" in table.columns
        part = table[[*columns, f"miti_{source}"] if coded else columns].copy()
        part.columns = pd.Index([*SPOKEN, "response", "rating", *(["miti"] if coded else [])])
        part["type"] = source
        wrong = part.index[~part["rating"].isin((1, 2, 3)) | part["response"].isna()]
        if len(wrong):
            raise EmpathyEdgeError(
                f"{path}: row {wrong[0] + 2}: rating_{source} and response_{source} must be 1, 2 or 3 and a text "
                f"({len(wrong)} such rows)."
            )
        parts.append(part)
    return pd.concat(parts).sort_index(kind="stable")


def rows_to_score(said: Sequence[Said], responses: Sequence[str]) -> pd.DataFrame:
    """What a scorer takes: situation, speaker_uttr, response; a row for each response and what it answers."""
    import pandas as pd

    columns = {
        "situation": [item.situation for item in said],
        "speaker_uttr": [item.utterance for item in said],
    }
    return pd.DataFrame({**columns, "response": list(responses)})


def balanced(rated: pd.DataFrame) -> pd.DataFrame:
    """As many responses rated 1, 2 and 3, drawn as the paper drew them; the paper's own set, from the paper's data."""
    import pandas as pd
    from sklearn.utils import resample

    rated = rated[rated["type"].isin(PAPER_SOURCES)] if set(PAPER_SOURCES) <= set(rated["type"]) else rated
    fewest = int(rated["rating"].value_counts().min())
    drawn = [
        part
        if len(part := rated[rated["rating"] == rating]) == fewest
        else resample(part, replace=False, n_samples=fewest, random_state=42)
        for rating in (1, 2, 3)
    ]
    chosen = pd.concat(drawn).sample(frac=1, random_state=42).reset_index(drop=True)
    chosen["unified_dialog_id"] = chosen["dialog_id"] + "_type:" + chosen["type"]
    return chosen


def leave_out(chosen: pd.DataFrame, dialogues: Path) -> tuple[np.ndarray, np.ndarray]:
    """Places of the rows to train on, and of those whose dialogue, or nearly the same words, is in the file `dialogues`.

    Raises:
        EmpathyEdgeError: nothing would be left out, or nothing left.
    """
    test = [(item.id, item.utterance) for item in read_dialogues(dialogues)]
    out = chosen["dialog_id"].isin(
        set(leaked_ids(zip(chosen["dialog_id"], chosen["speaker_uttr"], strict=True), test))
    )
    if not out.any():
        raise EmpathyEdgeError(
            f"{dialogues}: none of the rated responses is to one of its {len(test)} dialogues; leave --leave-out away."
        )
    if out.all():
        raise EmpathyEdgeError(
            f"{dialogues}: has the dialogues of all {len(chosen)} rated responses; none is left to train on."
        )
    return np.flatnonzero(~out), np.flatnonzero(out)


def is_the_papers(chosen: pd.DataFrame) -> bool:
    """Whether this is the paper's balanced set, byte for byte."""
    return hashlib.sha256(chosen.to_csv(index=False).encode()).hexdigest().startswith(PAPER_SHA256)


def codes_of(chosen: pd.DataFrame) -> list[list[str]]:
    """The MITI codes of each response.

    Raises:
        EmpathyEdgeError: the data are not coded, or with codes that are none.
    """
    if "miti" not in chosen.columns or chosen["miti"].isna().any():
        raise EmpathyEdgeError("These responses have no MITI codes (columns miti_X).")
    codes = [ast.literal_eval(text) for text in chosen["miti"]]
    unknown = {code for row in codes for code in row} - set(MITI_CODES)
    if unknown:
        raise EmpathyEdgeError(f"No MITI code: {', '.join(sorted(unknown))}.")
    return codes


def same_codes(rated: pd.DataFrame) -> list[tuple[str, str]]:
    """Sources whose MITI codes are the same in every row though their texts are not: one of the two columns is a copy."""
    if "miti" not in rated.columns:
        return []
    by_source = {source: part.reset_index(drop=True) for source, part in rated.groupby("type", sort=False)}
    return [
        (one, other)
        for one, other in combinations(by_source, 2)
        if by_source[one]["miti"].notna().all()
        and by_source[one]["miti"].equals(by_source[other]["miti"])
        and not by_source[one]["response"].equals(by_source[other]["response"])
    ]


def faults(rated: pd.DataFrame) -> list[str]:
    """What is wrong upstream, in words."""
    found = []
    for one, other in same_codes(rated):
        texts = [rated.loc[rated["type"] == name, "response"].reset_index(drop=True) for name in (one, other)]
        found.append(
            f"miti_{one} and miti_{other} are identical in all {len(texts[0])} rows, though only "
            f"{int((texts[0] == texts[1]).sum())} texts are: one of the two columns is a copy."
        )
    return found
