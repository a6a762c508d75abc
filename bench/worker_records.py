"""What a worker process is told, and what it measured: the JSON that goes into it and comes out of it.

Standard-library dataclasses: pydantic would add to the worker's own memory. Times are in seconds, rates
(`_tps`) in tokens per second, memory in MB (10^6 bytes).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

MemoryByPhase = dict[str, dict[str, float]]
"""Phase (`baseline`, `loaded`, `after_prefill`, `after_decode`, `after_chat`) → what `memory_mb` gives."""


@dataclass(frozen=True, kw_only=True)
class GridSettings:
    """Prefill and decode of fixed lengths.

    Attributes:
        suite: which suite the worker runs.
        threads: of the CPU.
        prompt_tokens: prompt lengths; decode is measured after each of them.
        decode_tokens: new tokens after each prompt.
        context: the context window, tokens.
        cold: drop the model from the page cache before it is loaded.
    """

    suite: Literal["grid"] = "grid"
    threads: int
    prompt_tokens: list[int]
    decode_tokens: int
    context: int
    cold: bool = False


@dataclass(frozen=True, kw_only=True)
class ChatSettings:
    """Whole conversations.

    Attributes:
        suite: which suite the worker runs.
        threads: of the CPU.
        context: the context window, tokens.
        conversations: what the person says, turn by turn.
        max_new_tokens: of a response, at most.
        cold: drop the model from the page cache before it is loaded.
        cache_kept: whether the prompt cache is kept between turns; all conversations run once for each value.
    """

    suite: Literal["chat"] = "chat"
    threads: int
    context: int
    conversations: list[list[str]]
    max_new_tokens: int
    cold: bool = False
    cache_kept: list[bool] = field(default_factory=lambda: [True])


@dataclass(frozen=True, kw_only=True)
class SustainedSettings:
    """Decode without a pause.

    Attributes:
        suite: which suite the worker runs.
        threads: of the CPU.
        context: the context window, tokens.
        decode_tokens: of each reply; the next one begins at once.
        seconds: how long it goes on, after a warm-up.
    """

    cold: ClassVar[bool] = False

    suite: Literal["sustained"] = "sustained"
    threads: int
    context: int
    decode_tokens: int
    seconds: float

    @property
    def window_s(self) -> float:
        """Seconds of a window, at least; it ends with a reply. A short run has four of them."""
        return min(10.0, self.seconds / 4)


Settings = GridSettings | ChatSettings | SustainedSettings


@dataclass(frozen=True, kw_only=True)
class WorkerRun:
    """What every suite tells about its process.

    Attributes:
        runtime: the class that ran the model.
        threads: of the CPU.
        load_s: to open the model.
        cold: whether its files had been dropped from the page cache before.
        memory_mb: at each phase; `baseline` has its libraries, `loaded` the model, too.
    """

    runtime: str
    threads: int
    load_s: float
    cold: bool
    memory_mb: MemoryByPhase


@dataclass(frozen=True, kw_only=True)
class GridSample:
    """One prompt and the new tokens after it.

    Attributes:
        ttft_s: time to first token.
        prefill_tps: prompt tokens per second until the first new token.
        decode_tps: new tokens per second after the first one.
        token_times_s: from the call to each new token.
        forward_s: of it in the model itself; None where the runtime cannot tell.
        major_faults: page faults that waited for the disk.
        minor_faults: the other page faults.
        own_prefill_tps: prefill_tps by the runtime's own clock; None where it has none.
        own_decode_tps: decode_tps by the runtime's own clock.
        memory_mb: `after_prefill` and `after_decode` of this prompt; empty in files of earlier versions.
    """

    ttft_s: float
    prefill_tps: float
    decode_tps: float
    token_times_s: list[float]
    forward_s: float | None
    major_faults: int
    minor_faults: int
    own_prefill_tps: float | None = None
    own_decode_tps: float | None = None
    memory_mb: MemoryByPhase = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class GridRun(WorkerRun):
    """Every prompt length once: the length, as text, → its sample."""

    samples: dict[str, GridSample]
    tokenize_us_per_token: float


@dataclass(frozen=True, kw_only=True)
class ChatTurn:
    """One response in a conversation.

    Attributes:
        turn: its number, from 1 on.
        cache_kept: whether the prompt cache was kept between turns.
        prompt_tokens: of the whole conversation so far.
        cached_tokens: of these, how many were in the prompt cache and not read again.
        ttft_s: time to first token.
        first_sentence_s: to the end of the first sentence; None where there is none.
        gaps_s: between one token and the next.
        decode_tps: new tokens per second after the first one; None for fewer than two.
        stopped: the model ended its turn itself.
    """

    turn: int
    cache_kept: bool
    prompt_tokens: int
    cached_tokens: int
    ttft_s: float
    first_sentence_s: float | None
    gaps_s: list[float]
    decode_tps: float | None
    stopped: bool


@dataclass(frozen=True, kw_only=True)
class ChatRun(WorkerRun):
    """All turns of all conversations."""

    turns: list[ChatTurn]


@dataclass(frozen=True, kw_only=True)
class Window:
    """Tokens per second of decode, without prefill, in a window; and its end, seconds from the beginning."""

    end_s: float
    tps: float


@dataclass(frozen=True, kw_only=True)
class SustainedRun(WorkerRun):
    """The windows, one after the other."""

    windows: list[Window]
