"""What each arm answers to the test split: greedy, so that the same model always gives the same responses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from empathy_edge.console import progress, say
from empathy_edge.formats.chat_format import messages_for
from empathy_edge.formats.dialogue import Dialogue, read_unfinished_jsonl
from empathy_edge.runtimes import Reply, Runtime, open_runtime
from empathy_edge.runtimes.base import common_prefix

BATCH = 32
"""How many prompts the torch arms answer at once; 32 take half as long as 16 twice."""


def respond(
    model: str | Path,
    dialogues: list[Dialogue],
    file: Path,
    *,
    max_new_tokens: int,
    arm: str,
    adapters: Sequence[Path] = (),
) -> list[dict[str, Any]]:
    """Answer every dialogue's utterance; each response is on the disk before the next one is begun.

    Args:
        model: what `open_runtime` takes.
        dialogues: the prompts.
        file: the JSONL to append to; responses that are already in it are kept.
        max_new_tokens: the most tokens of a response.
        arm: the arm's name, for the progress bar.
        adapters: added to `model`, a checkpoint, in memory.

    Returns:
        One row per dialogue, in their order: id, text, finish_reason, tokens.
    """
    done = _read_back(file)
    missing = [dialogue for dialogue in dialogues if dialogue.id not in done]
    if missing:
        if done:
            say(f"  {arm}: {len(done)} responses are here already, going on")
        runtime = open_runtime(model, context=2048, adapters=adapters)
        shared = _shared_beginning(runtime, missing)
        # Longest prompts together: less padding, and the first batch shows whether memory suffices.
        missing.sort(key=lambda dialogue: -len(dialogue.utterance))
        size = BATCH if hasattr(runtime, "reply_batch") else 1
        file.parent.mkdir(parents=True, exist_ok=True)
        with progress() as bar, open(file, "a", encoding="utf-8") as handle:
            task = bar.add_task(arm, total=len(dialogues), completed=len(done), note="")
            for start in range(0, len(missing), size):
                group = missing[start : start + size]
                conversations = [messages_for(dialogue.utterance) for dialogue in group]
                if hasattr(runtime, "reply_batch"):
                    replies: list[Reply] = runtime.reply_batch(conversations, max_new_tokens=max_new_tokens)
                else:
                    replies = []
                    for conversation in conversations:
                        runtime.forget(keep=shared)  # no response may depend on the ones before it
                        replies.append(runtime.reply(conversation, max_new_tokens=max_new_tokens))
                for dialogue, reply in zip(group, replies, strict=True):
                    done[dialogue.id] = {
                        "id": dialogue.id,
                        "text": reply.text,
                        "finish_reason": reply.finish_reason,
                        "tokens": len(reply.token_ids),
                    }
                    handle.write(json.dumps(done[dialogue.id], ensure_ascii=False) + "\n")
                handle.flush()
                bar.advance(task, len(group))
        runtime.close()
        say(f"  {arm}: {len(dialogues)} responses")
    return [done[dialogue.id] for dialogue in dialogues]


def _shared_beginning(runtime: Runtime, dialogues: list[Dialogue]) -> int:
    """How many tokens all prompts begin with: the system prompt, which need not be read again for each."""
    first, *others = [runtime.encode(messages_for(dialogue.utterance)) for dialogue in dialogues]
    return min((common_prefix(first, ids) for ids in others), default=0)


def _read_back(file: Path) -> dict[str, dict[str, Any]]:
    """The responses that an earlier run left; a line that was cut off is dropped from the file."""
    if not file.exists():
        return {}
    rows = {row["id"]: row for row in read_unfinished_jsonl(file) if "id" in row}
    file.write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows.values()), encoding="utf-8"
    )
    return rows
