"""May this judge judge? It compares pairs that people rated 3 and 1, and a certificate says how often it agrees, and how it errs.

One person rated each response, so nobody agrees with the ratings always: sentence embeddings with a linear classifier order about 65 % of
such pairs as rated. What counts is that a judge is surely better than chance, does not go by the order or by length, and answers.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from empathy_edge.console import out as stdout
from empathy_edge.console import table, tell
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.dialogue import Dialogue, read_dialogues
from empathy_edge.judging.compare import PEOPLE_PREFER_LONGER, ask, claim, statistics
from empathy_edge.judging.experts import DIMENSIONS, experts_own, pairs_of, read_experts
from empathy_edge.judging.judges import Judge, identity
from empathy_edge.judging.statistics import wilson
from empathy_edge.system.files import read_json, sha256_file, sha256_json, write_json

THRESHOLDS = {
    "agreement_low": 0.55,  # lower end of the 95 % interval: surely better than chance, and by something
    "order_flips": 0.25,  # of pairs; MT-Bench's GPT-4 has 13 %
    "first_position": 0.15,  # from one half
    "longer_wins": 0.15,  # from what people prefer
    "unparsed": 0.05,  # of answers
    "self_preference": 0.1,  # surely above what people prefer
}
"""What a judge must keep; a share each."""

FEWEST = 40
FEWEST_OWN = 20
"""Pairs with one response of the judge's family, from which on its preference for that is told."""

FAMILIES = {
    "GPT": r"gpt|\bo[1-9]\b",
    "Claude": r"claude|sonnet|opus|haiku",
    "Gemini": r"gemini|gemma",
    "Llama": r"llama|vicuna",
    "Mistral": r"mistral|mixtral",
    "Qwen": r"qwen|qwq",
    "SmolLM": r"smollm",
    "DeepSeek": r"deepseek",
}
"""Families of models by what their names contain; for self-preference."""


def run(
    *, judge: Judge, data: Path, questions: Sequence[str], pairs: int, seed: int, out: Path
) -> dict[str, Any]:
    """Test a judge on `data` (dialogues with rated responses); writes `certificate.json` and every verdict into `out`.

    Args:
        judge: who is tested.
        data: the paper's CSV, or our JSONL; of each dialogue one pair is drawn, rated 3 and 1.
        questions: each is tested by itself; the ratings are of empathy as a whole.
        pairs: at most so many.
        seed: for the draw.
        out: the folder; verdicts that are there already are not asked for again.
    """
    dialogues = [
        item for item in read_dialogues(data) if not getattr(judge, "seen", lambda _: False)(item.id)
    ]
    better, worse = _drawn(dialogues, pairs, seed, getattr(judge, "ids", None))
    family = family_of(identity(judge))
    if len(better) < FEWEST:
        raise EmpathyEdgeError(
            f"{data}: {len(better)} dialogues that the judge has not seen have a response rated 3 and one rated 1; "
            f"needed: {FEWEST}. A scorer is tested on data that it was not trained on."
        )
    spoken = [item for item in dialogues if item.id in better]
    claim(out)
    found = {}
    for question in questions:
        rows, item = _asked(judge, question, spoken, better, worse, out)
        item["self_preference"] = self_preference(rows, better, worse, family)
        item["doubts"] = doubts(item)
        item["certified"] = not item["doubts"]
        found[question] = {key: value for key, value in item.items() if key not in ("by_emotion", "worst")}
    certificate = _certificate(judge, data, sha256_file(data), better, worse, seed, found)
    write_json(out / "certificate.json", certificate)
    show(certificate)
    return certificate


def run_beside_experts(
    *, judge: Judge, folder: Path, questions: Sequence[str], pairs: int, seed: int, out: Path
) -> dict[str, Any]:
    """As `run`, on exchanges that experts rated (`experts.read_experts`); their own agreement stands beside the judge's.

    Raises:
        EmpathyEdgeError: a question that the experts were not asked, or too few pairs that they told apart.
    """
    exchanges = read_experts(folder)
    unknown = [question for question in questions if question not in DIMENSIONS]
    if unknown:
        raise EmpathyEdgeError(
            f"the experts were asked about {', '.join(DIMENSIONS)}, not about {', '.join(unknown)}."
        )
    claim(out)
    found = {}
    for question in questions:
        dialogues, better, worse = pairs_of(exchanges, question, pairs, seed)
        known = getattr(judge, "ids", None)
        dialogues = [item for item in dialogues if known is None or item.id in known]
        better, worse = ({item.id: side[item.id] for item in dialogues} for side in (better, worse))
        if len(dialogues) < FEWEST:
            raise EmpathyEdgeError(
                f"{folder}: {len(dialogues)} pairs that the experts told apart on {question} and that the judge can judge; "
                f"needed: {FEWEST}."
            )
        _, item = _asked(judge, question, dialogues, better, worse, out)
        item["experts_own"] = experts_own(exchanges, question)
        item["longer_wins"] = {
            **item["longer_wins"],
            "share": None,
        }  # the texts quote what was said: no length of a reply
        item["doubts"] = doubts(item)
        item["certified"] = not item["doubts"]
        found[question] = {key: value for key, value in item.items() if key not in ("by_emotion", "worst")}
    digest = sha256_json([[item.id, item.said, item.reply, item.levels] for item in exchanges])
    certificate = _certificate(judge, folder, digest, better, worse, seed, found)
    write_json(out / "certificate.json", certificate)
    show(certificate)
    return certificate


def _asked(
    judge: Judge,
    question: str,
    dialogues: list[Dialogue],
    better: dict[str, Any],
    worse: dict[str, Any],
    out: Path,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The verdicts on one question; and their statistics with what they took: seconds a verdict, and USD, where calls were paid for."""
    spent = getattr(judge, "spent", lambda: (0, 0.0))
    start, (calls, usd) = time.perf_counter(), spent()
    rows, asked = ask(judge, question, dialogues, better, worse, out)
    seconds, (calls_after, usd_after) = time.perf_counter() - start, spent()
    item = statistics(rows, better, worse, {dialogue.id: dialogue for dialogue in dialogues})
    item["seconds_per_verdict"] = round(seconds / asked, 3) if asked else None
    known = usd is not None and usd_after is not None and calls_after > calls
    item["usd_per_1000_calls"] = round(1000 * (usd_after - usd) / (calls_after - calls), 4) if known else None
    return rows, item


def _certificate(
    judge: Judge,
    data: Path,
    digest: str,
    better: dict[str, Any],
    worse: dict[str, Any],
    seed: int,
    found: dict[str, Any],
) -> dict[str, Any]:
    longer = [len(better[name]["text"].split()) - len(worse[name]["text"].split()) for name in better]
    return {
        "judge": identity(judge),
        "data": {"file": data.name, "sha256": digest},
        "pairs": len(better),
        "seed": seed,
        "thresholds": THRESHOLDS,
        "longer_is_better_by_people": round(
            sum(x > 0 for x in longer) / max(1, sum(x != 0 for x in longer)), 4
        ),
        "questions": found,
    }


def shown_to_people(
    *, data: Path | None, experts: Path | None, question: str, pairs: int, seed: int
) -> tuple[dict[str, Dialogue], dict[str, Any], dict[str, Any]]:
    """What `run` or `run_beside_experts` asks, for a sheet: dialogues, and by id the better and the worse response."""
    if experts is not None:
        spoken, better, worse = pairs_of(read_experts(experts), question, pairs, seed)
    elif data is not None:
        spoken = read_dialogues(data)
        better, worse = _drawn(spoken, pairs, seed)
    return {item.id: item for item in spoken if item.id in better}, better, worse


def _drawn(
    dialogues: list[Dialogue], pairs: int, seed: int, known: set[str] | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """By dialogue, a response rated 3 and one rated 1, each with who wrote it; only of `known` dialogues, where given."""
    chance = random.Random(seed)
    better: dict[str, Any] = {}
    worse: dict[str, Any] = {}
    for item in chance.sample(dialogues, len(dialogues)):
        rated = {
            rating: [response for response in item.responses if response.rating == rating]
            for rating in (3, 1)
        }
        if rated[3] and rated[1] and len(better) < pairs:
            good, bad = chance.choice(rated[3]), chance.choice(rated[1])
            better[item.id] = {"text": good.text, "source": good.source}
            worse[item.id] = {"text": bad.text, "source": bad.source}
    if known is not None:
        better, worse = (
            {name: row for name, row in side.items() if name in known} for side in (better, worse)
        )
    return better, worse


def family_of(name: str) -> str | None:
    """The family of models that a judge or a source of responses belongs to, by its name; None where it is not known."""
    return next((family for family, pattern in FAMILIES.items() if re.search(pattern, name.lower())), None)


def self_preference(
    rows: list[dict[str, Any]], better: dict[str, Any], worse: dict[str, Any], family: str | None
) -> dict[str, Any]:
    """Where one of two responses is from the judge's own family: how often the judge prefers that one, and how often people do.

    Returns:
        `judge` and `people` (shares, the judge's with its 95 % Wilson interval) over `pairs`; or `why_not`.
    """
    if family is None:
        return {"why_not": "the judge's family is not known by its name"}
    own = [
        (row, family_of(better[row["id"]]["source"]) == family)
        for row in rows
        if (family_of(better[row["id"]]["source"]) == family)
        != (family_of(worse[row["id"]]["source"]) == family)
    ]
    if len(own) < FEWEST_OWN:
        return {
            "family": family,
            "why_not": f"only {len(own)} pairs have one response of its family, {family}",
        }
    won = [row["points"] if own_is_better else 1 - row["points"] for row, own_is_better in own]
    low, high = wilson(sum(won), len(won))
    return {
        "family": family,
        "pairs": len(own),
        "judge": round(sum(won) / len(won), 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "people": round(sum(own_is_better for _, own_is_better in own) / len(own), 4),
    }


def doubts(item: dict[str, Any]) -> list[str]:
    """Why a judge may not judge, from its figures; nothing where it may."""
    rate, position, longer = (
        item["win_rate"],
        item["first_position_wins"]["share"],
        item["longer_wins"]["share"],
    )
    found = []
    if rate["low"] < THRESHOLDS["agreement_low"]:
        found.append(
            f"its agreement with people may be as low as {rate['low']:.0%} (needed: {THRESHOLDS['agreement_low']:.0%})"
        )
    if item["order_flips"] is None:
        found.append("it was asked in one order only")
    elif item["order_flips"] > THRESHOLDS["order_flips"]:
        found.append(f"its verdict turns with the order in {item['order_flips']:.0%} of pairs")
    if position is not None and abs(position - 0.5) > THRESHOLDS["first_position"]:
        found.append(f"what it is shown first wins in {position:.0%}")
    if longer is not None and abs(longer - PEOPLE_PREFER_LONGER) > THRESHOLDS["longer_wins"]:
        found.append(f"the longer response wins in {longer:.0%} (by people: {PEOPLE_PREFER_LONGER:.0%})")
    own = item.get("self_preference", {})
    if "judge" in own and own["low"] - own["people"] > THRESHOLDS["self_preference"]:
        found.append(
            f"it prefers responses of its own family ({own['family']}) in {own['judge']:.0%} of pairs, people in {own['people']:.0%}"
        )
    if item["unparsed"] > THRESHOLDS["unparsed"]:
        found.append(f"{item['unparsed']:.0%} of its answers cannot be read")
    return found


def certificate_of(judge: Judge, certificates: Sequence[Path]) -> Path | None:
    """The certificate that is this judge's, of several; None where none is."""
    for file in certificates:
        content = read_json(file)
        if isinstance(content, dict) and content.get("judge") == identity(judge):
            return file
    return None


def standing(certificate: Path | None, judge: Judge, questions: Sequence[str]) -> dict[str, dict[str, Any]]:
    """For each question whether this judge is certified for it, and why not.

    Raises:
        EmpathyEdgeError: the certificate is of another judge (another model, other prompts).
    """
    if certificate is None:
        return {
            question: {"certified": False, "doubts": ["no certificate was given"]} for question in questions
        }
    content = read_json(certificate)
    if not isinstance(content, dict) or not isinstance(content.get("questions"), dict):
        raise EmpathyEdgeError(f"{certificate}: is no certificate; `empathy-edge certify` writes one.")
    if content.get("judge") != identity(judge):
        raise EmpathyEdgeError(
            f"{certificate}: is of another judge ({content.get('judge')}, not {identity(judge)}): another model or other prompts."
        )
    asked: dict[str, Any] = content["questions"]
    return {
        question: {
            key: asked[question][key]
            for key in ("certified", "doubts", "win_rate", "self_preference")
            if key in asked[question]
        }
        if question in asked
        else {"certified": False, "doubts": [f"its certificate does not cover the question '{question}'"]}
        for question in questions
    }


def show(certificate: dict[str, Any]) -> None:
    """Print a certificate."""
    rows = []
    for question, item in certificate["questions"].items():
        rate, position, longer = (
            item["win_rate"],
            item["first_position_wins"]["share"],
            item["longer_wins"]["share"],
        )
        rows.append(
            [
                question,
                f"{rate['mean']:.1%} [{rate['low']:.1%}, {rate['high']:.1%}]",
                "–" if item["order_flips"] is None else f"{item['order_flips']:.0%}",
                "–" if position is None else f"{position:.0%}",
                "–" if longer is None else f"{longer:.0%}",
                f"{item['unparsed']:.0%}",
                "–" if item["seconds_per_verdict"] is None else f"{item['seconds_per_verdict']:.2f}",
                "–" if item["usd_per_1000_calls"] is None else f"{item['usd_per_1000_calls']:.2f}",
                "yes" if item["certified"] else "no",
            ]
        )
    columns = [
        "question",
        "agrees with people",
        "flips",
        "shown first wins",
        "longer wins",
        "unparsed",
        "s/verdict",
        "USD/1000 calls",
    ]
    stdout.print(
        table(f"{certificate['judge']}, {certificate['pairs']} pairs", [*columns, "certified"], rows)
    )
    for question, item in certificate["questions"].items():
        if own := item.get("experts_own"):
            words = ", ".join(f"{name} {share:.0%}" for name, share in own.items())
            tell(f"  {question}: each expert agrees with the others' mean in: {words}.")
        if own := item.get("self_preference"):
            tell(f"  {question}, self-preference: {_described(own)}.")
        for doubt in item["doubts"]:
            tell(f"  {question}: {doubt}.")
    tell(
        f"  By people the longer one was better in {certificate['longer_is_better_by_people']:.0%} of these pairs."
    )


def _described(own: dict[str, Any]) -> str:
    if "why_not" in own:
        return f"not available, {own['why_not']}"
    return (
        f"{own['family']}'s own response preferred in {own['judge']:.0%} [{own['low']:.0%}, {own['high']:.0%}] of "
        f"{own['pairs']} pairs, by people in {own['people']:.0%}"
    )
