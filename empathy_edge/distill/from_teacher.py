"""Distillation with a teacher: it answers dialogues, or improves responses, and good answers become training rows.

The three methods of arXiv 2507.08151: `direct`, `improve-human`, `improve-llm`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from empathy_edge.console import progress, say
from empathy_edge.distill.filters import VERSION as FILTERS_VERSION
from empathy_edge.distill.filters import Caught, fault, strip_echo
from empathy_edge.distill.from_ratings import draw, median_words
from empathy_edge.distill.strategies import Wording, answer_directly, improve, rate
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.chat_format import messages_for
from empathy_edge.formats.dialogue import Dialogue, read_dialogues, write_jsonl
from empathy_edge.llm.budget import BudgetReached
from empathy_edge.llm.client import ModelClient
from empathy_edge.llm.records import TeacherError
from empathy_edge.prompts import load_prompts
from empathy_edge.runs.stage import open_stage
from empathy_edge.text.near_duplicates import NearDuplicates, leaked_ids

Method = Literal["direct", "improve-human", "improve-llm"]


@dataclass(frozen=True)
class Distilled:
    """What the teacher made of one dialogue: the result, what it stands against, and every step on the way."""

    dialogue: Dialogue
    reference: str
    rating: int | None
    text: str
    steps: tuple[tuple[str, str], ...]


def run(
    *,
    data: Path,
    out: Path,
    method: Method,
    strategy: str,
    client: ModelClient,
    wording: Wording,
    max_dialogues: int | None = None,
    only: set[str] | None = None,
    seed: int = 0,
    update: bool = False,
) -> dict[str, Any]:
    """Write `responses.jsonl`, `sft.jsonl`, `preference.jsonl`, `control.jsonl` and `test.jsonl` into `out`.

    A dialogue whose human response is rated 3 gives an SFT row; one whose human response is rated 1 or 2 gives a
    preference pair, human rejected (`improve-llm`: the teacher's first answer rejected). Where there is no human
    rating, the teacher's own rating of the human response decides.

    Args:
        data: dialogues (.jsonl or the paper's .csv); only the training split is sent to the teacher.
        out: the stage's folder.
        method: where the response comes from.
        strategy: how it is improved (not used by `direct`).
        client: the teacher with its ledger and budget.
        wording: the length that is asked for.
        max_dialogues: at most so many, drawn with `seed`.
        only: the ids that are wanted (those a file of answers covers).
        seed: for the draw.
        update: make it again where settings or inputs changed.

    Raises:
        BudgetReached: a limit would be passed; every answer is in the ledger, and the same command goes on from there.
    """
    everything = read_dialogues(data)
    chosen = drawn(data, everything, max_dialogues, only, seed)
    settings = {
        "method": method,
        "strategy": strategy if method != "direct" else None,
        "teacher": client.teacher.model,
        "prompts": {
            "name": "distill",
            "version": load_prompts("distill").version,
            "sha256": load_prompts("distill").sha256,
        },
        "wording": wording.__dict__,
        "filters": FILTERS_VERSION,
        "max_dialogues": max_dialogues,
        "seed": seed,
    }
    stage = open_stage(out, "distill", settings=settings, inputs={"data": data}, update=update)
    if stage.done:
        return stage.manifest
    results, failed = asyncio.run(_distil_all(chosen, method, strategy, client, wording))
    caught = Caught()
    for name, dialogue_id in failed:
        caught.add("teacher failed", dialogue_id, name)
    test = [item for item in everything if item.split == "test"]
    good = _filtered(results, test, wording, caught)
    sft = [_sft_row(item) for item in good if item.rating == 3]
    pairs = [_pair_row(item) for item in good if item.rating in (1, 2)]
    write_jsonl(out / "responses.jsonl", [_record(item) for item in results])
    write_jsonl(out / "sft.jsonl", sft)
    write_jsonl(out / "preference.jsonl", pairs)
    write_jsonl(out / "control.jsonl", [])
    write_jsonl(out / "test.jsonl", test)
    return stage.finish(
        dialogues=len(chosen),
        sft_rows=len(sft),
        preference_pairs=len(pairs),
        test_dialogues=len(test),
        calls=client.calls,
        answers_from_the_ledger=client.from_ledger,
        cost_usd=round(client.budget.cost, 6),
        caught=caught.report(),
        median_words={
            "completion": median_words(row["completion"][0]["content"] for row in sft),
            "chosen": median_words(row["chosen"][0]["content"] for row in pairs),
            "rejected": median_words(row["rejected"][0]["content"] for row in pairs),
        },
    )


def drawn(
    data: Path, dialogues: list[Dialogue], most: int | None, only: set[str] | None, seed: int
) -> list[Dialogue]:
    """The dialogues of the training split that go to the teacher.

    Raises:
        EmpathyEdgeError: there is none.
    """
    chosen = [item for item in dialogues if item.split == "train" and (only is None or item.id in only)]
    chosen = draw(chosen, most, seed)
    if not chosen:
        raise EmpathyEdgeError(f"{data}: no training dialogue that the teacher could answer.")
    return chosen


async def _distil_all(
    dialogues: list[Dialogue], method: Method, strategy: str, client: ModelClient, wording: Wording
) -> tuple[list[Distilled], list[tuple[str, str]]]:
    """Every dialogue's result in their order, and (error, id) of those whose calls failed for good."""
    results: dict[str, Distilled] = {}
    failed: list[tuple[str, str]] = []
    stopped: list[EmpathyEdgeError] = []
    queue = iter(dialogues)
    bar = progress()
    task = bar.add_task(f"{method}", total=len(dialogues), note="")

    async def work() -> None:
        for dialogue in queue:
            if stopped:
                return
            try:
                results[dialogue.id] = await distil(dialogue, method, strategy, client.ask, wording)
            except TeacherError as error:
                failed.append((str(error), dialogue.id))
            except EmpathyEdgeError as error:  # a limit, or a key that is refused: no use in going on
                stopped.append(error)
                return
            bar.update(task, advance=1, note=f"{client.calls} calls, {client.from_ledger} from the ledger")

    try:
        with bar:
            await asyncio.gather(*(work() for _ in range(client.teacher.parallel)))
    finally:
        await asyncio.shield(client.teacher.close())
    if stopped:
        if isinstance(stopped[0], BudgetReached):
            raise BudgetReached(
                f"{stopped[0]}\n  {len(results)} of {len(dialogues)} dialogues are done and kept in the ledger; "
                "run the same command with a higher limit to go on."
            )
        raise stopped[0]
    if not results:
        raise EmpathyEdgeError(
            f"No call to {client.teacher.model} succeeded; the first failed with: {failed[0][0]}."
        )
    if failed:
        say(f"  {len(failed)} dialogues failed and were left out (the first: {failed[0][0]})")
    return [results[item.id] for item in dialogues if item.id in results], failed


async def distil(dialogue: Dialogue, method: Method, strategy: str, ask: Any, wording: Wording) -> Distilled:
    """One dialogue's result, by as many calls of `ask` as method and strategy need."""
    human = dialogue.response("human") or (dialogue.responses[0] if dialogue.responses else None)
    if human is None:
        raise TeacherError("the dialogue has no human response")
    rating = human.rating
    steps: tuple[tuple[str, str], ...] = ()
    if rating is None:
        rating = await rate(dialogue, human.text, ask, wording)
        steps = (("rating", str(rating)),)
    if method == "improve-human":
        rewrite = await improve(strategy, dialogue, human.text, ask, wording)
        return Distilled(dialogue, human.text, rating, strip_echo(rewrite.text), steps + rewrite.steps)
    first = strip_echo(await answer_directly(dialogue, ask, wording))
    steps += (("initial", first),)
    if method == "direct":
        return Distilled(dialogue, human.text, rating, first, steps)
    rewrite = await improve(strategy, dialogue, first, ask, wording, prefix="llm-")
    return Distilled(dialogue, first, rating, strip_echo(rewrite.text), steps + rewrite.steps)


def _filtered(
    results: list[Distilled], test: list[Dialogue], wording: Wording, caught: Caught
) -> list[Distilled]:
    """The results that no filter catches; what is caught is counted, and stays in `responses.jsonl`."""
    leaked = set(
        leaked_ids(
            ((item.dialogue.id, item.dialogue.utterance) for item in results),
            ((item.id, item.utterance) for item in test),
        )
    )
    seen = NearDuplicates()
    good = []
    for item in results:
        name = fault(
            item.text,
            utterance=item.dialogue.utterance,
            original=item.reference,
            most_words=wording.most_words,
        )
        if name is None and item.dialogue.id in leaked:
            name = "in the test split"
        if name is None and seen.has(item.text):
            name = "near-duplicate"
        if name is None:
            seen.add(item.text)
            good.append(item)
        else:
            caught.add(name, item.dialogue.id, item.text)
    return good


def _record(item: Distilled) -> dict[str, Any]:
    return {
        "id": item.dialogue.id,
        "rating": item.rating,
        "reference": item.reference,
        "text": item.text,
        "steps": [{"step": name, "text": text} for name, text in item.steps],
        "prompt_sha256": load_prompts("distill").sha256,
    }


def _sft_row(item: Distilled) -> dict[str, Any]:
    return {
        "id": item.dialogue.id,
        "prompt": messages_for(item.dialogue.utterance),
        "completion": [{"role": "assistant", "content": item.text}],
    }


def _pair_row(item: Distilled) -> dict[str, Any]:
    return {
        "id": item.dialogue.id,
        "prompt": messages_for(item.dialogue.utterance),
        "chosen": [{"role": "assistant", "content": item.text}],
        "rejected": [{"role": "assistant", "content": item.reference}],
    }
