"""Make a baseline: the reference's replies to the prompts, and the judge's ratings of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from empathy_edge import __version__
from empathy_edge.bench.check.baseline import (
    FORMAT,
    Baseline,
    PromptRecord,
    ReferenceRecord,
    ReferenceReply,
    read_baseline,
    write_baseline,
)
from empathy_edge.bench.check.certificate import judge_record
from empathy_edge.bench.check.prompts import CheckPrompt, sha256_of
from empathy_edge.bench.check.raters import Rater
from empathy_edge.bench.check.settings import ReplySettings
from empathy_edge.console import progress, say
from empathy_edge.data import certification_pairs
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.chat_format import GOLDEN_CONVERSATION, Message
from empathy_edge.formats.gguf_header import is_quantized
from empathy_edge.models.find import ModelRef, checkpoint_of, find_model
from empathy_edge.runtimes import default_threads
from empathy_edge.runtimes.torch_sampling import Drawn, EndTokens, draw
from empathy_edge.system.cache import cache_folder
from empathy_edge.system.files import MANIFEST, read_json, sha256_json
from empathy_edge.system.hash_cache import sha256_file

CONTEXT = 2048


def kept_or_made(
    model: str,
    prompts: list[CheckPrompt],
    rater: Rater,
    settings: ReplySettings,
    *,
    allow_quantized: bool = False,
) -> Baseline:
    """The baseline that an earlier command made of the same model, prompts, judge and settings, or a new one.

    Baselines are kept in the cache, so that a second `check --reference` begins at once.

    Args:
        model: a checkpoint folder, a GGUF in F16, BF16 or F32, or a hub id.
        prompts: in the order in which checks use them.
        rater: the judge.
        settings: how replies are made.
        allow_quantized: take a model with quantized weights, too.

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
        return read_baseline(kept)
    made = _make(reference, prompts, rater, settings)
    write_baseline(kept, made)
    return made


def _make(reference: ModelRef, prompts: list[CheckPrompt], rater: Rater, settings: ReplySettings) -> Baseline:
    """Draw the replies on torch, for which a GGUF is dequantized, and have them rated."""
    from empathy_edge.runtimes.torch_runtime import TorchRuntime

    runtime = TorchRuntime(checkpoint_of(reference.name).path, threads=default_threads(), context=CONTEXT)
    token_ids = [runtime.encode(prompt.conversation()) for prompt in prompts]
    _refuse_long(prompts, token_ids, runtime.context - settings.max_new_tokens)
    judge = judge_record(rater)
    sampled = _draw(runtime, token_ids, settings, settings.samples, "replies")
    greedy = _draw(runtime, token_ids, settings.model_copy(update={"temperature": 1.0}), 0, "greedy replies")
    records = _records(runtime, prompts, token_ids, sampled, greedy)
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
        prompts=tuple(_rated(records, rater)),
    )


def _refuse_long(prompts: Sequence[CheckPrompt], token_ids: Sequence[list[int]], most: int) -> None:
    for prompt, ids in zip(prompts, token_ids, strict=True):
        if len(ids) > most:
            raise EmpathyEdgeError(
                f"The prompt '{prompt.id}' has {len(ids)} tokens; with its reply it does not fit into the "
                f"context window ({most} are left). Shorten it, or use fewer --max-new-tokens."
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


def _draw(
    runtime: Any, token_ids: Sequence[list[int]], settings: ReplySettings, samples: int, label: str
) -> list[list[Drawn]]:
    """The replies to each prompt; samples = 0 stands for one greedy reply."""
    repeated = [ids for ids in token_ids for _ in range(max(1, samples))]
    with progress(whole_stage=True) as bar:
        task = bar.add_task(label, total=len(repeated))
        drawn = draw(
            runtime.model,
            repeated,
            tokens=EndTokens(runtime.stop_ids, runtime.tokenizer.pad_token_id),
            max_new_tokens=settings.max_new_tokens,
            temperature=settings.temperature if samples else 0.0,
            seed=settings.seed,
            drawn=lambda: bar.advance(task),
        )
    size = max(1, samples)
    say(f"  {label}: {len(drawn)}, {sum(len(item.token_ids) for item in drawn)} tokens")
    return [drawn[start : start + size] for start in range(0, len(drawn), size)]


def _records(
    runtime: Any,
    prompts: Sequence[CheckPrompt],
    token_ids: Sequence[list[int]],
    sampled: Sequence[Sequence[Drawn]],
    greedy: Sequence[Sequence[Drawn]],
) -> list[PromptRecord]:
    """All but the ratings, which are 0. The misplaced reply is one to the next prompt in the order."""
    texts = [_text(runtime, replies[0]) for replies in sampled]
    records = []
    for place, prompt in enumerate(prompts):
        record = PromptRecord(
            id=prompt.id,
            messages=tuple(prompt.conversation()),
            token_ids=tuple(token_ids[place]),
            replies=tuple(_unrated(runtime, item) for item in sampled[place]),
            greedy=_unrated(runtime, greedy[place][0]),
            misplaced_text=texts[(place + 1) % len(texts)],
            misplaced_rating=0.0,
        )
        records.append(record)
    return records


def _unrated(runtime: Any, reply: Drawn) -> ReferenceReply:
    return ReferenceReply(
        token_ids=tuple(reply.token_ids),
        log_probs=tuple(round(value, 5) for value in reply.log_probs),
        text=_text(runtime, reply),
        stopped=reply.stopped,
        rating=0.0,
    )


def _text(runtime: Any, reply: Drawn) -> str:
    ids = reply.token_ids[:-1] if reply.stopped else reply.token_ids
    return str(runtime.tokenizer.decode(ids, skip_special_tokens=True)).strip()


def _rated(records: Sequence[PromptRecord], rater: Rater) -> list[PromptRecord]:
    rated = []
    with progress(whole_stage=True) as bar:
        task = bar.add_task(f"ratings by {rater.name}", total=len(records))
        for record in records:
            conversation: list[Message] = list(record.messages)
            replies = [*record.replies, record.greedy]
            texts = [reply.text for reply in replies]
            *ratings, misplaced = rater.rate(conversation, [*texts, record.misplaced_text])
            *sampled, greedy = [
                reply.model_copy(update={"rating": rating})
                for reply, rating in zip(replies, ratings, strict=True)
            ]
            found = {"replies": tuple(sampled), "greedy": greedy, "misplaced_rating": misplaced}
            rated.append(record.model_copy(update=found))
            bar.advance(task)
    return rated
