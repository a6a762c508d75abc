"""Make a baseline: the reference's replies to the prompts, and the judge's ratings of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from empathy_edge import __version__
from empathy_edge.bench.check.baseline import (
    FORMAT,
    Baseline,
    PromptRecord,
    ReferenceRecord,
    read_baseline,
    write_baseline,
)
from empathy_edge.bench.check.certificate import judge_record
from empathy_edge.bench.check.drawing import CONTEXT, draw_records, require_same_model
from empathy_edge.bench.check.prompts import CheckPrompt, sha256_of
from empathy_edge.bench.check.raters import Rater, ToRate
from empathy_edge.bench.check.settings import ReplySettings
from empathy_edge.console import progress, say
from empathy_edge.data import certification_pairs
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.chat_format import GOLDEN_CONVERSATION
from empathy_edge.formats.gguf_header import is_quantized
from empathy_edge.models.find import ModelRef, find_model
from empathy_edge.runtimes import open_runtime
from empathy_edge.system.cache import cache_folder
from empathy_edge.system.files import MANIFEST, read_json, sha256_json
from empathy_edge.system.hash_cache import sha256_file


def kept_or_made(
    model: str,
    prompts: list[CheckPrompt],
    rater: Rater,
    settings: ReplySettings,
    *,
    allow_quantized: bool = False,
    as_gguf: Callable[[ModelRef], Path | None] = lambda _: None,
) -> Baseline:
    """The baseline that an earlier command made of the same model, prompts, judge and settings, or a new one.

    Baselines are kept in the cache, so that a second `check --reference` begins at once.

    Args:
        model: a checkpoint folder, a GGUF in F16, BF16 or F32, or a hub id.
        prompts: in the order in which checks use them.
        rater: the judge.
        settings: how replies are made.
        allow_quantized: take a model with quantized weights, too.
        as_gguf: makes a checkpoint's F16 GGUF, on which replies are drawn three times as fast as on torch;
            None where that cannot be made.

    Raises:
        EmpathyEdgeError: the model is quantized, or a prompt is too long.
    """
    reference = find_model(model)
    _refuse_quantized(reference, allow_quantized)
    parts = [
        FORMAT,
        __version__,
        reference.identity,
        [prompt.conversation() for prompt in prompts],
        rater.identity,
        sha256_file(certification_pairs()),
        settings.model_dump(mode="json"),
    ]
    kept = cache_folder() / "baselines" / f"{sha256_json(parts)[:32]}.json.gz"
    if kept.is_file():
        say(f"The baseline of {model} is known from an earlier command ({kept}).")
        return _under_the_names_of_now(read_baseline(kept), model, rater)
    gguf = as_gguf(reference) if reference.kind == "checkpoint" else None
    replies = sha256_json([reference.identity, bool(gguf), __version__, settings.model_dump(mode="json")])
    parts_file = kept.with_name(f"{replies[:32]}.part.jsonl")
    made = _make(reference, prompts, rater, settings, gguf, parts_file)
    write_baseline(kept, made)
    parts_file.unlink(missing_ok=True)
    return made


def _under_the_names_of_now(known: Baseline, model: str, rater: Rater) -> Baseline:
    """Model and judge are known by their content; their files may lie elsewhere since."""
    return known.model_copy(
        update={
            "reference": known.reference.model_copy(update={"name": model}),
            "judge": known.judge.model_copy(update={"name": rater.name}),
        }
    )


def _make(
    reference: ModelRef,
    prompts: list[CheckPrompt],
    rater: Rater,
    settings: ReplySettings,
    gguf: Path | None,
    parts: Path,
) -> Baseline:
    """Draw the replies on the reference's own runtime, or on its GGUF, and have them rated."""
    runtime = open_runtime(gguf or reference.name, context=CONTEXT)
    judge = judge_record(rater)
    records = draw_records(runtime, prompts, settings, parts)
    if gguf:
        require_same_model(reference, records, settings.temperature)
    return Baseline(
        format=FORMAT,
        version=__version__,
        settings=settings,
        reference=ReferenceRecord(
            name=reference.name,
            identity=reference.identity,
            quantized=_is_quantized(reference),
            stop_ids=tuple(sorted(runtime.stop_ids)),
            golden_ids=tuple(runtime.encode(GOLDEN_CONVERSATION)),
        ),
        judge=judge,
        prompts_sha256=sha256_of(prompts),
        prompts=tuple(_rated(records, rater) if judge.certified else records),
    )


def _refuse_quantized(reference: ModelRef, allow_quantized: bool) -> None:
    if _is_quantized(reference) and not allow_quantized:
        raise EmpathyEdgeError(
            f"{reference.name}: its weights are quantized. An artifact is compared with its full-precision "
            "model; give that one, or --allow-quantized-reference, and the verdict will say so."
        )


def _is_quantized(model: ModelRef) -> bool:
    """Whether a model's weights are quantized ones, by the types of its tensors."""
    if model.kind == "gguf":
        return is_quantized(model.path)
    if model.kind == "artifact":
        artifact = read_json(model.path / MANIFEST)["artifact"]
        return artifact["format"] != "gguf" or is_quantized(model.path / artifact["file"])
    return "quantization_config" in read_json(model.path / "config.json")


def _rated(records: Sequence[PromptRecord], rater: Rater) -> list[PromptRecord]:
    items = []
    for record in records:
        texts = [reply.text for reply in (*record.replies, record.greedy)]
        items.append(ToRate(list(record.messages), [*texts, record.misplaced_text]))
    with progress(whole_stage=True) as bar:
        task = bar.add_task(f"ratings by {rater.name}", total=len(records))
        ratings = rater.rate_many(items, lambda: bar.advance(task))
    return [_with_ratings(record, found) for record, found in zip(records, ratings, strict=True)]


def _with_ratings(record: PromptRecord, ratings: Sequence[float]) -> PromptRecord:
    """Ratings are of the sampled replies, the greedy one and the misplaced one."""
    *sampled, greedy, misplaced = ratings
    replies = [
        reply.model_copy(update={"rating": rating})
        for reply, rating in zip(record.replies, sampled, strict=True)
    ]
    found = {
        "replies": tuple(replies),
        "greedy": record.greedy.model_copy(update={"rating": greedy}),
        "misplaced_rating": misplaced,
    }
    return record.model_copy(update=found)
