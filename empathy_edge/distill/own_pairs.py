"""Preference pairs from the student's own samples, so that DPO learns from mistakes the student really makes.

The student answers each training prompt several times; its answers are ranked by how near they come, in meaning and tone,
to the good responses that are known for the dialogue; the best is paired with the worst of like length, then the second
best with what is left. With `safety_pairs`, the prompts of `safety_rows` pair the shipped answer with the student's worst ones:
its own best one is not good enough there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from empathy_edge.console import progress, quiet_libraries, say
from empathy_edge.distill.filters import Caught, fault
from empathy_edge.distill.from_ratings import SAFETY, draw, median_words
from empathy_edge.distill.ranker import likelihoods
from empathy_edge.errors import EmpathyEdgeError, require_extra
from empathy_edge.formats.chat_format import turn_end
from empathy_edge.formats.dialogue import read_unfinished_jsonl, write_jsonl
from empathy_edge.formats.training_rows import load_rows
from empathy_edge.models.find import ModelRef, find_model
from empathy_edge.runs.recipe import OwnPairSettings
from empathy_edge.runs.stage import open_stage
from empathy_edge.runtimes.precision import choose_precision
from empathy_edge.text.embeddings import embed
from empathy_edge.text.tone import clashes

PROMPTS_AT_ONCE = 16
MOST_WORDS = 97


@dataclass(frozen=True)
class Prompt:
    """What is answered, and the good responses to it."""

    id: str
    messages: list[dict[str, str]]
    references: list[str]
    safety: bool = False

    @property
    def utterance(self) -> str:
        """What the person says."""
        return self.messages[-1]["content"]


def run(
    *,
    rows: Path,
    base: ModelRef,
    adapters: list[Path],
    out: Path,
    settings: OwnPairSettings,
    update: bool = False,
) -> dict[str, Any]:
    """Write `samples.jsonl` (every sample with its score) and `preference.jsonl` into `out`.

    Args:
        rows: the folder that `distill` made; its prompts are answered, its good responses are what samples are compared with.
        base: the student's checkpoint.
        adapters: what was trained so far, PEFT folders.
        out: the stage's folder.
        settings: how many prompts and samples, and how clear a difference must be.
        update: make it again where inputs or settings changed.
    """
    require_extra("trl", "train", "Sampling from the student")
    stage = open_stage(
        out,
        "own-pairs",
        settings={
            **settings.model_dump(mode="json", exclude=_unused(settings)),
            "base": base.name,
            "base_sha256": base.sha256,
            **({"ranker_sha256": find_model(settings.ranker).sha256} if settings.ranker else {}),
        },
        inputs={
            "rows": rows / "sft.jsonl",
            "pairs": rows / "preference.jsonl",
            **{f"adapter{number}": path for number, path in enumerate(adapters)},
        },
        update=update,
    )
    if stage.done:
        return stage.manifest
    embed(["…"])  # the model that ranks the samples must be here before they are drawn
    prompts = _prompts(rows)
    chosen = draw(prompts, settings.prompts, settings.seed)
    if settings.safety_pairs:
        chosen += [prompt for prompt in prompts if prompt.safety and prompt not in chosen]
    samples = _sample(chosen, base, adapters, out / "samples.jsonl", settings)
    caught = Caught()
    pairs: list[dict[str, Any]] = []
    scored = _score(chosen, samples, settings, out / "likelihoods.jsonl")
    for prompt, answers in zip(chosen, scored, strict=True):
        pairs += (_safety_pairs if prompt.safety and settings.safety_pairs else _pairs)(
            prompt, answers, settings, caught
        )
    write_jsonl(out / "samples.jsonl", [row for answers in scored for row in answers])
    write_jsonl(out / "preference.jsonl", pairs)
    if not pairs:
        raise EmpathyEdgeError(
            f"{out}: no two samples of a prompt differ by {settings.margin}; lower margin."
        )
    by_id = {prompt.id: prompt for prompt in chosen}
    say(f"  {len(pairs)} pairs from {len(chosen)} prompts")
    return stage.finish(
        prompts=len(chosen),
        weights=choose_precision(settings.weights, base.path).record(),
        samples=len(chosen) * settings.samples,
        pairs=len(pairs),
        safety_pairs=sum(by_id[row["id"]].safety for row in pairs),
        caught=caught.report(),
        median_words={
            field: median_words(row[field][0]["content"] for row in pairs) for field in ("chosen", "rejected")
        },
        tone_clashes={
            "samples": sum(
                clashes(row["text"], prompt.references)
                for prompt, answers in zip(chosen, scored, strict=True)
                for row in answers
            ),
            **{
                field: sum(clashes(row[field][0]["content"], by_id[row["id"]].references) for row in pairs)
                for field in ("chosen", "rejected")
            },
        },
        mean_score={
            field: round(float(np.mean([row["scores"][field] for row in pairs])), 4)
            for field in ("chosen", "rejected")
        },
    )


def _unused(settings: OwnPairSettings) -> set[str]:
    """What has no effect, so that it does not belong to what a folder was made with."""
    return (set() if settings.ranker else {"ranker", "likelihood_weight"}) | (
        set() if settings.safety_pairs else {"safety_pairs"}
    )


def _prompts(rows: Path) -> list[Prompt]:
    """Every prompt of the folder's training files, with the good responses that are known for it."""
    found: dict[str, Prompt] = {}
    for file, field in (("sft.jsonl", "completion"), ("preference.jsonl", "chosen")):
        for row in load_rows(rows / file, ("prompt", field), keep=("id", "source")):
            prompt = found.setdefault(
                row["id"], Prompt(row["id"], row["prompt"], [], row["source"] == SAFETY)
            )
            text = row[field][0]["content"]
            if text not in prompt.references:
                prompt.references.append(text)
    return list(found.values())


def _sample(
    prompts: list[Prompt], base: ModelRef, adapters: list[Path], file: Path, settings: OwnPairSettings
) -> dict[str, list[dict[str, Any]]]:
    """Each prompt's samples; those that an interrupted run left in `file` are kept."""
    quiet_libraries()
    import torch

    from empathy_edge.runtimes.torch_batch import generate
    from empathy_edge.runtimes.torch_loading import SCRATCH, load_base
    from empathy_edge.system.memory import keep_freed_memory

    done: dict[str, list[dict[str, Any]]] = {}
    for row in read_unfinished_jsonl(file):
        done.setdefault(row["id"], []).append(row)
    done = {key: rows for key, rows in done.items() if len(rows) == settings.samples}
    missing = sorted((item for item in prompts if item.id not in done), key=lambda item: len(item.utterance))
    if not missing:
        return done
    keep_freed_memory()
    model, tokenizer, _ = load_base(base.path, settings.weights, adapters, file.parent / SCRATCH)
    stop = tokenizer.convert_tokens_to_ids(turn_end(tokenizer.chat_template))
    torch.manual_seed(settings.seed)
    with progress() as bar, open(file, "w", encoding="utf-8") as handle:
        handle.writelines(
            json.dumps(row, ensure_ascii=False) + "\n" for rows in done.values() for row in rows
        )
        task = bar.add_task("samples", total=len(prompts), completed=len(done), note="")
        for start in range(0, len(missing), PROMPTS_AT_ONCE):
            group = missing[start : start + PROMPTS_AT_ONCE]
            encoded = [
                tokenizer.apply_chat_template(item.messages, add_generation_prompt=True, return_dict=False)
                for item in group
            ]
            replies = generate(
                model,
                encoded,
                stop_ids={stop},
                pad_id=tokenizer.pad_token_id,
                max_new_tokens=settings.max_new_tokens,
                temperature=settings.temperature,
                samples=settings.samples,
            )
            for place, (ids, stopped) in enumerate(replies):
                item = group[place // settings.samples]
                text = tokenizer.decode(ids, skip_special_tokens=True).strip()
                row = {"id": item.id, "text": text, "stopped": stopped}
                done.setdefault(item.id, []).append(row)
                handle.write(json.dumps(row, ensure_ascii=False) + "\n")
            handle.flush()
            bar.advance(task, len(group))
    return done


def _score(
    prompts: list[Prompt], samples: dict[str, list[dict[str, Any]]], settings: OwnPairSettings, file: Path
) -> list[list[dict[str, Any]]]:
    """Each sample with `score`: its mean cosine similarity to the prompt's good responses, less where the tone clashes.

    With a ranker, whose likelihoods are kept in `file`, also `nats`: what a larger model finds of it.
    """
    references = [item.references for item in prompts]
    vectors = embed([text for texts in references for text in texts])
    answers = embed([row["text"] or "…" for item in prompts for row in samples[item.id]])
    likely = _likelihoods(prompts, samples, settings, file)
    scored = []
    first = 0
    for number, (item, texts) in enumerate(zip(prompts, references, strict=True)):
        mine = answers[number * settings.samples : (number + 1) * settings.samples]
        similar = (mine @ vectors[first : first + len(texts)].T).mean(axis=1)
        first += len(texts)
        scored.append(
            [
                {
                    "id": item.id,
                    "text": row["text"],
                    "stopped": row["stopped"],
                    "score": round(
                        float(value)
                        - settings.tone_penalty * clashes(row["text"], texts)
                        + settings.likelihood_weight * (nats - float(np.mean(likely[number]))),
                        4,
                    ),
                    **({"nats": round(nats, 4)} if settings.ranker else {}),
                }
                for row, value, nats in zip(samples[item.id], similar, likely[number], strict=True)
            ]
        )
    return scored


def _likelihoods(
    prompts: list[Prompt], samples: dict[str, list[dict[str, Any]]], settings: OwnPairSettings, file: Path
) -> list[list[float]]:
    """By prompt, the ranker's log-probability of each sample; zeros without a ranker."""
    if settings.ranker is None:
        return [[0.0] * settings.samples for _ in prompts]
    rows = [(item.messages, row["text"]) for item in prompts for row in samples[item.id]]
    found = likelihoods(settings.ranker, [asked for asked, _ in rows], [text for _, text in rows], file)
    return [found[start : start + settings.samples] for start in range(0, len(found), settings.samples)]


def _pairs(
    prompt: Prompt, rows: list[dict[str, Any]], settings: OwnPairSettings, caught: Caught
) -> list[dict[str, Any]]:
    """Pairs of samples of like length, the clearest difference first, each sample in one pair at most."""
    good = []
    for row in rows:
        name = fault(row["text"], utterance=prompt.utterance, original="", most_words=MOST_WORDS)
        if not row["stopped"]:
            name = "did not stop"
        if name:
            caught.add(name, prompt.id, row["text"])
        else:
            good.append(row)
    clear = [
        (chosen["score"] - rejected["score"], chosen, rejected)
        for chosen in good
        for rejected in rows
        if rejected["stopped"]
        and _alike(chosen["text"], rejected["text"], settings.length_ratio)
        and chosen["score"] - rejected["score"] >= settings.margin
    ]
    clear.sort(key=lambda item: -item[0])
    used: set[int] = set()
    pairs = []
    for _, chosen, rejected in clear:
        if not used & {id(chosen), id(rejected)}:
            used |= {id(chosen), id(rejected)}
            pairs.append(_row(prompt, chosen, rejected))
    if not pairs:
        caught.add("no clear pair", prompt.id, " | ".join(row["text"] for row in rows))
    return pairs


def _safety_pairs(
    prompt: Prompt, rows: list[dict[str, Any]], settings: OwnPairSettings, caught: Caught
) -> list[dict[str, Any]]:
    """The shipped answer against the student's worst ones of like length."""
    shipped: dict[str, Any] = {"text": prompt.references[0], "score": 1.0}
    worst = sorted(
        (
            row
            for row in rows
            if row["stopped"] and _alike(shipped["text"], row["text"], settings.length_ratio)
        ),
        key=lambda row: float(row["score"]),
    )
    if not worst:
        caught.add("no clear pair", prompt.id, " | ".join(row["text"] for row in rows))
    return [_row(prompt, shipped, row) for row in worst[: settings.safety_pairs]]


def _alike(one: str, other: str, ratio: float) -> bool:
    """Whether two texts have like lengths, so that DPO does not learn length."""
    sizes = len(one.split()), len(other.split())
    return max(sizes) <= ratio * max(1, min(sizes))


def _row(prompt: Prompt, chosen: dict[str, Any], rejected: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": prompt.id,
        "prompt": prompt.messages,
        "chosen": [{"role": "assistant", "content": chosen["text"]}],
        "rejected": [{"role": "assistant", "content": rejected["text"]}],
        "scores": {"chosen": chosen["score"], "rejected": rejected["score"]},
    }
