"""Make a baseline: the reference's replies to the prompts, and the judge's ratings of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from empathy_edge import __version__
from empathy_edge.bench.check.baseline.drawing import (
    CONTEXT,
    draw_records,
    drawn_records,
    require_same_model,
    with_misplaced,
)
from empathy_edge.bench.check.baseline.q2_k import WriteQ2K, with_q2_k
from empathy_edge.bench.check.baseline.record import (
    FORMAT,
    Baseline,
    JudgeRecord,
    PromptRecord,
    ReferenceRecord,
)
from empathy_edge.bench.check.beforehand import say_what_can_pass
from empathy_edge.bench.check.certificate import judge_record, known_doubts
from empathy_edge.bench.check.prompts import CheckPrompt, sha256_of
from empathy_edge.console import progress, say
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.chat_format import GOLDEN_CONVERSATION, read_template
from empathy_edge.formats.gguf_header import is_quantized
from empathy_edge.judging.raters.rater import Rater, ToRate
from empathy_edge.judging.raters.sheet_rater import SheetRater
from empathy_edge.models.find import ModelRef, find_model
from empathy_edge.runs.settings import ReplySettings
from empathy_edge.runtimes import Runtime, open_runtime
from empathy_edge.system.cache import cache_folder
from empathy_edge.system.files import MANIFEST, read_json, sha256_json
from empathy_edge.system.locks import holding


def make_baseline(  # noqa: PLR0913 - what a baseline depends on
    model: str,
    prompts: list[CheckPrompt],
    rater: Rater,
    settings: ReplySettings,
    *,
    allow_quantized: bool = False,
    as_gguf: Callable[[ModelRef], Path | None] = lambda _: None,
    write_q2_k: WriteQ2K | None = None,
    command: str = "",
) -> Baseline:
    """Draw the replies, and have them rated by a certified judge.

    Replies are kept in the cache: another judge, or a second `check --reference`, begins with them.

    Args:
        model: a checkpoint folder, a GGUF in F16, BF16 or F32, or a hub id.
        prompts: in the order in which checks use them.
        rater: the judge.
        settings: how replies are made.
        allow_quantized: take a model with quantized weights, too.
        as_gguf: makes a checkpoint's F16 GGUF, on which replies are drawn three times as fast as on torch;
            None where that cannot be made.
        write_q2_k: quantizes a GGUF, for the control of rounding; None: without that control.
        command: the one that is running, if it has --max-prompts.

    Raises:
        EmpathyEdgeError: the model is quantized, a prompt is too long, or ratings are missing.
    """
    reference = find_model(model)
    _refuse_quantized(reference, allow_quantized)
    if reference.kind == "checkpoint":
        read_template(reference.path)  # without one nothing below works
    say_what_can_pass(len(prompts), rater.name, known_doubts(rater))
    gguf = as_gguf(reference) if reference.kind == "checkpoint" else None
    runtime = open_runtime(gguf or reference.path, context=CONTEXT)
    is_gguf = gguf is not None
    kept = _kept_file(reference, prompts, settings, is_gguf=is_gguf)
    try:
        described = _described(reference, runtime)
        records = with_misplaced(
            _kept_or_drawn(runtime, reference, prompts, settings, kept, is_gguf=is_gguf, command=command)
        )
    finally:
        runtime.close()
    judge = None if isinstance(rater, SheetRater) else judge_record(rater)
    if _wants_q2_k(rater, judge, records):
        source = gguf if reference.kind == "checkpoint" else reference
        records = with_q2_k(records, source, settings, write_q2_k, kept.with_suffix(".q2_k.json"))
    items = [_to_rate(record, rater) for record in records]
    rater.prepare(items)
    judge = judge or judge_record(rater)
    return Baseline(
        format=FORMAT,
        version=__version__,
        settings=settings,
        reference=described,
        judge=judge,
        prompts_sha256=sha256_of(prompts),
        prompts=tuple(_rated(records, items, rater) if judge.certified else records),
    )


def _described(reference: ModelRef, runtime: Runtime) -> ReferenceRecord:
    return ReferenceRecord(
        name=reference.name,
        identity=reference.identity,
        quantized=has_quantized_weights(reference),
        stop_ids=tuple(sorted(runtime.stop_ids)),
        golden_ids=tuple(runtime.encode(GOLDEN_CONVERSATION)),
    )


def _wants_q2_k(rater: Rater, judge: JudgeRecord | None, records: Sequence[PromptRecord]) -> bool:
    """Whether the control of rounding is to be drawn: a judge who does not count is asked nothing.

    People rate all in one go, before their certificate is known. A sheet that was written without that
    control stays without it: with it, the rows of a prompt would be new ones.
    """
    if isinstance(rater, SheetRater):
        return not rater.has_rows([_to_rate(record, rater) for record in records])
    return judge is not None and judge.certified


def _kept_file(
    reference: ModelRef, prompts: list[CheckPrompt], settings: ReplySettings, *, is_gguf: bool
) -> Path:
    """The file in the cache for the replies of a reference."""
    parts = [reference.identity, is_gguf, __version__, settings.model_dump(mode="json")]
    conversations = [prompt.conversation() for prompt in prompts]
    return cache_folder() / "replies" / f"{sha256_json([parts, conversations])[:32]}.jsonl"


def _kept_or_drawn(
    runtime: Runtime,
    reference: ModelRef,
    prompts: list[CheckPrompt],
    settings: ReplySettings,
    kept: Path,
    *,
    is_gguf: bool,
    command: str,
) -> list[PromptRecord]:
    """Replies of an earlier command, or new ones; while another command draws the same ones, wait for it.

    Args:
        runtime: draws them.
        reference: the model.
        prompts: in their order.
        settings: how replies are made.
        kept: the file for them.
        is_gguf: whether the runtime has a checkpoint's GGUF, not the checkpoint.
        command: see `make_baseline`.
    """
    if known := _known(kept, prompts, reference):
        return known
    unfinished = kept.with_suffix(".part")
    with _alone(unfinished, reference):
        if known := _known(kept, prompts, reference):
            return known
        records = draw_records(runtime, prompts, settings, unfinished, command)
        if is_gguf:
            require_same_model(reference, records, settings.temperature)
        unfinished.replace(kept)
    return records


def _known(kept: Path, prompts: list[CheckPrompt], reference: ModelRef) -> list[PromptRecord]:
    """The kept replies, with a line that says so; none where there are none."""
    known = drawn_records(kept, prompts)
    if known:
        say(f"The replies of {reference.name} are known from an earlier command ({kept}).")
    return known


@contextlib.contextmanager
def _alone(unfinished: Path, reference: ModelRef) -> Iterator[None]:
    """Hold the file of unfinished replies for this command alone; where another has it, say so and wait."""

    def wait() -> None:
        say(f"Waiting for another command that draws the replies of {reference.name} ({unfinished}) …")

    unfinished.parent.mkdir(parents=True, exist_ok=True)
    with holding(unfinished.with_suffix(".lock"), wait):
        yield


def _refuse_quantized(reference: ModelRef, allow_quantized: bool) -> None:
    if has_quantized_weights(reference) and not allow_quantized:
        raise EmpathyEdgeError(
            f"{reference.name}: its weights are quantized. An artifact is compared with its full-precision "
            "model; give that one, or --allow-quantized-reference, and the verdict will say so."
        )


def has_quantized_weights(model: ModelRef) -> bool:
    """Whether a model's weights are quantized ones, by the types of its tensors."""
    if model.kind == "gguf":
        return is_quantized(model.path)
    if model.kind == "artifact":
        artifact = read_json(model.path / MANIFEST)["artifact"]
        return artifact["format"] != "gguf" or is_quantized(model.path / artifact["file"])
    return "quantization_config" in read_json(model.path / "config.json")


def _to_rate(record: PromptRecord, rater: Rater) -> ToRate:
    """The sampled replies, the misplaced one, the Q2_K form's where there is one and, if it can be compared
    with others later, the greedy one.
    """
    texts = [reply.text for reply in record.replies] + [record.misplaced_text]
    texts += [] if record.q2_k_text is None else [record.q2_k_text]
    return ToRate(list(record.messages), texts if rater.together else [*texts, record.greedy.text])


def _rated(records: Sequence[PromptRecord], items: Sequence[ToRate], rater: Rater) -> list[PromptRecord]:
    with progress(whole_stage=True) as bar:
        task = bar.add_task(f"ratings by {rater.name}", total=len(records))
        ratings = rater.rate_many(items, lambda: bar.advance(task))
    return [_with_ratings(record, found) for record, found in zip(records, ratings, strict=True)]


def _with_ratings(record: PromptRecord, ratings: Sequence[float]) -> PromptRecord:
    """With the ratings of what `_to_rate` lists."""
    replies = [
        reply.model_copy(update={"rating": rating})
        for reply, rating in zip(record.replies, ratings, strict=False)
    ]
    misplaced, *others = ratings[len(replies) :]
    found: dict[str, object] = {"replies": tuple(replies), "misplaced_rating": misplaced}
    if record.q2_k_text is not None:
        found["q2_k_rating"] = others.pop(0)
    if others:
        found["greedy"] = record.greedy.model_copy(update={"rating": others[0]})
    return record.model_copy(update=found)
