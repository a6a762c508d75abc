"""The reference's replies, drawn in blocks that are kept: a run that was cut off goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from empathy_edge.bench.check.baseline.record import PromptRecord, ReferenceReply
from empathy_edge.bench.check.beforehand import number_of, work_of_the_reference
from empathy_edge.bench.check.prompts import CheckPrompt
from empathy_edge.console import progress, say
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.json_lines import line_of, read_unfinished_jsonl
from empathy_edge.models.find import ModelRef
from empathy_edge.runs.settings import ReplySettings
from empathy_edge.runtimes import Runtime, open_runtime
from empathy_edge.runtimes.base import Sampling
from empathy_edge.runtimes.drawn import Drawn
from empathy_edge.system.files import write_atomically

CONTEXT = 2048

BLOCK = 64
"""Prompts whose replies are drawn before they are kept."""

PROOF_PROMPTS = 8
"""Prompts whose replies a checkpoint scores, too, where they were drawn on its GGUF."""

MOST_DIFFERENCE = 0.05
"""Nats a token, on average; F16 rounding makes less than 0.01."""

GIVE_A_GGUF = "Report it, please; a baseline can be made of a GGUF instead."


def drawn_records(file: Path, prompts: Sequence[CheckPrompt]) -> list[PromptRecord]:
    """The records of a file that `draw_records` finished; none where it is not there, or damaged."""
    try:
        records = [PromptRecord.model_validate(row) for row in read_unfinished_jsonl(file)]
    except (ValidationError, OSError):
        return []
    same = [record.id for record in records] == [prompt.id for prompt in prompts]
    return records if same else []


def draw_records(
    runtime: Runtime,
    prompts: Sequence[CheckPrompt],
    settings: ReplySettings,
    parts: Path,
    command: str = "",
) -> list[PromptRecord]:
    """Each prompt with replies of the reference; ratings are 0.

    Args:
        runtime: of the reference.
        prompts: in the order in which checks use them.
        settings: how replies are made.
        parts: a file for what is done; an earlier run's is used. No other process may write it meanwhile.
        command: see `work_of_the_reference`.

    Raises:
        EmpathyEdgeError: a prompt is too long.
    """
    token_ids = [runtime.encode(prompt.conversation()) for prompt in prompts]
    _refuse_long(prompts, token_ids, runtime.context - settings.max_new_tokens)
    records = _records_of(parts, prompts, token_ids)
    if records:
        say(f"  {len(records)} of {len(prompts)} prompts have replies from an earlier run.")
    say(work_of_the_reference(len(prompts) - len(records), settings.samples + 1, command))
    write_atomically(parts, "".join(map(_line, records)))
    with progress(whole_stage=True) as bar, parts.open("a", encoding="utf-8") as handle:
        each = settings.samples + 1
        task = bar.add_task("replies", total=len(prompts) * each, completed=len(records) * each)
        for start in range(len(records), len(prompts), BLOCK):
            block = slice(start, start + BLOCK)
            drawn = _draw(runtime, token_ids[block], settings, start, lambda: bar.advance(task))
            found = [
                _record(runtime, prompt, ids, replies, settings)
                for prompt, ids, replies in zip(prompts[block], token_ids[block], drawn, strict=True)
            ]
            handle.write("".join(map(_line, found)))
            handle.flush()
            records += found
    tokens = sum(len(reply.token_ids) for record in records for reply in record.replies)
    sampled = number_of(len(records) * settings.samples, "sampled reply", "sampled replies")
    say(f"  replies: {sampled} with {tokens} tokens, and {len(records)} greedy")
    return records


def with_misplaced(records: Sequence[PromptRecord]) -> list[PromptRecord]:
    """The same with a reply to the next prompt beside each."""
    return [
        record.model_copy(update={"misplaced_text": following.replies[0].text})
        for record, following in zip(records, [*records[1:], records[0]], strict=True)
    ]


def _refuse_long(prompts: Sequence[CheckPrompt], token_ids: Sequence[list[int]], most: int) -> None:
    for prompt, ids in zip(prompts, token_ids, strict=True):
        if len(ids) > most:
            raise EmpathyEdgeError(
                f"The prompt '{prompt.id}' has {len(ids)} tokens; with its reply it does not fit into the "
                f"context window ({most} are left). Shorten it, or use fewer --max-new-tokens."
            )


def _records_of(
    parts: Path, prompts: Sequence[CheckPrompt], token_ids: Sequence[list[int]]
) -> list[PromptRecord]:
    """What an earlier run drew, whole blocks only."""
    records = []
    try:
        for row, prompt, ids in zip(read_unfinished_jsonl(parts), prompts, token_ids, strict=False):
            record = PromptRecord.model_validate(row)
            if record.id != prompt.id or list(record.token_ids) != ids:
                break
            records.append(record)
    except (ValidationError, OSError):
        return []
    return records if len(records) == len(token_ids) else records[: len(records) // BLOCK * BLOCK]


def _line(record: PromptRecord) -> str:
    return line_of(record.model_dump(mode="json"))


def _draw(
    runtime: Runtime,
    token_ids: Sequence[list[int]],
    settings: ReplySettings,
    start: int,
    drawn: Callable[[], None],
) -> list[list[Drawn]]:
    """The sampled replies to each prompt of a block, and last its greedy one."""
    seed = settings.seed * 1_000_003 + start
    sampling = Sampling(settings.temperature, seed, settings.max_new_tokens, ignore_stop=False)
    sampled = runtime.draw(token_ids, settings.samples, sampling, drawn)
    greedy = runtime.draw(token_ids, 1, replace(sampling, temperature=0.0), drawn)
    size = settings.samples
    return [[*sampled[place * size : (place + 1) * size], last] for place, last in enumerate(greedy)]


def _record(
    runtime: Runtime,
    prompt: CheckPrompt,
    token_ids: Sequence[int],
    drawn: Sequence[Drawn],
    settings: ReplySettings,
) -> PromptRecord:
    """All but ratings and the misplaced reply."""
    temperatures = [settings.temperature] * settings.samples + [1.0]
    *sampled, greedy = [
        _unrated(runtime, token_ids, reply, temperature)
        for reply, temperature in zip(drawn, temperatures, strict=True)
    ]
    return PromptRecord(
        id=prompt.id,
        messages=tuple(prompt.conversation()),
        token_ids=tuple(token_ids),
        replies=tuple(sampled),
        greedy=greedy,
        misplaced_text="",
        misplaced_rating=0.0,
    )


def _unrated(runtime: Runtime, prompt: Sequence[int], reply: Drawn, temperature: float) -> ReferenceReply:
    log_probs = reply.log_probs
    if log_probs is None:
        (found,) = runtime.reply_log_probs(prompt, [reply.token_ids], temperature)
        log_probs = [float(value) for value in found]
    return ReferenceReply(
        token_ids=tuple(reply.token_ids),
        log_probs=tuple(round(value, 5) for value in log_probs),
        text=runtime.text_of(reply),
        stopped=reply.stopped,
        rating=0.0,
    )


def require_same_model(reference: ModelRef, records: Sequence[PromptRecord], temperature: float) -> None:
    """Whether a checkpoint gives the replies that were drawn on its GGUF the same probabilities.

    Raises:
        EmpathyEdgeError: it does not.
    """
    runtime = open_runtime(reference.path, context=CONTEXT)
    differences = []
    for record in records[:PROOF_PROMPTS]:
        if runtime.encode(list(record.messages)) != list(record.token_ids):
            raise EmpathyEdgeError(
                f"{reference.name}: its GGUF has other token ids for '{record.id}'. {GIVE_A_GGUF}"
            )
        for reply in record.replies:
            ids = [*record.token_ids, *reply.token_ids]
            log_probs = runtime.log_probs(ids, len(record.token_ids), temperature)
            differences.append(float(np.abs(log_probs - np.array(reply.log_probs)).mean()))
    runtime.close()
    if np.mean(differences) > MOST_DIFFERENCE:
        raise EmpathyEdgeError(
            f"{reference.name}: its F16 GGUF differs from it by {np.mean(differences):.3f} nats a token "
            f"(at most {MOST_DIFFERENCE}). {GIVE_A_GGUF}"
        )
