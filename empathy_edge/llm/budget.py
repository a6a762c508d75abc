"""Prices and limits: what a call costs at most is set aside before it is made, so that a limit is never passed."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import yaml

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.llm.records import Request

Price = tuple[float, float]
"""USD per million prompt tokens, and per million completion tokens."""

CHARACTERS_PER_TOKEN = 2.5
"""A low estimate, so that the tokens of a prompt are rather over- than underestimated (English has about 4)."""


class BudgetReached(EmpathyEdgeError):
    """A limit would be passed by the next call; everything answered so far is kept."""


def load_prices(path: Path | None = None) -> dict[str, Price]:
    """The price table that ships with the package, with the user's own on top."""
    table = yaml.safe_load((resources.files("empathy_edge.llm") / "prices.yaml").read_text(encoding="utf-8"))
    if path is not None:
        try:
            own = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
            raise EmpathyEdgeError(f"{path}: not readable as a price table ({error}).") from None
        table = {**table, **(own if isinstance(own, dict) else {})}
    for model, price in table.items():
        if not (
            isinstance(price, list) and len(price) == 2 and all(isinstance(x, int | float) for x in price)
        ):
            raise EmpathyEdgeError(
                f"{path}: the price of '{model}' is not [prompt, completion] in USD per million."
            )
    return {model: (float(price[0]), float(price[1])) for model, price in table.items()}


def cost_usd(price: Price | None, prompt_tokens: int, completion_tokens: int) -> float | None:
    """What a call cost; None where the price is unknown."""
    return None if price is None else (price[0] * prompt_tokens + price[1] * completion_tokens) / 1e6


def prompt_tokens_at_most(request: Request) -> int:
    """A cautious estimate of a request's prompt tokens."""
    return int(sum(len(message["content"]) for message in request.messages) / CHARACTERS_PER_TOKEN) + 16


class Budget:
    """Counts calls and cost; `reserve` before a call, `settle` after it."""

    def __init__(
        self, price: Price | None, max_calls: int | None = None, max_cost: float | None = None
    ) -> None:
        if max_cost is not None and price is None:
            raise EmpathyEdgeError(
                "--max-cost needs the model's price, which is not in the table; give it with --prices FILE "
                "(a line like `my-model: [0.5, 1.5]`, USD per million prompt and completion tokens)."
            )
        self.price, self.max_calls, self.max_cost = price, max_calls, max_cost
        self.calls, self.cost, self._reserved = 0, 0.0, 0.0

    def reserve(self, request: Request) -> float:
        """Set aside one call and the most it can cost.

        Raises:
            BudgetReached: a limit would be passed.
        """
        most = cost_usd(self.price, prompt_tokens_at_most(request), request.max_tokens) or 0.0
        if self.max_calls is not None and self.calls >= self.max_calls:
            raise BudgetReached(f"--max-calls {self.max_calls} is reached.")
        if self.max_cost is not None and self.cost + self._reserved + most > self.max_cost:
            raise BudgetReached(
                f"--max-cost {self.max_cost} USD would be passed by the next call ({self.cost:.4f} spent)."
            )
        self.calls += 1
        self._reserved += most
        return most

    def settle(self, reserved: float, cost: float | None) -> None:
        """Put the real cost in place of what was set aside."""
        self._reserved -= reserved
        self.cost += cost or 0.0
