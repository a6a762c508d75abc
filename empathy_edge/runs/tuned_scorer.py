"""Fine-tune a small language model as a scorer, and measure it on dialogues that it did not see."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from empathy_edge.console import say
from empathy_edge.errors import EmpathyEdgeError, require_extra
from empathy_edge.formats.json_lines import write_jsonl
from empathy_edge.judging.base_scorer import FORMAT_TUNED, describe, short_hash
from empathy_edge.judging.classifiers import RATINGS
from empathy_edge.judging.evaluation import evaluate_held_out, grouped_folds, paper_split
from empathy_edge.judging.rated import balanced, leave_out, read_rated
from empathy_edge.judging.tuned import ARTIFACT, FILE, PROMPT, TunedScorer, messages
from empathy_edge.prompts import load_prompts
from empathy_edge.runs.settings import ExportSettings, TrainSettings, TunedScorerSettings
from empathy_edge.system.files import read_json, write_json
from empathy_edge.system.hash_cache import sha256_file

if TYPE_CHECKING:
    import pandas as pd

    from empathy_edge.models.find import ModelRef

UNSEEN = "left-out"

ROWS = "rows/sft.jsonl"
"""Of a training's folder: what is trained on."""


def train(
    *, data: Path, base: ModelRef, out: Path, settings: TunedScorerSettings, update: bool = False
) -> TunedScorer:
    """Fine-tune a scorer on a CSV of rated responses, measure it on dialogues that it did not see, export it.

    Args:
        data: a CSV of rated responses; the paper's gives the paper's balanced set.
        base: a checkpoint of an instruction-tuned model.
        out: a folder; each training in it is skipped where it is done, and resumed where it was cut off.
        settings: of each training, and what the scorer is measured on.
        update: train again where data or settings changed.

    Raises:
        EmpathyEdgeError: `out` holds something else, or a scorer that is not to be replaced.
    """
    require_extra("trl", "train", "Fine-tuning a scorer")
    chosen = balanced(read_rated(data))
    training = settings.training()
    splits = _splits(chosen, settings)
    name = UNSEEN if settings.leave_out else "fold-1" if settings.certifiable else "all"
    rows = chosen.iloc[splits[name][0]] if name in splits else chosen
    made_of = _made_of(rows, data, base, training)
    _require_ours(out, made_of, update)
    chances = {}
    for split, (inside, outside) in splits.items():
        adapter = _tune(chosen.iloc[inside], base, out / split, training, update)
        chances[split] = _held_out_chances(
            chosen.iloc[outside], base, adapter, out / split / "held-out.json", split
        )
    figures = evaluate_held_out(chosen, splits, chances)
    measured_on = (
        f"those of {settings.leave_out.name}" if settings.leave_out else f"{settings.folds} of 5 folds"
    )
    say(f"On dialogues not seen ({measured_on}): {describe(figures)}.")

    adapter = _tune(rows, base, out / name, training, update)
    model = _export(base, adapter, out / name, update)
    artifact = read_json(model / "manifest.json")["artifact"]
    content: dict[str, Any] = {
        **made_of,
        "artifact": {
            "folder": str(model.relative_to(out)),
            "file": artifact["file"],
            "sha256": sha256_file(model / artifact["file"]),
        },
        "figures": figures,
    }
    write_json(out / FILE, content)
    say(f"{out / FILE}: trained on {len(rows)} responses, served from {model}.")
    return TunedScorer(content, out)


def _made_of(rows: pd.DataFrame, data: Path, base: ModelRef, training: TrainSettings) -> dict[str, Any]:
    """What the scorer's file says of what it is made of; `rows` of `data` are trained on."""
    return {
        "format": FORMAT_TUNED,
        "base": {"name": base.name, "sha256": base.sha256},
        "data": {"file": data.name, "sha256": sha256_file(data), "responses": len(rows)},
        "settings": training.model_dump(mode="json"),
        "prompt": PROMPT,
        "prompts_sha256": load_prompts("score").sha256,
        "dialogues": sorted({short_hash(dialogue) for dialogue in rows["dialog_id"]}),
    }


def _require_ours(out: Path, made_of: Mapping[str, object], update: bool) -> None:
    """Refuse what is in `out` and would be replaced unasked, before anything is trained.

    Args:
        out: the scorer's folder.
        made_of: what the scorer would be made of now.
        update: whether the user allowed to replace one that was made of something else.

    Raises:
        EmpathyEdgeError: it is no folder of `score tune`, or holds a scorer that is not to be replaced.
    """
    file = out / FILE
    if out.exists() and not out.is_dir():
        raise EmpathyEdgeError(f"{out}: is a file; `score tune` needs a folder there.")
    if not file.exists():
        is_cut_off = any(out.glob(f"*/{ROWS}"))
        if out.exists() and any(out.iterdir()) and not is_cut_off:
            raise EmpathyEdgeError(
                f"{out}: holds something that `score tune` did not make. Choose another --out, or move it "
                "away; it was not touched."
            )
        return
    before = read_json(file)
    if not isinstance(before, dict) or before.get("format") != FORMAT_TUNED:
        raise EmpathyEdgeError(
            f"{file}: is no scorer that `score tune` made. Choose another --out, or move it away; it was "
            "not touched."
        )
    others = [
        name for name, value in made_of.items() if _without_file(before.get(name)) != _without_file(value)
    ]
    if others and not update:
        raise EmpathyEdgeError(
            f"{file}: was made with other {', '.join(others)}.\n"
            "  Use --update to make it again with the new ones, or --out for another folder; "
            "nothing was changed."
        )


def _without_file(value: object) -> object:
    """The value without the name of the data's file, which may change."""
    return {key: item for key, item in value.items() if key != "file"} if isinstance(value, dict) else value


def _splits(chosen: pd.DataFrame, settings: TunedScorerSettings) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Name → the rows that are trained on, and those that are measured on."""
    splits = {}
    if settings.on_paper_split:
        splits["paper-split"] = paper_split(chosen)
    if settings.leave_out:
        splits[UNSEEN] = leave_out(chosen, settings.leave_out)
        return splits
    for number, fold in enumerate(grouped_folds(chosen, 0), 1):
        if number <= settings.folds:
            splits[f"fold-{number}"] = fold
    return splits


def _tune(rows: pd.DataFrame, base: ModelRef, folder: Path, settings: TrainSettings, update: bool) -> Path:
    """Train on `rows`; returns the adapter's folder."""
    from empathy_edge.finetune import sft

    file = folder / ROWS
    file.parent.mkdir(parents=True, exist_ok=True)
    write_jsonl(
        file,
        [
            {
                "id": row.unified_dialog_id,
                "prompt": messages(row.situation, row.speaker_uttr, row.response),
                "completion": [{"role": "assistant", "content": str(row.rating)}],
            }
            for row in rows.itertuples()
        ],
    )
    say(f"{folder.name}: {len(rows)} responses")
    sft.run(rows=file, base=base, out=folder / "sft", settings=settings, update=update)
    return folder / "sft" / "adapter"


def _held_out_chances(
    rows: pd.DataFrame, base: ModelRef, adapter: Path, file: Path, label: str
) -> np.ndarray:
    """Probabilities of 1, 2, 3, [rows, 3], by the adapter model; kept in `file`, to be resumed from."""
    from empathy_edge.runtimes.likelihood import log_probs_per_character

    trained = sha256_file(adapter / "adapter_model.safetensors")
    if file.is_file() and (kept := read_json(file)).get("adapter_sha256") == trained:
        return np.array(kept["probabilities"])
    asked = [messages(row.situation, row.speaker_uttr, row.response) for row in rows.itertuples()]
    prompts, answers = [], []
    for prompt in asked:
        for rating in RATINGS:
            prompts.append(prompt)
            answers.append(str(rating))
    found = log_probs_per_character(base, [adapter], prompts, answers, f"{label}, held out")
    chances = np.exp(np.array(found).reshape(-1, len(RATINGS)))
    chances /= chances.sum(1, keepdims=True)
    write_json(file, {"adapter_sha256": trained, "probabilities": chances.round(5).tolist()})
    return chances


def _export(base: ModelRef, adapter: Path, folder: Path, update: bool) -> Path:
    from empathy_edge.export.artifacts import run as export

    export(
        base=base,
        adapters=[adapter],
        out=folder / "export",
        settings=ExportSettings(artifacts=(ARTIFACT,)),
        update=update,
    )
    return folder / "export" / ARTIFACT
