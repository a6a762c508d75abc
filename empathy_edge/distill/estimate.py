"""What a distillation would take: its calls are made up one by one as they would be asked, looked up in the ledger, and not sent."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from empathy_edge.distill.from_teacher import Method, distil
from empathy_edge.distill.strategies import Wording
from empathy_edge.formats.dialogue import Dialogue
from empathy_edge.llm.budget import Price, cost_usd, max_prompt_tokens
from empathy_edge.llm.ledger import Ledger
from empathy_edge.llm.records import Answer, Request, TeacherError

TOKENS_PER_WORD = 2


@dataclass
class Estimate:
    """Calls that would be made, their tokens by a cautious rule, and the answers that are in the ledger already."""

    calls: int = 0
    in_ledger: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def cost_usd(self, price: Price | None) -> float | None:
        """What the calls would cost; None where the price is unknown."""
        return cost_usd(price, self.prompt_tokens, self.completion_tokens)


def estimate(
    dialogues: list[Dialogue], method: Method, strategy: str, model: str, ledger: Ledger, wording: Wording
) -> Estimate:
    """Walk through every dialogue as `distill` would.

    A step that builds on an answer that is not there yet is made up with a text of the wanted length, so that it counts as a
    call, even where the ledger will know it.

    Args:
        dialogues: what would be sent.
        method: where the response comes from.
        strategy: how it is improved.
        model: the teacher's name in the ledger.
        ledger: where answers are looked up.
        wording: the length that is asked for.
    """
    found = Estimate()

    async def ask(request: Request) -> Answer:
        known = ledger.find(request.key(model))
        if known is not None:
            found.in_ledger += 1
            return known
        found.calls += 1
        found.prompt_tokens += max_prompt_tokens(request)
        found.completion_tokens += min(request.max_tokens, TOKENS_PER_WORD * wording.words)
        return Answer(_stand_in(request, wording), 0, 0)

    async def walk() -> None:
        for dialogue in dialogues:
            try:
                await distil(dialogue, method, strategy, ask, wording)
            except TeacherError:  # as a run would, it leaves the dialogue out
                continue

    asyncio.run(walk())
    return found


def _stand_in(request: Request, wording: Wording) -> str:
    if request.purpose.endswith(" rating"):
        return "2"
    return "cognitive" if request.purpose.endswith("lacking") else "word " * wording.words
