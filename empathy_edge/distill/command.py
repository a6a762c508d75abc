"""`empathy-edge distill`: which road, which teacher, which limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from empathy_edge.console import say
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.llm.ledger import Ledger, ledger_path


def run(
    *, data: Path, method: str, out: Path, reference: str, models: tuple[str, ...], max_sft: int | None,
    max_pairs: int | None, seed: int, update: bool, **teaching: Any,
) -> None:  # fmt: skip
    """Run the method that was chosen, and say what came of it."""
    if method == "rated":
        from empathy_edge.distill.from_ratings import run as run_rated
        from empathy_edge.runs.recipe import DistillSettings

        if teaching["teacher"]:
            raise EmpathyEdgeError(
                "--method rated asks no teacher; choose direct, improve-human or improve-llm."
            )
        settings = DistillSettings(
            reference=reference, models=models, max_sft=max_sft, max_pairs=max_pairs, seed=seed
        )
        results = run_rated(data=data, out=out, settings=settings, update=update)["results"]
    else:
        found = _run_with_teacher(data=data, method=method, out=out, seed=seed, update=update, **teaching)
        if found is None:
            return
        results = found
    say(f"{results['sft_rows']} SFT rows and {results['preference_pairs']} preference pairs in {out}")


def _run_with_teacher(
    *, data: Path, method: str, strategy: str, teacher: str | None, base_url: str | None, parallel: int, timeout: float, no_wait: bool, poll: float, words: int,
    most_words: int, max_dialogues: int | None, max_calls: int | None, max_cost: float | None, prices: Path | None,
    dry_run: bool, out: Path, seed: int, update: bool,
) -> dict[str, Any] | None:  # fmt: skip
    from empathy_edge.distill.from_teacher import run as run_taught
    from empathy_edge.distill.strategies import Wording
    from empathy_edge.llm.api_settings import ApiSettings
    from empathy_edge.llm.budget import Budget
    from empathy_edge.llm.client import ModelClient
    from empathy_edge.llm.local_teachers import FileTeacher
    from empathy_edge.llm.teachers import open_teacher, price_of

    if not teacher:
        raise EmpathyEdgeError(
            f"--method {method} needs a --teacher: openai:MODEL, batch:MODEL, local:MODEL or file:ANSWERS.jsonl."
        )
    price = price_of(teacher, prices)
    wording = Wording(words=words, most_words=most_words)
    if dry_run:
        _estimate(data, method, strategy, teacher, price, wording, max_dialogues, seed)
        return None
    budget = Budget(price, max_calls, max_cost)
    ledger = Ledger(ledger_path(), run=out.resolve().name)
    opened = open_teacher(
        teacher,
        ledger,
        ApiSettings(base_url=base_url, parallel=parallel),
        price=price,
        timeout_s=timeout,
        wait=not no_wait,
        poll_s=poll,
    )
    try:
        results = run_taught(
            data=data,
            out=out,
            method=method,  # type: ignore[arg-type]
            strategy=strategy,
            client=ModelClient(opened, ledger, budget),
            wording=wording,
            max_dialogues=max_dialogues,
            only=opened.ids if isinstance(opened, FileTeacher) else None,
            seed=seed,
            update=update,
        )["results"]
    finally:
        ledger.close()
    cost = f"{results['cost_usd']:.4f} USD" if price is not None else "a cost that is not known (--prices)"
    say(f"{results['calls']} calls for {cost}, {results['answers_from_the_ledger']} answers from the ledger")
    for caught, item in results["caught"].items():
        say(f"  left out, {caught}: {item['count']} (e.g. {item['examples'][0]['id']})")
    return results


def _estimate(
    data: Path,
    method: Any,
    strategy: str,
    teacher: str,
    price: Any,
    wording: Any,
    most: int | None,
    seed: int,
) -> None:
    """Print the calls that a run would make, what the ledger has already, tokens and cost."""
    from empathy_edge.distill.estimate import estimate
    from empathy_edge.distill.from_teacher import drawn
    from empathy_edge.formats.dialogue import read_dialogues
    from empathy_edge.llm.api_settings import ApiSettings
    from empathy_edge.llm.local_teachers import FileTeacher
    from empathy_edge.llm.teachers import open_teacher

    kind, _, name = teacher.partition(":")
    ledger = Ledger(ledger_path())
    try:
        opened = None if kind in ("openai", "batch") else open_teacher(teacher, ledger, ApiSettings(), price=price)
        only = opened.ids if isinstance(opened, FileTeacher) else None
        chosen = drawn(data, read_dialogues(data), most, only, seed)
        found = estimate(chosen, method, strategy, opened.model if opened else name, ledger, wording)
    finally:
        ledger.close()
    cost = found.cost_usd(price)
    shown = (
        "unknown: the model is not in the price table (--prices)"
        if cost is None
        else f"at most about {cost:.2f} USD"
    )
    say(f"Estimate for {len(chosen)} dialogues (predicted):")
    say(
        f"  {found.calls} calls, about {found.prompt_tokens} prompt tokens and {found.completion_tokens} completion tokens, {shown}"
        + (", half of it in a batch" if kind == "batch" and cost else "")
    )
    say(f"  {found.in_ledger} answers are in the ledger and cost nothing.")
