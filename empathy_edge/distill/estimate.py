"""What a distillation would cost: its requests are made and looked up in the ledger, but not sent."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from empathy_edge.distill.from_teacher import distil
from empathy_edge.distill.teacher_settings import ResponseSettings, TeacherSettings
from empathy_edge.formats.dialogue import Dialogue
from empathy_edge.llm.budget import Price, cost_usd, max_prompt_tokens
from empathy_edge.llm.ledger import Ledger
from empathy_edge.llm.records import Answer, Request, TeacherError

TOKENS_PER_WORD = 2


@dataclass
class Estimate:
    """The calls of a distillation, their tokens by a cautious rule, and the answers that the ledger has."""

    calls: int = 0
    in_ledger: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def cost_usd(self, price: Price | None) -> float | None:
        """What the calls would cost; None where the price is unknown."""
        return cost_usd(price, self.prompt_tokens, self.completion_tokens)


def estimate(
    dialogues: list[Dialogue], settings: TeacherSettings, identities: Sequence[str], ledger: Ledger
) -> Estimate:
    """Go through every dialogue as `distil` would.

    A step may depend on an answer that is not there yet. A placeholder of the usual length takes its place.
    Such a step counts as a call, even if the ledger will have its answer.

    Args:
        dialogues: what would be sent.
        settings: method, strategy and the length of responses.
        identities: the teacher's, as the ledger's keys have them: the present one, and a former one.
        ledger: where answers are looked up.
    """
    found = Estimate()

    async def ask(request: Request) -> Answer:
        kept = (ledger.find(request.key(identity)) for identity in identities)
        known = next((answer for answer in kept if answer is not None), None)
        if known is not None:
            found.in_ledger += 1
            return known
        found.calls += 1
        found.prompt_tokens += max_prompt_tokens(request)
        found.completion_tokens += min(request.max_tokens, TOKENS_PER_WORD * settings.words)
        return Answer(_placeholder(request, settings), 0, 0)

    async def distil_all() -> None:
        for dialogue in dialogues:
            try:
                await distil(dialogue, settings, ask)
            except TeacherError:  # a run would leave the dialogue out
                continue

    asyncio.run(distil_all())
    return found


def _placeholder(request: Request, settings: ResponseSettings) -> str:
    if request.purpose.endswith(" rating"):
        return "2"
    if request.purpose.endswith("lacking"):
        return "cognitive"
    return "word " * settings.words
