"""Many requests to one model: an answer comes from the ledger, or else from a call within the budget."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from empathy_edge.llm.budget import Budget
from empathy_edge.llm.ledger import Ledger
from empathy_edge.llm.records import Answer, Request, StepNotKept, Teacher, TeacherError


@dataclass
class ModelClient:
    """A teacher or judge with its ledger and budget.

    Attributes:
        teacher: the model.
        ledger: where answers are looked up and kept.
        budget: how many calls may be made, and what they may cost.
        calls: how many calls were answered.
        from_ledger: how many answers the ledger had.
        failures: what went wrong, one line for each call that failed for good.
    """

    teacher: Teacher
    ledger: Ledger
    budget: Budget
    calls: int = 0
    from_ledger: int = 0
    failures: list[str] = field(default_factory=list)
    _running: dict[str, asyncio.Future[Answer]] = field(default_factory=dict)
    _slots: asyncio.Semaphore | None = None

    async def ask(self, request: Request) -> Answer:
        """Answer one request. Equal requests at the same time are one call.

        Raises:
            TeacherError: the call failed for good; it is recorded as a failure.
            BudgetReached: the call would pass a limit; it was not made.
        """
        key = request.key(self.teacher.model)
        known = self.ledger.find(key)
        if known is not None:
            self.from_ledger += 1
            return known
        if key in self._running:
            return await asyncio.shield(self._running[key])
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._running[key] = future
        try:
            answer = await self._call(request, key)
        except BaseException as error:
            future.set_exception(error)
            future.exception()  # marks it as retrieved, so that asyncio does not warn where nobody else waits
            raise
        else:
            future.set_result(answer)
            return answer
        finally:
            del self._running[key]

    async def _call(self, request: Request, key: str) -> Answer:
        if self._slots is None:
            self._slots = asyncio.Semaphore(self.teacher.parallel)
        async with self._slots:
            reserved = self.budget.reserve(request)
            cost: float | None = None
            try:
                answer = await self.teacher.answer(request, key)
                cost = answer.cost_usd
            except StepNotKept:
                raise
            except TeacherError as error:
                self.failures.append(f"{request.purpose}: {error}")
                self.ledger.record_failure(key, self.teacher.model, request, str(error))
                raise
            finally:
                self.budget.settle(reserved, cost)
            self.ledger.record(key, self.teacher.model, request, answer)
            self.calls += 1
            return answer
