"""Make a test split, answer it once, and compare the arms by readers' ratings.

    python -m empathy_edge.bench.evidence split conversations.jsonl --apart-from rated.csv --out test.jsonl
    python -m empathy_edge.bench.evidence answer test.jsonl --arm base=smollm2-135m \
        --arm tuned=exported/gguf-f16 --purpose "is it better than its base?" --record readings.jsonl \
        --out responses
    python -m empathy_edge.bench.evidence compare test.jsonl responses --sheet ratings.csv \
        --pair tuned:base --pair tuned:human
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from empathy_edge.bench.evidence.compare_arms import (
    MISPLACED,
    arms_of,
    compare,
    rated_arms,
    table_of_arms,
    table_of_pairs,
)
from empathy_edge.bench.evidence.readings import answer
from empathy_edge.bench.evidence.test_split import HUMAN, write_test_split
from empathy_edge.console import say
from empathy_edge.errors import EmpathyEdgeError, did_you_mean

EACH = 8


def main() -> None:
    options = _parser().parse_args()
    try:
        if options.command == "split":
            split = write_test_split(options.source, options.apart_from, options.each, options.out)
            say(f"{len(split)} dialogues are in {options.out}")
        elif options.command == "answer":
            models = dict(_two(given, "=") for given in options.arm)
            if len(models) < len(options.arm):
                raise EmpathyEdgeError("--arm: a name is given twice.")
            answer(options.test, models, options.out, options.record, options.purpose, options.again)
        else:
            pairs = [_two(given, ":") for given in options.pair]
            known = [*arms_of(options.responses), HUMAN, MISPLACED]
            for name in (name for pair in pairs for name in pair):
                if name not in known:
                    raise EmpathyEdgeError(f"no arm is called {name}.{did_you_mean(name, known)}")
            arms = rated_arms(options.test, options.responses, options.sheet)
            compared = [compare(arms[first], arms[second]) for first, second in pairs]
            print(f"{table_of_arms(arms)}\n\n{table_of_pairs(compared)}")
    except EmpathyEdgeError as error:
        print(f"Error: {error}" if error.is_error else error, file=sys.stderr)
        sys.exit(error.exit_code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m empathy_edge.bench.evidence")
    commands = parser.add_subparsers(dest="command", required=True)
    split = commands.add_parser("split", help="choose dialogues that nothing was chosen on")
    split.add_argument("source", type=Path)
    split.add_argument("--apart-from", type=Path, action="append", default=[])
    split.add_argument("--each", type=int, default=EACH, help=f"dialogues of each emotion (default: {EACH})")
    split.add_argument("--out", type=Path, required=True)
    answering = commands.add_parser("answer", help="have models answer the split, once, and record it")
    answering.add_argument("test", type=Path)
    answering.add_argument("--arm", action="append", required=True, metavar="NAME=MODEL")
    answering.add_argument("--purpose", required=True, help="what is to be learned")
    answering.add_argument("--again", default="", help="why an arm reads the split a second time")
    answering.add_argument("--record", type=Path, required=True)
    answering.add_argument("--out", type=Path, required=True)
    comparing = commands.add_parser("compare", help="write the sheet, and read it when it is filled in")
    comparing.add_argument("test", type=Path)
    comparing.add_argument("responses", type=Path)
    comparing.add_argument("--sheet", type=Path, required=True)
    comparing.add_argument("--pair", action="append", default=[], metavar="FIRST:SECOND")
    return parser


def _two(given: str, mark: str) -> tuple[str, str]:
    first, found, second = given.partition(mark)
    if not (first and found and second):
        raise EmpathyEdgeError(f"{given}: give it as FIRST{mark}SECOND.")
    return first, second


if __name__ == "__main__":
    main()
