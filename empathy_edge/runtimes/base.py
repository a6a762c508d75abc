"""The interface of all runtimes, the loop that turns tokens into a reply, and the record of a reply."""

from __future__ import annotations

import codecs
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypedDict, Unpack, cast

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.chat_format import Message, fit_to_template, render, turn_end

if TYPE_CHECKING:
    import numpy as np

    from empathy_edge.runtimes.drawn import Drawn

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Reply:
    """One response and how it came about.

    Attributes:
        text: the response, without its stop token.
        token_ids: its tokens, without the stop token.
        prompt_tokens: how many tokens the prompt has.
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
    finish_reason: FinishReason
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


@dataclass(frozen=True)
class Sampling:
    """How new tokens are chosen.

    Attributes:
        temperature: 0 takes the likeliest token each time.
        seed: for temperatures above 0.
        max_new_tokens: the largest number of tokens to make.
        ignore_stop: go on past stop tokens, for benchmarks of a fixed length.
        all_tokens: draw from all tokens; else some runtimes leave unlikely ones out.
    """

    temperature: float
    seed: int
    max_new_tokens: int
    ignore_stop: bool
    all_tokens: bool = False


class ReplyOptions(TypedDict, total=False):
    """The options of `Runtime.stream`, which describes them."""

    max_new_tokens: int
    temperature: float
    seed: int
    ignore_stop: bool
    schema: str
    all_tokens: bool


class Runtime(ABC):
    """A loaded model. A subclass tokenizes, computes logits and makes tokens.

    Attributes:
        name: the model's or artifact's name.
        template: its chat template (Jinja).
        context: the context window in tokens: prompt and response together.
        threads: CPU threads.
        stop_ids: the tokens at which a reply ends.
        bos: the beginning-of-sequence token's text; empty if there is none.
        eos: the end-of-sequence token's text; empty if there is none.
        declared_stop_ids: the stop tokens in the model's own files; other programs read only those.
        cached_tokens: how many tokens of the last prompt were in the prompt cache.
    """

    name: str
    template: str
    context: int
    threads: int
    stop_ids: frozenset[int]
    bos: str = ""
    eos: str = ""
    declared_stop_ids: frozenset[int] = frozenset()
    cached_tokens: int = 0

    @abstractmethod
    def tokenize(self, text: str) -> list[int]:
        """Token ids of a rendered prompt; special tokens in the text become single ids, none are added."""

    @abstractmethod
    def token_bytes(self, token: int) -> bytes:
        """The bytes that a token stands for; empty for control tokens."""

    @abstractmethod
    def tokens(self, ids: Sequence[int], sampling: Sampling) -> Iterator[int]:
        """New tokens after `ids`, one at a time; the caller stops at a stop token or at the limit."""

    def tokens_of_schema(self, ids: Sequence[int], schema: str, sampling: Sampling) -> Iterator[int]:
        """As `tokens`, but the text matches a JSON schema; runtimes that cannot do that ignore it."""
        return self.tokens(ids, sampling)

    @abstractmethod
    def logits(self, ids: Sequence[int]) -> np.ndarray:
        """The logits after each of `ids`, float32 [len(ids), vocabulary]."""

    def reply_logits(self, prompt: Sequence[int], reply: Sequence[int]) -> np.ndarray:
        """The logits from which each token of a reply is chosen, float32 [len(reply), vocabulary]."""
        return self.logits([*prompt, *reply[:-1]])[len(prompt) - 1 :]

    def next_logits(self, ids: Sequence[int]) -> np.ndarray:
        """The logits after the last of `ids`, float32 [vocabulary]."""
        last: np.ndarray = self.logits(ids)[-1]
        return last

    def log_probs(self, ids: Sequence[int], start: int, temperature: float = 1.0) -> np.ndarray:
        """The log-probability (nats) of each token from `ids[start]` on, given those before it.

        Args:
            ids: a prompt and its response.
            start: at least 1.
            temperature: logits are divided by it first, as where replies are drawn.

        Returns:
            float64 [len(ids) - start].
        """
        return log_softmax_at(self.logits(ids[:-1])[start - 1 :], ids[start:], temperature)

    def reply_log_probs(
        self, prompt: Sequence[int], replies: Sequence[Sequence[int]], temperature: float = 1.0
    ) -> list[np.ndarray]:
        """The log-probabilities (nats) of several replies to one prompt; at once where the runtime can.

        Args:
            prompt: token ids.
            replies: token ids of each, at least one.
            temperature: see `log_probs`.

        Returns:
            float64 [tokens of the reply] for each.
        """
        return [self.log_probs([*prompt, *reply], len(prompt), temperature) for reply in replies]

    def draw(
        self,
        prompts: Sequence[Sequence[int]],
        samples: int,
        sampling: Sampling,
        drawn: Callable[[], None] = lambda: None,
    ) -> list[Drawn]:
        """Replies drawn from the model's whole distribution; many at once where the runtime can.

        Args:
            prompts: token ids.
            samples: replies to each prompt.
            sampling: at temperature 0 log-probabilities are at temperature 1; the stop token counts as a new
                one; replies always end at it, and are drawn from all tokens.
            drawn: called after each reply.

        Returns:
            The replies in the order of the prompts, those to one prompt beside each other.
        """
        import numpy as np

        from empathy_edge.runtimes.drawn import Drawn

        replies = []
        for place in range(len(prompts) * samples):
            prompt = list(prompts[place // samples])
            seed = int(np.random.default_rng([sampling.seed, place]).integers(2**31))
            ids: list[int] = []
            for token in self.tokens(prompt, replace(sampling, seed=seed, all_tokens=True)):
                ids.append(token)
                if token in self.stop_ids or len(ids) == sampling.max_new_tokens:
                    break
            replies.append(Drawn(ids, None, ids[-1] in self.stop_ids))
            drawn()
        return replies

    def text_of(self, reply: Drawn) -> str:
        """The text of a reply, without its stop token."""
        ids = reply.token_ids[:-1] if reply.stopped else reply.token_ids
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", "replace").strip()

    def forward_s(self) -> float | None:
        """Seconds in the model itself so far, without sampling and tokenization; None if not known."""
        return None

    def own_speeds(self) -> tuple[float | None, float | None]:
        """Prefill and decode speed (tokens/s) of the last reply by the runtime's own clock, if it has one."""
        return None, None

    def forget(self, keep: int = 0) -> None:  # noqa: B027 - some runtimes have no prompt cache
        """Drop the prompt cache, so that the next reply reads its whole prompt.

        Args:
            keep: how many tokens at the beginning may stay, if the next prompt begins with them; not all
                runtimes can keep some.
        """

    def close(self) -> None:  # noqa: B027 - some runtimes have nothing to close
        """Free the memory."""

    def answer_tokens(self, answer: str) -> list[int]:
        """The tokens as which an answer of one token can come: with a space before it, or without.

        A SentencePiece vocabulary has `▁` and `1` for "1"; the first of them is the same for every digit.

        Raises:
            EmpathyEdgeError: no single token stands for the answer.
        """
        found: list[int] = []
        for text in (answer, f" {answer}"):
            token = self.tokenize(text)[-1]
            stands_for = self.token_bytes(token).decode("utf-8", "replace").replace("▁", " ").strip()
            if stands_for == answer and token not in found:
                found.append(token)
        if not found:
            raise EmpathyEdgeError(f"The model's vocabulary has no token for the answer '{answer}'.")
        return found

    def encode(self, messages: list[Message]) -> list[int]:
        """Token ids of a conversation, the assistant's turn opened."""
        return self.tokenize(
            render(self.template, fit_to_template(self.template, messages), bos=self.bos, eos=self.eos)
        )

    def stream(
        self,
        messages: list[Message] | Sequence[int],
        *,
        max_new_tokens: int = 160,
        temperature: float = 0.0,
        seed: int = 0,
        ignore_stop: bool = False,
        schema: str = "",
        all_tokens: bool = False,
    ) -> Iterator[str | Reply]:
        """Make a reply: yields pieces of text as they come, and last the Reply.

        Args:
            messages: a conversation, or the token ids of a prompt.
            max_new_tokens: as in `Sampling`; the context window may allow fewer.
            temperature: as in `Sampling`.
            seed: as in `Sampling`.
            ignore_stop: as in `Sampling`.
            schema: a JSON schema that the text must match; only llama.cpp can do that.
            all_tokens: as in `Sampling`.

        Raises:
            EmpathyEdgeError: the prompt does not fit into the context window.
        """
        start = time.perf_counter()
        ids = self._prompt_ids(messages)
        limit = min(max_new_tokens, self.context - len(ids))
        sampling = Sampling(temperature, seed, limit, ignore_stop, all_tokens)
        tokens = self.tokens_of_schema(ids, schema, sampling) if schema else self.tokens(ids, sampling)
        decoder = codecs.getincrementaldecoder("utf-8")("replace")  # a character may span several tokens
        pieces: list[str] = []
        new_ids: list[int] = []
        times: list[float] = []
        finish_reason: FinishReason = "length"
        for token in tokens:
            times.append(time.perf_counter() - start)
            if token in self.stop_ids and not ignore_stop:
                finish_reason = "stop"
                break
            new_ids.append(token)
            piece = decoder.decode(self.token_bytes(token))
            if piece:
                pieces.append(piece)
                yield piece
            if len(new_ids) >= limit:
                break
        rest = decoder.decode(b"", final=True)
        if rest:
            pieces.append(rest)
            yield rest
        yield Reply(
            text="".join(pieces).strip(),
            token_ids=tuple(new_ids),
            prompt_tokens=len(ids),
            ttft_s=times[0] if times else time.perf_counter() - start,
            token_times_s=tuple(times),
            finish_reason=finish_reason,
            cached_tokens=self.cached_tokens,
        )

    def _prompt_ids(self, messages: list[Message] | Sequence[int]) -> list[int]:
        if messages and isinstance(messages[0], dict):
            ids = self.encode(cast("list[Message]", messages))
        else:
            ids = list(cast("Sequence[int]", messages))
        if len(ids) >= self.context:
            raise EmpathyEdgeError(
                f"The prompt has {len(ids)} tokens, the context window {self.context}. "
                "Shorten the conversation, or open the model with a larger context."
            )
        return ids

    def reply(self, messages: list[Message] | Sequence[int], **options: Unpack[ReplyOptions]) -> Reply:
        """As `stream`, but the whole Reply at once."""
        *_, reply = self.stream(messages, **options)
        assert isinstance(reply, Reply)
        return reply

    def _stop_ids(self, declared: Sequence[int]) -> frozenset[int]:
        """The model's own stop tokens, and the one with which its template ends a turn.

        Raises:
            EmpathyEdgeError: the model declares none, and the template ends a turn with none.
        """
        try:
            end = self.tokenize(turn_end(self.template, self.eos))
        except EmpathyEdgeError:
            if not declared:
                raise
            end = []
        return frozenset([*declared, *(end if len(end) == 1 else [])])


def common_prefix(cached: Sequence[int], ids: Sequence[int]) -> int:
    """How many tokens of the prompt `ids` are in the cache already.

    The last one does not count: it is always read again, for its logits.
    """
    longest = max(min(len(cached), len(ids) - 1), 0)
    for place in range(longest):
        if cached[place] != ids[place]:
            return place
    return longest


def log_softmax_at(logits: np.ndarray, ids: Sequence[int], temperature: float = 1.0) -> np.ndarray:
    """The log-probability (nats) of one token for each row of logits.

    Exponentials are float32, sums float64: four times as fast as all in float64, and right to 1e-6.

    Args:
        logits: [n, vocabulary].
        ids: the tokens, n of them.
        temperature: logits are divided by it first.

    Returns:
        float64 [n].
    """
    import numpy as np

    scaled = logits.astype(np.float32) if temperature == 1 else logits * np.float32(1 / temperature)
    largest = scaled.max(axis=-1, keepdims=True)
    chosen = scaled[np.arange(len(ids)), list(ids)].astype(np.float64)
    sums = np.exp(scaled - largest).sum(axis=-1, dtype=np.float64)
    log_probs: np.ndarray = chosen - largest[:, 0] - np.log(sums)
    return log_probs
