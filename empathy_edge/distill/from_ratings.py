"""The direct method: rated responses become SFT rows and preference pairs (arXiv 2507.08151, section 3).

Where no response of a file has a rating, all are taken as good ones, and become SFT rows.
The file of dialogues is read three times, row by row, so that it may be larger than the memory.
"""

from __future__ import annotations

import contextlib
import random
import statistics
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.markup import escape

from empathy_edge.console import say
from empathy_edge.data import safety_file
from empathy_edge.distill.distill_results import DISTILL_FILES, DistillResults
from empathy_edge.distill.filters import RejectedResponses
from empathy_edge.distill.fitting import fit_responses
from empathy_edge.distill.rated_rows import (
    all_pairs,
    control_pairs,
    preference_pairs,
    safety_rows,
    sft_rows,
    trl_pair,
)
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.dialogue import Dialogue, DialogueStream
from empathy_edge.formats.json_lines import writing_jsonl
from empathy_edge.formats.usual_names import NoResponses
from empathy_edge.prompts import load_prompts
from empathy_edge.runs.settings import DistillSettings
from empathy_edge.runs.stage import Stage, open_stage
from empathy_edge.text.near_duplicates import KeptForTests

Write = Callable[[Any], None]
Training = Callable[[], Iterable[Dialogue]]
"""Gives the dialogues of the training split, each time from the first one on."""


@dataclass
class _Counts:
    """Rows that dialogues give."""

    sft: int = 0
    pairs: int = 0
    control: int = 0

    def add(self, dialogue: Dialogue, settings: DistillSettings) -> bool:
        """Count a dialogue's rows; whether it has more pairs than are kept."""
        pairs = len(all_pairs(dialogue, settings))
        self.sft += len(sft_rows(dialogue, settings))
        self.pairs += min(pairs, settings.pairs_per_dialogue)
        return pairs > settings.pairs_per_dialogue


@dataclass
class _Overview:
    """What is in a file of dialogues.

    Attributes:
        dialogues: how many there are.
        first_id: of the first one.
        test_dialogues: how many of them are in the test split.
        kept_for_tests: those.
        sources: of the responses.
        training_sources: of those of the training split, each with how many there are.
        has_rating: whether a response has one.
        found: what those of the training split give.
        is_cut: whether one of them has more than `pairs_per_dialogue` pairs.
    """

    dialogues: int = 0
    first_id: str = ""
    test_dialogues: int = 0
    kept_for_tests: KeptForTests = field(default_factory=KeptForTests)
    sources: set[str] = field(default_factory=set)
    training_sources: Counter[str] = field(default_factory=Counter)
    has_rating: bool = False
    found: _Counts = field(default_factory=_Counts)
    is_cut: bool = False

    def add(self, dialogue: Dialogue, settings: DistillSettings) -> None:
        self.dialogues += 1
        self.first_id = self.first_id or dialogue.id
        if dialogue.split == "test":
            self.test_dialogues += 1
            self.kept_for_tests.add(dialogue.id, dialogue.utterance)
        else:
            self.is_cut = self.found.add(dialogue, settings) or self.is_cut
            self.training_sources.update(response.source for response in dialogue.responses)
        for response in dialogue.responses:
            self.sources.add(response.source)
            self.has_rating = self.has_rating or response.rating is not None


def run(*, data: Path, out: Path, settings: DistillSettings, update: bool = False) -> DistillResults:
    """Write `sft.jsonl`, `preference.jsonl` (TRL's conversational format), `control.jsonl` and `test.jsonl`.

    Nothing is trained on the control pairs. A judge that has only learned to tell the model's style from the
    reference's fails on them. `settings.fit` compares all responses with each other, and holds the training
    split in memory; nothing else does.

    Where no response of the file has a rating, each becomes an SFT row; where `settings.models` is not the
    default, those of its sources.

    Args:
        data: dialogues with responses.
        out: the stage's folder.
        settings: which sources count as reference and as model, and how many rows are kept.
        update: make the stage again where its settings or inputs changed.

    Raises:
        EmpathyEdgeError: the file has not what the method needs, or changed while it was read.
    """
    before = _state(data)
    overview = _look_over(data, settings)
    rules = settings if overview.has_rating else _all_good(overview, settings)
    stage = _open(data, out, settings, update, is_cut=overview.is_cut)
    if stage.done:
        return stage.results(DistillResults)
    with stage.nothing_left_of_a_failure():
        results = _make(stage, data, rules, overview)
        if _state(data) != before:
            raise EmpathyEdgeError(f"{data}: the file changed while it was read; run again, with --update.")
        stage.finish(results)
    return results


def _make(stage: Stage, data: Path, rules: DistillSettings, overview: _Overview) -> DistillResults:
    out = stage.folder
    rejected = RejectedResponses()
    training, found = _training(data, rules, overview, rejected)
    for identifier, utterance in load_prompts("safety").texts.items():
        overview.kept_for_tests.add(identifier, utterance)
    rows = _Rows(found, rules, overview.kept_for_tests)
    with contextlib.ExitStack() as files:
        write = {kind: files.enter_context(writing_jsonl(out / f"{kind}.jsonl")) for kind in rows.KINDS}
        rows.write(training(), write)
        _check_rows(data, rows.written, rules, has_rating=overview.has_rating)
        safety = safety_rows() * rules.safety_rows
        rows.write_safety(safety, write["sft"])
    _write_test(data, out / "test.jsonl")
    results = DistillResults(
        dialogues=overview.dialogues,
        train_dialogues=overview.dialogues - overview.test_dialogues,
        test_dialogues=overview.test_dialogues,
        sft_found=found.sft,
        pairs_found=found.pairs,
        sft_rows=rows.written.sft,
        safety_rows=len(safety),
        preference_pairs=rows.written.pairs,
        control_pairs=rows.written.control,
        left_out_as_nearly_in_the_test_split=sorted(rows.leaked),
        caught=rejected.report(),
        median_words={name: median(lengths) for name, lengths in rows.words.items()},
    )
    if overview.has_rating:
        return results
    return results.model_copy(update={"taken_as_good": overview.found.sft})


def _state(data: Path) -> tuple[int, int]:
    """What differs after the file has changed: its size and time."""
    found = data.stat() if data.exists() else None
    return (found.st_size, found.st_mtime_ns) if found else (0, 0)


def _write_test(data: Path, file: Path) -> None:
    with writing_jsonl(file) as write:
        for dialogue in DialogueStream(data):
            if dialogue.split == "test":
                write(dialogue.row())


def _look_over(data: Path, settings: DistillSettings) -> _Overview:
    """Read every dialogue.

    Raises:
        EmpathyEdgeError: no responses, or none of a source; says which method needs none.
    """
    overview = _Overview()
    for dialogue in DialogueStream(data):
        overview.add(dialogue, settings)
    if not overview.sources:
        raise NoResponses(
            f"{data}: no dialogue has a response (first: {overview.first_id}).\n"
            "  `empathy-edge distill --method direct --teacher …` lets a large model answer."
        )
    learned_from = _learned_from(overview, settings)
    wanted = learned_from
    if overview.has_rating and settings.reference != DistillSettings().reference:
        wanted = (settings.reference, *learned_from)
    missing = [source for source in wanted if source not in overview.sources]
    if missing:
        raise EmpathyEdgeError(
            f"{data}: no response comes from {', '.join(repr(name) for name in missing)} "
            "(distill.reference and distill.models). "
            f"The file's sources are: {', '.join(sorted(overview.sources))}. "
            "Name with --model those to learn from and, where there are weaker ones, with --reference those."
        )
    return overview


def _learned_from(overview: _Overview, settings: DistillSettings) -> tuple[str, ...]:
    """The sources of good responses: without any rating all of the file, unless the settings name others."""
    if overview.has_rating or settings.models != DistillSettings().models:
        return settings.models
    return tuple(sorted(overview.sources))


def _all_good(overview: _Overview, settings: DistillSettings) -> DistillSettings:
    """The settings that make an SFT row of each response of a file without ratings; says how many."""
    models = _learned_from(overview, settings)
    count = sum(overview.training_sources[source] for source in models)
    overview.found = _Counts(sft=count)
    what = "1 response without a rating is taken as a good one"
    if count != 1:
        what = f"{count} responses without ratings are taken as good ones"
    say(f"{what}: SFT rows only")
    return settings.model_copy(update={"models": models})


def _as_good(dialogue: Dialogue) -> Dialogue:
    return replace(dialogue, responses=tuple(replace(item, rating=3) for item in dialogue.responses))


def _open(data: Path, out: Path, settings: DistillSettings, update: bool, *, is_cut: bool) -> Stage:
    """Open the stage. Settings that came later are recorded where they are used: older folders stay valid."""
    defaults = DistillSettings()
    later = {name for name in LATER_SETTINGS if getattr(settings, name) == getattr(defaults, name)}
    if is_cut:
        later.discard("pairs_per_dialogue")
    recorded = settings.model_dump(mode="json", exclude=later)
    recorded["prompt_sha256"] = load_prompts("chat").sha256
    inputs = {"data": data}
    if settings.safety_rows:
        inputs["safety"] = safety_file()
    return open_stage(out, "distill", settings=recorded, inputs=inputs, files=DISTILL_FILES, update=update)


LATER_SETTINGS = ("safety_rows", "pairs_per_dialogue")


def _training(
    data: Path, settings: DistillSettings, overview: _Overview, rejected: RejectedResponses
) -> tuple[Training, _Counts]:
    """The dialogues of the training split, made fit if the settings say so, and how many rows they give."""

    def of_file() -> Iterator[Dialogue]:
        dialogues = (dialogue for dialogue in DialogueStream(data) if dialogue.split == "train")
        return dialogues if overview.has_rating else map(_as_good, dialogues)

    if settings.fit is None:
        return of_file, overview.found
    fitted = fit_responses(list(of_file()), settings.models, settings.fit, rejected)
    found = _Counts()
    for dialogue in fitted:
        found.add(dialogue, settings)
    return lambda: fitted, found


class _Rows:
    """Draws rows and pairs, and writes those whose dialogues are not kept for tests.

    Attributes:
        written: how many.
        words: how many are in each text that was written.
        leaked: the ids of the dialogues that were left out.
    """

    KINDS = ("sft", "preference", "control")

    def __init__(self, found: _Counts, settings: DistillSettings, kept_for_tests: KeptForTests) -> None:
        self._settings = settings
        self._kept_for_tests = kept_for_tests
        self._drawn_rows = _drawn(found.sft, settings.max_sft, settings.seed)
        self._drawn_pairs = _drawn(found.pairs, settings.max_pairs, settings.seed)
        self.written = _Counts()
        self.words: dict[str, list[int]] = {"completion": [], "chosen": [], "rejected": []}
        self.leaked: set[str] = set()

    def write(self, training: Iterable[Dialogue], write: dict[str, Write]) -> None:
        """Write what is drawn of the training split; `write` has a function for each kind of row."""
        seen = _Counts()
        for dialogue in training:
            rows = sft_rows(dialogue, self._settings)
            pairs = preference_pairs(dialogue, self._settings)
            kept_rows = [row for place, row in enumerate(rows, seen.sft) if place in self._drawn_rows]
            kept_pairs = [pair for place, pair in enumerate(pairs, seen.pairs) if place in self._drawn_pairs]
            seen.sft += len(rows)
            seen.pairs += len(pairs)
            for pair in control_pairs(dialogue, self._settings):
                write["control"](trl_pair(pair))
                self.written.control += 1
            if not (kept_rows or kept_pairs) or self._is_leaked(dialogue.id, dialogue.utterance):
                continue
            for row in kept_rows:
                self._write_row(row, write["sft"])
            for pair in kept_pairs:
                write["preference"](trl_pair(pair))
                self.written.pairs += 1
                self.words["chosen"].append(len(pair.chosen.split()))
                self.words["rejected"].append(len(pair.rejected.split()))

    def write_safety(self, rows: Iterable[dict[str, Any]], write: Write) -> None:
        """Write the rows with shipped answers, which are not drawn."""
        for row in rows:
            if not self._is_leaked(row["id"], row["prompt"][-1]["content"]):
                self._write_row(row, write)

    def _write_row(self, row: dict[str, Any], write: Write) -> None:
        write(row)
        self.written.sft += 1
        self.words["completion"].append(len(row["completion"][0]["content"].split()))

    def _is_leaked(self, identifier: str, utterance: str) -> bool:
        if self._kept_for_tests.has(identifier, utterance):
            self.leaked.add(identifier)
        return identifier in self.leaked


def _drawn(count: int, at_most: int | None, seed: int) -> Container[int]:
    """The places of those that are drawn of `count` rows."""
    if at_most is None or count <= at_most:
        return range(count)
    return set(random.Random(seed).sample(range(count), at_most))


def _check_rows(data: Path, written: _Counts, settings: DistillSettings, *, has_rating: bool) -> None:
    if written.sft and (written.pairs or not has_rating):
        return
    if not has_rating:
        raise EmpathyEdgeError(
            f"{data}: gives no SFT rows: every dialogue with a response is of the test split, or nearly the "
            "same as one of it or as a safety prompt."
        )
    why = (
        f"{data}: gives {written.sft} SFT rows and {written.pairs} preference pairs.\n"
        f"  An SFT row needs {'/'.join(settings.models)} rated 3 and '{settings.reference}' rated 3 or "
        f"absent; a pair needs '{settings.reference}' rated 1 or 2."
    )
    if not written.sft and not written.pairs:
        raise EmpathyEdgeError(why)
    if not written.sft and not settings.sft_on_chosen:
        why += "\n  With --sft-on-chosen the chosen response of each pair becomes an SFT row, too."
    say(f"  [yellow]Warning:[/] {escape(why)}\n  Only one of the two steps of training is possible.")


def median_words(texts: Iterable[str]) -> float:
    """The median number of words; 0 for none."""
    return median([len(text.split()) for text in texts])


def median(lengths: list[int]) -> float:
    """The median; 0 for none."""
    return statistics.median(lengths) if lengths else 0.0
