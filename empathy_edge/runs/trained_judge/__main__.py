"""Train a judge for `check` that runs offline.

    python -m empathy_edge.runs.trained_judge ratings.jsonl --out judge
    empathy-edge baseline MODEL --judge trained:judge --out baseline.json.gz

Each row of ratings.jsonl is a conversation, replies to it, and the ratings (0 to 100) of each reader:
{"messages": […], "replies": ["…", "…", "…"], "readings": [[90, null, 10], [80, 60, 20]]}
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from empathy_edge.console import next_command, tell
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.runs.trained_judge.training import EPOCHS, train_judge


def main() -> None:
    options = _parser().parse_args()
    try:
        order = train_judge(
            options.ratings, options.base, options.layers, options.epochs, options.seed, options.out
        )
    except EmpathyEdgeError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    far = (
        f", and {order.far:.1%} of the {order.far_pairs} that are ten points apart" if order.far_pairs else ""
    )
    tell(
        f"Of conversations held out, {order.share:.1%} of {order.pairs} pairs are ordered as the reader did"
        f"{far}."
    )
    judge = f"trained:{options.out}"
    next_command("empathy-edge", "baseline", "MODEL", "--judge", judge, "--out", "baseline.json.gz")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m empathy_edge.runs.trained_judge",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("ratings", nargs="+", type=Path, metavar="RATINGS")
    parser.add_argument("--base", default="smollm2-135m", help="the chat model that it is trained from")
    parser.add_argument("--layers", type=int, help="only the first ones of the base; faster")
    parser.add_argument("--epochs", type=float, default=EPOCHS, help="how often a conversation is seen")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="the judge's folder")
    return parser


if __name__ == "__main__":
    main()
