"""Compare two arms' responses by judges, in both orders, and show what may have biased the result."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypedDict

from empathy_edge.console import out as stdout
from empathy_edge.console import progress, say, table, tell
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.dialogue import Dialogue, read_dialogues
from empathy_edge.formats.json_lines import line_of, read_unfinished_jsonl, write_jsonl
from empathy_edge.judging import certificate
from empathy_edge.judging.agreement import Agreement, agreement, describe
from empathy_edge.judging.certificate import (
    PEOPLE_PREFER_LONGER,
    Certification,
    Certifications,
    not_certified,
)
from empathy_edge.judging.comparison_figures import (
    ComparisonFigures,
    LostPrompt,
    PromptVerdicts,
    by_emotion,
    comparison_figures,
    points_of,
    worst_prompts,
)
from empathy_edge.judging.length_adjusted import ShareInterval
from empathy_edge.judging.pairwise_judges import Judge
from empathy_edge.judging.response_pairs import ResponsePairs, model_of, read_responses
from empathy_edge.judging.statistics import holm
from empathy_edge.judging.verdicts import FAILED, POINT_LEVELS, SWAPPED, Pair, Verdict
from empathy_edge.llm.client import CallsFailed
from empathy_edge.system.files import write_json

VERDICTS, COMPARED = "verdicts.jsonl", "compared.json"

BATCH = 64
"""Pairs that a judge is given at once; verdicts are written to the disk after each batch."""


class ComparedQuestion(ComparisonFigures):
    """One judge's figures on one question, as they are written into `compared.json`.

    `by_emotion`: emotion → win rate and number of prompts. `worst`: the prompts that the first arm lost most
    clearly. `p_holm`: the p against one half, adjusted for several questions. `judge`: whether the judge is
    certified.
    """

    by_emotion: dict[str, dict[str, float]]
    worst: list[LostPrompt]
    p_holm: float
    judge: Certification


class JudgeComparison(TypedDict):
    """What one judge says: its name, the number of prompts, and its figures by question."""

    judge: str
    prompts: int
    questions: dict[str, ComparedQuestion]


class Comparison(TypedDict):
    """The file `compared.json`: two arms, each judge's figures, and by question how far judges agree.

    `models`: the identities of the two models; None where a file of responses does not say.
    """

    first: str
    second: str
    models: list[str | None]
    judges: list[JudgeComparison]
    agreement: dict[str, Agreement]


def run(
    *,
    first: Path,
    second: Path,
    dialogues: Path,
    judges: Iterable[tuple[Judge, Certifications | None]],
    questions: Sequence[str],
    out: Path,
) -> Comparison:
    """Compare the responses of two files that `respond` wrote.

    Writes `verdicts.jsonl` and `compared.json` into `out`. Verdicts that are there already, of whichever run,
    are not asked for again.

    Args:
        first: responses of one arm.
        second: responses of the other arm.
        dialogues: what was responded to.
        judges: asked one after the other; each comes with its certifications. Without them it is not
        certified.
        questions: what is asked (`prompts/judge.yaml`).
        out: a folder.

    Raises:
        EmpathyEdgeError: the files do not answer the same dialogues.
    """
    pairs = _read_pairs(first, second, dialogues)
    make_folder(out)
    compared: list[JudgeComparison] = []
    points: dict[str, dict[str, dict[str, float]]] = {question: {} for question in questions}
    for judge, certified in judges:
        known = judgeable(judge, pairs)
        rows = {question: ask(judge, question, known, out)[0] for question in questions}
        compared.append(_compared_by(judge, rows, known, certified or {}))
        for question in questions:
            points[question][judge.name] = points_of(_fully_parsed(rows[question]))
    result: Comparison = {
        "first": first.stem,
        "second": second.stem,
        "models": [model_of(pairs.first), model_of(pairs.second)],
        "judges": compared,
        "agreement": {question: agreement(points[question], POINT_LEVELS) for question in questions},
    }
    write_json(out / COMPARED, result)
    show(result)
    return result


def _read_pairs(first: Path, second: Path, dialogues: Path) -> ResponsePairs:
    """The responses of both files to the dialogues that both answer."""
    ours, theirs = read_responses(first), read_responses(second)
    by_id = {item.id: item for item in read_dialogues(dialogues)}
    common = [name for name in ours if name in theirs]
    if not common:
        raise EmpathyEdgeError(f"{first} and {second} have no dialogue in common.")
    unknown = sorted(name for name in common if name not in by_id)
    if unknown:
        raise EmpathyEdgeError(f"{dialogues}: lacks {len(unknown)} of the dialogues (first: {unknown[0]}).")
    return ResponsePairs([by_id[name] for name in common], ours, theirs)


def make_folder(out: Path) -> None:
    """Make the folder of a comparison or a certificate, unless it holds something else."""
    if out.is_dir():
        ours = (VERDICTS, COMPARED, certificate.FILE)
        others = sorted(item.name for item in out.iterdir() if item.name not in ours)
        if others:
            raise EmpathyEdgeError(
                f"{out}: holds something else ({others[0]}); choose a new folder with --out."
            )
    out.mkdir(parents=True, exist_ok=True)


def judgeable(judge: Judge, pairs: ResponsePairs) -> ResponsePairs:
    """The pairs that the judge knows: all of them, except for a file of verdicts or ratings.

    Where it knows none, all are returned; the judge then says what it lacks.
    """
    if judge.dialogue_ids is None:
        return pairs
    known = pairs.only(judge.dialogue_ids)
    if not known.dialogues:
        return pairs
    if len(known) < len(pairs):
        say(f"{judge.name} is about {len(known)} of {len(pairs)} dialogues; these are compared.")
    return known


def ask(judge: Judge, question: str, pairs: ResponsePairs, out: Path) -> tuple[list[PromptVerdicts], int]:
    """Ask a judge about every pair in both orders; verdicts are kept in `verdicts.jsonl` in the folder `out`.

    Returns:
        A row for each dialogue, and how many verdicts were not known before.

    Raises:
        CallsFailed: some calls to the judge failed; the other verdicts are kept.
    """
    file = out / VERDICTS
    verdicts = _stored_verdicts(file, judge)
    both_orders = []
    for item in pairs.dialogues:
        pair = _pair(item, pairs)
        both_orders += [pair, pair.swapped()]
    missing = [pair for pair in both_orders if pair.key(question) not in verdicts]
    failed: list[Verdict] = []
    with progress() as bar, open(file, "a", encoding="utf-8") as handle:
        known = len(both_orders) - len(missing)
        task = bar.add_task(question, total=len(both_orders), completed=known, note="")
        for start in range(0, len(missing), BATCH):
            batch = missing[start : start + BATCH]
            for pair, verdict in zip(batch, judge.compare(batch, question), strict=True):
                bar.advance(task)
                if verdict.verdict == FAILED:
                    failed.append(verdict)
                    continue
                verdicts[pair.key(question)] = verdict
                row = _row_to_store(judge, question, pair, verdict)
                handle.write(line_of(row))
            handle.flush()
    if failed:
        raise CallsFailed(
            f"{len(failed)} of {len(missing)} calls to {judge.name} failed (the first: {failed[0].answer}).\n"
            "  The other verdicts are kept; run the same command again to ask for the missing ones."
        )
    rows = []
    for pair in both_orders[::2]:
        in_order, swapped = verdicts[pair.key(question)], verdicts[pair.swapped().key(question)]
        rows.append(_prompt_verdicts(pair.id, in_order, swapped))
    return rows, len(missing)


def _stored_verdicts(file: Path, judge: Judge) -> dict[str, Verdict]:
    """The judge's verdicts in the file by key; a line that was cut off is removed from the file."""
    rows = read_unfinished_jsonl(file)
    write_jsonl(file, rows)
    return {
        row["key"]: Verdict(row["verdict"], row["first"], row["answer"], row.get("mirrored", False))
        for row in rows
        if row["judge"] == judge.name
    }


def _pair(item: Dialogue, pairs: ResponsePairs) -> Pair:
    first, second = pairs.first[item.id]["text"], pairs.second[item.id]["text"]
    return Pair(item.id, item.situation, item.said, first, second)


def _row_to_store(judge: Judge, question: str, pair: Pair, verdict: Verdict) -> dict[str, Any]:
    head = {"judge": judge.name, "question": question, "key": pair.key(question), "id": pair.id}
    return head | asdict(verdict)


def _prompt_verdicts(dialogue_id: str, in_order: Verdict, swapped: Verdict) -> PromptVerdicts:
    return {
        "id": dialogue_id,
        "verdicts": [in_order.verdict, SWAPPED[swapped.verdict]],
        "mirrored": [in_order.mirrored, swapped.mirrored],
    }


def _compared_by(
    judge: Judge,
    rows: dict[str, list[PromptVerdicts]],
    pairs: ResponsePairs,
    certified: Certifications,
) -> JudgeComparison:
    """One judge's part of `compared.json`, from its verdicts by question."""
    figures = {question: comparison_figures(rows[question], pairs) for question in rows}
    adjusted = holm([item["p_against_half"] for item in figures.values()])
    questions: dict[str, ComparedQuestion] = {}
    for (question, item), p_holm in zip(figures.items(), adjusted, strict=True):
        points = points_of(rows[question])
        questions[question] = {
            **item,
            "by_emotion": by_emotion(points, pairs),
            "worst": worst_prompts(points, pairs),
            "p_holm": p_holm,
            "judge": certified.get(question) or not_certified("no certificate was given"),
        }
    return {"judge": judge.name, "prompts": len(pairs), "questions": questions}


def _fully_parsed(rows: Iterable[PromptVerdicts]) -> list[PromptVerdicts]:
    return [row for row in rows if "unparsed" not in row["verdicts"]]


def show(result: Comparison) -> None:
    """Print each judge's win rates with their possible biases, and how far the judges agree."""
    for item in result["judges"]:
        _show_judge(f"{result['first']} against {result['second']}", item)
    if len(result["judges"]) > 1:
        for question, found in result["agreement"].items():
            tell(f"  {question}, agreement of the judges: {describe(found)}.")
    tell(f"  People preferred the longer response in {PEOPLE_PREFER_LONGER:.0%} of the paper's pairs.")


COLUMNS = (
    "question",
    "win rate",
    "p (Holm)",
    "ties",
    "unparsed",
    "shown first wins",
    "flips",
    "longer wins",
    "at equal length",
    "judge",
)


def _show_judge(arms: str, result: JudgeComparison) -> None:
    rows = [_table_row(question, item, result["prompts"]) for question, item in result["questions"].items()]
    title = f"{arms}, {result['prompts']} prompts, by {result['judge']}"
    stdout.print(table(title, COLUMNS, rows))
    for question, item in result["questions"].items():
        if not item["length_adjusted"]:
            tell(f"  {question}, at equal length: not available, {item['length_adjusted_why_not']}.")
        if not item["judge"]["certified"]:
            tell(f"  {question}: the judge is not certified: {'; '.join(item['judge']['doubts'])}.")


def _table_row(question: str, item: ComparedQuestion, prompts: int) -> list[str]:
    rate, adjusted = item["win_rate"], item["length_adjusted"]
    return [
        question,
        f"{rate['mean']:.1%} [{rate['low']:.1%}, {rate['high']:.1%}]",
        f"{item['p_holm']:.3f}",
        f"{item['ties']}/{prompts}",
        f"{item['unparsed']:.1%}",
        _share(item["first_position_wins"]),
        "–" if item["order_flips"] is None else f"{item['order_flips']:.1%}",
        _share(item["longer_wins"]),
        f"{adjusted['mean']:.1%}" if adjusted else "not available",
        "certified" if item["judge"]["certified"] else "UNCERTIFIED",
    ]


def _share(item: ShareInterval) -> str:
    if item["share"] is None:
        return "–"
    return f"{item['share']:.0%} [{item['low']:.0%}, {item['high']:.0%}]"
