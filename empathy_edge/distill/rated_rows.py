"""What one dialogue with rated responses gives: SFT rows, preference pairs and control pairs.

The rules are those of the direct method (arXiv 2507.08151, section 3).
"""

from __future__ import annotations

import random
from typing import Any, TypeVar

from empathy_edge.data import safety_file
from empathy_edge.formats.dialogue import Dialogue, PreferencePair, read_dialogues
from empathy_edge.runs.settings import DistillSettings

SAFETY = "safety"
"""The source of the rows that `safety_rows` adds."""

Row = TypeVar("Row")


def sft_rows(dialogue: Dialogue, settings: DistillSettings) -> list[dict[str, Any]]:
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
            rows.append(sft_row(dialogue, source, response.text))
    return rows


def sft_row(dialogue: Dialogue, source: str, text: str) -> dict[str, Any]:
    """A row in TRL's conversational format."""
    return {
        "id": dialogue.id,
        "source": source,
        "prompt": dialogue.prompt(),
        "completion": [{"role": "assistant", "content": text}],
    }


def safety_rows() -> list[dict[str, Any]]:
    """The shipped answers to people in danger, as SFT rows."""
    rows = []
    for dialogue in read_dialogues(safety_file()):
        rows += [sft_row(dialogue, SAFETY, response.text) for response in dialogue.responses]
    return rows


def preference_pairs(dialogue: Dialogue, settings: DistillSettings) -> list[PreferencePair]:
    """Pairs in which a model response rated 3 is chosen.

    Rejected is the reference, if it is rated 1 or 2. With `hard_pairs`, each model response rated 1 or 2 is
    rejected too: style alone does not tell the two apart. Many responses to one dialogue give far more pairs,
    of which `pairs_per_dialogue` are drawn.
    """
    pairs = all_pairs(dialogue, settings)
    return draw(pairs, settings.pairs_per_dialogue, f"{settings.seed} {dialogue.id}")


def all_pairs(dialogue: Dialogue, settings: DistillSettings) -> list[PreferencePair]:
    """The pairs of which `preference_pairs` draws."""
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


def control_pairs(dialogue: Dialogue, settings: DistillSettings) -> list[PreferencePair]:
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


def trl_pair(pair: PreferencePair) -> dict[str, Any]:
    """A pair in TRL's conversational format."""
    return {
        "id": pair.id,
        "prompt": pair.prompt,
        "chosen": [{"role": "assistant", "content": pair.chosen}],
        "rejected": [{"role": "assistant", "content": pair.rejected}],
    }


def draw(rows: list[Row], max_rows: int | None, seed: int | str) -> list[Row]:
    """At most `max_rows` rows, drawn with `seed`, in their first order."""
    if max_rows is None or len(rows) <= max_rows:
        return rows
    chosen = random.Random(seed).sample(range(len(rows)), max_rows)
    return [rows[index] for index in sorted(chosen)]
