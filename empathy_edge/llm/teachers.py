"""From a model's name on the command line, KIND:NAME, to something that answers requests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from empathy_edge.console import say
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.llm.api_settings import ApiSettings
from empathy_edge.llm.budget import FREE, Budget, Price, load_prices
from empathy_edge.llm.client import ModelClient
from empathy_edge.llm.ledger import Ledger, ledger_path
from empathy_edge.llm.records import Teacher

BATCH_DISCOUNT = 0.5
"""What the Batch API takes of the list price."""


def price_of(spec: str, prices: Path | None = None) -> Price | None:
    """What a model's tokens cost; nothing for one on this machine, None where it is not known."""
    kind, _, name = spec.partition(":")
    if kind not in ("openai", "batch"):
        return FREE
    table = load_prices(prices)
    price = table.get(name) or table.get(re.sub(r"-20\d\d-\d\d-\d\d$", "", name))  # a dated name of a model
    if price is None:
        say(
            f"  The price of {name} is not in the table, so costs are not known. "
            f"Give it with --prices FILE (a line like `{name}: [0.5, 1.5]`)."
        )
    elif kind == "batch":
        price = Price(price.prompt * BATCH_DISCOUNT, price.completion * BATCH_DISCOUNT)
    return price


def open_teacher(
    spec: str,
    ledger: Ledger,
    api: ApiSettings,
    *,
    price: Price | None,
    timeout_s: float = 60.0,
    wait: bool = True,
    poll_s: float = 30.0,
) -> Teacher:
    """Open openai:MODEL, batch:MODEL, local:MODEL or file:ANSWERS.jsonl.

    Args:
        spec: the kind and the name.
        ledger: where the Batch API's requests are kept.
        api: endpoint and limits.
        price: what the tokens cost, where known.
        timeout_s: openai: seconds for one try.
        wait: batch: whether to wait for the answers.
        poll_s: batch: seconds between two looks at a batch.

    Raises:
        EmpathyEdgeError: no such kind of teacher.
    """
    kind, _, name = spec.partition(":")
    if kind == "batch" and name:
        from empathy_edge.llm.batch_teacher import BatchTeacher

        return BatchTeacher(name, ledger, base_url=api.base_url, price=price, wait=wait, poll_s=poll_s)
    if kind == "openai" and name:
        from empathy_edge.llm.openai_teacher import OpenAITeacher

        return OpenAITeacher(
            name, ledger, base_url=api.base_url, price=price, parallel=api.parallel, timeout_s=timeout_s
        )
    if kind == "local" and name:
        from empathy_edge.llm.local_teachers import LocalTeacher

        return LocalTeacher(name)
    if kind == "file" and name:
        from empathy_edge.llm.local_teachers import FileTeacher

        return FileTeacher(Path(name))
    raise EmpathyEdgeError(f"'{spec}': give openai:MODEL, batch:MODEL, local:MODEL or file:ANSWERS.jsonl.")


@contextmanager
def open_model_client(
    spec: str, api: ApiSettings, *, run: str, timeout_s: float = 120.0
) -> Iterator[ModelClient]:
    """A model with the user's ledger and a budget; the ledger is closed at the end.

    Args:
        spec: the model, as `open_teacher` takes it.
        api: endpoint and limits.
        run: what the calls are listed under in the ledger.
        timeout_s: seconds for one try.
    """
    price = price_of(spec, api.prices)
    budget = Budget(price, api.max_calls, api.max_cost)
    with closing(Ledger(ledger_path(), run=run)) as ledger:
        teacher = open_teacher(spec, ledger, api, price=price, timeout_s=timeout_s)
        with closing(ModelClient(teacher, ledger, budget)) as client:
            yield client
