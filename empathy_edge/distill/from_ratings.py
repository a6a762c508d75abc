"""The direct method: rated responses become SFT rows and preference pairs (arXiv 2507.08151, section 3)."""

from __future__ import annotations

import random
import statistics
from pathlib import Path
from typing import Any

from empathy_edge.data import safety_file
from empathy_edge.distill.filters import Caught
from empathy_edge.distill.fitting import fit
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.chat_format import messages_for
from empathy_edge.formats.dialogue import Dialogue, PreferencePair, read_dialogues, write_jsonl
from empathy_edge.prompts import load_prompts
from empathy_edge.runs.recipe import DistillSettings
from empathy_edge.runs.stage import open_stage
from empathy_edge.text.near_duplicates import leaked_ids

SAFETY = "safety"
"""The source of the rows that `safety_rows` adds."""


def run(*, data: Path, out: Path, settings: DistillSettings, update: bool = False) -> dict[str, Any]:
    """Write `sft.jsonl`, `preference.jsonl` (TRL's conversational format), `control.jsonl` and `test.jsonl`.

    The control pairs are those in which the reference is the better one: nothing is trained on them, and a judge that
    merely knows the model's style from the reference's fails on them.

    Args:
        data: dialogues with rated responses (.jsonl, or the paper's .csv).
        out: the stage's folder.
        settings: which sources count as reference and as model, and how many rows are kept.
        update: make the stage again where its settings or inputs changed.

    Returns:
        The stage's manifest; `results` holds the counts.
    """
    dialogues = read_dialogues(data)
    _check_sources(data, dialogues, settings)
    prompts = load_prompts("chat")
    inputs = {"data": data, **({"safety": safety_file()} if settings.safety_rows else {})}
    stage = open_stage(
        out,
        "distill",
        settings={
            **settings.model_dump(mode="json", exclude=set() if settings.safety_rows else {"safety_rows"}),
            "prompt_sha256": prompts.sha256,
        },
        inputs=inputs,
        update=update,
    )
    if stage.done:
        return stage.manifest
    sft: list[dict[str, Any]] = []
    pairs: list[PreferencePair] = []
    control: list[PreferencePair] = []
    test = [dialogue for dialogue in dialogues if dialogue.split == "test"]
    train = [dialogue for dialogue in dialogues if dialogue.split == "train"]
    caught = Caught()
    for dialogue in fit(train, settings.models, settings.fit, caught) if settings.fit else train:
        sft += _sft_rows(dialogue, settings)
        pairs += _preference_pairs(dialogue, settings)
        control += _control_pairs(dialogue, settings)
    found: dict[str, Any] = {"sft_found": len(sft), "pairs_found": len(pairs)}
    sft = draw(sft, settings.max_sft, settings.seed)
    pairs = draw(pairs, settings.max_pairs, settings.seed)
    safety = _safety_rows() * settings.safety_rows
    kept = [(item.id, item.utterance) for item in test] + list(load_prompts("safety").texts.items())
    leaked = set(leaked_ids(((row["id"], row["prompt"][-1]["content"]) for row in sft + safety), kept))
    leaked |= set(leaked_ids(((pair.id, pair.prompt[-1]["content"]) for pair in pairs), kept))
    sft = [row for row in sft if row["id"] not in leaked]
    pairs = [pair for pair in pairs if pair.id not in leaked]
    if not sft or not pairs:
        raise EmpathyEdgeError(
            f"{data}: gives {len(sft)} SFT rows and {len(pairs)} preference pairs; both are needed.\n"
            f"  An SFT row needs {'/'.join(settings.models)} rated 3 and '{settings.reference}' rated 3 or absent; "
            f"a pair needs '{settings.reference}' rated 1 or 2."
        )
    sft += [row for row in safety if row["id"] not in leaked]
    write_jsonl(out / "sft.jsonl", sft)
    write_jsonl(out / "preference.jsonl", [_trl_pair(pair) for pair in pairs])
    write_jsonl(out / "control.jsonl", [_trl_pair(pair) for pair in control])
    write_jsonl(out / "test.jsonl", test)
    return stage.finish(
        dialogues=len(dialogues),
        train_dialogues=len(dialogues) - len(test),
        test_dialogues=len(test),
        **found,
        sft_rows=len(sft),
        safety_rows=len(safety),
        preference_pairs=len(pairs),
        control_pairs=len(control),
        left_out_as_nearly_in_the_test_split=sorted(leaked),
        caught=caught.report(),
        median_words={
            "completion": median_words(row["completion"][0]["content"] for row in sft),
            "chosen": median_words(pair.chosen for pair in pairs),
            "rejected": median_words(pair.rejected for pair in pairs),
        },
    )


def _check_sources(data: Path, dialogues: list[Dialogue], settings: DistillSettings) -> None:
    present = sorted({response.source for dialogue in dialogues for response in dialogue.responses})
    missing = [source for source in (settings.reference, *settings.models) if source not in present]
    if missing:
        raise EmpathyEdgeError(
            f"{data}: no response comes from {', '.join(repr(name) for name in missing)} "
            f"(distill.reference and distill.models). The file's sources are: {', '.join(present)}."
        )


def _sft_rows(dialogue: Dialogue, settings: DistillSettings) -> list[dict[str, Any]]:
    """Rows of a dialogue whose model response is rated 3, and its reference too (or absent, or `sft_on_chosen`)."""
    reference = dialogue.response(settings.reference)
    if reference is not None and reference.rating != 3 and not settings.sft_on_chosen:
        return []
    rows = []
    for source in settings.models:
        response = dialogue.response(source)
        if response is not None and response.rating == 3:
            completion = [{"role": "assistant", "content": response.text}]
            rows.append(
                {
                    "id": dialogue.id,
                    "source": source,
                    "prompt": messages_for(dialogue.utterance),
                    "completion": completion,
                }
            )
    return rows


def _safety_rows() -> list[dict[str, Any]]:
    return [
        {
            "id": dialogue.id,
            "source": SAFETY,
            "prompt": messages_for(dialogue.utterance),
            "completion": [{"role": "assistant", "content": response.text}],
        }
        for dialogue in read_dialogues(safety_file())
        for response in dialogue.responses
    ]


def _preference_pairs(dialogue: Dialogue, settings: DistillSettings) -> list[PreferencePair]:
    """Pairs of a dialogue: a model response rated 3 is chosen; rejected is the reference rated 1 or 2, and with
    `hard_pairs` also each model response rated 1 or 2, which style alone does not give away.
    """
    reference = dialogue.response(settings.reference)
    models = [response for source in settings.models if (response := dialogue.response(source)) is not None]
    good = [response for response in models if response.rating == 3]
    prompt = messages_for(dialogue.utterance)
    pairs = []
    if reference is not None and reference.rating in (1, 2):
        pairs += [PreferencePair(dialogue.id, prompt, response.text, reference.text) for response in good]
    if settings.hard_pairs:
        weak = [response for response in models if response.rating in (1, 2)]
        pairs += [
            PreferencePair(dialogue.id, prompt, better.text, worse.text) for better in good for worse in weak
        ]
    return pairs


def _control_pairs(dialogue: Dialogue, settings: DistillSettings) -> list[PreferencePair]:
    """Pairs of a dialogue the other way round: the reference is rated 3, a model response 1 or 2."""
    reference = dialogue.response(settings.reference)
    if reference is None or reference.rating != 3:
        return []
    worse = [response for source in settings.models if (response := dialogue.response(source)) is not None]
    return [
        PreferencePair(dialogue.id, messages_for(dialogue.utterance), reference.text, response.text)
        for response in worse
        if response.rating in (1, 2)
    ]


def _trl_pair(pair: PreferencePair) -> dict[str, Any]:
    return {
        "id": pair.id,
        "prompt": pair.prompt,
        "chosen": [{"role": "assistant", "content": pair.chosen}],
        "rejected": [{"role": "assistant", "content": pair.rejected}],
    }


def draw(rows: list[Any], most: int | None, seed: int) -> list[Any]:
    """At most `most` rows, drawn with `seed`, in their first order."""
    if most is None or len(rows) <= most:
        return rows
    return [rows[index] for index in sorted(random.Random(seed).sample(range(len(rows)), most))]


def median_words(texts: Any) -> float:
    """The median number of words; 0 for none."""
    lengths = [len(text.split()) for text in texts]
    return statistics.median(lengths) if lengths else 0.0
