"""From a teacher's name to something that can be asked: KIND:NAME, with the ledger and the limits around it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.llm.asking import Asker
from empathy_edge.llm.budget import Budget, Price, load_prices
from empathy_edge.llm.ledger import Ledger, ledger_path
from empathy_edge.llm.records import Teacher


def price_of(spec: str, prices: Path | None = None) -> Price | None:
    """What a teacher's tokens cost; nothing on this machine, None where it is not known."""
    kind, _, name = spec.partition(":")
    return load_prices(prices).get(name) if kind in ("openai", "batch") else (0.0, 0.0)


def open_teacher(
    spec: str,
    ledger: Ledger,
    *,
    price: Price | None,
    base_url: str | None = None,
    parallel: int = 8,
    timeout_s: float = 60.0,
    wait: bool = True,
    poll_s: float = 30.0,
) -> Teacher:
    """openai:MODEL, batch:MODEL, local:MODEL or file:ANSWERS.jsonl.

    Raises:
        EmpathyEdgeError: no such kind of teacher.
    """
    kind, _, name = spec.partition(":")
    if kind == "batch" and name:
        from empathy_edge.llm.batch_teacher import BatchTeacher

        return BatchTeacher(name, ledger, base_url=base_url, price=price, wait=wait, poll_s=poll_s)
    if kind == "openai" and name:
        from empathy_edge.llm.openai_teacher import OpenAITeacher

        return OpenAITeacher(name, base_url=base_url, price=price, parallel=parallel, timeout_s=timeout_s)
    if kind == "local" and name:
        from empathy_edge.llm.local_teachers import LocalTeacher

        return LocalTeacher(name)
    if kind == "file" and name:
        from empathy_edge.llm.local_teachers import FileTeacher

        return FileTeacher(Path(name))
    raise EmpathyEdgeError(f"'{spec}': give openai:MODEL, batch:MODEL, local:MODEL or file:ANSWERS.jsonl.")


@contextmanager
def asker_for(
    spec: str,
    *,
    run: str,
    base_url: str | None = None,
    parallel: int = 8,
    timeout_s: float = 120.0,
    max_calls: int | None = None,
    max_cost: float | None = None,
) -> Iterator[Asker]:
    """A teacher with the user's ledger and a budget, closed at the end."""
    price = price_of(spec)
    budget = Budget(price, max_calls, max_cost)
    ledger = Ledger(ledger_path(), run=run)
    try:
        teacher = open_teacher(
            spec, ledger, price=price, base_url=base_url, parallel=parallel, timeout_s=timeout_s
        )
        yield Asker(teacher, ledger, budget)
    finally:
        ledger.close()
