"""The figures of one comparison on one question: the win rate, and what may have biased it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TypedDict

import numpy as np

from empathy_edge.judging.format_checks import well_formed
from empathy_edge.judging.length_adjusted import LengthFigures, ShareInterval, length_figures
from empathy_edge.judging.response_pairs import ResponsePairs, words_ahead_of
from empathy_edge.judging.statistics import mean_points, score_interval, sign_flip_test
from empathy_edge.judging.verdicts import POINTS

SEED = 0
WORST = 10
"""How many of the prompts that the first arm lost are listed."""

DECIDED = ("first", "second")


class PromptVerdicts(TypedDict):
    """One prompt's verdicts in both orders, both as of the first order: `first` is the first arm.

    `mirrored`: for each order, whether the judge was not asked in it and its other verdict was turned round.
    """

    id: str
    verdicts: list[str]
    mirrored: list[bool]


class ComparisonFigures(LengthFigures):
    """What one judge says about two arms.

    `win_rate`: the first arm's mean points with intervals over prompts; answers that could not be read count
    half. `win_rate_if_unparsed_lost`, `…_won`: bounds, where those answers count as lost or won. `unparsed`:
    the share of such answers. `wins`, `losses`, `ties`: prompts, by their points over both orders.
    `p_against_half`: of a win rate of one half (sign-flip test over prompts). `win_rate_well_formed`: of
    prompts where both responses are well-formed. `first_position_wins`: how often the response shown first
    won, of decided verdicts. `order_flips`: the share of prompts on which the verdict changed with the order;
    None: asked in one order only. The others are those of `LengthFigures`.
    """

    win_rate: dict[str, float]
    win_rate_if_unparsed_lost: float
    win_rate_if_unparsed_won: float
    unparsed: float
    wins: int
    losses: int
    ties: int
    p_against_half: float
    win_rate_well_formed: dict[str, float] | None
    first_position_wins: ShareInterval
    order_flips: float | None


class LostPrompt(TypedDict):
    """A prompt that the first arm lost, with both texts."""

    id: str
    points: float
    first: str
    second: str


def comparison_figures(rows: Sequence[PromptVerdicts], pairs: ResponsePairs) -> ComparisonFigures:
    """The figures of a comparison from its verdicts.

    Args:
        rows: a row for each dialogue.
        pairs: the responses that were compared.
    """
    points = points_of(rows)
    wins = sum(value > 0.5 for value in points.values())
    losses = sum(value < 0.5 for value in points.values())
    formed = _well_formed_ids(points, pairs)
    return {
        "win_rate": mean_points([*points.values()], members=_members(points, pairs)),
        "win_rate_if_unparsed_lost": _mean_points(rows, unparsed=0.0),
        "win_rate_if_unparsed_won": _mean_points(rows, unparsed=1.0),
        "unparsed": _unparsed_share(rows),
        "wins": wins,
        "losses": losses,
        "ties": len(rows) - wins - losses,
        "p_against_half": sign_flip_test([*points.values()], SEED),
        "win_rate_well_formed": _mean_of(points, formed, pairs) if formed else None,
        "first_position_wins": _first_position_wins(rows),
        "order_flips": _order_flips(rows),
        **length_figures(np.array([*points.values()]), words_ahead_of(points, pairs.first, pairs.second)),
    }


def _mean_of(points: dict[str, float], names: Sequence[str], pairs: ResponsePairs) -> dict[str, float]:
    return mean_points([points[name] for name in names], members=_members(names, pairs))


def _members(names: Iterable[str], pairs: ResponsePairs) -> list[tuple[str, str]] | None:
    """The two replies of each pair, where one reply can be in several pairs."""
    return None if pairs.members is None else [pairs.members[name] for name in names]


def points_of(rows: Iterable[PromptVerdicts]) -> dict[str, float]:
    """Dialogue id → the first arm's points over both orders, 0 to 1; unparsed answers count half."""
    return {row["id"]: _points(row["verdicts"], unparsed=0.5) for row in rows}


def _points(verdicts: Sequence[str], unparsed: float) -> float:
    return sum(POINTS.get(verdict, unparsed) for verdict in verdicts) / len(verdicts)


def _mean_points(rows: Iterable[PromptVerdicts], unparsed: float) -> float:
    return round(float(np.mean([_points(row["verdicts"], unparsed) for row in rows])), 4)


def _unparsed_share(rows: Sequence[PromptVerdicts]) -> float:
    unparsed = sum(row["verdicts"].count("unparsed") for row in rows)
    return round(unparsed / (2 * len(rows)), 4)


def _well_formed_ids(ids: Iterable[str], pairs: ResponsePairs) -> list[str]:
    """The dialogues whose two responses are well-formed, or have no finish reason to check."""
    utterances = {item.id: item.utterance for item in pairs.dialogues}
    formed = []
    for name in ids:
        checked = [row for row in (pairs.first[name], pairs.second[name]) if "finish_reason" in row]
        if all(well_formed(row, utterances[name]) for row in checked):
            formed.append(name)
    return formed


def _first_position_wins(rows: Iterable[PromptVerdicts]) -> ShareInterval:
    """How often the response shown first won; mirrored verdicts are left out."""
    won: list[float] = []
    prompts: list[str] = []
    for row in rows:
        for order, verdict in enumerate(row["verdicts"]):
            if verdict in DECIDED and not row["mirrored"][order]:
                shown_first = "first" if order == 0 else "second"
                won.append(float(verdict == shown_first))
                prompts.append(row["id"])
    found = score_interval(won, clusters=prompts)  # the two orders of a prompt are not independent
    return {
        "share": round(found.mean, 4) if won else None,
        "low": round(found.low, 4),
        "high": round(found.high, 4),
        "n": len(won),
    }


def _order_flips(rows: Iterable[PromptVerdicts]) -> float | None:
    """Of prompts asked in both orders, the share on which the order decided which response won."""
    asked = [row["verdicts"] for row in rows if not any(row["mirrored"])]
    flips = sum(set(verdicts) == set(DECIDED) for verdicts in asked)
    return round(flips / len(asked), 4) if asked else None


def by_emotion(points: dict[str, float], pairs: ResponsePairs) -> dict[str, dict[str, float]]:
    """Emotion → the win rate and the number of prompts, the most frequent emotion first.

    Dialogues whose emotion is not known are left out.
    """
    emotions = {item.id: item.emotion for item in pairs.dialogues}
    grouped: dict[str, list[float]] = defaultdict(list)
    for name, value in points.items():
        if emotions[name]:
            grouped[emotions[name]].append(value)
    by_size = sorted(grouped, key=lambda emotion: -len(grouped[emotion]))
    return {
        emotion: {"win_rate": round(float(np.mean(grouped[emotion])), 3), "n": len(grouped[emotion])}
        for emotion in by_size
    }


def worst_prompts(points: dict[str, float], pairs: ResponsePairs) -> list[LostPrompt]:
    """The prompts that the first arm lost most clearly."""
    lost = [name for name in sorted(points, key=lambda name: points[name]) if points[name] < 0.5]
    return [
        {
            "id": name,
            "points": points[name],
            "first": pairs.first[name]["text"],
            "second": pairs.second[name]["text"],
        }
        for name in lost[:WORST]
    ]
