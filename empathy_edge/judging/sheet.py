"""Rating sheets for people: blinded, shuffled pairs or single replies, as CSV and as an HTML page."""

from __future__ import annotations

import csv
import io
import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from statistics import mean
from typing import Any, Literal, NotRequired, TypedDict

from empathy_edge.console import out as stdout
from empathy_edge.console import table, tell
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.dialogue import Dialogue
from empathy_edge.formats.json_lines import write_jsonl
from empathy_edge.formats.spreadsheet import without_formula
from empathy_edge.judging.agreement import Agreement, agreement, describe
from empathy_edge.judging.file_judges import REPLY_RATINGS
from empathy_edge.judging.judge_settings import SheetSettings
from empathy_edge.judging.response_pairs import ResponsePairs, Responses
from empathy_edge.judging.statistics import wilson
from empathy_edge.judging.verdicts import ANSWERS, SWAPPED, Pair, rating_key
from empathy_edge.prompts import load_prompts
from empathy_edge.system.files import read_json, sha256_json, write_atomically, write_json

KEYS = "keys.json"

LEADS = {"1": 1, "0": 0, "2": -1}
"""A rater's answer about a pair → the first reply's lead."""

Kind = Literal["pairs", "alone"]

Answers = dict[str, str]
"""The key of what was rated → the rater's answer."""


class SheetKey(TypedDict):
    """A sheet's row: the dialogues' ids; `turned`, of a pair, is its key in the other order."""

    ids: list[str]
    turned: NotRequired[str]


Keys = dict[str, SheetKey]


class SheetSummary(Agreement):
    """What was read: `rows` rated of all (`of`), answers by rater, the raters' agreement.

    `shown_first_won`, of pairs: in how many decided pairs the reply shown first won, of how many, and the 95
    % Wilson interval of that share.
    """

    rows: int
    of: int
    raters: dict[str, int]
    shown_first_won: NotRequired[tuple[int, int, float, float]]


def make_pairs(pairs: ResponsePairs, settings: SheetSettings, out: Path, *, both_orders: bool = False) -> int:
    """Write a sheet of pairs into the new folder `out`; returns how many rows it has.

    The sheet does not say which arm a reply is from: each pair is shown in an order drawn with the seed, and
    its key is the hash of what is shown. With `both_orders`, each pair is shown once more in the other order,
    after all pairs were shown once.
    """
    generator = random.Random(settings.seed)
    shown = []
    for item in _drawn(pairs.dialogues, [pairs.first, pairs.second], settings, generator):
        texts = [pairs.first[item.id]["text"], pairs.second[item.id]["text"]]
        generator.shuffle(texts)
        shown.append(Pair(item.id, item.situation, item.said, *texts))
    if both_orders:
        shown += [pair.swapped() for pair in generator.sample(shown, len(shown))]
    question = settings.question
    keys: Keys = {
        pair.key(question): {"ids": [pair.id], "turned": pair.swapped().key(question)} for pair in shown
    }
    rows = [_pair_row(pair, question) for pair in shown]
    _write(out, _Sheet("pairs", question, load_prompts("judge").text(question), rows, keys))
    return len(rows)


def make_alone(
    arms: Sequence[Responses], dialogues: Sequence[Dialogue], settings: SheetSettings, out: Path
) -> int:
    """Write a sheet of single replies into the new folder `out`; returns how many there are.

    They are shuffled over arms and dialogues. A text that several arms gave to one dialogue is shown once.
    """
    generator = random.Random(settings.seed)
    question = settings.question
    rows: dict[str, dict[str, str]] = {}
    keys: Keys = {}
    for item in _drawn(dialogues, arms, settings, generator):
        for text in dict.fromkeys(arm[item.id]["text"] for arm in arms):  # each text once, in order
            key = rating_key(question, item.situation, item.said, text)
            rows[key] = {"key": key, "situation": item.situation, "utterance": item.said, "reply": text}
            keys.setdefault(key, {"ids": []})["ids"].append(item.id)
    shown = [rows[key] for key in sorted(rows)]
    generator.shuffle(shown)
    prompts = load_prompts("alone")
    asked = f"{prompts.text(question).strip()} {prompts.text('scale').strip()}"
    _write(out, _Sheet("alone", question, asked, shown, keys))
    return len(shown)


def _drawn(
    dialogues: Sequence[Dialogue],
    arms: Sequence[Responses],
    settings: SheetSettings,
    generator: random.Random,
) -> list[Dialogue]:
    """Dialogues that every arm answers, shuffled, at most `max_prompts`."""
    by_id = {item.id: item for item in dialogues}
    ids = sorted(set(by_id).intersection(*arms))
    generator.shuffle(ids)
    return [by_id[name] for name in ids[: settings.max_prompts]]


def _pair_row(pair: Pair, question: str) -> dict[str, str]:
    return {
        "key": pair.key(question),
        "situation": pair.situation,
        "utterance": pair.utterance,
        "reply_1": pair.first,
        "reply_2": pair.second,
    }


@dataclass(frozen=True)
class _Sheet:
    """A sheet's kind, question, the question's words, rows as shown, and what is kept for reading it."""

    kind: Kind
    question: str
    asked: str
    rows: list[dict[str, str]]
    keys: Keys


def _write(out: Path, sheet: _Sheet) -> None:
    if not sheet.rows:
        raise EmpathyEdgeError(
            "The responses answer no dialogue of these in common: there is nothing to judge."
        )
    if out.exists() and any(out.iterdir()):
        raise EmpathyEdgeError(f"{out}: is not empty; choose a new folder, so that no rater's sheet changes.")
    out.mkdir(parents=True, exist_ok=True)
    _write_page(out / "sheet.html", sheet)
    _write_csv(out / "sheet.csv", sheet.rows)
    write_json(out / KEYS, {"kind": sheet.kind, "question": sheet.question, "keys": sheet.keys})


def _write_page(file: Path, sheet: _Sheet) -> None:
    page = (resources.files("empathy_edge.judging") / "sheet.html").read_text(encoding="utf-8")
    content = {"sheet": sha256_json(sheet.rows)[:16], "question": sheet.asked, "rows": sheet.rows}
    safe = json.dumps(content, ensure_ascii=False).replace("<", "\\u003c")  # a reply may contain </script>
    write_atomically(file, page.replace("__DATA__", safe))


def _write_csv(file: Path, rows: list[dict[str, str]]) -> None:
    with open(file, "w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, [*rows[0], "answer"])
        writer.writeheader()
        for row in rows:
            writer.writerow({name: without_formula(text) for name, text in row.items()} | {"answer": ""})


def read(*, answers: list[Path], sheet: Path, out: Path) -> SheetSummary:
    """Turn raters' answers (a CSV) into verdicts, for `file:OUT`, or ratings, for `ratings:OUT`.

    Pairs are answered with 1, 2 or 0. Where raters disagree, the verdict is the most frequent answer, and a
    tie where no answer is the most frequent. A pair that was shown in one order has one verdict; it is turned
    round for the other order and marked as mirrored. Single replies are answered with 1 to 9; the rating is
    the raters' mean.

    Args:
        answers: one file for each rater, named after the rater; the names become part of the judge's name and
            of its certificate.
        sheet: the folder that the sheet was made in.
        out: the new file.
    """
    if out.exists():
        raise EmpathyEdgeError(f"{out}: exists already; choose another name.")
    kind, question, keys = _read_keys(sheet)
    allowed = list(LEADS) if kind == "pairs" else list(REPLY_RATINGS)
    raters = {file.stem: _read_answers(file, keys, allowed) for file in answers}
    if len(raters) != len(answers):
        raise EmpathyEdgeError("Two files of answers have the same name; rename one after its rater.")
    rows = _verdicts(raters, keys) if kind == "pairs" else _ratings(raters, keys)
    by = {"by": sorted(raters), "question": question}
    in_order = sorted(rows, key=lambda row: (row["id"], "mirrored" in row, row["key"]))
    write_jsonl(out, [row | by for row in in_order])
    agreed = _agreement(raters, LEADS if kind == "pairs" else REPLY_RATINGS)
    summary: SheetSummary = {
        "rows": len(_rated_keys(raters)),
        "of": len(keys),
        "raters": {name: len(given) for name, given in raters.items()},
        "kappa": agreed["kappa"],
        "alpha": agreed["alpha"],
    }
    if kind == "pairs":
        summary["shown_first_won"] = _shown_first_won(rows)
    _show(summary)
    return summary


def _read_keys(sheet: Path) -> tuple[Kind, str, Keys]:
    """The sheet's kind, its question, and its rows by key."""
    made = read_json(sheet / KEYS)
    if not isinstance(made, dict) or made.get("kind") not in ("pairs", "alone") or not made.get("keys"):
        raise EmpathyEdgeError(f"{sheet}: is no folder that `empathy-edge judge sheet make` wrote.")
    return made["kind"], made["question"], made["keys"]


def _read_answers(file: Path, keys: Keys, allowed: Sequence[str]) -> Answers:
    try:
        rows = list(csv.DictReader(io.StringIO(file.read_text(encoding="utf-8-sig"), newline="")))
    except (OSError, UnicodeDecodeError) as error:
        raise EmpathyEdgeError(f"{file}: not readable ({error}).") from None
    given: Answers = {}
    for number, row in enumerate(rows, 2):
        answer, key = (row.get("answer") or "").strip(), (row.get("key") or "").strip()
        if not answer:
            continue
        if answer not in allowed:
            raise EmpathyEdgeError(
                f"{file}: line {number}: the answer '{answer}' is not "
                f"{', '.join(allowed[:-1])} or {allowed[-1]}."
            )
        if key not in keys:
            raise EmpathyEdgeError(f"{file}: line {number}: the key '{key}' is not in this sheet.")
        given[key] = answer
    if not given:
        raise EmpathyEdgeError(f"{file}: has no answers (columns key and answer).")
    return given


def _rated_keys(raters: Mapping[str, Answers]) -> set[str]:
    """What at least one rater rated."""
    return set[str]().union(*raters.values())


def _verdicts(raters: Mapping[str, Answers], keys: Keys) -> list[dict[str, Any]]:
    """A row for each pair that was rated, and one for its other order where that was not shown."""
    verdicts = {key: _most_frequent(key, raters) for key in _rated_keys(raters)}
    rows: list[dict[str, Any]] = []
    for key, verdict in verdicts.items():
        dialogue_id, other_order = keys[key]["ids"][0], keys[key]["turned"]
        rows.append({"key": key, "id": dialogue_id, "verdict": verdict})
        if other_order not in verdicts:
            mirrored = {"key": other_order, "id": dialogue_id, "verdict": SWAPPED[verdict], "mirrored": True}
            rows.append(mirrored)
    return rows


def _most_frequent(key: str, raters: Mapping[str, Answers]) -> str:
    """The verdict that most raters gave; a tie where two answers are equally frequent."""
    votes = Counter(given[key] for given in raters.values() if key in given).most_common()
    is_clear = len(votes) == 1 or votes[0][1] > votes[1][1]
    return ANSWERS[votes[0][0]] if is_clear else "tie"


def _ratings(raters: Mapping[str, Answers], keys: Keys) -> list[dict[str, Any]]:
    """One row for each reply and dialogue, with the mean of those who rated it.

    Raters differ in how strict they are, so every rater should rate every reply.
    """
    rows: list[dict[str, Any]] = []
    for key in _rated_keys(raters):
        ratings = [REPLY_RATINGS[given[key]] for given in raters.values() if key in given]
        rating = round(mean(ratings), 3)
        rows += [{"key": key, "id": dialogue_id, "rating": rating} for dialogue_id in keys[key]["ids"]]
    return rows


def _agreement(raters: Mapping[str, Answers], values: Mapping[str, int]) -> Agreement:
    """The raters' agreement; `values` are the allowed answers as numbers."""
    numbers: dict[str, dict[str, float]] = {}
    for name, given in raters.items():
        numbers[name] = {key: float(values[answer]) for key, answer in given.items()}
    return agreement(numbers, sorted(values.values()))


def _shown_first_won(rows: list[dict[str, Any]]) -> tuple[int, int, float, float]:
    decided = [row["verdict"] for row in rows if row["verdict"] != "tie" and "mirrored" not in row]
    won = decided.count("first")
    low, high = wilson(won, len(decided))
    return won, len(decided), round(low, 4), round(high, 4)


def _show(summary: SheetSummary) -> None:
    rows = [[name, str(count)] for name, count in summary["raters"].items()]
    stdout.print(table(f"{summary['rows']} of {summary['of']} answered", ["rater", "answers"], rows))
    if "shown_first_won" in summary:
        wins, of, low, high = summary["shown_first_won"]
        tell(f"Shown first won {wins} of {of} decided pairs [{low:.0%}, {high:.0%}].")
    if len(summary["raters"]) > 1:
        tell(f"Agreement: {describe(summary)}.")
