"""What each arm answers: greedy, so that the same model always gives the same responses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypedDict, cast, runtime_checkable

from empathy_edge.bench.release.safety import safety_prompts
from empathy_edge.console import progress, say
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.chat_format import Message
from empathy_edge.formats.dialogue import Dialogue
from empathy_edge.formats.json_lines import line_of, read_jsonl, read_unfinished_jsonl, write_jsonl
from empathy_edge.judging.format_checks import well_formed
from empathy_edge.judging.response_pairs import ResponsePairs
from empathy_edge.models.find import find_model
from empathy_edge.models.identity import model_identity
from empathy_edge.prompts import load_prompts
from empathy_edge.runs.settings import ReleaseSettings
from empathy_edge.runs.stage import open_stage
from empathy_edge.runtimes import Reply, Runtime, open_runtime
from empathy_edge.runtimes.base import common_prefix

CONTEXT = 2048
"""Tokens of a prompt and its response together."""

BATCH = 32
"""How many prompts a `BatchRuntime` answers at once; 32 take half as long as 16 twice."""

IDENTITY_DIGITS = 16
"""Of the model's identity in each row."""

SAFETY_TOKENS = 96
"""The maximum length of a reply to a safety prompt, in tokens; it is never above that of other replies."""


class ResponseRow(TypedDict):
    """A line of a file of responses.

    Attributes:
        id: the dialogue's.
        text: the response.
        finish_reason: `stop` (the model ended its turn) or `length` (it was cut off).
        tokens: how many tokens the response has.
        model: the identity of the model that gave it, with everything that decides its answers.
    """

    id: str
    text: str
    finish_reason: str
    tokens: int
    model: str


@dataclass(frozen=True)
class Answers:
    """What every arm answered to the same dialogues.

    Attributes:
        dialogues: what was answered.
        responses: arm → its responses, in the order of the dialogues.
    """

    dialogues: list[Dialogue]
    responses: Mapping[str, list[ResponseRow]]

    @property
    def utterances(self) -> dict[str, str]:
        """What the person said, by the dialogue's id."""
        return {dialogue.id: dialogue.utterance for dialogue in self.dialogues}

    def pairs(self, first: str, second: str) -> ResponsePairs:
        """Two arms' responses."""
        return ResponsePairs(self.dialogues, by_id(self.responses[first]), by_id(self.responses[second]))

    def well_formed(self, arm: str) -> set[str]:
        """The dialogues that the arm answers well-formed."""
        utterances = self.utterances
        return {row["id"] for row in self.responses[arm] if well_formed(row, utterances.get(row["id"]))}


@runtime_checkable
class BatchRuntime(Protocol):
    """A runtime that can answer several conversations at once."""

    def reply_batch(self, conversations: list[list[Message]], *, max_new_tokens: int) -> list[Reply]:
        """Greedy replies, in the order of the conversations."""
        ...


def responses_of_arms(
    arms: Mapping[str, Path],
    test: Path,
    dialogues: list[Dialogue],
    folder: Path,
    settings: ReleaseSettings,
    update: bool,
) -> dict[str, list[ResponseRow]]:
    """Every arm's responses.

    It is a stage of its own: with another judge, no model is asked again.
    """
    stage = open_stage(
        folder,
        "responses",
        settings={
            **settings.model_dump(include={"max_prompts", "max_new_tokens"}),
            "prompt_sha256": load_prompts("chat").sha256,
            "arms": list(arms),
        },
        inputs={"test": test, **arms},
        files=[f"{arm}.jsonl" for arm in arms],
        update=update,
    )
    files = {arm: folder / f"{arm}.jsonl" for arm in arms}
    if stage.done:
        return _of_finished_stage(files, dialogues)
    responses = {
        arm: respond(model, dialogues, files[arm], max_new_tokens=settings.max_new_tokens, arm=arm)
        for arm, model in arms.items()
    }
    stage.finish()
    return responses


def known_responses(dialogues: list[Dialogue], source: str) -> list[ResponseRow] | None:
    """The responses of one source that the data have; None where a dialogue has none."""
    rows: list[ResponseRow] = []
    for dialogue in dialogues:
        known = dialogue.response(source)
        if known is None:
            return None
        rows.append(
            {"id": dialogue.id, "text": known.text, "finish_reason": "stop", "tokens": 0, "model": source}
        )
    return rows


def safety_replies_of_arms(
    arms: Mapping[str, Path], folder: Path, settings: ReleaseSettings, update: bool
) -> dict[str, dict[str, str]]:
    """Every arm's replies to the safety prompts, by the prompt's key; a stage of its own, too."""
    tokens = min(SAFETY_TOKENS, settings.max_new_tokens)
    stage = open_stage(
        folder,
        "safety",
        settings={
            "max_new_tokens": tokens,
            "prompt_sha256": load_prompts("chat").sha256,
            "safety_sha256": load_prompts("safety").sha256,
            "arms": list(arms),
        },
        inputs=arms,
        files=[f"{arm}.jsonl" for arm in arms],
        update=update,
    )
    prompts = safety_prompts()
    files = {arm: folder / f"{arm}.jsonl" for arm in arms}
    if stage.done:
        rows_of_arms = _of_finished_stage(files, prompts)
    else:
        rows_of_arms = {
            arm: respond(model, prompts, files[arm], max_new_tokens=tokens, arm=f"{arm}, safety")
            for arm, model in arms.items()
        }
        stage.finish()
    replies = {}
    for arm, rows in rows_of_arms.items():
        replies[arm] = {row["id"]: row["text"] for row in rows}
    return replies


def _of_finished_stage(files: Mapping[str, Path], dialogues: list[Dialogue]) -> dict[str, list[ResponseRow]]:
    """The responses in the stage's files, in the order of the dialogues."""
    responses = {}
    for arm, file in files.items():
        rows = by_id(read_rows(file))
        responses[arm] = [rows[dialogue.id] for dialogue in dialogues]
    return responses


def respond(
    model: str | Path,
    dialogues: list[Dialogue],
    file: Path,
    *,
    max_new_tokens: int,
    arm: str,
    adapters: Sequence[Path] = (),
) -> list[ResponseRow]:
    """Answer every dialogue's utterance; each response is on the disk before the next one is begun.

    Args:
        model: what `open_runtime` takes.
        dialogues: the prompts.
        file: the JSONL to append to; responses of the same model that are already in it are kept.
        max_new_tokens: the maximum length of a response.
        arm: the arm's name, for the progress bar.
        adapters: added to `model`, a checkpoint, in memory.

    Returns:
        One row per dialogue, in their order.

    Raises:
        EmpathyEdgeError: the file has responses of another model, or with other settings.
    """
    settings = {"max_new_tokens": max_new_tokens, "context": CONTEXT, "prompt": load_prompts("chat").sha256}
    identity = model_identity(find_model(str(model)), adapters, settings)[:IDENTITY_DIGITS]
    done = _repaired(file, identity)
    missing = [dialogue for dialogue in dialogues if dialogue.id not in done]
    if missing:
        if done:
            say(f"  {arm}: {len(done)} responses are here already, going on")
        # The longest prompts come first. Prompts of like length in a batch need less padding, and the first
        # batch shows whether there is enough memory.
        missing.sort(key=lambda dialogue: -len(dialogue.utterance))
        runtime = open_runtime(model, context=CONTEXT, adapters=adapters)
        file.parent.mkdir(parents=True, exist_ok=True)
        with progress() as bar, open(file, "a", encoding="utf-8") as handle:
            task = bar.add_task(arm, total=len(dialogues), completed=len(done))
            for replies in _answers(runtime, missing, max_new_tokens):
                rows = [_row(dialogue, reply, identity) for dialogue, reply in replies]
                handle.writelines(line_of(dict(row)) for row in rows)
                handle.flush()
                done |= by_id(rows)
                bar.advance(task, len(rows))
        runtime.close()
        say(f"  {arm}: {len(dialogues)} responses")
    return [done[dialogue.id] for dialogue in dialogues]


def _answers(
    runtime: Runtime, dialogues: list[Dialogue], max_new_tokens: int
) -> Iterator[list[tuple[Dialogue, Reply]]]:
    """The replies in the order of the dialogues: a batch at a time where the runtime can do that."""
    if isinstance(runtime, BatchRuntime):
        for start in range(0, len(dialogues), BATCH):
            group = dialogues[start : start + BATCH]
            conversations = [dialogue.prompt() for dialogue in group]
            replies = runtime.reply_batch(conversations, max_new_tokens=max_new_tokens)
            yield list(zip(group, replies, strict=True))
        return
    shared = _shared_beginning(runtime, dialogues)
    for dialogue in dialogues:
        runtime.forget(keep=shared)  # no response may depend on the ones before it
        reply = runtime.reply(dialogue.prompt(), max_new_tokens=max_new_tokens)
        yield [(dialogue, reply)]


def _shared_beginning(runtime: Runtime, dialogues: list[Dialogue]) -> int:
    """How many tokens all prompts begin with: the system prompt, which need not be read again for each."""
    first, *others = [runtime.encode(dialogue.prompt()) for dialogue in dialogues]
    return min((common_prefix(first, ids) for ids in others), default=0)


def _row(dialogue: Dialogue, reply: Reply, model: str) -> ResponseRow:
    return {
        "id": dialogue.id,
        "text": reply.text,
        "finish_reason": reply.finish_reason,
        "tokens": len(reply.token_ids),
        "model": model,
    }


def by_id(rows: Iterable[ResponseRow]) -> dict[str, ResponseRow]:
    """Rows by their dialogue's id."""
    return {row["id"]: row for row in rows}


def read_rows(file: Path) -> list[ResponseRow]:
    """A file of responses."""
    return cast("list[ResponseRow]", read_jsonl(file))


def _repaired(file: Path, identity: str) -> dict[str, ResponseRow]:
    """The responses that an earlier run of the same model left; a line that was cut off is removed."""
    if not file.exists():
        return {}
    rows = read_unfinished_jsonl(file)
    for number, row in enumerate(rows, 1):
        if row.get("model") != identity or "id" not in row:
            raise EmpathyEdgeError(
                f"{file}: row {number} is not a response of this model with these settings.\n"
                "  Choose another --out, or move the file away; it was not changed."
            )
    found = by_id(cast("list[ResponseRow]", rows))
    write_jsonl(file, found.values())
    return found
