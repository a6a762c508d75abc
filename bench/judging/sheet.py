"""Sheets for people: blinded, shuffled pairs as CSV and as one HTML page, and the answers of several raters read back."""

from __future__ import annotations

import csv
import json
import random
from collections import Counter
from importlib import resources
from pathlib import Path
from typing import Any

from empathy_edge.prompts import load_prompts

from empathy_edge.console import out as stdout
from empathy_edge.console import table, tell
from empathy_edge.dialogue import read_dialogues, write_jsonl
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.run import sha256_json, write_atomically

from ..stats import wilson
from .agreement import agreement, describe
from .compare import read_responses
from .judges import ANSWERS, Pair

SHOWN = ("key", "situation", "utterance", "reply_1", "reply_2")
LEADS = {"1": 1, "0": 0, "2": -1}
"""A rater's answer as the first reply's lead."""


def make(*, first: Path, second: Path, dialogues: Path, question: str, out: Path, most: int | None, seed: int) -> int:
    """Write `sheet.csv` and `sheet.html` into the new folder `out`; returns the number of pairs.

    Which arm a reply is from is nowhere in it: each pair is shown in an order drawn with `seed`, under the hash of what is shown.
    """
    if out.exists() and any(out.iterdir()):
        raise EmpathyEdgeError(f"{out}: is not empty; choose a new folder, so that no rater's sheet changes.")
    ours, theirs = read_responses(first), read_responses(second)
    spoken = {item.id: item for item in read_dialogues(dialogues)}
    ids = sorted(set(ours) & set(theirs) & set(spoken))
    if not ids:
        raise EmpathyEdgeError(f"{first} and {second} answer no dialogue of {dialogues} in common.")
    chance = random.Random(seed)
    chance.shuffle(ids)
    pairs = []
    for name in ids[:most]:
        texts = [ours[name]["text"], theirs[name]["text"]]
        chance.shuffle(texts)
        item = spoken[name]
        pairs.append(Pair(name, item.situation, item.utterance, *texts))
    rows = [
        dict(zip(SHOWN, (pair.key(question), pair.situation, pair.utterance, pair.first, pair.second), strict=True))
        for pair in pairs
    ]
    asked = load_prompts("judge").text(question)
    content = {"sheet": sha256_json(rows)[:16], "question": asked, "pairs": rows}
    page = (resources.files("empathy_edge.bench.judging") / "sheet.html").read_text(encoding="utf-8")
    safe = json.dumps(content, ensure_ascii=False).replace("<", "\\u003c")  # a reply may hold </script>
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "sheet.html", page.replace("__DATA__", safe))
    with open(out / "sheet.csv", "w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, [*SHOWN, "answer"])
        writer.writeheader()
        writer.writerows({**{name: _harmless(text) for name, text in row.items()}, "answer": ""} for row in rows)
    return len(rows)


def _harmless(text: str) -> str:
    """A spreadsheet would run a cell that begins like a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text


def read(
    *, answers: list[Path], first: Path, second: Path, dialogues: Path, question: str, out: Path
) -> dict[str, Any]:
    """Turn raters' answers (CSV with `key` and `answer`: 1, 2 or 0) into verdicts for `compare --judge file:OUT`.

    Where raters disagree, the verdict is what most of them say, and a tie where no answer has most. A pair was shown in one order; its
    verdict stands for the other order, mirrored.

    Returns:
        pairs, raters, the share that was shown first and won, kappa for each two raters, Krippendorff's alpha.
    """
    if out.exists():
        raise EmpathyEdgeError(f"{out}: exists already; choose another name.")
    ours, theirs = read_responses(first), read_responses(second)
    spoken = {item.id: item for item in read_dialogues(dialogues)}
    known: dict[str, Pair] = {}
    for name in set(ours) & set(theirs) & set(spoken):
        a, b = ours[name]["text"], theirs[name]["text"]
        for texts in ((a, b), (b, a)):
            pair = Pair(name, spoken[name].situation, spoken[name].utterance, *texts)
            known[pair.key(question)] = pair
    raters = {file.stem: _answers(file, known) for file in answers}
    if len(raters) != len(answers):
        raise EmpathyEdgeError("Two files of answers have the same name; rename one after its rater.")
    verdicts: list[dict[str, Any]] = []
    firsts = []
    for key in {key for given in raters.values() for key in given}:
        said = Counter(given[key] for given in raters.values() if key in given).most_common()
        agreed = len(said) == 1 or said[0][1] > said[1][1]
        verdict = ANSWERS[said[0][0]] if agreed else "tie"
        pair = known[key]
        back = Pair(pair.id, pair.situation, pair.utterance, pair.second, pair.first)
        mirrored = {"first": "second", "second": "first"}.get(verdict, "tie")
        verdicts.append({"key": key, "id": pair.id, "verdict": verdict})
        verdicts.append({"key": back.key(question), "id": pair.id, "verdict": mirrored, "mirrored": True})
        if verdict != "tie":
            firsts.append(verdict == "first")
    write_jsonl(out, sorted(verdicts, key=lambda row: (row["id"], "mirrored" in row)))
    low, high = wilson(sum(firsts), len(firsts))
    result = {
        "pairs": len(verdicts) // 2,
        "raters": {name: len(given) for name, given in raters.items()},
        "shown_first_won": [sum(firsts), len(firsts), round(low, 4), round(high, 4)],
        **agreement(
            {name: {key: LEADS[answer] for key, answer in given.items()} for name, given in raters.items()},
            (-1, 0, 1),
        ),
    }
    _show(result)
    return result


def _answers(file: Path, known: dict[str, Pair]) -> dict[str, str]:
    try:
        rows = list(csv.DictReader(file.read_text(encoding="utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError) as error:
        raise EmpathyEdgeError(f"{file}: not readable ({error}).") from None
    given = {}
    for number, row in enumerate(rows, 2):
        answer, key = (row.get("answer") or "").strip(), (row.get("key") or "").strip()
        if not answer:
            continue
        if answer not in ANSWERS:
            raise EmpathyEdgeError(f"{file}: line {number}: the answer '{answer}' is not 1, 2 or 0.")
        if key not in known:
            raise EmpathyEdgeError(
                f"{file}: line {number}: the key '{key}' is of no pair of these responses and this question."
            )
        given[key] = answer
    if not given:
        raise EmpathyEdgeError(f"{file}: has no answers (columns key and answer).")
    return given


def _show(result: dict[str, Any]) -> None:
    rows = [[name, str(count)] for name, count in result["raters"].items()]
    stdout.print(table(f"{result['pairs']} pairs", ["rater", "answers"], rows))
    wins, of, low, high = result["shown_first_won"]
    tell(f"Shown first won {wins} of {of} decided pairs [{low:.0%}, {high:.0%}].")
    if len(result["raters"]) > 1:
        tell(f"Agreement: {describe(result)}.")
