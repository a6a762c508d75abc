"""`empathy-edge distill`: rows from rated responses, or with a teacher."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from empathy_edge.console import say
from empathy_edge.distill.distill_results import DistillResults
from empathy_edge.distill.estimate import Estimate, estimate
from empathy_edge.distill.from_ratings import run as run_from_ratings
from empathy_edge.distill.from_teacher import choose_dialogues
from empathy_edge.distill.from_teacher import run as run_from_teacher
from empathy_edge.distill.teacher_settings import TeacherSettings
from empathy_edge.formats.dialogue import read_dialogues
from empathy_edge.llm.budget import Budget, Price
from empathy_edge.llm.client import ModelClient
from empathy_edge.llm.ledger import Ledger, ledger_path
from empathy_edge.llm.local_teachers import FileTeacher
from empathy_edge.llm.openai_teacher import OPENAI_URL, endpoint_url, identity_of
from empathy_edge.llm.records import Teacher
from empathy_edge.llm.teachers import open_teacher, price_of
from empathy_edge.runs.settings import DistillSettings


def distill_rated(*, data: Path, out: Path, settings: DistillSettings, update: bool) -> DistillResults:
    """Make rows from rated responses, and print how many."""
    results = run_from_ratings(data=data, out=out, settings=settings, update=update)
    _say_rows(results, out)
    return results


def distill_with_teacher(*, data: Path, out: Path, settings: TeacherSettings, update: bool) -> DistillResults:
    """Make rows with a teacher; print the calls, their cost, what the filters rejected, and the rows."""
    price = price_of(settings.teacher, settings.prices)
    budget = Budget(price, settings.max_calls, settings.max_cost)
    with closing(Ledger(ledger_path(), run=out.resolve().name)) as ledger:
        teacher = _open_teacher(settings, ledger, price)
        with closing(ModelClient(teacher, ledger, budget)) as client:
            try:
                results = run_from_teacher(
                    data=data,
                    out=out,
                    settings=settings,
                    client=client,
                    answered_ids=_answered_ids(teacher),
                    update=update,
                )
            finally:
                _say_calls(client, price)
    for name, rejected in results.caught.items():
        say(f"  left out, {name}: {rejected.count} (e.g. {rejected.examples[0].id})")
    _say_rows(results, out)
    return results


def estimate_with_teacher(*, data: Path, settings: TeacherSettings) -> Estimate:
    """Print the calls that `distill_with_teacher` would make, their tokens and their cost."""
    price = price_of(settings.teacher, settings.prices)
    with closing(Ledger(ledger_path())) as ledger:
        identities, answered_ids = _known_of_teacher(settings, ledger, price)
        chosen = choose_dialogues(data, read_dialogues(data), settings, answered_ids)
        found = estimate(chosen, settings, identities, ledger)
    say(f"Estimate for {len(chosen)} dialogues (predicted):")
    say(
        f"  {found.calls} calls, about {found.prompt_tokens} prompt tokens and "
        f"{found.completion_tokens} completion tokens, {_estimated_cost(found, price)}"
    )
    say(f"  {found.in_ledger} answers are in the ledger and cost nothing.")
    return found


def _open_teacher(settings: TeacherSettings, ledger: Ledger, price: Price | None) -> Teacher:
    return open_teacher(
        settings.teacher,
        ledger,
        settings,
        price=price,
        timeout_s=settings.timeout,
        wait=not settings.no_wait,
        poll_s=settings.poll,
    )


def _known_of_teacher(
    settings: TeacherSettings, ledger: Ledger, price: Price | None
) -> tuple[list[str], set[str] | None]:
    """The teacher's identity, a former one where it has one, and the dialogues that a file of answers has.

    No call is made: an endpoint is known by what it reported last, and needs no key for that.
    """
    kind, _, model = settings.teacher.partition(":")
    if kind in ("openai", "batch"):
        endpoint = endpoint_url(settings.base_url)
        identity = identity_of(endpoint, model, ledger.endpoint(endpoint, model).reported)
        if kind == "batch":
            return [f"batch {identity}"], None
        return [identity, *([model] if endpoint == OPENAI_URL else [])], None
    teacher = _open_teacher(settings, ledger, price)
    return [teacher.model], _answered_ids(teacher)


def _answered_ids(teacher: Teacher) -> set[str] | None:
    """The dialogues that a file of answers has; None for other teachers, which can answer all."""
    return teacher.ids if isinstance(teacher, FileTeacher) else None


def _say_rows(results: DistillResults, out: Path) -> None:
    say(f"{results.sft_rows} SFT rows and {results.preference_pairs} preference pairs in {out}")
    if not results.test_dialogues:
        say(
            "No test split in the data: no dialogue is kept for a test. Mark some with `test` in a field "
            "`split`, or do nothing: `release` takes shipped prompts then."
        )


def _say_calls(client: ModelClient, price: Price | None) -> None:
    cost = "a cost that is not known (--prices)" if price is None else client.budget.spent()
    say(f"{client.calls} calls for {cost}, {client.from_ledger} answers from the ledger")


def _estimated_cost(found: Estimate, price: Price | None) -> str:
    cost = found.cost_usd(price)
    if cost is None:
        return "unknown: the model is not in the price table (--prices)"
    return f"about {cost:.2f} USD" if cost else "0.00 USD"
