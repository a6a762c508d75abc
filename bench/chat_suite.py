"""Whole conversations, turn by turn: started cold and warm, with the prompt cache kept and dropped."""

from __future__ import annotations

import json
import random
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from empathy_edge.bench.conditions import conditions
from empathy_edge.bench.own_names import own_names
from empathy_edge.bench.result_file import FORMAT, MEASURED_HOST, BenchResult, ConditionsAround, Record
from empathy_edge.bench.run_worker import run_worker, say_if_warm, size_mb
from empathy_edge.bench.timing_intervals import percentile
from empathy_edge.bench.worker_records import ChatRun, ChatSettings, ChatTurn
from empathy_edge.console import out as stdout
from empathy_edge.console import progress, say, table
from empathy_edge.data import conversations_file
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.dialogue import Dialogue, read_dialogues
from empathy_edge.formats.json_lines import lines_of
from empathy_edge.models.find import find_model
from empathy_edge.runtimes import default_threads
from empathy_edge.system.machine import machine, versions

STOPPED_SHARE = 0.9
"""Below this share of responses that ended by themselves the user is told."""


class ChatSuiteSettings(Record):
    """What was run.

    Attributes:
        suite: the worker's suite.
        threads: of the CPU.
        context: the context window, tokens.
        max_new_tokens: of a response, at most.
        rounds: each runs every conversation on every artifact twice.
        conversations: how many there were.
    """

    suite: Literal["chat"]
    threads: int
    context: int
    max_new_tokens: int
    rounds: int
    conversations: int


class ChatArtifact(Record):
    """One artifact's runs; `size_mb` is the size of its model files in MB (10^6 bytes)."""

    artifact: str
    size_mb: float
    runs: list[ChatRun]


class ChatResult(BenchResult[ChatSuiteSettings]):
    """The result of the chat suite."""

    suite: Literal["chat"]
    conditions: ConditionsAround
    artifacts: list[ChatArtifact]


def read_conversations(path: Path | None) -> list[list[str]]:
    """What people say, turn by turn: JSONL with `turns` (texts, or turns with their speaker), or dialogues.

    Raises:
        EmpathyEdgeError: a row that is none of these; names it.
    """
    if path is not None and not _has_turns(path):
        return [_said_by_the_person(dialogue) for dialogue in read_dialogues(path)]
    file = path or conversations_file()
    try:
        lines = lines_of(Path(file).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise EmpathyEdgeError(f"{file}: cannot be read: {error}.") from None
    conversations = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            person = _texts_of_the_person(json.loads(line)["turns"])
        except (ValueError, KeyError, TypeError):
            raise EmpathyEdgeError(
                f"{file}: row {number} is no conversation; it needs 'turns', a list of what the person says, "
                'or of {"speaker": "speaker" or "listener", "text": …}.'
            ) from None
        if person:
            conversations.append(person)
    if not conversations:
        raise EmpathyEdgeError(f"{file}: holds no conversation.")
    return conversations


def _has_turns(file: Path) -> bool:
    """Whether the first line is an object with `turns`."""
    try:
        with open(file, encoding="utf-8") as handle:
            row = json.loads(handle.readline())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(row, dict) and "turns" in row


def _said_by_the_person(dialogue: Dialogue) -> list[str]:
    earlier = [message["content"] for message in dialogue.history if message["role"] == "user"]
    return [*earlier, dialogue.utterance]


def _texts_of_the_person(turns: Iterable[Any]) -> list[str]:
    texts = []
    for turn in turns:
        if isinstance(turn, str):
            texts.append(turn)
        elif turn["speaker"] in ("speaker", "user"):
            texts.append(turn["text"])
    return texts


def bench_chat(
    artifacts: list[str],
    *,
    conversations: list[list[str]],
    rounds: int,
    threads: int | None,
    max_new_tokens: int,
) -> ChatResult:
    """Every conversation on every artifact twice in each round: after a cold start, and after a warm one.

    Raises:
        EmpathyEdgeError: an artifact is not there, two have the same name, or one cannot be measured.
    """
    refs = [find_model(artifact) for artifact in artifacts]  # all, before the first is run
    names = own_names([ref.path for ref in refs])
    files = {artifact: ref.path for artifact, ref in zip(artifacts, refs, strict=True)}
    settings = ChatSettings(
        threads=threads or default_threads(),
        context=_context_for(conversations, max_new_tokens),
        conversations=conversations,
        max_new_tokens=max_new_tokens,
    )
    before = conditions()
    runs = _run_rounds(artifacts, settings, rounds)
    say_if_warm(cold=next(iter(runs.values()))[0].cold)
    return ChatResult(
        format=FORMAT,
        label=MEASURED_HOST,
        suite="chat",
        settings=ChatSuiteSettings(
            suite="chat",
            threads=settings.threads,
            context=settings.context,
            max_new_tokens=max_new_tokens,
            rounds=rounds,
            conversations=len(conversations),
        ),
        machine=machine(),
        versions=versions(),
        conditions=ConditionsAround(before=before, after=conditions()),
        artifacts=[
            ChatArtifact(artifact=names[file], size_mb=size_mb(file), runs=runs[artifact])
            for artifact, file in files.items()
        ],
    )


def _context_for(conversations: list[list[str]], max_new_tokens: int) -> int:
    """A context window that holds the longest conversation, taking a token for three characters."""
    needed = []
    for turns in conversations:
        read = sum(len(text) for text in turns) // 3
        needed.append(read + len(turns) * (max_new_tokens + 16))
    with_system_prompt = max(needed) + 256
    return max(1024, -(-with_system_prompt // 256) * 256)  # a multiple of 256


def _run_rounds(artifacts: list[str], settings: ChatSettings, rounds: int) -> dict[str, list[ChatRun]]:
    cold_start = replace(settings, cold=True, cache_kept=[True])
    warm_start = replace(settings, cold=False, cache_kept=[False])
    runs: dict[str, list[ChatRun]] = {artifact: [] for artifact in artifacts}
    order = random.Random(0)
    with progress() as bar:
        task = bar.add_task("chat", total=2 * rounds * len(artifacts), note="")
        for _ in range(rounds):
            for artifact in order.sample(artifacts, len(artifacts)):
                bar.update(task, note=Path(artifact).name)
                for start in (cold_start, warm_start):
                    runs[artifact].append(run_worker(artifact, start, ChatRun))
                    bar.advance(task)
    return runs


@dataclass(frozen=True)
class TurnFigures:
    """Medians over the turns with one number, with the prompt cache kept or dropped.

    Attributes:
        ttft_s: time to first token.
        ttft_s_p95: its 95th percentile.
        prompt_tokens: of the whole conversation so far.
        read_tokens: of these, how many were not in the prompt cache.
        decode_tps: new tokens per second; None where no response had two.
        n: how many turns there were.
    """

    ttft_s: float
    ttft_s_p95: float
    prompt_tokens: float
    read_tokens: float
    decode_tps: float | None
    n: int


@dataclass(frozen=True)
class TurnSummary:
    """The turns with one number; None where no run kept, or dropped, the prompt cache."""

    turn: int
    cache_kept: TurnFigures | None
    cache_dropped: TurnFigures | None


@dataclass(frozen=True)
class ChatSummary:
    """What one artifact's conversations tell.

    Attributes:
        artifact: the name of its file or folder.
        cold_load_s: to open the model, median of the cold starts; None where there were none.
        warm_load_s: the same of the warm starts.
        first_sentence_s_median: to the end of a first sentence, cache kept; None where there was none.
        gap_ms_p50: between two tokens, milliseconds, 50th percentile; None where no response had two.
        gap_ms_p95: 95th percentile; the same.
        gap_ms_p99: 99th percentile; the same.
        stopped: the share of responses that the model ended itself.
        by_turn: figures of the first turns, the second turns, and so on.
        memory_mb: at each phase of the last run.
    """

    artifact: str
    cold_load_s: float | None
    warm_load_s: float
    first_sentence_s_median: float | None
    gap_ms_p50: float | None
    gap_ms_p95: float | None
    gap_ms_p99: float | None
    stopped: float
    by_turn: list[TurnSummary]
    memory_mb: dict[str, dict[str, float]]


def summary(row: ChatArtifact) -> ChatSummary:
    """One artifact's starts, first tokens by turn and by cache, first sentences, gaps between tokens."""
    turns: list[ChatTurn] = []
    for run in row.runs:
        turns += run.turns
    gaps_ms: list[float] = []
    for turn in turns:
        gaps_ms += [1000 * gap for gap in turn.gaps_s]
    cold = [run.load_s for run in row.runs if run.cold]
    sentences = [turn.first_sentence_s for turn in turns if turn.first_sentence_s and turn.cache_kept]
    return ChatSummary(
        artifact=row.artifact,
        cold_load_s=statistics.median(cold) if cold else None,
        warm_load_s=statistics.median(run.load_s for run in row.runs if not run.cold),
        first_sentence_s_median=statistics.median(sentences) if sentences else None,
        gap_ms_p50=percentile(gaps_ms, 50) if gaps_ms else None,
        gap_ms_p95=percentile(gaps_ms, 95) if gaps_ms else None,
        gap_ms_p99=percentile(gaps_ms, 99) if gaps_ms else None,
        stopped=statistics.mean(turn.stopped for turn in turns),
        by_turn=[_turn_summary(turns, number) for number in sorted({turn.turn for turn in turns})],
        memory_mb=row.runs[-1].memory_mb,
    )


def _turn_summary(turns: list[ChatTurn], number: int) -> TurnSummary:
    these = [turn for turn in turns if turn.turn == number]
    return TurnSummary(
        turn=number,
        cache_kept=_turn_figures([turn for turn in these if turn.cache_kept]),
        cache_dropped=_turn_figures([turn for turn in these if not turn.cache_kept]),
    )


def _turn_figures(turns: list[ChatTurn]) -> TurnFigures | None:
    if not turns:
        return None
    speeds = [turn.decode_tps for turn in turns if turn.decode_tps]
    return TurnFigures(
        ttft_s=statistics.median(turn.ttft_s for turn in turns),
        ttft_s_p95=percentile([turn.ttft_s for turn in turns], 95),
        prompt_tokens=statistics.median(turn.prompt_tokens for turn in turns),
        read_tokens=statistics.median(turn.prompt_tokens - turn.cached_tokens for turn in turns),
        decode_tps=statistics.median(speeds) if speeds else None,
        n=len(turns),
    )


def show(result: ChatResult) -> None:
    """A table of starts and gaps, and one of the first token by turn."""
    rows = [summary(row) for row in result.artifacts]
    settings = result.settings
    title = (
        f"Chat (measured-host, {settings.threads} threads, {settings.conversations} conversations, "
        f"{settings.rounds} rounds, at most {settings.max_new_tokens} new tokens a turn)"
    )
    columns = ["artifact", "load cold s", "warm s", "first sentence s", "gap p50 ms", "p95", "p99"]
    stdout.print(table(title, [*columns, "anon+file MB"], [_summary_cells(row) for row in rows]))
    turns = [str(entry.turn) for entry in rows[0].by_turn]
    lines: list[list[str]] = []
    for row in rows:
        lines += _turn_lines(row)
    stdout.print(table("Time to first token, s, by turn (median)", ["at turn", *turns], lines))
    for row in rows:
        if row.stopped < STOPPED_SHARE:
            say(
                f"[yellow]{row.artifact}: only {row.stopped:.0%} of its responses stopped by themselves; "
                "the rest were cut.[/]"
            )


def _summary_cells(row: ChatSummary) -> list[str]:
    memory = row.memory_mb.get("after_chat")
    return [
        row.artifact,
        _cell(row.cold_load_s, 2),
        _cell(row.warm_load_s, 2),
        _cell(row.first_sentence_s_median, 2),
        _cell(row.gap_ms_p50, 1),
        _cell(row.gap_ms_p95, 1),
        _cell(row.gap_ms_p99, 1),
        f"{memory['anonymous']:.0f}+{memory['file_backed']:.0f}" if memory else "–",
    ]


def _cell(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _turn_lines(row: ChatSummary) -> list[list[str]]:
    """Time to first token by turn, cache kept and dropped, and the prompt's length."""
    kept = [entry.cache_kept for entry in row.by_turn]
    dropped = [entry.cache_dropped for entry in row.by_turn]
    lengths = [f"{figures.prompt_tokens:.0f}" for figures in kept if figures]
    return [
        [f"{row.artifact}, cache kept", *_first_token_cells(kept)],
        [f"{row.artifact}, dropped", *_first_token_cells(dropped)],
        [f"{row.artifact}, tokens in the prompt", *lengths],
    ]


def _first_token_cells(turns: Sequence[TurnFigures | None]) -> list[str]:
    return [f"{figures.ttft_s:.3f}" if figures else "–" for figures in turns]
