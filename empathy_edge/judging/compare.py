"""Two arms' responses compared by a judge: both orders, ties kept, intervals over prompts, and what could have faked the result."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from empathy_edge.console import out as stdout
from empathy_edge.console import progress, say, table, tell
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.dialogue import (
    Dialogue,
    read_dialogues,
    read_jsonl,
    read_unfinished_jsonl,
    write_jsonl,
)
from empathy_edge.judging.agreement import agreement, describe
from empathy_edge.judging.format_checks import well_formed
from empathy_edge.judging.judges import Judge, Pair, Verdict, record
from empathy_edge.judging.statistics import bootstrap_mean, holm, sign_test, wilson
from empathy_edge.system.files import write_json

FILES = ("verdicts.jsonl", "compared.json", "certificate.json")
"""What `compare` and `certify` write."""

AT_ONCE = 64
RESAMPLES, SEED = 2000, 0
PEOPLE_PREFER_LONGER = 0.51
"""How often people rated the longer of two responses higher on the paper's data."""

FEWEST_FOR_LENGTH = 40
WORST = 10

BACK = {"first": "second", "second": "first", "tie": "tie", "unparsed": "unparsed"}
POINTS = {"first": 1.0, "tie": 0.5, "second": 0.0}
LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""The points that a dialogue can have from two orders."""


def run(
    *,
    first: Path,
    second: Path,
    dialogues: Path,
    judges: Iterable[tuple[Judge, dict[str, dict[str, Any]] | None]],
    questions: Sequence[str],
    out: Path,
) -> dict[str, Any]:
    """Compare the responses of two files (`respond` wrote them); writes `verdicts.jsonl` and `compared.json` into `out`.

    Verdicts that are in `out` already are not asked for again, whichever run made them. With each of the `judges`, who are asked one after
    the other, comes whether it is certified for each question (`certify.standing`); without that, it is not.

    Raises:
        EmpathyEdgeError: the files do not answer the same dialogues.
    """
    ours, theirs = read_responses(first), read_responses(second)
    spoken = {item.id: item for item in read_dialogues(dialogues)}
    _same_dialogues(first, second, ours, theirs, spoken, dialogues)
    claim(out)
    both = [name for name in ours if name in theirs]
    found = [
        _by_one(judge, standing, questions, both, spoken, ours, theirs, out) for judge, standing in judges
    ]
    result: dict[str, Any] = {
        "first": first.stem,
        "second": second.stem,
        "judges": [item for item, _ in found],
        "agreement": {
            question: agreement({item["judge"]: points[question] for item, points in found}, LEVELS)
            for question in questions
        },
    }
    write_json(out / "compared.json", result)
    show(result)
    return result


def _by_one(
    judge: Judge,
    standing: dict[str, dict[str, Any]] | None,
    questions: Sequence[str],
    ids: list[str],
    spoken: dict[str, Dialogue],
    ours: dict[str, Any],
    theirs: dict[str, Any],
    out: Path,
) -> tuple[dict[str, Any], dict[str, dict[str, float]]]:
    """What one judge says: its part of `compared.json`; and by question each dialogue's points where both answers could be read."""
    ids = [item.id for item in covered(judge, [spoken[name] for name in ids])]
    verdicts = {
        question: ask(judge, question, [spoken[name] for name in ids], ours, theirs, out)[0]
        for question in questions
    }
    found = {question: statistics(rows, ours, theirs, spoken) for question, rows in verdicts.items()}
    for item, p in zip(
        found.values(), holm([item["p_against_half"] for item in found.values()]), strict=True
    ):
        item["p_holm"] = p
    for question, item in found.items():
        item["judge"] = (standing or {}).get(question) or {
            "certified": False,
            "doubts": ["no certificate was given"],
        }
    points = {
        question: {row["id"]: row["points"] for row in rows if "unparsed" not in row["verdicts"]}
        for question, rows in verdicts.items()
    }
    return {"judge": judge.name, "prompts": len(ids), "questions": found}, points


def covered(judge: Judge, dialogues: list[Dialogue]) -> list[Dialogue]:
    """The dialogues that a file of verdicts or ratings is about, which may be a part of them; all, for every other judge."""
    known = getattr(judge, "ids", None)
    kept = dialogues if known is None else [item for item in dialogues if item.id in known]
    if not kept:
        return dialogues  # and the judge says what it lacks
    if len(kept) < len(dialogues):
        say(f"{judge.name} is about {len(kept)} of {len(dialogues)} dialogues; these are compared.")
    return kept


def claim(out: Path) -> None:
    """Make the folder of a comparison or a certificate, unless it holds something else."""
    if out.is_dir():
        others = sorted(item.name for item in out.iterdir() if item.name not in FILES)
        if others:
            raise EmpathyEdgeError(
                f"{out}: holds something else ({others[0]}); choose a new folder with --out."
            )
    out.mkdir(parents=True, exist_ok=True)


def read_responses(file: Path) -> dict[str, dict[str, Any]]:
    """A file of responses by dialogue id; each row needs `id` and `text`."""
    rows = read_jsonl(file)
    for number, row in enumerate(rows, 1):
        if (
            not isinstance(row, dict)
            or not isinstance(row.get("id"), str)
            or not isinstance(row.get("text"), str)
        ):
            raise EmpathyEdgeError(f"{file}: row {number}: needs 'id' and 'text'.")
    return {row["id"]: row for row in rows}


def _same_dialogues(
    first: Path,
    second: Path,
    ours: dict[str, Any],
    theirs: dict[str, Any],
    spoken: dict[str, Any],
    dialogues: Path,
) -> None:
    if not set(ours) & set(theirs):
        raise EmpathyEdgeError(f"{first} and {second} answer no dialogue in common.")
    unknown = sorted(name for name in set(ours) & set(theirs) if name not in spoken)
    if unknown:
        raise EmpathyEdgeError(f"{dialogues}: lacks {len(unknown)} of the dialogues (first: {unknown[0]}).")


def ask(
    judge: Judge,
    question: str,
    dialogues: list[Dialogue],
    ours: dict[str, Any],
    theirs: dict[str, Any],
    out: Path,
) -> tuple[list[dict[str, Any]], int]:
    """One row a dialogue: the verdicts of both orders, as the first arm's: first, second, tie or unparsed.

    Returns:
        The rows, and how many verdicts were not known before.
    """
    file = out / "verdicts.jsonl"
    kept = read_unfinished_jsonl(file)
    write_jsonl(file, kept)  # without a line that was cut off, to which the next one would be glued
    known = {
        row["key"]: Verdict(row["verdict"], row["first"], row["answer"], row.get("mirrored", False))
        for row in kept
        if row["judge"] == judge.name
    }
    pairs = []
    for item in dialogues:
        a, b = ours[item.id]["text"], theirs[item.id]["text"]
        pairs += [Pair(item.id, item.situation, item.utterance, *texts) for texts in ((a, b), (b, a))]
    missing = [pair for pair in pairs if pair.key(question) not in known]
    with progress() as bar, open(file, "a", encoding="utf-8") as handle:
        task = bar.add_task(question, total=len(pairs), completed=len(pairs) - len(missing), note="")
        for start in range(0, len(missing), AT_ONCE):
            group = missing[start : start + AT_ONCE]
            for pair, verdict in zip(group, judge.compare(group, question), strict=True):
                known[pair.key(question)] = verdict
                handle.write(json.dumps(record(judge, question, pair, verdict), ensure_ascii=False) + "\n")
                bar.advance(task)
            handle.flush()
    rows = []
    for place in range(0, len(pairs), 2):
        forth, back = (known[pair.key(question)] for pair in pairs[place : place + 2])
        rows.append(
            {
                "id": pairs[place].id,
                "verdicts": [forth.verdict, BACK[back.verdict]],
                "mirrored": [forth.mirrored, back.mirrored],
            }
        )
    return rows, len(missing)


def statistics(
    rows: list[dict[str, Any]], ours: dict[str, Any], theirs: dict[str, Any], spoken: dict[str, Dialogue]
) -> dict[str, Any]:
    """Everything about one question: win rate with its bounds, order, length, format, emotions, the worst pairs.

    `points` of a dialogue are the first arm's share over both orders; unparsed verdicts count half there, and as lost or won in
    the bounds.
    """
    points = {row["id"]: _mean(row["verdicts"], 0.5) for row in rows}
    for row in rows:
        row["points"] = points[row["id"]]
    unparsed = sum(verdict == "unparsed" for row in rows for verdict in row["verdicts"])
    formed = [
        row["id"]
        for row in rows
        if all(
            "finish_reason" not in arm[row["id"]] or well_formed(arm[row["id"]], spoken[row["id"]].utterance)
            for arm in (ours, theirs)
        )
    ]
    rate = bootstrap_mean([*points.values()], RESAMPLES, SEED)
    wins, losses = (
        sum(value > 0.5 for value in points.values()),
        sum(value < 0.5 for value in points.values()),
    )
    return {
        "win_rate": rate,
        "win_rate_if_unparsed_lost": round(float(np.mean([_mean(row["verdicts"], 0.0) for row in rows])), 4),
        "win_rate_if_unparsed_won": round(float(np.mean([_mean(row["verdicts"], 1.0) for row in rows])), 4),
        "unparsed": round(unparsed / (2 * len(rows)), 4),
        "wins": wins,
        "losses": losses,
        "ties": len(rows) - wins - losses,
        "p_against_half": _p_against_half([*points.values()]),
        "win_rate_well_formed": bootstrap_mean([points[name] for name in formed], RESAMPLES, SEED)
        if formed
        else None,
        **_order(rows),
        **length_figures(np.array([*points.values()]), words_ahead_of(points, ours, theirs)),
        "by_emotion": _by_emotion(points, {name: spoken[name].emotion for name in points}),
        "worst": [
            {"id": name, "points": points[name], "first": ours[name]["text"], "second": theirs[name]["text"]}
            for name in sorted(points, key=lambda name: points[name])[:WORST]
            if points[name] < 0.5
        ],
    }


def _mean(verdicts: list[str], unparsed: float) -> float:
    return sum(POINTS.get(verdict, unparsed) for verdict in verdicts) / len(verdicts)


def _p_against_half(points: list[float]) -> float:
    """Two-sided p of a mean of 1/2, by flipping the sign of each prompt's lead (a permutation test over prompts)."""
    leads = np.array(points) - 0.5
    chance = np.random.default_rng(SEED)
    means = [(chance.integers(0, 2, (500, len(leads)), dtype=np.int8) * 2 - 1) @ leads for _ in range(10)]
    by_chance = np.abs(np.concatenate(means)) / len(leads)
    return round(float((1 + (by_chance >= abs(leads.mean()) - 1e-12).sum()) / (1 + len(by_chance))), 5)


def _order(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """How often what was shown first won, and how often the verdict turned with the order; mirrored verdicts tell neither."""
    decided = [
        (verdict == "first") == (place == 0)
        for row in rows
        for place, (verdict, mirrored) in enumerate(zip(row["verdicts"], row["mirrored"], strict=True))
        if verdict in ("first", "second") and not mirrored
    ]
    asked = [row for row in rows if not any(row["mirrored"])]
    both = [row["verdicts"] for row in asked if set(row["verdicts"]) <= {"first", "second"}]
    low, high = wilson(sum(decided), len(decided))
    return {
        "first_position_wins": {
            "share": round(float(np.mean(decided)), 4) if decided else None,
            "low": round(low, 4),
            "high": round(high, 4),
            "n": len(decided),
        },
        "order_flips": round(sum(a != b for a, b in both) / len(asked), 4) if asked else None,
    }


def length_figures(points: np.ndarray, words_ahead: np.ndarray) -> dict[str, Any]:
    """How often the longer response won, and the win rate where both are of one length, fitted on this run's own data.

    Args:
        points: the first arm's, [prompts].
        words_ahead: by how many words its response is the longer one, [prompts].

    Returns:
        `longer_wins`, `mean_words_ahead`, `lengths_differ` (one arm is surely longer more often: sign test, p < 0.05), and
        `length_adjusted`, or None with `length_adjusted_why_not`.
    """
    decided = (words_ahead != 0) & (points != 0.5)
    wins = int(((words_ahead > 0) == (points > 0.5))[decided].sum())
    low, high = wilson(wins, int(decided.sum()))
    longer, shorter = int((words_ahead > 0).sum()), int((words_ahead < 0).sum())
    found: dict[str, Any] = {
        "longer_wins": {
            "share": round(wins / int(decided.sum()), 4) if decided.any() else None,
            "low": round(low, 4),
            "high": round(high, 4),
            "n": int(decided.sum()),
        },
        "mean_words_ahead": round(float(words_ahead.mean()), 2),
        "lengths_differ": min(sign_test(longer, shorter), sign_test(shorter, longer)) < 0.025,
    }
    both_ways = min(longer, shorter) / len(points)
    if len(points) < FEWEST_FOR_LENGTH:
        reason = f"only {len(points)} prompts (needed: {FEWEST_FOR_LENGTH})"
    elif both_ways < 0.1:
        reason = f"one arm is the longer one in {1 - both_ways:.0%} of prompts: length and arm cannot be told apart"
    elif len(set(points.tolist())) < 2:
        reason = "every prompt has the same outcome"
    else:
        return found | {"length_adjusted": _adjusted(points, words_ahead)}
    return found | {"length_adjusted": None, "length_adjusted_why_not": reason}


def _adjusted(points: np.ndarray, words_ahead: np.ndarray) -> dict[str, float]:
    """sigmoid(a) of P(win) = sigmoid(a + b · words ahead), a logistic fit with an interval over prompts.

    Dubois et al., arXiv 2404.04475, fit the like on AlpacaEval's data; here it is this run's own.
    """
    drawn = np.random.default_rng(SEED).integers(0, len(points), (400, len(points)))
    means = _at_equal_length(points[drawn], words_ahead[drawn])
    low, high = np.percentile(means, [2.5, 97.5])
    return {
        "mean": round(float(_at_equal_length(points[None], words_ahead[None])[0]), 4),
        "low": round(float(low), 4),
        "high": round(float(high), 4),
        "lower_bound_one_sided": round(float(np.percentile(means, 5)), 4),
    }


def _at_equal_length(points: np.ndarray, words_ahead: np.ndarray) -> np.ndarray:
    """sigmoid(a) of the logistic fit of each row, [rows], by Newton's method for all rows at once.

    The slope has a weak ridge (1/10 per ten words, as LogisticRegression(C=10)), so that rows that length separates have an answer.
    """
    x, ridge = words_ahead / 10.0, 0.1
    a, b = np.zeros(len(points)), np.zeros(len(points))
    for _ in range(30):
        p = 1 / (1 + np.exp(-np.clip(a[:, None] + b[:, None] * x, -30, 30)))
        weight = p * (1 - p) + 1e-9
        to_a, to_b = (points - p).sum(1), ((points - p) * x).sum(1) - ridge * b
        aa, ab, bb = weight.sum(1), (weight * x).sum(1), (weight * x * x).sum(1) + ridge
        scale = aa * bb - ab * ab
        step_a, step_b = (bb * to_a - ab * to_b) / scale, (aa * to_b - ab * to_a) / scale
        a, b = np.clip(a + np.clip(step_a, -2, 2), -10, 10), b + np.clip(step_b, -2, 2)
        if max(np.abs(step_a).max(), np.abs(step_b).max()) < 1e-6:
            break
    found: np.ndarray = 1 / (1 + np.exp(-a))
    return found


def words_ahead_of(ids: Iterable[str], ours: dict[str, Any], theirs: dict[str, Any]) -> np.ndarray:
    """By how many words each of our responses is the longer one, float64 [ids]."""
    return np.array(
        [len(ours[name]["text"].split()) - len(theirs[name]["text"].split()) for name in ids], dtype=float
    )


def _by_emotion(points: dict[str, float], emotions: dict[str, str]) -> dict[str, dict[str, float]]:
    grouped: dict[str, list[float]] = defaultdict(list)
    for name, value in points.items():
        grouped[emotions[name]].append(value)
    counts = Counter(emotions[name] for name in points)
    return {
        emotion: {"win_rate": round(float(np.mean(grouped[emotion])), 3), "n": count}
        for emotion, count in counts.most_common()
    }


def show(result: dict[str, Any]) -> None:
    """Print each judge's win rates, beside each what could have faked it, and how far the judges agree."""
    for item in result["judges"]:
        _show_judge(f"{result['first']} against {result['second']}", item)
    if len(result["judges"]) > 1:
        for question, found in result["agreement"].items():
            tell(f"  {question}, agreement of the judges: {describe(found)}.")
    tell(f"  People preferred the longer response in {PEOPLE_PREFER_LONGER:.0%} of the paper's pairs.")


def _show_judge(arms: str, result: dict[str, Any]) -> None:
    rows = []
    for question, item in result["questions"].items():
        rate, adjusted = item["win_rate"], item["length_adjusted"]
        rows.append(
            [
                question,
                f"{rate['mean']:.1%} [{rate['low']:.1%}, {rate['high']:.1%}]",
                f"{item['p_holm']:.3f}",
                f"{item['ties']}/{result['prompts']}",
                f"{item['unparsed']:.1%}",
                _share(item["first_position_wins"]),
                "–" if item["order_flips"] is None else f"{item['order_flips']:.1%}",
                _share(item["longer_wins"]),
                f"{adjusted['mean']:.1%}" if adjusted else "not available",
                "certified" if item["judge"]["certified"] else "UNCERTIFIED",
            ]
        )
    columns = [
        "question",
        "win rate",
        "p (Holm)",
        "ties",
        "unparsed",
        "shown first wins",
        "flips",
        "longer wins",
    ]
    title = f"{arms}, {result['prompts']} prompts, by {result['judge']}"
    stdout.print(table(title, [*columns, "at equal length", "judge"], rows))
    for question, item in result["questions"].items():
        if not item["length_adjusted"]:
            tell(f"  {question}, at equal length: not available, {item['length_adjusted_why_not']}.")
        if not item["judge"]["certified"]:
            tell(f"  {question}: the judge is not certified: {'; '.join(item['judge']['doubts'])}.")


def _share(item: dict[str, Any]) -> str:
    return "–" if item["share"] is None else f"{item['share']:.0%} [{item['low']:.0%}, {item['high']:.0%}]"
