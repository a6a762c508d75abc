"""A small language model fine-tuned as a scorer: LoRA on rated responses, and the rating in the probabilities of its answer.

The model is asked the paper's naive question (arXiv 2412.20264) and learns to answer 1, 2 or 3. It serves offline from a
GGUF, without torch.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from empathy_edge.chat_format import Message
from empathy_edge.console import progress, say
from empathy_edge.dialogue import write_jsonl
from empathy_edge.errors import EmpathyEdgeError, require_extra
from empathy_edge.prompts import load_prompts
from empathy_edge.recipe import TrainSettings, export_settings
from empathy_edge.run import read_json, sha256_file, write_json
from empathy_edge.scoring.classifiers import RATINGS
from empathy_edge.scoring.rated import balanced, leave_out, read_rated
from empathy_edge.scoring.scorer import FORMAT_TUNED, Measured, describe, expected, short_hash
from empathy_edge.scoring.study import grouped_folds, measured, paper_split

if TYPE_CHECKING:
    import pandas as pd

    from empathy_edge.models import ModelRef

FILE = "scorer.json"
PROMPT = "naive"
ARTIFACT = "gguf-q8_0"
"""What the scorer serves from; Q8_0 keeps a fine-tune of any base."""

CONTEXT = 2048
MOST_REASONS = 6
UNSEEN = "left-out"


class TunedScorer(Measured):
    """P(rating = 1, 2, 3): the model's probabilities of the tokens 1, 2 and 3 as its answer, divided by their sum."""

    def __init__(self, content: dict[str, Any], folder: Path) -> None:
        from empathy_edge.runtimes import default_threads, open_runtime

        artifact = folder / content["artifact"]["folder"]
        if not artifact.resolve().is_relative_to(folder.resolve()):
            raise EmpathyEdgeError(f"{folder / FILE}: its model lies outside of {folder}.")
        found = sha256_file(artifact / content["artifact"]["file"])
        if found != content["artifact"]["sha256"]:
            raise EmpathyEdgeError(
                f"{artifact}: is not the model that {folder / FILE} was measured with; train it again."
            )
        if content["prompts_sha256"] != load_prompts("score").sha256:
            raise EmpathyEdgeError(f"{folder / FILE}: was trained with other prompts than these; train it again.")
        super().__init__(content)
        self._runtime = open_runtime(str(artifact), threads=default_threads(), context=CONTEXT)
        self._tokens = [self._runtime.tokenize(str(rating))[0] for rating in RATINGS]
        self._rated: dict[tuple[str, str, str], np.ndarray] = {}

    def chances(self, rows: pd.DataFrame) -> np.ndarray:
        """Probabilities of 1, 2, 3, float64 [rows, 3], of responses (columns situation, speaker_uttr, response)."""
        return np.array([self._chances(row, row.response) for row in rows.itertuples()]).reshape(-1, len(RATINGS))

    def score(self, rows: pd.DataFrame) -> tuple[np.ndarray, list[list[tuple[str, float]]]]:
        """As `chances`, and for each row what its sentences add: the expected rating less that without the sentence."""
        chances, reasons = np.zeros((len(rows), len(RATINGS))), []
        with progress() as bar:
            task = bar.add_task("rating", total=len(rows), note="")
            for place, row in enumerate(rows.itertuples()):
                chances[place] = self._chances(row, row.response)
                reasons.append(self._reasons(row, float(expected(chances[place]))))
                bar.advance(task)
        return chances, reasons

    def _chances(self, row: Any, response: str) -> np.ndarray:
        asked = (row.situation, row.speaker_uttr, response)
        if asked not in self._rated:
            self._rated[asked] = self._rate(*asked)
        return self._rated[asked]

    def _rate(self, situation: str, utterance: str, response: str) -> np.ndarray:
        ids = self._runtime.encode(messages(situation, utterance, response))
        if len(ids) >= CONTEXT:
            raise EmpathyEdgeError(f"A response of {len(response.split())} words is too long for the scorer.")
        logits = self._runtime.next_logits(ids)[self._tokens].astype(float)
        chances: np.ndarray = np.exp(logits - logits.max())
        return chances / chances.sum()

    def _reasons(self, row: Any, score: float) -> list[tuple[str, float]]:
        sentences = re.split(r"(?<=[.!?])\s+", row.response.strip())
        if len(sentences) < 2:
            return []
        moves = []
        for place, sentence in enumerate(sentences):
            rest = " ".join(sentences[:place] + sentences[place + 1 :])
            moves.append((f"“{sentence}”", round(score - float(expected(self._chances(row, rest))), 3)))
        return sorted(moves, key=lambda move: -abs(move[1]))[:MOST_REASONS]


def messages(situation: str, utterance: str, response: str) -> list[Message]:
    """What the scorer is asked about one response."""
    prompts = load_prompts("score")
    reply = prompts.text("reply", situation=situation, utterance=utterance, response=response)
    return [
        {"role": "system", "content": prompts.text("system")},
        {"role": "user", "content": prompts.text(PROMPT, reply=reply)},
    ]


def load(file: Path, content: dict[str, Any]) -> TunedScorer:
    """A scorer from its `scorer.json`.

    Raises:
        EmpathyEdgeError: the file is damaged, or the model beside it is another one.
    """
    try:
        return TunedScorer(content, file.parent)
    except (KeyError, TypeError) as error:
        raise EmpathyEdgeError(f"{file}: is damaged ({error}); train it again.") from None


def train(
    *,
    data: Path,
    base: ModelRef,
    out: Path,
    settings: TrainSettings,
    folds: int,
    certifiable: bool = False,
    unseen: Path | None = None,
    on_paper_split: bool = False,
    update: bool = False,
) -> TunedScorer:
    """Fine-tune a scorer on a CSV of rated responses, measure it on dialogues that it did not see, export it.

    Args:
        data: a CSV of rated responses; the paper's gives the paper's balanced set.
        base: a checkpoint of an instruction-tuned model.
        out: a folder; each training in it is skipped where it is done, and taken up again where it was cut off.
        settings: of each training.
        folds: on how many of the five folds grouped by dialogue it is measured, each a training of its own.
        certifiable: serve the first fold's model, which has not seen a fifth of the dialogues, on which `certify` can test it;
            else one that is trained on everything.
        unseen: dialogues that it must not see, a run's test split: it is measured on the responses to them instead of on folds.
        on_paper_split: measure it on the paper's own split as well, with one more training.
        update: train again where data or settings changed.
    """
    require_extra("trl", "train", "Fine-tuning a scorer")
    chosen = balanced(read_rated(data))
    splits = {
        **({"paper-split": paper_split(chosen)} if on_paper_split else {}),
        **(
            {UNSEEN: leave_out(chosen, unseen)}
            if unseen
            else {
                f"fold-{number}": fold for number, fold in enumerate(grouped_folds(chosen, 0), 1) if number <= folds
            }
        ),
    }
    found = {}
    for name, (inside, outside) in splits.items():
        adapter = _tune(chosen.iloc[inside], base, out / name, settings, update)
        found[name] = _held_out_chances(chosen.iloc[outside], base, adapter, out / name / "held-out.json", name)
    figures = measured(chosen, splits, found)
    measured_on = f"those of {unseen.name}" if unseen else f"{folds} of 5 folds"
    say(f"On dialogues not seen ({measured_on}): {describe(figures)}.")
    name = UNSEEN if unseen else "fold-1" if certifiable else "all"
    folder, rows = out / name, chosen.iloc[splits[name][0]] if name in splits else chosen
    model = _export(base, _tune(rows, base, folder, settings, update), folder, update)
    artifact = read_json(model / "manifest.json")["artifact"]
    content = {
        "format": FORMAT_TUNED,
        "base": {"name": base.name, "sha256": base.sha256},
        "data": {"file": data.name, "sha256": sha256_file(data), "responses": len(rows)},
        "settings": settings.model_dump(mode="json"),
        "prompt": PROMPT,
        "prompts_sha256": load_prompts("score").sha256,
        "artifact": {
            "folder": str(model.relative_to(out)),
            "file": artifact["file"],
            "sha256": sha256_file(model / artifact["file"]),
        },
        "dialogues": sorted({short_hash(name) for name in rows["dialog_id"]}),
        "figures": figures,
    }
    write_json(out / FILE, content)
    say(f"{out / FILE}: trained on {len(rows)} responses, served from {model}.")
    return TunedScorer(content, out)


def _tune(rows: pd.DataFrame, base: ModelRef, folder: Path, settings: TrainSettings, update: bool) -> Path:
    """Train on `rows`; returns the adapter's folder."""
    from empathy_edge.finetune import sft

    file = folder / "rows" / "sft.jsonl"
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


def _held_out_chances(rows: pd.DataFrame, base: ModelRef, adapter: Path, file: Path, label: str) -> np.ndarray:
    """Probabilities of 1, 2, 3, [rows, 3], by the adapter model; kept in `file` for a run that is taken up again."""
    from empathy_edge.finetune.likelihood import log_probs_per_character

    trained = sha256_file(adapter / "adapter_model.safetensors")
    if file.is_file() and (kept := read_json(file)).get("adapter_sha256") == trained:
        return np.array(kept["probabilities"])
    asked = [messages(row.situation, row.speaker_uttr, row.response) for row in rows.itertuples()]
    found = log_probs_per_character(
        base,
        [adapter],
        [prompt for prompt in asked for _ in RATINGS],
        [str(rating) for _ in asked for rating in RATINGS],
        f"{label}, held out",
    )
    chances = np.exp(np.array(found).reshape(-1, len(RATINGS)))
    chances /= chances.sum(1, keepdims=True)
    write_json(file, {"adapter_sha256": trained, "probabilities": chances.round(5).tolist()})
    return chances


def _export(base: ModelRef, adapter: Path, folder: Path, update: bool) -> Path:
    from empathy_edge.export.stage import run as export

    export(
        base=base,
        adapters=[adapter],
        out=folder / "export",
        settings=export_settings(artifacts=(ARTIFACT,)),
        update=update,
    )
    return folder / "export" / ARTIFACT
