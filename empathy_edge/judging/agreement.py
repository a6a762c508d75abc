"""How far raters agree beyond chance: people who filled in sheets, or several judges of the same pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TypedDict

import numpy as np

from empathy_edge.errors import require_extra

Ratings = Mapping[str, float]
"""What was rated (a pair or a reply) → the rating."""


class Kappa(TypedDict):
    """Two raters' weighted kappa, over the `pairs` that both rated; None where all ratings are the same."""

    between: list[str]
    kappa: float | None
    pairs: int


class Agreement(TypedDict):
    """`kappa` of each two raters who rated something in common, and Krippendorff's `alpha` of all raters."""

    kappa: list[Kappa]
    alpha: float | None


def agreement(raters: Mapping[str, Ratings], levels: Sequence[float]) -> Agreement:
    """Kappa (Cohen 1968, quadratic weights) of each two raters, and Krippendorff's alpha (ordinal) of all.

    Where every rating is the same, agreement beyond chance is not defined, and the figure is None.

    Args:
        raters: rater → ratings, each one of `levels`. What a rater left out is left out of what needs it.
        levels: the possible ratings, in order.
    """
    if len(raters) < 2:
        return {"kappa": [], "alpha": None}
    require_extra("krippendorff", "judge", "The agreement of raters")
    place_of = {level: place for place, level in enumerate(levels)}
    places: dict[str, dict[str, int]] = {}
    for name, ratings in raters.items():
        places[name] = {key: place_of[rating] for key, rating in ratings.items()}
    kappas = []
    for one, other in combinations(raters, 2):
        kappa = _kappa(one, other, places, len(levels))
        if kappa["pairs"]:
            kappas.append(kappa)
    return {"kappa": kappas, "alpha": _alpha(places)}


def _kappa(one: str, other: str, places: Mapping[str, Mapping[str, int]], levels: int) -> Kappa:
    from sklearn.metrics import cohen_kappa_score

    both = sorted(set(places[one]) & set(places[other]))
    first = [places[one][key] for key in both]
    second = [places[other][key] for key in both]
    kappa = None
    if len({*first, *second}) > 1:
        kappa = cohen_kappa_score(first, second, weights="quadratic", labels=list(range(levels)))
    return {
        "between": [one, other],
        "kappa": None if kappa is None else round(float(kappa), 4),
        "pairs": len(both),
    }


def _alpha(places: Mapping[str, Mapping[str, int]]) -> float | None:
    import krippendorff

    keys = sorted(set[str]().union(*places.values()))
    table = np.full((len(places), len(keys)), np.nan)  # [raters, rated]
    for row, given in enumerate(places.values()):
        table[row] = [given.get(key, np.nan) for key in keys]
    if len(np.unique(table[~np.isnan(table)])) < 2:
        return None
    return round(float(krippendorff.alpha(reliability_data=table, level_of_measurement="ordinal")), 4)


def describe(found: Agreement) -> str:
    """`agreement` in one line."""
    kappas = []
    for row in found["kappa"]:
        one, other = row["between"]
        kappas.append(f"{one} ~ {other} {_two_decimals(row['kappa'])} (n={row['pairs']})")
    return f"Krippendorff's alpha {_two_decimals(found['alpha'])}; weighted kappa {', '.join(kappas)}"


def _two_decimals(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
