"""`empathy-edge ledger`: what was asked of large models, and what it cost."""

from __future__ import annotations

from pathlib import Path

from empathy_edge.console import out, say, table
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.json_lines import write_jsonl
from empathy_edge.llm.ledger import Ledger, Spending, ledger_path

COLUMNS = ("run", "model", "calls", "failed", "prompt tokens", "completion tokens", "USD")


def show_ledger(export_file: Path | None) -> list[Spending]:
    """Print the sums by run and model; with a file, write every answer there instead.

    Returns:
        The sums.
    """
    path = ledger_path()
    if not path.exists():
        say(f"The ledger is empty ({path}).")
        return []
    ledger = Ledger(path)
    spent = list(ledger.spent())
    if export_file is not None:
        if export_file.exists():
            raise EmpathyEdgeError(f"{export_file}: exists already; choose another name.")
        entries = ledger.entries()
        write_jsonl(export_file, entries)
        say(f"{len(entries)} answers in {export_file}")
    else:
        out.print(table(f"Ledger ({path})", COLUMNS, [_cells(item) for item in spent]))
    ledger.close()
    return spent


def _cells(spending: Spending) -> list[str]:
    """One line of the table, in the order of COLUMNS."""
    return [
        spending.run,
        spending.model,
        str(spending.calls),
        str(spending.failures),
        str(spending.prompt_tokens),
        str(spending.completion_tokens),
        _cost(spending),
    ]


def _cost(spending: Spending) -> str:
    """What is known of the cost, and of how many calls it is not."""
    if spending.cost_usd is None or (spending.calls_of_unknown_cost and not spending.cost_usd):
        return "unknown"
    unknown = f", unknown of {spending.calls_of_unknown_cost}" if spending.calls_of_unknown_cost else ""
    return f"{spending.cost_usd:.4f}{unknown}"
