"""What the page is told: the model's parts, the template in pieces, and what it measures and compares."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from empathy_edge.bench.browser.crisis_patterns import CrisisHelp, crisis_help
from empathy_edge.bench.browser.parts import MAX_MODEL_MB, Part
from empathy_edge.bench.browser.settings import PhoneSettings
from empathy_edge.bench.browser.template_pieces import TemplatePieces, template_pieces
from empathy_edge.bench.phones.device_folder import gguf_file
from empathy_edge.bench.result_file import Record
from empathy_edge.bench.worker import prompt_of_length
from empathy_edge.console import say
from empathy_edge.data import sample_dialogues
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.chat_format import (
    Message,
    fit_to_template,
    messages_for,
    render,
)
from empathy_edge.formats.dialogue import read_dialogues
from empathy_edge.formats.gguf_header import metadata_of
from empathy_edge.models.find import find_model
from empathy_edge.prompts import load_prompts
from empathy_edge.runtimes import Runtime, default_threads, open_runtime
from empathy_edge.system.files import sha256_json
from empathy_edge.system.hash_cache import sha256_file

FORMAT: Literal["empathy-edge phone plan 1"] = "empathy-edge phone plan 1"
PROMPTS = 3
"""How many dialogues are answered on the host and on the phone."""
REPLY_TOKENS = 16
"""How many tokens of each answer are compared."""


class Comparison(Record):
    """A dialogue that the host has answered.

    Attributes:
        messages: of the conversation.
        text: the messages as the template renders them.
        prompt_ids: its tokens.
        reply_ids: the likeliest next tokens.
        gaps: by how much each was likelier than the second choice, nats.
    """

    messages: list[Message]
    text: str
    prompt_ids: list[int]
    reply_ids: list[int]
    gaps: list[float]


class PhonePlan(Record):
    """All that the page needs beside the model's bytes.

    Attributes:
        format: the layout and its version.
        artifact: the name of the model's file or folder.
        model_sha256: of the whole file.
        size_bytes: of the whole file.
        part_bytes: the size of each part.
        context: tokens.
        threads: of the phone's CPU; None: half of its cores.
        max_new_tokens: of a reply in the chat.
        system: what the model is told before a conversation.
        template: in pieces; None where it cannot be taken apart, and the page offers no chat.
        stop_ids: tokens at which a reply ends.
        comparisons: what must come out as on the host.
        bench_ids: the bench's prompt.
        decode_tokens: of the bench.
        rounds: of the bench.
        crisis: signs of danger and what is answered; None where the user switched that off.
    """

    format: Literal["empathy-edge phone plan 1"]
    artifact: str
    model_sha256: str
    size_bytes: int
    part_bytes: list[int]
    context: int
    threads: int | None
    max_new_tokens: int
    system: str
    template: TemplatePieces | None
    stop_ids: list[int]
    comparisons: list[Comparison]
    bench_ids: list[int]
    decode_tokens: int
    rounds: int
    crisis: CrisisHelp | None

    @property
    def sha256(self) -> str:
        """A result names the plan that it belongs to."""
        return sha256_json(self.model_dump(mode="json"))


def make_plan(artifact: str, file: Path, parts: Sequence[Part], settings: PhoneSettings) -> PhonePlan:
    """Answer the dialogues on this machine, and take the template apart.

    Args:
        artifact: what `open_runtime` takes.
        file: its GGUF.
        parts: of the file.
        settings: as the user gave them.

    Raises:
        EmpathyEdgeError: the bench's prompt and new tokens do not fit into the context window.
    """
    say(f"Answering {PROMPTS} dialogues here first, so that the phone's answers can be compared …")
    # Half of the cores: nothing is timed here, and threads that wait for busy cores are slower than fewer.
    threads = max(1, default_threads() // 2)
    runtime = open_runtime(artifact, threads=threads, context=settings.context)
    try:
        _check_context(runtime.context, settings)
        template = template_pieces(runtime.template, bos=runtime.bos, eos=runtime.eos)
        if template is None:
            say("[yellow]The model's chat template cannot be taken apart: the page only benches.[/]")
        return PhonePlan(
            format=FORMAT,
            artifact=find_model(artifact).path.name,
            model_sha256=sha256_file(file),
            size_bytes=file.stat().st_size,
            part_bytes=[part.size for part in parts],
            context=runtime.context,
            threads=settings.threads,
            max_new_tokens=min(settings.max_new_tokens, runtime.context // 2),
            system=load_prompts("chat").text("system"),
            template=template,
            stop_ids=sorted(runtime.stop_ids),
            comparisons=[_compare(runtime, utterance) for utterance in _utterances(settings.seed)],
            bench_ids=prompt_of_length(runtime, settings.prompt_tokens),
            decode_tokens=settings.decode_tokens,
            rounds=settings.rounds,
            crisis=crisis_help(settings.country) if settings.crisis_help else None,
        )
    finally:
        runtime.close()


def _check_context(context: int, settings: PhoneSettings) -> None:
    if settings.prompt_tokens + settings.decode_tokens > context:
        raise EmpathyEdgeError(
            f"--prompt-tokens {settings.prompt_tokens} and --decode-tokens {settings.decode_tokens} do not "
            f"fit into the context window of {context} tokens."
        )


def phone_file(artifact: str) -> Path:
    """The GGUF of an artifact that a browser can hold.

    Raises:
        EmpathyEdgeError: it is no single GGUF, or too large: says how large, and what may be.
    """
    file = gguf_file(artifact, "the phone's page")
    size_mb = file.stat().st_size / 1e6
    if size_mb > MAX_MODEL_MB:
        raise EmpathyEdgeError(
            f"{file}: has {size_mb:.0f} MB; a browser's WebAssembly holds models up to {MAX_MODEL_MB} MB.\n"
            "  Export a smaller type, as gguf-q4_0, or measure with `bench device android`."
        )
    if metadata_of(file, ("split.count",)).get("split.count", 1) != 1:
        raise EmpathyEdgeError(
            f"{file}: is one part of a split model; join them with llama-gguf-split --merge."
        )
    return file


def _utterances(seed: int) -> list[str]:
    """What the people say in some of the shipped dialogues."""
    said = [dialogue.utterance for dialogue in read_dialogues(sample_dialogues())]
    chosen = np.random.default_rng(seed).choice(len(said), PROMPTS, replace=False)
    return [said[place] for place in chosen]


def _compare(runtime: Runtime, utterance: str) -> Comparison:
    """The host's likeliest tokens, stop tokens and all, and how near the second choices were."""
    messages = messages_for(utterance)
    text = render(
        runtime.template, fit_to_template(runtime.template, messages), bos=runtime.bos, eos=runtime.eos
    )
    prompt = runtime.tokenize(text)
    if len(prompt) + REPLY_TOKENS > runtime.context:
        raise EmpathyEdgeError(
            f"A dialogue of {len(prompt)} tokens and its reply do not fit into --context {runtime.context}."
        )
    reply: list[int] = []
    gaps: list[float] = []
    for _ in range(REPLY_TOKENS):
        logits = runtime.next_logits([*prompt, *reply])
        second, first = np.partition(logits, -2)[-2:]
        reply.append(int(logits.argmax()))
        gaps.append(round(float(first - second), 4))
    return Comparison(messages=messages, text=text, prompt_ids=prompt, reply_ids=reply, gaps=gaps)
