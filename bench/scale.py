"""How long large files of dialogues take, and how much memory: made-up dialogues, and a command measured.

Run as `python -m empathy_edge.bench.scale make 1000000 dialogues.jsonl`, then as
`python -m empathy_edge.bench.scale measure distill --data dialogues.jsonl --out rows`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import psutil

CHUNK = 5000
"""Dialogues that are drawn at a time."""

SYLLABLES = (
    "ba", "be", "do", "fa", "gi", "ho", "ka", "li", "lo", "ma", "mi", "na", "ne", "po", "ra", "re", "ri",
    "sa", "se", "so", "ta", "te", "ti", "to", "va", "vo", "wa", "we", "ya", "zu",
)  # fmt: skip

VOCABULARY = 20_000
"""Different words; the n-th is used in proportion to 1 / n, as in a language."""

UTTERANCE_WORDS, RESPONSE_WORDS = 40, 55
"""On average, from half as many to one and a half times as many; a row has about 1 KB."""

TEST_SHARE = 0.1
EVERY_S = 0.02
"""Between two looks at a process's memory."""


class Measured(NamedTuple):
    """What a command took; the memory is the sum over its processes, in MB (10^6 bytes).

    Attributes:
        code: the command's exit code.
        seconds: from its start to its end.
        cpu_s: processor time of its main process, which other programs on the machine change little.
        peak_mb: the highest resident memory that was seen, pages of files included.
        peak_anonymous_mb: the same without pages of files; Linux only, elsewhere as `peak_mb`.
    """

    code: int
    seconds: float
    cpu_s: float
    peak_mb: float
    peak_anonymous_mb: float


def dialogues(count: int, seed: int = 0) -> Iterator[dict[str, object]]:
    """Made-up dialogues in our own form with two rated responses each, the same ones for the same seed."""
    generator = np.random.default_rng(seed)
    words = np.array(["".join(_syllables(number)) for number in range(VOCABULARY)], dtype=object)
    chances = 1 / np.arange(1, VOCABULARY + 1)
    limits = np.cumsum(chances / chances.sum())
    for start in range(0, count, CHUNK):
        rows = min(CHUNK, count - start)
        means = np.array([UTTERANCE_WORDS, RESPONSE_WORDS, RESPONSE_WORDS])
        lengths = generator.integers(means // 2, means * 3 // 2 + 1, (rows, 3))
        drawn = iter(words[np.searchsorted(limits, generator.random(int(lengths.sum())), side="right")])
        ratings = generator.integers(1, 4, rows)
        is_test = generator.random(rows) < TEST_SHARE
        for row in range(rows):
            said, first, second = (
                " ".join(next(drawn) for _ in range(length)).capitalize() + "." for length in lengths[row]
            )
            yield {
                "id": f"dialogue-{start + row}",
                "emotion": "sad",
                "situation": "",
                "split": "test" if is_test[row] else "train",
                "utterance": said,
                "responses": [
                    {"source": "human", "text": first, "rating": int(ratings[row])},
                    {"source": "chatgpt_empathy", "text": second, "rating": 3},
                ],
            }


def _syllables(number: int) -> Iterator[str]:
    """The frequent words are short."""
    while True:
        number, place = divmod(number, len(SYLLABLES))
        yield SYLLABLES[place]
        if number == 0:
            return


def make(count: int, file: Path) -> None:
    """Write dialogues as JSON lines."""
    with open(file, "w", encoding="utf-8") as handle:
        for row in dialogues(count):
            handle.write(json.dumps(row) + "\n")


def make_responses(count: int, file: Path) -> None:
    """Write one response to each dialogue, as `respond` does, for `score rate`."""
    with open(file, "w", encoding="utf-8") as handle:
        for row in dialogues(count):
            responses = cast("list[dict[str, str]]", row["responses"])
            handle.write(json.dumps({"id": row["id"], "text": responses[0]["text"]}) + "\n")


def measure(arguments: list[str]) -> Measured:
    """Run `empathy-edge` with these arguments in a process of its own."""
    start = time.monotonic()
    peak = peak_anonymous = 0
    cpu_s = 0.0
    with subprocess.Popen([sys.executable, "-m", "empathy_edge", *arguments]) as running:
        process = psutil.Process(running.pid)
        while running.poll() is None:
            resident, anonymous = _memory(process)
            peak, peak_anonymous = max(peak, resident), max(peak_anonymous, anonymous)
            cpu_s = _cpu_s(process) or cpu_s
            time.sleep(EVERY_S)
    seconds = time.monotonic() - start
    return Measured(running.returncode, seconds, cpu_s, peak / 1e6, peak_anonymous / 1e6)


def _memory(process: psutil.Process) -> tuple[int, int]:
    """Bytes of a process and its children: resident, and without pages of files."""
    resident = anonymous = 0
    try:
        for one in (process, *process.children(recursive=True)):
            found = one.memory_info()
            resident += found.rss
            anonymous += found.rss - getattr(found, "shared", 0)
    except psutil.Error:  # it has just ended
        pass
    return resident, anonymous


def _cpu_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def tokenize(rows: Path, base: str, out: Path) -> Measured:
    """Do what `finetune --only sft` does before the first step: check, write and tokenize `sft.jsonl`."""
    from empathy_edge.console import quiet_libraries

    quiet_libraries()
    from empathy_edge.finetune import rows_on_disk, sft
    from empathy_edge.models.find import checkpoint_of
    from empathy_edge.runs.settings import TrainSettings
    from empathy_edge.runtimes.torch_loading import load_base
    from empathy_edge.system.memory import memory_mb
    from empathy_edge.text.near_duplicates import refuse_leaks

    settings = TrainSettings(weights="fp32", max_length=2048)
    loaded = load_base(checkpoint_of(base).path, settings.weights, [], out / "base")
    start, start_cpu = time.monotonic(), time.process_time()
    refuse_leaks(rows / "sft.jsonl")
    split = rows_on_disk.write_rows(
        [rows / "sft.jsonl"], sft.FIELDS, loaded.tokenizer, settings, out / "rows"
    )
    sft.trainer_of(loaded, split, out, settings)
    found = memory_mb()
    return Measured(
        0, time.monotonic() - start, time.process_time() - start_cpu, found["peak_rss"], found["anonymous"]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("make", "make-responses"):
        maker = commands.add_parser(name)
        maker.add_argument("count", type=int)
        maker.add_argument("file", type=Path)
    tokenized = commands.add_parser("tokenize")
    for name, kind in (("rows", Path), ("base", str), ("out", Path)):
        tokenized.add_argument(name, type=kind)
    measured = commands.add_parser("measure")
    measured.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    if options.command in ("measure", "tokenize"):
        is_command = options.command == "measure"
        found = (
            measure(options.arguments) if is_command else tokenize(options.rows, options.base, options.out)
        )
        print(
            f"exit code {found.code}, {found.seconds:.1f} s ({found.cpu_s:.1f} s of processor time), "
            f"at most {found.peak_mb:.0f} MB ({found.peak_anonymous_mb:.0f} MB without pages of files)"
        )
        sys.exit(found.code)
    {"make": make, "make-responses": make_responses}[options.command](options.count, options.file)


if __name__ == "__main__":
    main()
