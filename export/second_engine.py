"""Does a GGUF say in another llama.cpp what it says in ours? Apps ship builds of their own, older and newer.

Compared are the text and the token ids of each prompt, the greedy reply, and the log-probabilities of the
likeliest tokens along that reply. The file is the same, so that a difference is one of the versions.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from empathy_edge.console import out as stdout
from empathy_edge.console import progress, table
from empathy_edge.data import sample_dialogues
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.export.gguf.tensor_types import type_name
from empathy_edge.export.llama_server import LlamaServer, ServedModel, serve, server_command
from empathy_edge.formats.chat_format import (
    GOLDEN_CONVERSATION,
    Message,
    fit_to_template,
    messages_for,
    render,
)
from empathy_edge.formats.dialogue import read_dialogues
from empathy_edge.formats.gguf_header import tensors_of
from empathy_edge.models.find import ModelRef, find_model
from empathy_edge.runtimes import Runtime, default_threads, open_runtime
from empathy_edge.runtimes.distributions import log_softmax
from empathy_edge.system.files import MANIFEST, read_json

CONTEXT = 2048
TOP = 5
"""So many of the likeliest tokens are compared at each place."""


@dataclass(frozen=True)
class Bounds:
    """How far two engines may be apart.

    Attributes:
        mean: nats; the largest mean difference of log-probabilities.
        clear: nats; they take different tokens, and ours is likelier by this: one of them is wrong.
    """

    mean: float
    clear: float


FLOATS = Bounds(mean=0.05, clear=0.2)
QUANTIZED = Bounds(mean=0.5, clear=1.5)
"""Quantized weights are multiplied with activations that are rounded, too; builds for other processors round
them at other places, and a model multiplies the differences. docs/results/export.md has what was seen."""

_FLOAT_KINDS = {"F32", "F16", "BF16"}


@dataclass(frozen=True)
class PromptComparison:
    """One prompt in both engines.

    Attributes:
        prompt_tokens: how many tokens our prompt has.
        same_text: whether the other engine's template writes the same text (a BOS token's text left out).
        same_ids: whether it reads our text as the same token ids.
        same_app_ids: whether what an app sends through its chat interface has our token ids.
        reply_tokens: how many tokens its greedy reply has.
        same_reply: at how many of its first places ours is the same.
        same_end: whether both stopped, or neither within the limit.
        differences: in nats, of the likeliest tokens' log-probabilities at each place of its reply.
        clearest: the largest gap in nats, by our log-probabilities, between our token and the one it took.
    """

    prompt_tokens: int
    same_text: bool
    same_ids: bool
    same_app_ids: bool
    reply_tokens: int
    same_reply: int
    same_end: bool
    differences: list[float]
    clearest: float


@dataclass(frozen=True)
class EngineComparison:
    """All prompts in both engines.

    Attributes:
        ours: our engine and its version.
        theirs: the other one's.
        prompts: the golden conversation first.
        bounds: by the file's types.
    """

    ours: str
    theirs: str
    prompts: list[PromptComparison]
    bounds: Bounds

    @property
    def same_replies(self) -> int:
        """How many replies are the same to their end."""
        return sum(prompt.same_reply == prompt.reply_tokens and prompt.same_end for prompt in self.prompts)

    @property
    def mean_difference(self) -> float:
        """Nats: the mean difference of log-probabilities."""
        found = [value for prompt in self.prompts for value in prompt.differences]
        return float(np.mean(found)) if found else 0.0

    @property
    def largest_difference(self) -> float:
        """Nats."""
        return max((value for prompt in self.prompts for value in prompt.differences), default=0.0)

    @property
    def failed(self) -> list[str]:
        """What is not the same, in words; empty if all is."""
        found = []
        for attribute, words in (
            ("same_ids", "the same text has other token ids"),
            ("same_app_ids", "a chat through its server has other token ids: another template, BOS or text"),
        ):
            count = sum(not getattr(prompt, attribute) for prompt in self.prompts)
            if count:
                found.append(f"{words} ({count} of {len(self.prompts)} prompts)")
        if not self.mean_difference <= self.bounds.mean:
            found.append(f"log-probabilities differ by {self.mean_difference:.3f} nats in the mean")
        clearest = max(prompt.clearest for prompt in self.prompts)
        if clearest >= self.bounds.clear:
            found.append(f"it takes another token where ours is likelier by {clearest:.2f} nats")
        return found

    @property
    def verdict(self) -> str:
        """The result in a sentence; where something is not the same, a line for each."""
        if self.failed:
            what = f"{self.theirs} does not say of the same file what {self.ours} says"
            return "\n  ".join([f"a difference of versions: {what}.", *self.failed])
        return (
            f"PASS: {self.theirs} says what {self.ours} says: the same token ids, {self.same_replies} of "
            f"{len(self.prompts)} replies the same to the end, log-probabilities apart by "
            f"{self.mean_difference:.4f} nats in the mean and {self.largest_difference:.3f} at most."
        )


def compare(artifact: str, *, server: Path | None, prompts: int, new_tokens: int) -> EngineComparison:
    """Open a GGUF here and in another llama.cpp, and compare what they say.

    Args:
        artifact: a .gguf file, or an artifact's folder.
        server: the program of the other llama.cpp; None takes what there is.
        prompts: how many prompts of the shipped test split, the golden conversation besides.
        new_tokens: of each reply.

    Raises:
        EmpathyEdgeError: it is no GGUF, or the server does not answer.
    """
    command = server_command(server)
    ref = find_model(artifact)
    model = _served_model(ref)
    test = [item for item in read_dialogues(sample_dialogues()) if item.split == "test"]
    conversations = [GOLDEN_CONVERSATION, *(messages_for(item.utterance) for item in test[:prompts])]
    ours = open_runtime(ref.path, context=CONTEXT)
    found = []
    try:
        with serve(command, model, threads=default_threads(), context=CONTEXT) as theirs, progress() as bar:
            task = bar.add_task("compare", total=len(conversations))
            for messages in conversations:
                found.append(_compare_prompt(ours, theirs, messages, new_tokens))
                bar.advance(task)
    finally:
        ours.close()
    return EngineComparison(our_engine(), theirs.name, found, _bounds_of(model.file))


def _served_model(ref: ModelRef) -> ServedModel:
    if ref.kind == "gguf":
        return ServedModel(ref.path)
    manifest = ref.path / MANIFEST
    about = read_json(manifest).get("artifact", {}) if manifest.is_file() else {}
    if about.get("format") != "gguf":
        raise EmpathyEdgeError(f"{ref.path}: llama.cpp opens GGUF files; give one, or an artifact gguf-….")
    return ServedModel(
        ref.path / about["file"],
        lora=ref.path / about["adapter"] if "adapter" in about else None,
        template=ref.path / about["template"] if "template" in about else None,
    )


def _bounds_of(file: Path) -> Bounds:
    kinds = {type_name(place.kind).upper() for place in tensors_of(file).values()}
    return FLOATS if kinds <= _FLOAT_KINDS else QUANTIZED


def our_engine() -> str:
    """Our llama.cpp, as `llama-cpp-python 0.3.36 (ggml 0.25.3, commit 0c1e570)`."""
    from llama_cpp import _ggml

    name = f"llama-cpp-python {version('llama-cpp-python')}"
    library: Any = _ggml.libggml
    try:
        library.ggml_version.restype = library.ggml_commit.restype = ctypes.c_char_p
        return f"{name} (ggml {library.ggml_version().decode()}, commit {library.ggml_commit().decode()})"
    except AttributeError:  # an older ggml does not say
        return name


def _compare_prompt(
    ours: Runtime, theirs: LlamaServer, messages: list[Message], new_tokens: int
) -> PromptComparison:
    messages = fit_to_template(ours.template, messages)
    text = render(ours.template, messages, bos=ours.bos, eos=ours.eos)
    ids = ours.tokenize(text)
    app_text = theirs.prompt(messages)
    # A template that writes the date writes today's in an app, and always the same one here.
    is_dated = "strftime_now" in ours.template
    reply = theirs.greedy(ids, new_tokens, TOP)
    own = ours.reply(ids, max_new_tokens=new_tokens)
    differences, clearest = _along_reply(ours, ids, reply.token_ids, reply.likeliest)
    # Some versions count the stop token among the new ones.
    ends_with_stop = reply.stopped and reply.token_ids and reply.token_ids[-1] in ours.stop_ids
    said = reply.token_ids[:-1] if ends_with_stop else reply.token_ids
    same = _same_beginning(own.token_ids, said)
    ends_alike = (own.finish_reason == "stop") == reply.stopped
    return PromptComparison(
        prompt_tokens=len(ids),
        same_text=app_text.removeprefix(ours.bos) == text.removeprefix(ours.bos),
        same_ids=theirs.tokens(text, as_prompt=False) == ids,
        same_app_ids=is_dated or theirs.tokens(app_text, as_prompt=True) == ids,
        reply_tokens=len(said),
        same_reply=same,
        same_end=ends_alike,
        differences=differences,
        clearest=clearest,
    )


def _same_beginning(one: Sequence[int], other: Sequence[int]) -> int:
    for place, (first, second) in enumerate(zip(one, other, strict=False)):
        if first != second:
            return place
    return min(len(one), len(other))


def _along_reply(
    ours: Runtime, prompt: list[int], reply: list[int], likeliest: list[dict[int, float]]
) -> tuple[list[float], float]:
    """Our log-probabilities beside theirs, at each place of their reply.

    Returns:
        The largest difference among their likeliest tokens at each place, and the largest gap between our
        likeliest token and the one that they took, in nats.
    """
    if not reply:
        return [], 0.0
    differences = []
    gaps = [0.0]
    for token, theirs, row in zip(
        reply, likeliest, log_softmax(ours.reply_logits(prompt, reply)), strict=False
    ):
        differences.append(max(abs(value - float(row[other])) for other, value in theirs.items()))
        gaps.append(float(row.max() - row[token]))
    return differences, max(gaps)


def show(found: EngineComparison) -> None:
    """Print the table, one row for each prompt."""
    columns = ("prompt", "tokens", "text", "ids", "ids by chat", "same reply", "mean Δ", "largest Δ")
    rows = []
    for number, prompt in enumerate(found.prompts):
        name = "golden conversation" if number == 0 else f"test {number}"
        differences = prompt.differences or [0.0]
        rows.append(
            [
                name,
                str(prompt.prompt_tokens),
                *_words(prompt.same_text, prompt.same_ids, prompt.same_app_ids),
                f"{prompt.same_reply}/{prompt.reply_tokens}",
                f"{np.mean(differences):.4f}",
                f"{max(differences):.3f}",
            ]
        )
    title = f"{found.theirs} beside {found.ours}; Δ: log-probabilities of the {TOP} likeliest, nats"
    stdout.print(table(title, columns, rows))


def _words(*same: bool) -> list[str]:
    return ["equal" if value else "DIFFER" for value in same]
