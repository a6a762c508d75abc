"""The direct method: rated responses become SFT rows and preference pairs (arXiv 2507.08151, section 3)."""

from __future__ import annotations

import random
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from rich.markup import escape

from empathy_edge.console import say
from empathy_edge.data import safety_file
from empathy_edge.distill.distill_results import DISTILL_FILES, DistillResults
from empathy_edge.distill.filters import RejectedResponses
from empathy_edge.distill.fitting import fit_responses
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.dialogue import Dialogue, PreferencePair, read_dialogues
from empathy_edge.formats.json_lines import write_jsonl
from empathy_edge.prompts import load_prompts
from empathy_edge.runs.settings import DistillSettings
from empathy_edge.runs.stage import Stage, open_stage
from empathy_edge.text.near_duplicates import leaked_ids

SAFETY = "safety"
"""The source of the rows that `safety_rows` adds."""

Row = TypeVar("Row")


@dataclass
class _TrainingRows:
    """SFT rows, preference pairs, and control pairs, in which the reference is the better response."""

    sft: list[dict[str, Any]] = field(default_factory=list)
    pairs: list[PreferencePair] = field(default_factory=list)
    control: list[PreferencePair] = field(default_factory=list)


def run(*, data: Path, out: Path, settings: DistillSettings, update: bool = False) -> DistillResults:
    """Write `sft.jsonl`, `preference.jsonl` (TRL's conversational format), `control.jsonl` and `test.jsonl`.

    Nothing is trained on the control pairs. A judge that has only learned to tell the model's style from the
    reference's fails on them.

    Args:
        data: dialogues with rated responses.
        out: the stage's folder.
        settings: which sources count as reference and as model, and how many rows are kept.
        update: make the stage again where its settings or inputs changed.
    """
    dialogues = read_dialogues(data)
    _check_sources(data, dialogues, settings)
    stage = _open(data, out, settings, update)
    if stage.done:
        return stage.results(DistillResults)
    test = [dialogue for dialogue in dialogues if dialogue.split == "test"]
    train = [dialogue for dialogue in dialogues if dialogue.split == "train"]
    rejected = RejectedResponses()
    if settings.fit:
        train = fit_responses(train, settings.models, settings.fit, rejected)
    found = _rows_of(train, settings)
    safety = _safety_rows() * settings.safety_rows
    sft = draw(found.sft, settings.max_sft, settings.seed)
    pairs = draw(found.pairs, settings.max_pairs, settings.seed)
    leaked = _leaked(sft + safety, pairs, test)
    sft = [row for row in sft if row["id"] not in leaked]
    pairs = [pair for pair in pairs if pair.id not in leaked]
    _check_rows(data, sft, pairs, settings)
    sft += [row for row in safety if row["id"] not in leaked]
    write_jsonl(out / "sft.jsonl", sft)
    write_jsonl(out / "preference.jsonl", [_trl_pair(pair) for pair in pairs])
    write_jsonl(out / "control.jsonl", [_trl_pair(pair) for pair in found.control])
    write_jsonl(out / "test.jsonl", [item.row() for item in test])
    results = DistillResults(
        dialogues=len(dialogues),
        train_dialogues=len(dialogues) - len(test),
        test_dialogues=len(test),
        sft_found=len(found.sft),
        pairs_found=len(found.pairs),
        sft_rows=len(sft),
        safety_rows=len(safety),
        preference_pairs=len(pairs),
        control_pairs=len(found.control),
        left_out_as_nearly_in_the_test_split=sorted(leaked),
        caught=rejected.report(),
        median_words=_median_words(sft, pairs),
    )
    stage.finish(results)
    return results


def _check_sources(data: Path, dialogues: list[Dialogue], settings: DistillSettings) -> None:
    _check_ratings(data, dialogues)
    present: set[str] = set()
    for dialogue in dialogues:
        present.update(response.source for response in dialogue.responses)
    missing = [source for source in (settings.reference, *settings.models) if source not in present]
    if missing:
        raise EmpathyEdgeError(
            f"{data}: no response comes from {', '.join(repr(name) for name in missing)} "
            "(distill.reference and distill.models). "
            f"The file's sources are: {', '.join(sorted(present))}. Name them with --reference and --model."
        )


def _check_ratings(data: Path, dialogues: list[Dialogue]) -> None:
    """Say at once which method takes data without responses or without ratings."""
    lacking = next((item.id for item in dialogues if not item.responses), None)
    if not any(item.responses for item in dialogues):
        raise EmpathyEdgeError(
            f"{data}: no dialogue has a response (first: {lacking}); rated responses are needed.\n"
            "  `empathy-edge distill --method direct --teacher …` lets a large model answer."
        )
    if not any(response.rating for item in dialogues for response in item.responses):
        raise EmpathyEdgeError(
            f"{data}: no response has a rating (first: {dialogues[0].id}); ratings of 1 to 3 are needed.\n"
            "  `empathy-edge distill --method improve-human --teacher …` lets a large model rate and improve."
        )


def _open(data: Path, out: Path, settings: DistillSettings, update: bool) -> Stage:
    """Open the stage. `safety_rows` is recorded where it is used, so that older folders stay valid."""
    recorded = settings.model_dump(mode="json", exclude=None if settings.safety_rows else {"safety_rows"})
    recorded["prompt_sha256"] = load_prompts("chat").sha256
    inputs = {"data": data}
    if settings.safety_rows:
        inputs["safety"] = safety_file()
    return open_stage(out, "distill", settings=recorded, inputs=inputs, files=DISTILL_FILES, update=update)


def _rows_of(train: list[Dialogue], settings: DistillSettings) -> _TrainingRows:
    rows = _TrainingRows()
    for dialogue in train:
        rows.sft += _sft_rows(dialogue, settings)
        rows.pairs += _preference_pairs(dialogue, settings)
        rows.control += _control_pairs(dialogue, settings)
    return rows


def _sft_rows(dialogue: Dialogue, settings: DistillSettings) -> list[dict[str, Any]]:
    """A row for each model response rated 3.

    The reference must be rated 3 too, or be absent, unless `sft_on_chosen` is set.
    """
    reference = dialogue.response(settings.reference)
    if reference is not None and reference.rating != 3 and not settings.sft_on_chosen:
        return []
    rows = []
    for source in settings.models:
        response = dialogue.response(source)
        if response is not None and response.rating == 3:
            rows.append(_sft_row(dialogue, source, response.text))
    return rows


def _sft_row(dialogue: Dialogue, source: str, text: str) -> dict[str, Any]:
    return {
        "id": dialogue.id,
        "source": source,
        "prompt": dialogue.prompt(),
        "completion": [{"role": "assistant", "content": text}],
    }


def _safety_rows() -> list[dict[str, Any]]:
    """The shipped answers to people in danger, as SFT rows."""
    rows = []
    for dialogue in read_dialogues(safety_file()):
        rows += [_sft_row(dialogue, SAFETY, response.text) for response in dialogue.responses]
    return rows


def _preference_pairs(dialogue: Dialogue, settings: DistillSettings) -> list[PreferencePair]:
    """Pairs in which a model response rated 3 is chosen.

    Rejected is the reference, if it is rated 1 or 2. With `hard_pairs`, each model response rated 1 or 2 is
    rejected too: style alone does not tell the two apart.
    """
    reference = dialogue.response(settings.reference)
    prompt = dialogue.prompt()
    good = _model_responses(dialogue, settings, ratings=(3,))
    pairs = []
    if reference is not None and reference.rating in (1, 2):
        pairs += [PreferencePair(dialogue.id, prompt, chosen, reference.text) for chosen in good]
    if settings.hard_pairs:
        weak = _model_responses(dialogue, settings, ratings=(1, 2))
        for chosen in good:
            pairs += [PreferencePair(dialogue.id, prompt, chosen, rejected) for rejected in weak]
    return pairs


def _control_pairs(dialogue: Dialogue, settings: DistillSettings) -> list[PreferencePair]:
    """Pairs in which the reference, rated 3, is chosen, and a model response rated 1 or 2 is rejected."""
    reference = dialogue.response(settings.reference)
    if reference is None or reference.rating != 3:
        return []
    prompt = dialogue.prompt()
    weak = _model_responses(dialogue, settings, ratings=(1, 2))
    return [PreferencePair(dialogue.id, prompt, reference.text, rejected) for rejected in weak]


def _model_responses(dialogue: Dialogue, settings: DistillSettings, ratings: tuple[int, ...]) -> list[str]:
    """The texts of the model responses with one of these ratings."""
    texts = []
    for source in settings.models:
        response = dialogue.response(source)
        if response is not None and response.rating in ratings:
            texts.append(response.text)
    return texts


def _leaked(sft: list[dict[str, Any]], pairs: list[PreferencePair], test: list[Dialogue]) -> set[str]:
    """The ids of rows and pairs that are nearly a test dialogue, or a prompt of the safety tests."""
    kept_for_tests = [(item.id, item.utterance) for item in test]
    kept_for_tests += load_prompts("safety").texts.items()
    of_sft = leaked_ids(((row["id"], row["prompt"][-1]["content"]) for row in sft), kept_for_tests)
    of_pairs = leaked_ids(((pair.id, pair.prompt[-1]["content"]) for pair in pairs), kept_for_tests)
    return {*of_sft, *of_pairs}


def _check_rows(
    data: Path, sft: list[dict[str, Any]], pairs: list[PreferencePair], settings: DistillSettings
) -> None:
    if sft and pairs:
        return
    why = (
        f"{data}: gives {len(sft)} SFT rows and {len(pairs)} preference pairs.\n"
        f"  An SFT row needs {'/'.join(settings.models)} rated 3 and '{settings.reference}' rated 3 or "
        f"absent; a pair needs '{settings.reference}' rated 1 or 2."
    )
    if not sft and not pairs:
        raise EmpathyEdgeError(why)
    say(f"  [yellow]Warning:[/] {escape(why)}\n  Only one of the two steps of training is possible.")


def _median_words(sft: list[dict[str, Any]], pairs: list[PreferencePair]) -> dict[str, float]:
    return {
        "completion": median_words(row["completion"][0]["content"] for row in sft),
        "chosen": median_words(pair.chosen for pair in pairs),
        "rejected": median_words(pair.rejected for pair in pairs),
    }


def _trl_pair(pair: PreferencePair) -> dict[str, Any]:
    return {
        "id": pair.id,
        "prompt": pair.prompt,
        "chosen": [{"role": "assistant", "content": pair.chosen}],
        "rejected": [{"role": "assistant", "content": pair.rejected}],
    }


def draw(rows: list[Row], max_rows: int | None, seed: int) -> list[Row]:
    """At most `max_rows` rows, drawn with `seed`, in their first order."""
    if max_rows is None or len(rows) <= max_rows:
        return rows
    chosen = random.Random(seed).sample(range(len(rows)), max_rows)
    return [rows[index] for index in sorted(chosen)]


def median_words(texts: Iterable[str]) -> float:
    """The median number of words; 0 for none."""
    lengths = [len(text.split()) for text in texts]
    return statistics.median(lengths) if lengths else 0.0
