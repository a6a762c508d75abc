"""MITI codes for text that has none, by a tagger trained on the coded responses, with its measured quality for each code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from empathy_edge.console import out as stdout
from empathy_edge.console import table
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.dialogue import read_jsonl, write_jsonl
from empathy_edge.judging.rated import MITI_CODES, codes_of, read_rated, same_codes
from empathy_edge.judging.study import FOLDS, SEED

if TYPE_CHECKING:
    import pandas as pd

FEWEST = 40
"""A code with fewer examples is not tagged."""

STRENGTH = 3.0


def run(*, data: Path, responses: list[Path], out: Path | None) -> dict[str, Any]:
    """Train on the coded responses of `data`, measure each code on dialogues not seen, and tag `responses` (id, text).

    Where two sources have the same codes in all rows, one column is a copy; the source whose texts tell the codes better is kept.

    Raises:
        EmpathyEdgeError: the data have no codes, or `out` exists.
    """
    if out is not None and out.exists():
        raise EmpathyEdgeError(f"{out}: exists already; choose another name. Nothing was tagged.")
    rated = read_rated(data).reset_index(drop=True)
    codes_of(rated)
    kept = _without_copies(rated)
    quality = measure(kept)
    rows = []
    known = [code for code in MITI_CODES if code in quality]
    models = _train(kept, known)
    for file in responses:
        texts = read_jsonl(file)
        chances = _predict(models, [row["text"] for row in texts])
        rows += [
            {
                "arm": file.stem,
                "id": row["id"],
                "codes": [code for code, value in zip(known, chance, strict=True) if value >= 0.5],
                "probabilities": {
                    code: round(float(value), 4) for code, value in zip(known, chance, strict=True)
                },
            }
            for row, chance in zip(texts, chances, strict=True)
        ]
    _show(quality, rows, responses)
    if out is not None:
        write_jsonl(out, rows)
    return {"quality": quality, "rows": rows}


def _without_copies(rated: pd.DataFrame) -> pd.DataFrame:
    for one, other in same_codes(rated):
        fits = {name: mean_auc(measure(rated[rated["type"] == name])) for name in (one, other)}
        copy = min(fits, key=lambda name: fits[name])
        stdout.print(
            f"miti_{one} and miti_{other} are the same. Told from the texts, mean AUC {fits[one]:.2f} and {fits[other]:.2f}: "
            f"the codes of {copy} are the copy, and are left out."
        )
        rated = rated[rated["type"] != copy]
    return rated


def measure(rated: pd.DataFrame) -> dict[str, dict[str, float]]:
    """For each code with enough examples: how many, AUC and F1 on folds grouped by dialogue."""
    from sklearn.metrics import f1_score, roc_auc_score
    from sklearn.model_selection import GroupKFold

    given = [set(codes) for codes in codes_of(rated)]
    known = [code for code in MITI_CODES if sum(code in codes for codes in given) >= FEWEST]
    truth = np.array([[code in codes for code in known] for codes in given])
    found = np.zeros(truth.shape)
    folds = GroupKFold(FOLDS, shuffle=True, random_state=SEED)
    for train, test in folds.split(rated, groups=rated["dialog_id"]):
        models = _train(rated.iloc[train], known)
        found[test] = _predict(models, rated["response"].iloc[test].tolist())
    return {
        code: {
            "examples": int(truth[:, place].sum()),
            "auc": round(float(roc_auc_score(truth[:, place], found[:, place])), 3),
            "f1": round(float(f1_score(truth[:, place], found[:, place] >= 0.5)), 3),
            "f1_of_always": round(float(2 * truth[:, place].mean() / (1 + truth[:, place].mean())), 3),
        }
        for place, code in enumerate(known)
    }


def mean_auc(quality: dict[str, dict[str, float]]) -> float:
    """The mean over the codes."""
    return float(np.mean([item["auc"] for item in quality.values()]))


def _train(rated: pd.DataFrame, known: list[str]) -> tuple[Any, Any]:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    # A question mark is a code's best sign, so that it counts as a word.
    words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, token_pattern=r"[\w'’]+|[?!]")
    features = words.fit_transform(rated["response"])
    labels = np.array([[code in codes for code in known] for codes in codes_of(rated)])
    model = OneVsRestClassifier(LogisticRegression(C=STRENGTH, max_iter=500, class_weight="balanced"))
    return words, model.fit(features, labels)


def _predict(models: tuple[Any, Any], texts: list[str]) -> np.ndarray:
    """The probability of each code, float64 [texts, codes]."""
    words, model = models
    return np.asarray(model.predict_proba(words.transform(texts)))


def _show(quality: dict[str, dict[str, float]], rows: list[dict[str, Any]], responses: list[Path]) -> None:
    arms = [file.stem for file in responses]
    lines = []
    for code, item in quality.items():
        shares = []
        for arm in arms:
            mine = [row for row in rows if row["arm"] == arm]
            shares.append(f"{sum(code in row['codes'] for row in mine) / max(1, len(mine)):.0%}")
        lines.append(
            [
                code,
                f"{item['examples']}",
                f"{item['auc']:.2f}",
                f"{item['f1']:.2f} (always: {item['f1_of_always']:.2f})",
                *shares,
            ]
        )
    stdout.print(table("MITI codes, dialogues not seen", ["code", "examples", "AUC", "F1", *arms], lines))
