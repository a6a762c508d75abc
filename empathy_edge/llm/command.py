"""`empathy-edge ledger`: what was asked of large models, and what it cost."""

from __future__ import annotations

from pathlib import Path

from empathy_edge.console import out, say, table
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.dialogue import write_jsonl
from empathy_edge.llm.ledger import Ledger, ledger_path


def show_ledger(export_file: Path | None) -> None:
    """Print the sums by run and model; with a file, write every answer there instead."""
    path = ledger_path()
    if not path.exists():
        say(f"The ledger is empty ({path}).")
        return
    ledger = Ledger(path)
    if export_file is not None:
        if export_file.exists():
            raise EmpathyEdgeError(f"{export_file}: exists already; choose another name.")
        entries = ledger.entries()
        write_jsonl(export_file, entries)
        say(f"{len(entries)} answers in {export_file}")
    else:
        rows = ledger.spent()
        columns = ["run", "model", "calls", "failed", "prompt tokens", "completion tokens", "USD"]
        lines = [
            [
                row["run"],
                row["model"],
                str(row["calls"]),
                str(row["failures"]),
                str(row["prompt_tokens"]),
                str(row["completion_tokens"]),
                "unknown" if row["calls_of_unknown_cost"] else f"{row['cost_usd']:.4f}",
            ]
            for row in rows
        ]
        out.print(table(f"Ledger ({path})", columns, lines))
    ledger.close()
