"""Preference pairs from the student's own samples: DPO learns from mistakes that the student really makes.

The student answers each training prompt several times. Its answers are scored by how near they are, in
meaning and tone, to the good responses in the training files, or by a judge. The best answer is paired with
the worst one of like length, then the second best with what is left. With `safety_pairs`, each prompt of
`safety_rows` pairs the shipped answer with the student's worst answers: there, the student's best answer is
not good enough.
"""

from __future__ import annotations

from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np

from empathy_edge.console import say
from empathy_edge.distill.distill_results import RejectedBy
from empathy_edge.distill.filters import RejectedResponses
from empathy_edge.distill.from_ratings import median_words
from empathy_edge.distill.judged_samples import (
    judge_inputs,
    judge_record,
    open_judge_of_samples,
    rate_samples,
)
from empathy_edge.distill.own_samples import Prompt, Samples, draw_samples, read_prompts
from empathy_edge.distill.rated_rows import draw
from empathy_edge.distill.sample_pairs import OwnPair, pair_samples, pair_with_safe_answer
from empathy_edge.distill.sample_scores import NO_TEXT, ScoredSample, score_samples
from empathy_edge.errors import EmpathyEdgeError, require_extra
from empathy_edge.formats.json_lines import write_jsonl
from empathy_edge.llm.api_settings import ApiSettings
from empathy_edge.models.find import ModelRef, find_model
from empathy_edge.runs.settings import OwnPairSettings
from empathy_edge.runs.stage import Results, Stage, open_stage
from empathy_edge.runtimes.precision import choose_precision
from empathy_edge.text.embeddings import embed
from empathy_edge.text.language import require_language_detection
from empathy_edge.text.tone import clashes

DEFAULT_API = ApiSettings()


class OwnPairsResults(Results):
    """What the stage made.

    Attributes:
        prompts: how many were answered.
        weights: what the student's weights were held in, and why.
        samples: of all prompts together.
        pairs: all preference pairs.
        safety_pairs: of them, those of safety prompts.
        caught: what each filter rejected.
        median_words: of the chosen and of the rejected answers.
        tone_clashes: how many samples, chosen and rejected answers have the wrong tone.
        mean_score: of the chosen and of the rejected answers.
    """

    prompts: int
    weights: dict[str, str]
    samples: int
    pairs: int
    safety_pairs: int
    caught: dict[str, RejectedBy]
    median_words: dict[str, int | float]
    tone_clashes: dict[str, int]
    mean_score: dict[str, float]


def run(
    *,
    rows: Path,
    base: ModelRef,
    adapters: list[Path],
    out: Path,
    settings: OwnPairSettings,
    update: bool = False,
    api: ApiSettings = DEFAULT_API,
) -> OwnPairsResults:
    """Sample, score and pair: write `samples.jsonl` (with scores) and `preference.jsonl` into `out`.

    Args:
        rows: the folder that `distill` made, with the prompts and the good responses; or a file of dialogues.
        base: the student's checkpoint.
        adapters: what was trained so far, PEFT folders.
        out: the stage's folder.
        settings: how many prompts and samples, and how much two answers must differ.
        update: make the stage again where inputs or settings changed.
        api: endpoint and limits of a judge behind an API.

    Raises:
        RatingsMissing: people have to fill in the sheet; the samples are kept.
        EmpathyEdgeError: there is no pair.
    """
    require_extra("trl", "train", "Sampling from the student")
    require_language_detection()
    stage = _open(rows, base, adapters, out, settings, update)
    if stage.done:
        return stage.results(OwnPairsResults)
    prompts = _choose_prompts(rows, settings)
    rejected = RejectedResponses()
    with ExitStack() as stack:
        # Opened before the sampling, lest that be for nothing.
        stack.enter_context(stage.nothing_left_of_a_failure())
        judge = None
        if settings.judge:
            judge = stack.enter_context(closing(open_judge_of_samples(settings.judge, api, out)))
        else:
            embed([NO_TEXT])
        samples = _samples(prompts, base, adapters, out / SAMPLES, settings, _inputs(rows, adapters), update)
        if judge:
            scored = rate_samples(prompts, samples, judge, rejected)
        else:
            scored = score_samples(prompts, samples, settings, out / "likelihoods.jsonl")
    pairs = _pair(prompts, scored, settings, rejected)
    if not pairs:
        raise EmpathyEdgeError(
            f"{out}: no two samples of a prompt differ by {settings.margin}; lower margin (the samples are "
            "kept)."
        )
    _write(out, prompts, scored, pairs)
    say(f"  {len(pairs)} pairs from {len(prompts)} prompts")
    results = OwnPairsResults(
        prompts=len(prompts),
        weights=choose_precision(settings.weights, base.path).record(),
        samples=len(prompts) * settings.samples,
        pairs=len(pairs),
        safety_pairs=sum(pair.prompt.safety for pair in pairs),
        caught=rejected.report(),
        median_words=_median_words(pairs),
        tone_clashes=_tone_clashes(prompts, scored, pairs),
        mean_score=_mean_scores(pairs),
    )
    stage.finish(results)
    return results


FILES = ("samples.jsonl", "likelihoods.jsonl", "preference.jsonl")
"""What the stage writes."""

SAMPLES = "samples"
"""The folder in it with what the student said, before it is scored."""

OF_SAMPLING = {"prompts", "samples", "temperature", "max_new_tokens", "safety_pairs", "weights", "seed"}
"""Settings that decide the samples."""


def _open(
    rows: Path, base: ModelRef, adapters: list[Path], out: Path, settings: OwnPairSettings, update: bool
) -> Stage:
    recorded = settings.model_dump(mode="json", exclude=_unused(settings)) | base.record()
    inputs = _inputs(rows, adapters)
    if settings.ranker:
        recorded["ranker_identity"] = find_model(settings.ranker).identity
    if settings.judge:
        recorded |= judge_record(settings.judge)
        inputs |= judge_inputs(settings.judge)
    return open_stage(out, "own-pairs", settings=recorded, inputs=inputs, files=FILES, update=update)


def _inputs(rows: Path, adapters: list[Path]) -> dict[str, Path]:
    inputs = {"data": rows}
    if not rows.is_file():
        inputs = {"rows": rows / "sft.jsonl"}
        if (rows / "preference.jsonl").is_file():
            inputs["pairs"] = rows / "preference.jsonl"
    return inputs | {f"adapter{number}": path for number, path in enumerate(adapters)}


def _samples(
    prompts: list[Prompt],
    base: ModelRef,
    adapters: list[Path],
    folder: Path,
    settings: OwnPairSettings,
    inputs: dict[str, Path],
    update: bool,
) -> Samples:
    """The student's samples: a stage of its own, so that another judge or margin needs no new ones."""
    stage = open_stage(
        folder,
        "own-samples",
        settings=settings.model_dump(mode="json", include=OF_SAMPLING) | base.record(),
        inputs=inputs,
        files=("samples.jsonl", "scratch/*"),
        update=update,
    )
    samples = draw_samples(prompts, base, adapters, folder / "samples.jsonl", settings)
    if not stage.done:
        stage.finish()
    return samples


def _unused(settings: OwnPairSettings) -> set[str]:
    """Settings without an effect; they are not recorded, so that a change of them does not matter."""
    unused = {"tone_penalty"} if settings.judge else {"judge"}
    if not settings.ranker:
        unused |= {"ranker", "likelihood_weight"}
    if not settings.safety_pairs:
        unused |= {"safety_pairs"}
    return unused


def _choose_prompts(rows: Path, settings: OwnPairSettings) -> list[Prompt]:
    """The prompts that are drawn; with `safety_pairs` also every safety prompt."""
    prompts = read_prompts(rows)
    chosen = draw(prompts, settings.prompts, settings.seed)
    if settings.safety_pairs:
        chosen += [prompt for prompt in prompts if prompt.safety and prompt not in chosen]
    return chosen


def _pair(
    prompts: list[Prompt],
    scored: list[list[ScoredSample]],
    settings: OwnPairSettings,
    rejected: RejectedResponses,
) -> list[OwnPair]:
    pairs: list[OwnPair] = []
    for prompt, samples in zip(prompts, scored, strict=True):
        if prompt.safety and settings.safety_pairs:
            pairs += pair_with_safe_answer(prompt, samples, settings, rejected)
        else:
            pairs += pair_samples(prompt, samples, settings, rejected)
    return pairs


def _write(out: Path, prompts: list[Prompt], scored: list[list[ScoredSample]], pairs: list[OwnPair]) -> None:
    rows: list[dict[str, object]] = []
    for prompt, samples in zip(prompts, scored, strict=True):
        rows += [sample.row(prompt.id) for sample in samples]
    write_jsonl(out / "samples.jsonl", rows)
    write_jsonl(out / "preference.jsonl", [pair.row() for pair in pairs])


def _median_words(pairs: list[OwnPair]) -> dict[str, float]:
    return {
        "chosen": median_words(pair.chosen for pair in pairs),
        "rejected": median_words(pair.rejected for pair in pairs),
    }


def _mean_scores(pairs: list[OwnPair]) -> dict[str, float]:
    return {
        "chosen": round(float(np.mean([pair.chosen_score for pair in pairs])), 4),
        "rejected": round(float(np.mean([pair.rejected_score for pair in pairs])), 4),
    }


def _tone_clashes(
    prompts: list[Prompt], scored: list[list[ScoredSample]], pairs: list[OwnPair]
) -> dict[str, int]:
    of_samples = 0
    for prompt, samples in zip(prompts, scored, strict=True):
        of_samples += sum(clashes(sample.text, prompt.references) for sample in samples)
    return {
        "samples": of_samples,
        "chosen": sum(clashes(pair.chosen, pair.prompt.references) for pair in pairs),
        "rejected": sum(clashes(pair.rejected, pair.prompt.references) for pair in pairs),
    }
