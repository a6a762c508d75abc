"""MITI codes for responses, by a tagger trained on coded responses and measured for each code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from empathy_edge.console import out as stdout
from empathy_edge.console import table
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.json_lines import read_jsonl, write_jsonl
from empathy_edge.judging.classifiers import fit
from empathy_edge.judging.evaluation import FOLDS, SEED
from empathy_edge.judging.features import one_hot
from empathy_edge.judging.rated import MITI_CODES, codes_of, read_rated, same_codes

if TYPE_CHECKING:
    import pandas as pd

MIN_EXAMPLES = 40
"""A code with fewer examples is not tagged."""

STRENGTH = 3.0
"""C of the logistic regression: the inverse of the strength of regularization."""

THRESHOLD = 0.5
"""A response has a code from this probability on."""


class CodeQuality(TypedDict):
    """How well a code is found in responses to dialogues that were not trained on.

    `examples`: how many responses have the code. `auc`, `f1`: of the tagger. `f1_of_always`: F1 of giving
    every response the code, as a baseline.
    """

    examples: int
    auc: float
    f1: float
    f1_of_always: float


class TaggedResponse(TypedDict):
    """A response's arm (the file's name) and id, its codes, and the probability of each code."""

    arm: str
    id: str
    codes: list[str]
    probabilities: dict[str, float]


def run(
    *, data: Path, responses: list[Path], out: Path | None
) -> tuple[dict[str, CodeQuality], list[TaggedResponse]]:
    """Train on coded responses, measure each code on dialogues not seen, and tag other responses.

    Where two sources have the same codes in all rows, one column is a copy of the other. The source whose
    texts predict the codes better is kept.

    Args:
        data: a CSV of rated responses with MITI codes.
        responses: files of responses (`id`, `text`) to tag.
        out: a new file for each response's codes, if wanted.

    Returns:
        The quality of each code, and the tagged responses.

    Raises:
        EmpathyEdgeError: the data have no codes, or `out` exists.
    """
    if out is not None and out.exists():
        raise EmpathyEdgeError(f"{out}: exists already; choose another name. Nothing was tagged.")
    rated = read_rated(data).reset_index(drop=True)
    codes_of(rated)
    coded = _without_copies(rated)
    quality = measure(coded)
    tagger = _Tagger(coded, tuple(code for code in MITI_CODES if code in quality))
    tagged: list[TaggedResponse] = []
    for file in responses:
        tagged += _tag(tagger, file)
    _show(quality, tagged, [file.stem for file in responses])
    if out is not None:
        write_jsonl(out, tagged)
    return quality, tagged


def _without_copies(rated: pd.DataFrame) -> pd.DataFrame:
    for one, other in same_codes(rated):
        auc = {name: mean_auc(measure(rated[rated["type"] == name])) for name in (one, other)}
        copy = min(auc, key=lambda name: auc[name])
        stdout.print(
            f"miti_{one} and miti_{other} are the same. Told from the texts, mean AUC {auc[one]:.2f} and "
            f"{auc[other]:.2f}: the codes of {copy} are the copy, and are left out."
        )
        rated = rated[rated["type"] != copy]
    return rated


def measure(rated: pd.DataFrame) -> dict[str, CodeQuality]:
    """The quality of each code with enough examples, on folds grouped by dialogue."""
    from sklearn.model_selection import GroupKFold

    has_code = one_hot(codes_of(rated), MITI_CODES) > 0
    enough = has_code.sum(0) >= MIN_EXAMPLES
    known = tuple(code for code, is_known in zip(MITI_CODES, enough, strict=True) if is_known)
    truth = has_code[:, enough]
    predicted = np.zeros(truth.shape)
    folds = GroupKFold(FOLDS, shuffle=True, random_state=SEED)
    for train, test in folds.split(rated, groups=rated["dialog_id"]):
        tagger = _Tagger(rated.iloc[train], known)
        predicted[test] = tagger.probabilities(rated["response"].iloc[test].tolist())
    return {code: _quality(truth[:, place], predicted[:, place]) for place, code in enumerate(known)}


def _quality(truth: np.ndarray, predicted: np.ndarray) -> CodeQuality:
    """A code's quality from whether each response has it, and its predicted probability, [responses] each."""
    from sklearn.metrics import f1_score, roc_auc_score

    share = truth.mean()
    return {
        "examples": int(truth.sum()),
        "auc": round(float(roc_auc_score(truth, predicted)), 3),
        "f1": round(float(f1_score(truth, predicted >= THRESHOLD)), 3),
        "f1_of_always": round(float(2 * share / (1 + share)), 3),
    }


def mean_auc(quality: dict[str, CodeQuality]) -> float:
    """The mean over the codes."""
    return float(np.mean([item["auc"] for item in quality.values()]))


class _Tagger:
    """A logistic regression for each code, on TF-IDF of words and pairs of words."""

    def __init__(self, rated: pd.DataFrame, codes: tuple[str, ...]) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.multiclass import OneVsRestClassifier

        self.codes = codes
        # A question mark is the best sign of some codes, so it counts as a word.
        self._words = TfidfVectorizer(
            ngram_range=(1, 2), min_df=2, sublinear_tf=True, token_pattern=r"[\w'’]+|[?!]"
        )
        features = self._words.fit_transform(rated["response"])
        self._model: Any = OneVsRestClassifier(
            LogisticRegression(C=STRENGTH, max_iter=500, class_weight="balanced")
        )
        fit(self._model, features, one_hot(codes_of(rated), codes) > 0)

    def probabilities(self, texts: list[str]) -> np.ndarray:
        """The probability of each code, float64 [texts, codes]."""
        return np.asarray(self._model.predict_proba(self._words.transform(texts)))


def _tag(tagger: _Tagger, file: Path) -> list[TaggedResponse]:
    rows = read_jsonl(file)
    tagged: list[TaggedResponse] = []
    for row, chances in zip(rows, tagger.probabilities([row["text"] for row in rows]), strict=True):
        probabilities = dict(zip(tagger.codes, chances, strict=True))
        tagged.append(
            {
                "arm": file.stem,
                "id": row["id"],
                "codes": [code for code, value in probabilities.items() if value >= THRESHOLD],
                "probabilities": {code: round(float(value), 4) for code, value in probabilities.items()},
            }
        )
    return tagged


def _show(quality: dict[str, CodeQuality], tagged: list[TaggedResponse], arms: list[str]) -> None:
    codes_of_arm = {arm: [row["codes"] for row in tagged if row["arm"] == arm] for arm in arms}
    lines = []
    for code, item in quality.items():
        shares = [_share_with(code, codes_of_arm[arm]) for arm in arms]
        f1 = f"{item['f1']:.2f} (always: {item['f1_of_always']:.2f})"
        lines.append([code, f"{item['examples']}", f"{item['auc']:.2f}", f1, *shares])
    stdout.print(table("MITI codes, dialogues not seen", ["code", "examples", "AUC", "F1", *arms], lines))


def _share_with(code: str, responses: list[list[str]]) -> str:
    """The share of responses that have the code."""
    return f"{sum(code in codes for codes in responses) / max(1, len(responses)):.0%}"
