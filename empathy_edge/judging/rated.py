"""Responses that people rated 1–3: read from the papers' CSVs, checked, and balanced as in the paper.

The paper is *Scoring with Large Language Models* (arXiv 2412.20264); its data are those of Welivita and Pu
(arXiv 2403.05572).
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from empathy_edge.errors import EmpathyEdgeError, no_such_file, require_extra
from empathy_edge.formats.dialogue import read_dialogues
from empathy_edge.text.near_duplicates import leaked_ids

if TYPE_CHECKING:
    import pandas as pd

MITI_CODES = (
    "Closed Question",
    "Open Question",
    "Simple Reflection",
    "Complex Reflection",
    "Give Information",
    "Advise with Permission",
    "Advise without Permission",
    "Affirm",
    "Emphasize Autonomy",
    "Confront",
    "Direct",
    "Support",
    "Warn",
    "Self-Disclose",
    "Other",
)
"""The behaviour codes of Motivational Interviewing Treatment Integrity that the responses were coded with."""

PAPER_SOURCES = ("human", "chatgpt", "chatgpt_empathy")
PAPER_SEED = 42
PAPER_SHA256 = "310b08fb5ddc"
"""The beginning of the sha256 of the paper's balanced set, written as CSV."""

PROMPT_COLUMNS = ["dialog_id", "situation", "speaker_uttr"]


class Prompt(Protocol):
    """Something that was responded to: a dialogue, or a judge's pair."""

    @property
    def situation(self) -> str: ...
    @property
    def utterance(self) -> str: ...


def read_rated(path: Path) -> pd.DataFrame:
    """Every rated response of a CSV with the columns response_X and rating_X for some sources X.

    Returns:
        One row for each response: dialog_id, situation, speaker_uttr, response, rating (1–3), miti (the codes
        as the file has them, or missing), type (the source); in the order of dialogues, then of sources.

    Raises:
        EmpathyEdgeError: the file is missing, or a column or a rating is wrong; names it.
    """
    require_extra("pandas", "score", "Scoring")
    import pandas as pd

    if not path.is_file():
        raise no_such_file(path, "Give a CSV of rated responses.")
    try:
        table = pd.read_csv(path, dtype={"dialog_id": str})
    except (ValueError, UnicodeDecodeError) as error:
        raise EmpathyEdgeError(f"{path}: not readable as CSV ({str(error).splitlines()[0]}).") from None
    sources = _sources_in(path, table)
    parts = [_rows_of_source(path, table, source) for source in sources]
    return pd.concat(parts).sort_index(kind="stable")


def _sources_in(path: Path, table: pd.DataFrame) -> list[str]:
    """The sources that have both a response and a rating."""
    sources = []
    for column in table.columns:
        source = column.removeprefix("rating_")
        if source != column and f"response_{source}" in table.columns:
            sources.append(source)
    missing = [name for name in PROMPT_COLUMNS if name not in table.columns]
    if missing or not sources:
        wanted = missing or ["response_X and rating_X for a source X"]
        raise EmpathyEdgeError(f"{path}: has no column {', '.join(wanted)}.")
    return sources


def _rows_of_source(path: Path, table: pd.DataFrame, source: str) -> pd.DataFrame:
    """One source's responses, under the names that `read_rated` gives the columns."""
    names = {f"response_{source}": "response", f"rating_{source}": "rating"}
    if f"miti_{source}" in table.columns:
        names[f"miti_{source}"] = "miti"
    part = table[[*PROMPT_COLUMNS, *names]].rename(columns=names)
    part["type"] = source
    part = part[part["rating"].notna()]  # an unrated response is no error: others need it
    wrong = part.index[~part["rating"].isin((1, 2, 3)) | part["response"].isna()]
    if len(wrong):
        raise EmpathyEdgeError(
            f"{path}: row {wrong[0] + 2}: rating_{source} and response_{source} must be 1, 2 or 3 and a text "
            f"({len(wrong)} such rows)."
        )
    return part


def rows_to_score(prompts: Sequence[Prompt], responses: Sequence[str]) -> pd.DataFrame:
    """What a scorer takes, a row for each response: the columns situation, speaker_uttr, response."""
    import pandas as pd

    return pd.DataFrame(
        {
            "situation": [item.situation for item in prompts],
            "speaker_uttr": [item.utterance for item in prompts],
            "response": list(responses),
        }
    )


def balanced(rated: pd.DataFrame) -> pd.DataFrame:
    """As many responses rated 1, 2 and 3, drawn as the paper did; of the paper's data, its own set."""
    import pandas as pd
    from sklearn.utils import resample

    if set(PAPER_SOURCES) <= set(rated["type"]):
        rated = rated[rated["type"].isin(PAPER_SOURCES)]
    smallest = int(rated["rating"].value_counts().min())
    drawn = []
    for rating in (1, 2, 3):
        part = rated[rated["rating"] == rating]
        if len(part) > smallest:
            part = resample(part, replace=False, n_samples=smallest, random_state=PAPER_SEED)
        drawn.append(part)
    chosen = pd.concat(drawn).sample(frac=1, random_state=PAPER_SEED).reset_index(drop=True)
    chosen["unified_dialog_id"] = chosen["dialog_id"] + "_type:" + chosen["type"]
    return chosen


def leave_out(chosen: pd.DataFrame, dialogues: Path) -> tuple[np.ndarray, np.ndarray]:
    """Places of the rows to train on, and of the rows to leave out.

    A row is left out if its dialogue is in the file `dialogues`, by id or by nearly the same words.

    Raises:
        EmpathyEdgeError: nothing would be left out, or everything.
    """
    test = [(item.id, item.utterance) for item in read_dialogues(dialogues)]
    rows = zip(chosen["dialog_id"], chosen["speaker_uttr"], strict=True)
    is_out = chosen["dialog_id"].isin(set(leaked_ids(rows, test)))
    if not is_out.any():
        raise EmpathyEdgeError(
            f"{dialogues}: none of the rated responses is to one of its {len(test)} dialogues; "
            "leave out --leave-out."
        )
    if is_out.all():
        raise EmpathyEdgeError(
            f"{dialogues}: has the dialogues of all {len(chosen)} rated responses; none is left to train on."
        )
    return np.flatnonzero(~is_out), np.flatnonzero(is_out)


def is_the_papers(chosen: pd.DataFrame) -> bool:
    """Whether this is the paper's balanced set, byte for byte."""
    return hashlib.sha256(chosen.to_csv(index=False).encode()).hexdigest().startswith(PAPER_SHA256)


def codes_of(chosen: pd.DataFrame) -> list[list[str]]:
    """The MITI codes of each response.

    Raises:
        EmpathyEdgeError: the data have no codes, or unknown ones.
    """
    if "miti" not in chosen.columns or chosen["miti"].isna().any():
        raise EmpathyEdgeError("These responses have no MITI codes (columns miti_X).")
    codes = [ast.literal_eval(text) for text in chosen["miti"]]
    unknown = set[str]().union(*codes) - set(MITI_CODES)
    if unknown:
        raise EmpathyEdgeError(f"No MITI code: {', '.join(sorted(unknown))}.")
    return codes


def same_codes(rated: pd.DataFrame) -> list[tuple[str, str]]:
    """Sources whose MITI codes are the same in every row though their texts are not: one column is a copy."""
    if "miti" not in rated.columns:
        return []
    by_source = {source: part.reset_index(drop=True) for source, part in rated.groupby("type", sort=False)}
    found = []
    for one, other in combinations(by_source, 2):
        codes, texts = by_source[one]["miti"], by_source[one]["response"]
        has_same_codes = codes.notna().all() and codes.equals(by_source[other]["miti"])
        if has_same_codes and not texts.equals(by_source[other]["response"]):
            found.append((one, other))
    return found


def faults(rated: pd.DataFrame) -> list[str]:
    """What is wrong in the data, in words."""
    found = []
    for one, other in same_codes(rated):
        texts, others = (
            rated.loc[rated["type"] == name, "response"].reset_index(drop=True) for name in (one, other)
        )
        found.append(
            f"miti_{one} and miti_{other} are identical in all {len(texts)} rows, though only "
            f"{int((texts == others).sum())} texts are: one of the two columns is a copy."
        )
    return found
