"""The ledger: one SQLite file with every call to a large model, so that no answer is paid twice."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.llm.records import Answer, Request, TeacherError

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
CREATE TABLE IF NOT EXISTS read_batches (batch TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS endpoints (
    endpoint TEXT NOT NULL, model TEXT NOT NULL, reported TEXT NOT NULL, refused TEXT NOT NULL,
    PRIMARY KEY (endpoint, model));
"""

LATER_COLUMNS = (
    ("answers", "is_cut_off", "INTEGER NOT NULL DEFAULT 0"),
    ("answers", "served", "TEXT NOT NULL DEFAULT ''"),
    ("failures", "cost_usd", "REAL"),
)
"""Columns that ledgers of older versions do not have."""


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


class Entry(NamedTuple):
    """An answer to keep, and what it answers.

    Attributes:
        key: of the request.
        model: its name.
        request: what was asked.
        answer: the answer.
    """

    key: str
    model: str
    request: Request
    answer: Answer


class Failure(NamedTuple):
    """A request without an answer, and why."""

    request: Request
    error: TeacherError


@dataclass(frozen=True)
class KnownEndpoint:
    """What an endpoint said of a model.

    Attributes:
        reported: how it describes the model; empty where it does not.
        refused: the parameters that the model does not take.
        was_asked: whether it was asked at all.
    """

    reported: str = ""
    refused: frozenset[str] = frozenset()
    was_asked: bool = True


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
            self._database = _connect(path)
            self._database.executescript(SCHEMA)
            self._writer = _connect(path)
            self._writing = threading.Lock()
            self._add_later_columns()
        except sqlite3.DatabaseError as error:
            raise EmpathyEdgeError(
                f"{path}: not readable as the ledger ({error}). Move it away, or set EMPATHY_EDGE_LEDGER."
            ) from None

    def _add_later_columns(self) -> None:
        self._database.execute("BEGIN IMMEDIATE")  # another process may do the same now
        for table, column, kind in LATER_COLUMNS:
            names = [row[1] for row in self._database.execute(f"PRAGMA table_info({table})")]
            if column not in names:
                self._database.execute(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")
        self._database.execute("COMMIT")

    def find(self, key: str) -> Answer | None:
        """The answer to a request, if the ledger has it; a failure is never an answer."""
        row = self._database.execute(
            "SELECT text, prompt_tokens, completion_tokens, cost_usd, is_cut_off, served "
            "FROM answers WHERE key = ?",
            (key,),
        ).fetchone()
        if row is None:
            return None
        text, prompt_tokens, completion_tokens, cost, is_cut_off, served = row
        return Answer(
            text, prompt_tokens, completion_tokens, cost, bool(is_cut_off), served, from_ledger=True
        )

    def record_all(self, entries: Sequence[Entry]) -> None:
        """Keep answers, all or none; a second one for the same key does not replace the first.

        This alone may be called in another thread than the one that opened the ledger.
        """
        rows = [self._row(entry) for entry in entries]
        with self._writing:
            database = self._writer
            database.execute("BEGIN IMMEDIATE")
            try:
                database.executemany(
                    "INSERT OR IGNORE INTO answers (key, model, run, purpose, request, text, prompt_tokens, "
                    "completion_tokens, cost_usd, created, is_cut_off, served) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    rows,
                )
                keys = [(entry.key,) for entry in entries]
                database.executemany("DELETE FROM batches WHERE key = ?", keys)
                database.execute("COMMIT")
            except BaseException:
                if database.in_transaction:
                    database.execute("ROLLBACK")
                raise

    def _row(self, entry: Entry) -> tuple[object, ...]:
        request, answer = entry.request, entry.answer
        asked = {"messages": list(request.messages), **request.parameters(), "sample": request.sample}
        return (
            entry.key,
            entry.model,
            self.run,
            request.purpose,
            json.dumps(asked, ensure_ascii=False),
            answer.text,
            answer.prompt_tokens,
            answer.completion_tokens,
            answer.cost_usd,
            _now(),
            answer.is_cut_off,
            answer.served,
        )

    def record_failure(
        self, key: str, model: str, request: Request, error: str, cost_usd: float | None
    ) -> None:
        """Keep what went wrong, and what it cost all the same."""
        self._database.execute("BEGIN")
        self._insert_failure(key, model, request, error, cost_usd)
        self._database.execute("COMMIT")

    def _insert_failure(
        self, key: str, model: str, request: Request, error: str, cost_usd: float | None
    ) -> None:
        self._database.execute(
            "INSERT INTO failures (key, model, run, purpose, error, created, cost_usd) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (key, model, self.run, request.purpose, error, _now(), cost_usd),
        )

    def endpoint(self, endpoint: str, model: str) -> KnownEndpoint:
        """What an endpoint once said of a model."""
        row = self._database.execute(
            "SELECT reported, refused FROM endpoints WHERE endpoint = ? AND model = ?",
            (without_secrets(endpoint), model),
        ).fetchone()
        if row is None:
            return KnownEndpoint(was_asked=False)
        return KnownEndpoint(row[0], frozenset(json.loads(row[1])))

    def record_endpoint(self, endpoint: str, model: str, known: KnownEndpoint) -> None:
        """Keep what an endpoint says of a model."""
        self._database.execute(
            "INSERT OR REPLACE INTO endpoints VALUES (?, ?, ?, ?)",
            (without_secrets(endpoint), model, known.reported, json.dumps(sorted(known.refused))),
        )

    def record_batch(self, batch: str, model: str, keys: list[str]) -> None:
        """Keep which requests were sent in a batch."""
        self._database.execute("BEGIN")
        rows = [(key, batch, model, _now()) for key in keys]
        self._database.executemany("INSERT OR REPLACE INTO batches VALUES (?, ?, ?, ?)", rows)
        self._database.execute("COMMIT")

    def forget_batch(self, batch: str, model: str, failures: dict[str, Failure]) -> None:
        """Keep that a batch was read, and that it had no answer to these requests, with what that cost.

        What another process has kept before costs nothing here.
        """
        self._database.execute("BEGIN IMMEDIATE")
        self._database.execute("INSERT OR IGNORE INTO read_batches VALUES (?)", (batch,))
        for key, (request, error) in failures.items():
            query = "DELETE FROM batches WHERE key = ? AND batch = ?"
            if not self._database.execute(query, (key, batch)).rowcount:
                error.cost_usd, error.is_kept = 0.0, True
            elif error.cost_usd != 0.0:
                self._insert_failure(key, model, request, str(error), error.cost_usd)
                error.is_kept = True
        self._database.execute("COMMIT")

    def was_sent_before(self, batch: str, *, days: int) -> bool:
        """Whether a batch was sent more than so many days ago."""
        row = self._database.execute("SELECT MIN(created) FROM batches WHERE batch = ?", (batch,)).fetchone()
        begin = datetime.now(UTC) - timedelta(days=days)
        return row[0] is not None and datetime.fromisoformat(row[0]) < begin

    def has_answers_of(self, model: str) -> bool:
        """Whether a model has ever answered, at any endpoint."""
        found = self._database.execute("SELECT 1 FROM answers WHERE model = ? LIMIT 1", (model,)).fetchone()
        return found is not None

    def was_read(self, batch: str) -> bool:
        """Whether the answers of a batch were fetched."""
        row = self._database.execute("SELECT 1 FROM read_batches WHERE batch = ?", (batch,)).fetchone()
        return row is not None

    def batch_of(self, key: str) -> str | None:
        """The batch in which a request was sent; None where there is none."""
        row = self._database.execute("SELECT batch FROM batches WHERE key = ?", (key,)).fetchone()
        return None if row is None else row[0]

    def spent(self) -> list[Spending]:
        """The sums by run and model, oldest first."""
        failures: dict[tuple[str, str], tuple[int, float]] = {}
        for run, model, count, cost in self._database.execute(
            "SELECT run, model, COUNT(*), TOTAL(cost_usd) FROM failures GROUP BY run, model"
        ):
            failures[run, model] = (count, cost)
        sums = self._database.execute(
            "SELECT run, model, COUNT(*), SUM(prompt_tokens), SUM(completion_tokens), SUM(cost_usd), "
            "SUM(cost_usd IS NULL) FROM answers GROUP BY run, model ORDER BY MIN(created)"
        )
        spending = []
        for run, model, calls, prompt_tokens, completion_tokens, cost, unknown in sums:
            failed, cost_of_failed = failures.pop((run, model), (0, 0.0))
            spending.append(
                Spending(
                    run=run,
                    model=model,
                    calls=calls,
                    prompt_tokens=prompt_tokens,
                    completion_tokens=completion_tokens,
                    cost_usd=None if cost is None else cost + cost_of_failed,
                    calls_of_unknown_cost=unknown,
                    failures=failed,
                )
            )
        for (run, model), (failed, cost) in failures.items():  # of runs in which every call failed
            spending.append(Spending(run, model, 0, 0, 0, cost, 0, failed))
        return spending

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
        self._writer.close()
        self._database.close()


def without_secrets(endpoint: str) -> str:
    """An endpoint's address without the user, the password and the query, which may hold a key."""
    address = urlsplit(endpoint)
    return f"{address.scheme}://{address.netloc.rpartition('@')[2]}{address.path}"


def _connect(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    return database


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
