"""Distillation with a teacher: it answers dialogues or improves responses; good answers become training rows.

The three methods of arXiv 2507.08151: `direct`, `improve-human`, `improve-llm`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from empathy_edge.distill.distill_results import DISTILL_FILES, DistillResults
from empathy_edge.distill.filters import VERSION as FILTERS_VERSION
from empathy_edge.distill.filters import RejectedResponses, fault, strip_echo
from empathy_edge.distill.from_ratings import median_words
from empathy_edge.distill.rated_rows import draw
from empathy_edge.distill.strategies import Ask, Step, answer_directly, improve, rate
from empathy_edge.distill.teacher_settings import TeacherSettings
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.dialogue import Dialogue, Response, read_dialogues
from empathy_edge.formats.json_lines import write_jsonl
from empathy_edge.llm.client import CallsFailed, ModelClient
from empathy_edge.llm.records import CutOff, TeacherError
from empathy_edge.prompts import load_prompts
from empathy_edge.runs.stage import Stage, open_stage
from empathy_edge.text.language import require_language_detection
from empathy_edge.text.near_duplicates import KeptForTests, NearDuplicates, of_safety_prompts


@dataclass(frozen=True)
class Distilled:
    """What the teacher made of one dialogue.

    Attributes:
        dialogue: what was answered.
        reference: the response to compare with: the human one, or the one that was improved; empty where
            there is none.
        rating: of the human response, 1 to 3; None where there is none.
        text: the result.
        steps: every answer on the way.
    """

    dialogue: Dialogue
    reference: str
    rating: int | None
    text: str
    steps: tuple[Step, ...]


def run(
    *,
    data: Path,
    out: Path,
    settings: TeacherSettings,
    client: ModelClient,
    answered_ids: Collection[str] | None = None,
    update: bool = False,
) -> DistillResults:
    """Write `responses.jsonl`, `sft.jsonl`, `preference.jsonl`, `control.jsonl` and `test.jsonl` into `out`.

    A human response rated 3 gives an SFT row. One rated 1 or 2 gives a preference pair, in which it is
    rejected; with `improve-llm`, the teacher's first answer is. The teacher rates what has no rating. A
    prompt without any response gives an SFT row; `improve-human` refuses it.

    Args:
        data: dialogues; only the training split is sent to the teacher.
        out: the stage's folder.
        settings: method, strategy, length and draw.
        client: the teacher with its ledger and budget.
        answered_ids: the dialogues that a file of answers has; None for all.
        update: make the stage again where settings or inputs changed.

    Raises:
        BudgetReached: a limit would be passed. The ledger has every answer; the same command goes on.
        CallsFailed: dialogues failed. The others' rows are written; the same command goes on.
    """
    require_language_detection()
    dialogues = read_dialogues(data)
    chosen = choose_dialogues(data, dialogues, settings, answered_ids)
    stage = _open(data, out, settings, client, update)
    if stage.done:
        return stage.results(DistillResults)
    results, failed = _distil_all(chosen, settings, client)
    rejected = _as_rejected(failed)
    test = [item for item in dialogues if item.split == "test"]
    good = _filter(results, test, settings.most_words, rejected)
    for_sft = [item for item in good if item.rating in (3, None)]
    for_pairs = [item for item in good if item.rating in (1, 2)]
    write_jsonl(out / "responses.jsonl", [_record(item) for item in results])
    write_jsonl(out / "sft.jsonl", [_sft_row(item) for item in for_sft])
    write_jsonl(out / "preference.jsonl", [_pair_row(item) for item in for_pairs])
    write_jsonl(out / "control.jsonl", [])
    write_jsonl(out / "test.jsonl", [item.row() for item in test])
    found = DistillResults(
        dialogues=len(chosen),
        sft_rows=len(for_sft),
        preference_pairs=len(for_pairs),
        test_dialogues=len(test),
        calls=client.calls,
        answers_from_the_ledger=client.from_ledger,
        cost_usd=round(client.budget.cost, 6),
        caught=rejected.report(),
        median_words=_median_words(for_sft, for_pairs),
        served=sorted(client.served),
        failed=sorted(failed),
    )
    stage.finish(found, is_complete=not failed)
    if failed:
        raise _failed_dialogues(failed, found, out)
    return found


def _as_rejected(failed: Mapping[str, TeacherError]) -> RejectedResponses:
    rejected = RejectedResponses()
    for dialogue_id, error in failed.items():
        rejected.add("teacher failed", dialogue_id, str(error))
    return rejected


def _failed_dialogues(failed: Mapping[str, TeacherError], found: DistillResults, out: Path) -> CallsFailed:
    first = next(iter(failed.values()))
    return CallsFailed(
        f"{len(failed)} of {found.dialogues} dialogues failed (the first: {first}).\n"
        f"  {found.sft_rows} SFT rows and {found.preference_pairs} preference pairs of the others are in "
        f"{out}; run the same command again to ask for the missing ones." + _hint(failed)
    )


def choose_dialogues(
    data: Path, dialogues: list[Dialogue], settings: TeacherSettings, answered_ids: Collection[str] | None
) -> list[Dialogue]:
    """The dialogues of the training split that go to the teacher.

    Raises:
        EmpathyEdgeError: there is none, or one lacks the response that is to be improved.
    """
    training = [item for item in dialogues if item.split == "train"]
    if answered_ids is not None:
        training = [item for item in training if item.id in answered_ids]
    chosen = draw(training, settings.max_dialogues, settings.seed)
    if not chosen:
        raise EmpathyEdgeError(f"{data}: no training dialogue that the teacher could answer.")
    alone = [item.id for item in chosen if not item.responses]
    if alone and settings.method == "improve-human":
        raise EmpathyEdgeError(
            f"{data}: {len(alone)} of {len(chosen)} dialogues have no response to improve "
            f"(first: {alone[0]}).\n"
            "  --method direct lets the teacher answer them; improve-llm also improves its answers."
        )
    return chosen


def _open(data: Path, out: Path, settings: TeacherSettings, client: ModelClient, update: bool) -> Stage:
    prompts = load_prompts("distill")
    recorded = {
        "method": settings.method,
        "strategy": settings.strategy if settings.method != "direct" else None,
        "teacher": client.identity(),
        "prompts": {"name": "distill", "version": prompts.version, "sha256": prompts.sha256},
        "wording": settings.response_settings(),
        "filters": FILTERS_VERSION,
        "max_dialogues": settings.max_dialogues,
        "seed": settings.seed,
    }
    return open_stage(
        out, "distill", settings=recorded, inputs={"data": data}, files=DISTILL_FILES, update=update
    )


def _distil_all(
    dialogues: list[Dialogue], settings: TeacherSettings, client: ModelClient
) -> tuple[list[Distilled], dict[str, TeacherError]]:
    """The results in the order of the dialogues; and the errors, by dialogue id, of those that failed.

    Raises:
        EmpathyEdgeError: a limit was reached, the key was refused, or no call succeeded.
    """
    outcomes = client.run(
        dialogues, lambda dialogue: distil(dialogue, settings, client.ask), label=settings.method
    )
    results: list[Distilled] = []
    failed: dict[str, TeacherError] = {}
    for dialogue, outcome in zip(dialogues, outcomes, strict=True):
        if isinstance(outcome, TeacherError):
            failed[dialogue.id] = outcome
        else:
            results.append(outcome)
    if not results:
        error = next(iter(failed.values()))
        raise CallsFailed(
            f"No call to {client.teacher.model} succeeded; the first failed with: {error}.\n"
            "  Nothing was written; run the same command again when the cause is mended." + _hint(failed)
        )
    return results, failed


def _hint(failed: Mapping[str, TeacherError]) -> str:
    cut_off = sum(isinstance(error, CutOff) for error in failed.values())
    return f"\n  {cut_off} answers were cut off: raise --max-tokens." if cut_off else ""


async def distil(dialogue: Dialogue, settings: TeacherSettings, ask: Ask) -> Distilled:
    """One dialogue's result, by as many calls of `ask` as method and strategy need.

    Raises:
        TeacherError: a call failed, or the dialogue has no response to improve or to compare with.
    """
    human = dialogue.response("human") or next(iter(dialogue.responses), None)
    rating, steps = await _rating_of(dialogue, human, settings, ask)
    if settings.method == "improve-human":
        if human is None:
            raise TeacherError("the dialogue has no human response")
        rewrite = await improve(settings.strategy, dialogue, human.text, ask, settings)
        return Distilled(dialogue, human.text, rating, strip_echo(rewrite.text), steps + rewrite.steps)
    first = strip_echo(await answer_directly(dialogue, ask, settings))
    steps += (Step("initial", first),)
    if settings.method == "direct":
        return Distilled(dialogue, human.text if human else "", rating, first, steps)
    rewrite = await improve(settings.strategy, dialogue, first, ask, settings, prefix="llm-")
    return Distilled(dialogue, first, rating, strip_echo(rewrite.text), steps + rewrite.steps)


async def _rating_of(
    dialogue: Dialogue, human: Response | None, settings: TeacherSettings, ask: Ask
) -> tuple[int | None, tuple[Step, ...]]:
    """The rating of the human response, by the teacher where no person gave one; None without a response."""
    if human is None or human.rating is not None:
        return human.rating if human else None, ()
    rating = await rate(dialogue, human.text, ask, settings)
    return rating, (Step("rating", str(rating)),)


def _filter(
    results: list[Distilled], test: list[Dialogue], max_words: int, rejected: RejectedResponses
) -> list[Distilled]:
    """The results that no filter rejects. Rejected ones are counted, and stay in `responses.jsonl`."""
    kept_for_tests = KeptForTests((item.id, item.utterance) for item in test)
    safety_prompts = of_safety_prompts()
    accepted_texts = NearDuplicates()
    good = []
    for item in results:
        said = item.dialogue.utterance
        name = fault(item.text, utterance=said, original=item.reference, max_words=max_words)
        if name is None and kept_for_tests.has(item.dialogue.id, said):
            name = "in the test split"
        if name is None and safety_prompts.has(said):
            name = "among the safety prompts"
        if name is None and accepted_texts.has(item.text):
            name = "near-duplicate"
        if name is None:
            accepted_texts.add(item.text)
            good.append(item)
        else:
            rejected.add(name, item.dialogue.id, item.text)
    return good


def _median_words(for_sft: list[Distilled], for_pairs: list[Distilled]) -> dict[str, float]:
    return {
        "completion": median_words(item.text for item in for_sft),
        "chosen": median_words(item.text for item in for_pairs),
        "rejected": median_words(item.reference for item in for_pairs),
    }


def _record(item: Distilled) -> dict[str, Any]:
    """A row of `responses.jsonl`."""
    return {
        "id": item.dialogue.id,
        "rating": item.rating,
        "reference": item.reference,
        "text": item.text,
        "steps": [{"step": step.name, "text": step.text} for step in item.steps],
        "prompt_sha256": load_prompts("distill").sha256,
    }


def _sft_row(item: Distilled) -> dict[str, Any]:
    return {
        "id": item.dialogue.id,
        "prompt": item.dialogue.prompt(),
        "completion": [{"role": "assistant", "content": item.text}],
    }


def _pair_row(item: Distilled) -> dict[str, Any]:
    return {
        "id": item.dialogue.id,
        "prompt": item.dialogue.prompt(),
        "chosen": [{"role": "assistant", "content": item.text}],
        "rejected": [{"role": "assistant", "content": item.reference}],
    }
