"""How far raters agree beyond chance: people who filled in sheets, or several judges of the same pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from empathy_edge.errors import require_extra


def agreement(raters: Mapping[str, Mapping[str, float]], levels: Sequence[float]) -> dict[str, Any]:
    """Kappa (Cohen 1968, quadratic weights) for each two raters, and Krippendorff's alpha (ordinal) of all.

    Args:
        raters: rater → pair → one of `levels`; a pair that a rater left out is left out of what needs it.
        levels: what can be said, in order.

    Returns:
        `kappa`: a row `between`, `kappa`, `pairs` for each two raters with a pair in common; `alpha`. Both are None where all said
        the same thing, of which chance makes nothing.
    """
    if len(raters) < 2:
        return {"kappa": [], "alpha": None}
    require_extra("krippendorff", "judge", "The agreement of raters")
    import krippendorff
    import numpy as np
    from sklearn.metrics import cohen_kappa_score

    place = {level: number for number, level in enumerate(levels)}
    kappas = []
    for one, other in combinations(raters, 2):
        both = sorted(set(raters[one]) & set(raters[other]))
        values = [[place[raters[name][key]] for key in both] for name in (one, other)]
        if not both:
            continue
        varied = len({value for row in values for value in row}) > 1
        kappa = (
            cohen_kappa_score(*values, weights="quadratic", labels=list(place.values())) if varied else None
        )
        kappas.append(
            {
                "between": [one, other],
                "kappa": None if kappa is None else round(float(kappa), 4),
                "pairs": len(both),
            }
        )
    keys = sorted({key for given in raters.values() for key in given})
    ratings = np.array(
        [[place[given[key]] if key in given else np.nan for key in keys] for given in raters.values()]
    )
    varied = len(np.unique(ratings[~np.isnan(ratings)])) > 1
    alpha = krippendorff.alpha(reliability_data=ratings, level_of_measurement="ordinal") if varied else None
    return {"kappa": kappas, "alpha": None if alpha is None else round(float(alpha), 4)}


def describe(found: Mapping[str, Any]) -> str:
    """`agreement` in one line."""
    kappas = (
        f"{row['between'][0]} ~ {row['between'][1]} {'–' if row['kappa'] is None else format(row['kappa'], '.2f')} (n={row['pairs']})"
        for row in found["kappa"]
    )
    alpha = "–" if found["alpha"] is None else f"{found['alpha']:.2f}"
    return f"Krippendorff's alpha {alpha}; weighted kappa {', '.join(kappas)}"
