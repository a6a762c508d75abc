"""One record for everything that speaks, and the one loop that makes it."""

from __future__ import annotations

import codecs
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.chat_format import Message, render, turn_end

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Reply:
    """One response and how it came about.

    Attributes:
        text: the response, without its stop token.
        token_ids: its tokens, without the stop token.
        prompt_tokens: how many tokens were read before the first new one.
        ttft_s: seconds from the call to the first token, tokenization and sampling included.
        token_times_s: seconds from the call to each new token, the stop token included.
        finish_reason: `stop` (the model ended its turn) or `length` (it was cut off).
        cached_tokens: how many of the prompt's tokens were in the prompt cache and not read again.
    """

    text: str
    token_ids: tuple[int, ...]
    prompt_tokens: int
    ttft_s: float
    token_times_s: tuple[float, ...]
    finish_reason: Literal["stop", "length"]
    cached_tokens: int = 0

    @property
    def prefill_tps(self) -> float:
        """Prompt tokens read per second until the first new token, those from the cache left out."""
        return (self.prompt_tokens - self.cached_tokens) / self.ttft_s

    @property
    def decode_tps(self) -> float | None:
        """New tokens per second after the first one; None for fewer than two."""
        times = self.token_times_s
        return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else None


class Runtime(ABC):
    """A loaded model. Subclasses know how to tokenize, how to step, and what the logits are."""

    name: str
    template: str
    context: int
    threads: int
    stop_ids: frozenset[int]
    bos: str = ""
    eos: str = ""
    declared_stop_ids: frozenset[int] = frozenset()
    """The end tokens that the model's own files name, for other runtimes that read only those."""
    reused: int = 0
    """How many tokens of the last prompt were in the prompt cache."""

    @abstractmethod
    def tokenize(self, text: str) -> list[int]:
        """Token ids of a rendered prompt; special tokens in the text become single ids, none are added."""

    @abstractmethod
    def token_bytes(self, token: int) -> bytes:
        """The bytes one token stands for; empty for control tokens."""

    @abstractmethod
    def tokens(
        self, ids: Sequence[int], temperature: float, seed: int, most: int, ignore_stop: bool
    ) -> Iterator[int]:
        """New tokens after `ids`, one at a time."""

    def tokens_of_schema(
        self, ids: Sequence[int], schema: str, temperature: float, seed: int, most: int
    ) -> Iterator[int]:
        """As `tokens`, held to a JSON schema where the runtime can do that; this one cannot."""
        return self.tokens(ids, temperature, seed, most, False)

    @abstractmethod
    def logits(self, ids: Sequence[int]) -> np.ndarray:
        """The logits after each of `ids`, float32 [len(ids), vocabulary]."""

    def next_logits(self, ids: Sequence[int]) -> np.ndarray:
        """The logits after the last of `ids`, float32 [vocabulary]."""
        last: np.ndarray = self.logits(ids)[-1]
        return last

    def log_probs(self, ids: Sequence[int], start: int) -> np.ndarray:
        """The log-probability (nats) of each of `ids` from `start` (at least 1) on, given those before it, float64 [len(ids) - start]."""
        return log_softmax_at(self.logits(ids[:-1])[start - 1 :], ids[start:])

    def forward_s(self) -> float | None:
        """Seconds spent in the model itself so far, sampling and tokenization apart; None where that cannot be told."""
        return None

    def forget(self, keep: int = 0) -> None:  # noqa: B027 - runtimes without a prompt cache have nothing to forget
        """Drop the prompt cache, so that the next reply reads its whole prompt.

        Args:
            keep: tokens at the beginning that may stay, if the next prompt begins with them; not all runtimes can.
        """

    def close(self) -> None:  # noqa: B027
        """Give the memory back."""

    def encode(self, messages: list[Message]) -> list[int]:
        """Token ids of a conversation, the assistant's turn opened."""
        return self.tokenize(render(self.template, messages, bos=self.bos, eos=self.eos))

    def stream(
        self,
        messages: list[Message] | Sequence[int],
        *,
        max_new_tokens: int = 160,
        temperature: float = 0.0,
        seed: int = 0,
        ignore_stop: bool = False,
        schema: str = "",
    ) -> Iterator[str | Reply]:
        """Speak: yields pieces of text as they come, and last the Reply.

        Args:
            messages: a conversation, or the token ids of a prompt.
            max_new_tokens: the most tokens to make.
            temperature: 0 takes the likeliest token each time.
            seed: for sampling.
            ignore_stop: go on past stop tokens, for benchmarks of a fixed length.
            schema: a JSON schema that the text must have; only llama.cpp holds a model to it.

        Raises:
            EmpathyEdgeError: the prompt does not fit into the context window.
        """
        start = time.perf_counter()
        conversation = bool(messages) and isinstance(messages[0], dict)
        ids: list[int] = self.encode(messages) if conversation else list(messages)  # type: ignore[arg-type]
        if len(ids) >= self.context:
            raise EmpathyEdgeError(
                f"The prompt has {len(ids)} tokens, the context window {self.context}. Shorten the conversation, "
                "or open the model with a larger context."
            )
        most = min(max_new_tokens, self.context - len(ids))
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        pieces: list[str] = []
        new: list[int] = []
        times: list[float] = []
        finish: Literal["stop", "length"] = "length"
        tokens = (
            self.tokens_of_schema(ids, schema, temperature, seed, most)
            if schema
            else self.tokens(ids, temperature, seed, most, ignore_stop)
        )
        for token in tokens:
            times.append(time.perf_counter() - start)
            if token in self.stop_ids and not ignore_stop:
                finish = "stop"
                break
            new.append(token)
            piece = decoder.decode(self.token_bytes(token))
            if piece:
                pieces.append(piece)
                yield piece
            if len(new) >= most:
                break
        rest = decoder.decode(b"", final=True)
        if rest:
            pieces.append(rest)
            yield rest
        ttft = times[0] if times else time.perf_counter() - start
        yield Reply("".join(pieces).strip(), tuple(new), len(ids), ttft, tuple(times), finish, self.reused)

    def reply(self, messages: list[Message] | Sequence[int], **options: object) -> Reply:
        """As `stream`, but the whole Reply at once."""
        *_, reply = self.stream(messages, **options)  # type: ignore[arg-type]
        assert isinstance(reply, Reply)
        return reply

    def _stop_ids(self, known: Sequence[int]) -> frozenset[int]:
        """The model's own end tokens and the one with which its template ends a turn."""
        return frozenset([*known, *self.tokenize(turn_end(self.template))])


def common_prefix(read: Sequence[int], ids: Sequence[int]) -> int:
    """How many tokens of a prompt need not be read again; the last one always is, for its logits."""
    most = min(len(read), len(ids) - 1)
    return next((place for place in range(most) if read[place] != ids[place]), max(most, 0))


def log_softmax_at(logits: np.ndarray, ids: Sequence[int]) -> np.ndarray:
    """Of each row of `logits` [n, vocabulary], the log-probability (nats) of the token in `ids` [n], float64 [n]."""
    import numpy as np

    rows = logits.astype(np.float64)
    most = rows.max(axis=1)
    found: np.ndarray = (
        rows[np.arange(len(ids)), list(ids)] - most - np.log(np.exp(rows - most[:, None]).sum(axis=1))
    )
    return found
