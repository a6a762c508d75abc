"""A training step's progress bar, and the figures of its steps in a file."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from empathy_edge.console import progress, say
from empathy_edge.formats.json_lines import read_unfinished_jsonl
from empathy_edge.system.processes import is_main

CURVES = "curves.jsonl"


class Curves(TrainerCallback):
    """Shows step, loss and time left, and keeps the logged figures; the main process writes them to a file.

    Attributes:
        seconds: how long training took, earlier sessions included as far as their steps are kept.
    """

    def __init__(self, path: Path, label: str) -> None:
        self.path = path
        self.label = label
        self.bar = progress(whole_stage=True)
        self.seconds = self.seconds_before = 0.0
        self.rows = read_unfinished_jsonl(path)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Drop rows of steps that are computed again, and show the bar."""
        if state.global_step == 0:  # begun anew: what was measured before the first step is measured again
            self.rows = []
        self._keep([row for row in self.rows if row["step"] <= state.global_step])
        if is_main():
            self.bar.start()
            self.task = self.bar.add_task(self.label, total=state.max_steps, completed=state.global_step)

    def go_back_to(self, step: int) -> None:
        """Keep what was found up to a checkpoint, without its own held-out loss, which is measured again."""
        kept = [row for row in self.rows if row["step"] <= step]
        self._keep([row for row in kept if row["step"] < step or "eval_loss" not in row])

    def _keep(self, rows: list[dict[str, Any]]) -> None:
        """Keep these rows alone; the clock goes on where they end."""
        self.rows = rows
        self.started = time.monotonic()
        self.seconds_before = max((float(row.get("seconds", 0.0)) for row in rows), default=0.0)
        self.seconds = self.seconds_before
        if is_main():
            self.path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Keep and show a training or a held-out loss."""
        if {"loss", "eval_loss"} & set(logs or {}):
            self.add({"step": state.global_step, **logs, "seconds": round(self._seconds(), 1)})
            if is_main():
                self._show(state.global_step, logs)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Remove the bar."""
        self.seconds = self._seconds()
        self.hide()

    def hide(self) -> None:
        """Remove the bar, also of a training that failed."""
        if is_main():
            self.bar.stop()

    def _seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.started

    def add(self, row: dict[str, Any]) -> None:
        """Keep one more row of figures: `step`, and what was measured there."""
        self.rows.append(row)
        if is_main():
            with open(self.path, "a", encoding="utf-8") as handle:
                handle.write(json.dumps(row) + "\n")

    def _show(self, step: int, logs: dict[str, Any]) -> None:
        if "eval_loss" in logs:
            say(f"  epoch {logs.get('epoch', 0):.0f}: held-out loss {logs['eval_loss']:.4f}")
        else:
            self.bar.update(self.task, completed=step, note=f"loss {logs['loss']:.3f}")

    def losses(self) -> list[float]:
        """The loss of each step, in order."""
        return [float(row["loss"]) for row in self.rows if "loss" in row]

    def held_out(self) -> list[float]:
        """The held-out loss of each epoch, in order."""
        return [float(row["eval_loss"]) for row in self.rows if "eval_loss" in row]

    def best_epoch(self) -> int:
        """The epoch with the lowest held-out loss, counted from 1; 0 before the first one."""
        measured = [row for row in self.rows if "eval_loss" in row]
        if not measured:
            return 0
        best = min(measured, key=lambda row: float(row["eval_loss"]))
        return math.ceil(best["epoch"])  # the last epoch may be a part of one
