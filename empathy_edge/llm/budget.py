"""Prices and limits. A call's highest possible cost is reserved before it, so that no limit is passed."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import NamedTuple

import yaml

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.llm.records import Request


class Price(NamedTuple):
    """USD per million prompt tokens, and per million completion tokens."""

    prompt: float
    completion: float


FREE = Price(0.0, 0.0)

BYTES_PER_TOKEN = 2.5
"""English has about 4; this is lower, so that prompt tokens are rather overestimated."""


class BudgetReached(EmpathyEdgeError):
    """The next call would pass a limit; everything answered so far is kept."""

    exit_code = 4


def load_prices(path: Path | None = None) -> dict[str, Price]:
    """The price table that ships with the package; the user's own table replaces and adds to it.

    Raises:
        EmpathyEdgeError: the user's file is not a price table.
    """
    table = yaml.safe_load((resources.files("empathy_edge.llm") / "prices.yaml").read_text(encoding="utf-8"))
    if path is not None:
        try:
            own = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
            raise EmpathyEdgeError(f"{path}: not readable as a price table ({error}).") from None
        table = {**table, **(own if isinstance(own, dict) else {})}
    for model, price in table.items():
        if not _is_price(price):
            raise EmpathyEdgeError(
                f"{path}: the price of '{model}' is not [prompt, completion] in USD per million."
            )
    return {model: Price(float(price[0]), float(price[1])) for model, price in table.items()}


def _is_price(value: object) -> bool:
    return (
        isinstance(value, list) and len(value) == 2 and all(isinstance(item, int | float) for item in value)
    )


def cost_usd(price: Price | None, prompt_tokens: int, completion_tokens: int) -> float | None:
    """What a call costs; None where the price is unknown."""
    if price is None:
        return None
    return (price.prompt * prompt_tokens + price.completion * completion_tokens) / 1e6


def max_prompt_tokens(request: Request) -> int:
    """A cautious estimate of a request's prompt tokens."""
    texts = [*(message["content"] for message in request.messages), request.schema]
    return int(sum(len(text.encode()) for text in texts) / BYTES_PER_TOKEN) + 16


class Budget:
    """Counts calls and their cost in USD: `reserve` before a try, `settle` after it.

    Attributes:
        calls: how many were made; tries of one call are not counted.
        cost: USD, of the tries whose cost is known.
        untold: USD, what the others cost at most.
    """

    def __init__(
        self, price: Price | None, max_calls: int | None = None, max_cost: float | None = None
    ) -> None:
        if max_cost is not None and price is None:
            raise EmpathyEdgeError(
                "--max-cost needs the model's price, which is not in the table; give it with --prices FILE "
                "(a line like `my-model: [0.5, 1.5]`, USD per million prompt and completion tokens)."
            )
        self.price = price
        self.max_calls = max_calls
        self.max_cost = max_cost
        self.calls = 0
        self.cost = 0.0
        self._reserved = 0.0
        self.untold = 0.0

    def count_call(self) -> None:
        """Count one call; its tries are not counted.

        Raises:
            BudgetReached: there were as many calls as allowed.
        """
        if self.max_calls is not None and self.calls >= self.max_calls:
            raise BudgetReached(f"--max-calls {self.max_calls} is reached.")
        self.calls += 1

    def reserve(self, request: Request, reasoning_tokens: int = 0) -> float:
        """Reserve the highest possible cost of one try; returns that cost.

        Args:
            request: what is asked.
            reasoning_tokens: how many tokens the model may use beyond the request's own limit.

        Raises:
            BudgetReached: the limit would be passed.
        """
        completion_tokens = request.max_tokens + reasoning_tokens
        highest = cost_usd(self.price, max_prompt_tokens(request), completion_tokens) or 0.0
        spent = self.cost + self.untold
        if self.max_cost is not None and spent + self._reserved + highest > self.max_cost:
            raise BudgetReached(
                f"--max-cost {self.max_cost} USD would be passed by the next call ({self.spent()} so far)."
            )
        self._reserved += highest
        return highest

    def settle(self, reserved: float, cost: float | None) -> None:
        """Replace what was reserved for a try by its real cost.

        A try whose cost is None (a timeout, an answer without a count of tokens) may have been charged: it
        counts as much as was reserved.
        """
        self._reserved -= reserved
        if cost is None:
            self.untold += reserved
        else:
            self.cost += cost

    def spent(self) -> str:
        """What was spent, in words; the price must be known."""
        more = f", and up to {self.untold:.4f} USD of calls whose cost the endpoint did not tell"
        return f"{self.cost:.4f} USD{more if self.untold else ''}"
