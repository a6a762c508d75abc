"""What a checkpoint answers on torch: the reference that artifacts are verified against.

It is kept in the cache by the checkpoint's identity: another artifact of the same checkpoint needs no torch.
"""

from __future__ import annotations

import contextlib
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from empathy_edge.data import sample_dialogues
from empathy_edge.formats.chat_format import GOLDEN_CONVERSATION, Message, messages_for, turn_end
from empathy_edge.formats.dialogue import Dialogue, read_dialogues
from empathy_edge.models.find import ModelRef
from empathy_edge.runtimes import default_threads
from empathy_edge.runtimes.distributions import log_softmax
from empathy_edge.runtimes.torch_runtime import TorchRuntime
from empathy_edge.system.cache import cache_folder
from empathy_edge.system.device import chosen_device
from empathy_edge.system.files import sha256_json, write_atomically
from empathy_edge.system.kept_models import mark_used
from empathy_edge.system.memory import release_freed_memory

VERSION = 1
"""Counted up where other code computes another reference."""

KEPT = 8
"""So many references are kept in the cache, the newest ones."""


@dataclass(frozen=True)
class Extent:
    """How much is compared: prompts of the shipped test split, and tokens of each response."""

    prompts: int
    response_tokens: int


@dataclass(frozen=True)
class ReferenceReply:
    """The checkpoint's greedy response to a prompt.

    Attributes:
        prompt_ids: the prompt's token ids.
        token_ids: the response's, its stop token included where it came.
        log_probs: of each token of the response, float16 [tokens, vocabulary]: its rounding changes a mean
            KL divergence by less than 1e-5 nats.
    """

    prompt_ids: list[int]
    token_ids: list[int]
    log_probs: np.ndarray


@dataclass(frozen=True)
class Reference:
    """What the checkpoint on torch gives, with which each artifact is compared.

    Attributes:
        golden_ids: the token ids of the golden conversation.
        stop_ids: all tokens that end a response.
        end_of_turn: the one with which the template ends a turn.
        replies: to the prompts of `verify_prompts`.
    """

    golden_ids: list[int]
    stop_ids: frozenset[int]
    end_of_turn: int
    replies: list[ReferenceReply]


def sample_test_dialogues(count: int) -> list[Dialogue]:
    """The first dialogues of the shipped test split."""
    return [item for item in read_dialogues(sample_dialogues()) if item.split == "test"][:count]


def verify_prompts(count: int) -> list[list[Message]]:
    """The prompts of the first dialogues of the shipped test split."""
    return [messages_for(item.utterance) for item in sample_test_dialogues(count)]


def reference_of(checkpoint: Path, extent: Extent) -> Reference:
    """The reference of a checkpoint folder, from the cache where it is there."""
    conversations = verify_prompts(extent.prompts)
    identity = ModelRef(checkpoint.name, "checkpoint", checkpoint).identity
    libraries = [version(name) for name in ("torch", "transformers", "tokenizers", "jinja2")]
    asked = [GOLDEN_CONVERSATION, conversations, extent.response_tokens]
    key = sha256_json([VERSION, identity, asked, libraries])
    file = cache_folder() / "verify" / f"{key[:32]}.npz"
    kept = _read(file)
    if kept is not None:
        mark_used(file)
        return kept
    reference = _answer(checkpoint, conversations, extent.response_tokens)
    release_freed_memory()
    _keep(reference, file)
    return reference


def _answer(checkpoint: Path, conversations: Sequence[list[Message]], response_tokens: int) -> Reference:
    runtime = TorchRuntime(checkpoint, threads=default_threads(), device=chosen_device())
    release_freed_memory()
    prompts = [runtime.encode(messages) for messages in conversations]
    replies = []
    for ids, reply in zip(
        prompts, runtime.greedy_replies(prompts, max_new_tokens=response_tokens), strict=True
    ):
        log_probs = log_softmax(reply.logits).astype(np.float16)
        replies.append(ReferenceReply(ids, reply.token_ids, log_probs))
    return Reference(
        golden_ids=runtime.encode(GOLDEN_CONVERSATION),
        stop_ids=runtime.stop_ids | runtime.declared_stop_ids,
        end_of_turn=runtime.tokenize(turn_end(runtime.template, runtime.eos))[0],
        replies=replies,
    )


def _keep(reference: Reference, file: Path) -> None:
    """Write a reference into the cache; the oldest ones there are deleted."""
    arrays = {
        "golden_ids": np.array(reference.golden_ids),
        "stop_ids": np.array(sorted(reference.stop_ids)),
        "end_of_turn": np.array(reference.end_of_turn),
    }
    for number, reply in enumerate(reference.replies):
        arrays[f"prompt_ids_{number}"] = np.array(reply.prompt_ids)
        arrays[f"token_ids_{number}"] = np.array(reply.token_ids)
        arrays[f"log_probs_{number}"] = reply.log_probs
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **arrays)
    with contextlib.suppress(OSError):  # a cache that cannot be written: it is computed again next time
        write_atomically(file, content.getvalue())
        files = sorted(file.parent.glob("*.npz"), key=lambda item: item.stat().st_mtime)
        for old in files[:-KEPT]:
            old.unlink()


def _read(file: Path) -> Reference | None:
    """A reference in the cache; None where it is not there, or damaged."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            count = sum(name.startswith("prompt_ids_") for name in arrays.files)
            return Reference(
                golden_ids=arrays["golden_ids"].tolist(),
                stop_ids=frozenset(arrays["stop_ids"].tolist()),
                end_of_turn=int(arrays["end_of_turn"]),
                replies=[
                    ReferenceReply(
                        arrays[f"prompt_ids_{number}"].tolist(),
                        arrays[f"token_ids_{number}"].tolist(),
                        arrays[f"log_probs_{number}"],
                    )
                    for number in range(count)
                ],
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
