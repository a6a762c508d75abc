"""The ledger: one SQLite file with every call to a large model, so that no answer is paid twice."""

from __future__ import annotations

import json
import os
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.llm.records import Answer, Request

SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, model TEXT NOT NULL, run TEXT NOT NULL, purpose TEXT NOT NULL,
    request TEXT NOT NULL, text TEXT NOT NULL, prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL, cost_usd REAL, created TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS failures (
    key TEXT NOT NULL, model TEXT NOT NULL, run TEXT NOT NULL, purpose TEXT NOT NULL, error TEXT NOT NULL,
    created TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS batches (
    key TEXT PRIMARY KEY, batch TEXT NOT NULL, model TEXT NOT NULL, created TEXT NOT NULL);
"""


@dataclass(frozen=True)
class Spending:
    """The sums of one model in one run; the cost (USD) is that of the calls whose cost is known."""

    run: str
    model: str
    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    calls_of_unknown_cost: int
    failures: int


def ledger_path() -> Path:
    """The user's ledger; EMPATHY_EDGE_LEDGER names another file. It is no cache: its answers cost money."""
    data = Path(os.environ.get("XDG_DATA_HOME", Path.home() / ".local" / "share"))
    default = data / "empathy-edge" / "ledger.sqlite"
    return Path(os.environ.get("EMPATHY_EDGE_LEDGER", default)).expanduser()


class Ledger:
    """Answers by key, and failures. Every entry is on the disk before the method returns."""

    def __init__(self, path: Path, run: str = "") -> None:
        self.path = path
        self.run = run
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._database = sqlite3.connect(path, timeout=60, isolation_level=None)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=FULL")
            self._database.executescript(SCHEMA)
        except sqlite3.DatabaseError as error:
            raise EmpathyEdgeError(
                f"{path}: not readable as the ledger ({error}). Move it away, or set EMPATHY_EDGE_LEDGER."
            ) from None

    def find(self, key: str) -> Answer | None:
        """The answer to a request, if the ledger has it; a failure is never an answer."""
        row = self._database.execute(
            "SELECT text, prompt_tokens, completion_tokens, cost_usd FROM answers WHERE key = ?", (key,)
        ).fetchone()
        if row is None:
            return None
        text, prompt_tokens, completion_tokens, cost = row
        return Answer(text, prompt_tokens, completion_tokens, cost, from_ledger=True)

    def record(self, key: str, model: str, request: Request, answer: Answer) -> None:
        """Keep an answer; a second one for the same key does not replace the first."""
        asked = {
            "messages": list(request.messages),
            "temperature": request.temperature,
            "max_tokens": request.max_tokens,
            "sample": request.sample,
        }
        self._database.execute(
            "INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                key,
                model,
                self.run,
                request.purpose,
                json.dumps(asked, ensure_ascii=False),
                answer.text,
                answer.prompt_tokens,
                answer.completion_tokens,
                answer.cost_usd,
                _now(),
            ),
        )

    def record_failure(self, key: str, model: str, request: Request, error: str) -> None:
        """Keep what went wrong."""
        self._database.execute(
            "INSERT INTO failures VALUES (?, ?, ?, ?, ?, ?)",
            (key, model, self.run, request.purpose, error, _now()),
        )

    def record_batch(self, batch: str, model: str, keys: list[str]) -> None:
        """Keep which requests were sent in a batch."""
        self._database.execute("BEGIN")
        rows = [(key, batch, model, _now()) for key in keys]
        self._database.executemany("INSERT OR REPLACE INTO batches VALUES (?, ?, ?, ?)", rows)
        self._database.execute("COMMIT")

    def batch_of(self, key: str) -> str | None:
        """The batch in which a request was sent; None where there is none."""
        row = self._database.execute("SELECT batch FROM batches WHERE key = ?", (key,)).fetchone()
        return None if row is None else row[0]

    def close_batch(self, batch: str) -> list[str]:
        """Forget a finished batch; returns the keys of its requests."""
        keys = [row[0] for row in self._database.execute("SELECT key FROM batches WHERE batch = ?", (batch,))]
        self._database.execute("DELETE FROM batches WHERE batch = ?", (batch,))
        return keys

    def spent(self) -> list[Spending]:
        """The sums by run and model, oldest first."""
        failures: dict[tuple[str, str], int] = {}
        for run, model, count in self._database.execute(
            "SELECT run, model, COUNT(*) FROM failures GROUP BY run, model"
        ):
            failures[run, model] = count
        sums = self._database.execute(
            "SELECT run, model, COUNT(*), SUM(prompt_tokens), SUM(completion_tokens), SUM(cost_usd), "
            "SUM(cost_usd IS NULL) FROM answers GROUP BY run, model ORDER BY MIN(created)"
        )
        return [
            Spending(
                run=run,
                model=model,
                calls=calls,
                prompt_tokens=prompt_tokens,
                completion_tokens=completion_tokens,
                cost_usd=cost,
                calls_of_unknown_cost=unknown,
                failures=failures.get((run, model), 0),
            )
            for run, model, calls, prompt_tokens, completion_tokens, cost, unknown in sums
        ]

    def entries(self) -> list[dict[str, object]]:
        """Every answer with the columns of the table, oldest first, for export."""
        cursor = self._database.execute("SELECT * FROM answers ORDER BY created, key")
        names = [column[0] for column in cursor.description]
        entries = []
        for row in cursor:
            entry = dict(zip(names, row, strict=True))
            entry["request"] = json.loads(entry["request"])
            entries.append(entry)
        return entries

    def close(self) -> None:
        """Close the file."""
        self._database.close()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
