"""Sheets for people: blinded, shuffled pairs or single replies as CSV and as one HTML page, and several raters' answers read back."""

from __future__ import annotations

import csv
import io
import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from statistics import mean
from typing import Any

from empathy_edge.console import out as stdout
from empathy_edge.console import table, tell
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.dialogue import Dialogue, write_jsonl
from empathy_edge.judging.agreement import agreement, describe
from empathy_edge.judging.compare import BACK
from empathy_edge.judging.judges import ANSWERS, RATINGS, Pair, key_alone
from empathy_edge.judging.statistics import wilson
from empathy_edge.prompts import load_prompts
from empathy_edge.system.files import read_json, sha256_json, write_atomically, write_json

LEADS = {"1": 1, "0": 0, "2": -1}
"""A rater's answer as the first reply's lead."""

Responses = Mapping[str, Mapping[str, Any]]
"""Dialogue id → a row with `text`."""


def make_pairs(
    *,
    first: Responses,
    second: Responses,
    spoken: Mapping[str, Dialogue],
    question: str,
    out: Path,
    most: int | None = None,
    seed: int = 0,
    both_orders: bool = False,
) -> int:
    """Write a sheet of pairs into the new folder `out`; returns how many rows it has.

    Which arm a reply is from is nowhere in it: each pair is shown in an order drawn with `seed`, under the hash of what is shown. With
    `both_orders` each comes once more, the other way round, after all have come once.
    """
    ids = sorted(set(first) & set(second) & set(spoken))
    chance = random.Random(seed)
    chance.shuffle(ids)
    pairs = []
    for name in ids[:most]:
        texts = [first[name]["text"], second[name]["text"]]
        chance.shuffle(texts)
        pairs.append(Pair(name, spoken[name].situation, spoken[name].utterance, *texts))
    if both_orders:
        pairs += [pair.turned() for pair in chance.sample(pairs, len(pairs))]
    rows = [
        {"key": pair.key(question), "situation": pair.situation, "utterance": pair.utterance,
         "reply_1": pair.first, "reply_2": pair.second}
        for pair in pairs
    ]  # fmt: skip
    known = {pair.key(question): {"ids": [pair.id], "turned": pair.turned().key(question)} for pair in pairs}
    _write(out, rows, known, question, load_prompts("judge").text(question), "pairs")
    return len(rows)


def make_alone(
    *,
    arms: Sequence[Responses],
    spoken: Mapping[str, Dialogue],
    question: str,
    out: Path,
    most: int | None = None,
    seed: int = 0,
) -> int:
    """Write a sheet of single replies, shuffled over arms and dialogues, into the new folder `out`; returns how many there are.

    A text that several arms gave to one dialogue is shown once.
    """
    ids = sorted(set(spoken).intersection(*arms))
    chance = random.Random(seed)
    chance.shuffle(ids)
    rows: dict[str, dict[str, str]] = {}
    known: dict[str, dict[str, Any]] = {}
    for name in ids[:most]:
        item = spoken[name]
        for text in {arm[name]["text"] for arm in arms}:
            key = key_alone(question, item.situation, item.utterance, text)
            rows[key] = {"key": key, "situation": item.situation, "utterance": item.utterance, "reply": text}
            known.setdefault(key, {"ids": []})["ids"].append(name)
    shown = [rows[key] for key in sorted(rows)]
    chance.shuffle(shown)
    prompts = load_prompts("alone")
    _write(
        out,
        shown,
        known,
        question,
        f"{prompts.text(question).strip()} {prompts.text('scale').strip()}",
        "alone",
    )
    return len(shown)


def _write(
    out: Path,
    rows: list[dict[str, str]],
    known: dict[str, dict[str, Any]],
    question: str,
    asked: str,
    kind: str,
) -> None:
    if not rows:
        raise EmpathyEdgeError(
            "The responses answer no dialogue of these in common: there is nothing to judge."
        )
    if out.exists() and any(out.iterdir()):
        raise EmpathyEdgeError(f"{out}: is not empty; choose a new folder, so that no rater's sheet changes.")
    content = {"sheet": sha256_json(rows)[:16], "question": asked, "rows": rows}
    page = (resources.files("empathy_edge.judging") / "sheet.html").read_text(encoding="utf-8")
    safe = json.dumps(content, ensure_ascii=False).replace("<", "\\u003c")  # a reply may hold </script>
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "sheet.html", page.replace("__DATA__", safe))
    with open(out / "sheet.csv", "w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, [*rows[0], "answer"])
        writer.writeheader()
        writer.writerows(
            {**{name: _harmless(text) for name, text in row.items()}, "answer": ""} for row in rows
        )
    write_json(out / "keys.json", {"kind": kind, "question": question, "keys": known})


def _harmless(text: str) -> str:
    """A spreadsheet would run a cell that begins like a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text


def read(*, answers: list[Path], sheet: Path, out: Path) -> dict[str, Any]:
    """Turn raters' answers (CSV with `key` and `answer`) into verdicts for `file:OUT`, or ratings for `ratings:OUT`.

    Pairs are answered with 1, 2 or 0. Where raters disagree, the verdict is what most of them say, and a tie where no answer has most. A
    pair that was shown in one order has one verdict, which stands for the other order, mirrored. Single replies are answered with 1 to 9,
    and the rating is the raters' mean.

    Args:
        answers: a file for each rater, named after him or her: who judged is part of the judge's name, and of a certificate.
        sheet: the folder that the sheet was made in.
        out: the new file.

    Returns:
        rows, raters, kappa for each two raters, Krippendorff's alpha; of pairs, how often what was shown first won.
    """
    if out.exists():
        raise EmpathyEdgeError(f"{out}: exists already; choose another name.")
    made = read_json(sheet / "keys.json")
    if not isinstance(made, dict) or made.get("kind") not in ("pairs", "alone") or not made.get("keys"):
        raise EmpathyEdgeError(f"{sheet}: is no folder that `empathy-edge sheet make` wrote.")
    known: dict[str, dict[str, Any]] = made["keys"]
    pairs = made["kind"] == "pairs"
    raters = {file.stem: _answers(file, known, list(LEADS) if pairs else [*RATINGS]) for file in answers}
    if len(raters) != len(answers):
        raise EmpathyEdgeError("Two files of answers have the same name; rename one after its rater.")
    by = {"by": sorted(raters), "question": made["question"]}
    rows = _verdicts(raters, known) if pairs else _ratings(raters, known)
    write_jsonl(
        out, [row | by for row in sorted(rows, key=lambda row: (row["id"], "mirrored" in row, row["key"]))]
    )
    values = {
        name: {key: LEADS[answer] if pairs else RATINGS[answer] for key, answer in given.items()}
        for name, given in raters.items()
    }
    result: dict[str, Any] = {
        "rows": len({key for given in raters.values() for key in given}),
        "of": len(known),
        "raters": {name: len(given) for name, given in raters.items()},
        **agreement(values, (-1, 0, 1) if pairs else [*RATINGS.values()]),
    }
    if pairs:
        said = [
            row["verdict"] == "first" for row in rows if row["verdict"] != "tie" and "mirrored" not in row
        ]
        low, high = wilson(sum(said), len(said))
        result["shown_first_won"] = [sum(said), len(said), round(low, 4), round(high, 4)]
    _show(result)
    return result


def _verdicts(raters: dict[str, dict[str, str]], known: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    said: dict[str, str] = {}
    for key in {key for given in raters.values() for key in given}:
        votes = Counter(given[key] for given in raters.values() if key in given).most_common()
        said[key] = ANSWERS[votes[0][0]] if len(votes) == 1 or votes[0][1] > votes[1][1] else "tie"
    rows: list[dict[str, Any]] = []
    for key, verdict in said.items():
        name, turned = known[key]["ids"][0], known[key]["turned"]
        rows.append({"key": key, "id": name, "verdict": verdict})
        if turned not in said:
            rows.append({"key": turned, "id": name, "verdict": BACK[verdict], "mirrored": True})
    return rows


def _ratings(raters: dict[str, dict[str, str]], known: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each reply and dialogue. A reply that a rater left out has the mean of the others, who may be milder: let all rate all."""
    rows = []
    for key in {key for given in raters.values() for key in given}:
        given = [RATINGS[answers[key]] for answers in raters.values() if key in answers]
        rows += [{"key": key, "id": name, "rating": round(mean(given), 3)} for name in known[key]["ids"]]
    return rows


def _answers(file: Path, known: Mapping[str, Any], allowed: Sequence[str]) -> dict[str, str]:
    try:
        rows = list(csv.DictReader(io.StringIO(file.read_text(encoding="utf-8-sig"), newline="")))
    except (OSError, UnicodeDecodeError) as error:
        raise EmpathyEdgeError(f"{file}: not readable ({error}).") from None
    given: dict[str, str] = {}
    for number, row in enumerate(rows, 2):
        answer, key = (row.get("answer") or "").strip(), (row.get("key") or "").strip()
        if not answer:
            continue
        if answer not in allowed:
            raise EmpathyEdgeError(
                f"{file}: line {number}: the answer '{answer}' is not {', '.join(allowed[:-1])} or {allowed[-1]}."
            )
        if key not in known:
            raise EmpathyEdgeError(f"{file}: line {number}: the key '{key}' is not in this sheet.")
        given[key] = answer
    if not given:
        raise EmpathyEdgeError(f"{file}: has no answers (columns key and answer).")
    return given


def _show(result: dict[str, Any]) -> None:
    rows = [[name, str(count)] for name, count in result["raters"].items()]
    stdout.print(table(f"{result['rows']} of {result['of']} answered", ["rater", "answers"], rows))
    if "shown_first_won" in result:
        wins, of, low, high = result["shown_first_won"]
        tell(f"Shown first won {wins} of {of} decided pairs [{low:.0%}, {high:.0%}].")
    if len(result["raters"]) > 1:
        tell(f"Agreement: {describe(result)}.")
