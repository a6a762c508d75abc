"""Scores of the student's samples by a judge: a large model, people with a sheet, or a trained model."""

from __future__ import annotations

from pathlib import Path

from empathy_edge.console import progress
from empathy_edge.distill.filters import RejectedResponses
from empathy_edge.distill.own_samples import Prompt, Samples
from empathy_edge.distill.sample_scores import SCORE_DIGITS, ScoredSample
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.judging.raters.open_rater import open_rater
from empathy_edge.judging.raters.rater import Rater, ToRate
from empathy_edge.judging.raters.sheet_rater import SheetRater
from empathy_edge.llm.api_settings import ApiSettings
from empathy_edge.models.find import find_model

NOT_RATED = "not rated by the judge"


def open_judge_of_samples(spec: str, api: ApiSettings, out: Path) -> Rater:
    """A judge from its name.

    Args:
        spec: openai:MODEL, local:MODEL, trained:FOLDER or sheet:FILE.csv.
        api: endpoint and limits, for openai:MODEL.
        out: the stage's folder, which is cleared where the stage is made again.

    Raises:
        EmpathyEdgeError: there is no such judge, or its sheet would lie in the stage's folder.
    """
    kind, _, name = spec.partition(":")
    if kind == "sheet" and out.resolve() in Path(name).resolve().parents:
        raise EmpathyEdgeError(f"{name}: lies in {out}, which --update clears; put the sheet elsewhere.")
    return open_rater(spec, api, "own-pairs", leave_out=True)


def judge_inputs(spec: str) -> dict[str, Path]:
    """The files that decide a judge's ratings, by role."""
    kind, _, name = spec.partition(":")
    return {"judge": Path(name)} if kind == "trained" else {}


def judge_record(spec: str) -> dict[str, object]:
    """What of a judge decides its ratings, beside its files: where a sheet lies does not."""
    kind, _, name = spec.partition(":")
    if kind == "sheet":
        return {"judge": kind, "ratings_sha256": SheetRater(Path(name), ()).ratings_sha256()}
    if kind == "local":
        return {"judge": spec, "judge_identity": find_model(name).identity}
    return {"judge": kind if kind == "trained" else spec}


def rate_samples(
    prompts: list[Prompt], samples: Samples, judge: Rater, rejected: RejectedResponses
) -> list[list[ScoredSample]]:
    """Have a judge rate each prompt's samples, in their order; ratings of 0 to 100 become 0 to 1.

    Only what can be paired is rated, each text once: samples that stopped, where two of them differ. The
    other samples get 0, and those of a prompt that the judge does not rate the same score.

    Raises:
        RatingsMissing: people have to fill in the sheet first.
        EmpathyEdgeError: the judge fails.
    """
    texts = {prompt.id: _texts_of(samples, prompt) for prompt in prompts}
    asked = [prompt for prompt in prompts if len(texts[prompt.id]) > 1]
    items = [ToRate(prompt.messages, texts[prompt.id]) for prompt in asked]
    judge.prepare(items)
    with progress() as bar:
        task = bar.add_task("prompts rated", total=len(items), note="")
        ratings = judge.rate_many(items, lambda: bar.advance(task))
    known: dict[str, dict[str, float]] = {}
    for prompt, given in zip(asked, ratings, strict=True):
        known[prompt.id] = dict(zip(texts[prompt.id], given, strict=True)) if given else {}
        if not given:
            rejected.add(NOT_RATED, prompt.id, prompt.utterance)
    return [
        [
            ScoredSample(
                sample.text,
                sample.stopped,
                round(known.get(prompt.id, {}).get(sample.text, 0.0) / judge.scale, SCORE_DIGITS),
            )
            for sample in samples[prompt.id]
        ]
        for prompt in prompts
    ]


def _texts_of(samples: Samples, prompt: Prompt) -> list[str]:
    """The different texts of a prompt that the student ended by itself, in their order."""
    return list(dict.fromkeys(sample.text for sample in samples[prompt.id] if sample.stopped and sample.text))
