"""Many requests to one model: an answer comes from the ledger, or else from a call within the budget.

All stages that ask a large model go through `ModelClient.run`, so that all of them stop in the same way: no
new call is made, and the calls under way are waited for, since their answers are paid for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from empathy_edge.console import progress, say
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.llm.budget import Budget, BudgetReached
from empathy_edge.llm.keeping import Keeper
from empathy_edge.llm.ledger import Entry, Ledger
from empathy_edge.llm.own_loop import OwnLoop
from empathy_edge.llm.records import (
    Answer,
    CutOff,
    OtherModel,
    Request,
    StepNotKept,
    Teacher,
    TeacherError,
    TryAgain,
)

Item = TypeVar("Item")
Result = TypeVar("Result")

FIRST_PAUSE_S, MAX_PAUSE_S = 0.5, 30.0
"""Between two tries where the endpoint asks for no pause: random, up to twice as long each time."""


FAILURES_IN_A_ROW = 20
"""So many calls given up after all tries, without an answer between them: the endpoint is down."""


class CallsFailed(EmpathyEdgeError):
    """Some calls failed for good. What was answered is kept; the same command asks the others again."""

    exit_code = 4


class _Stopping(Exception):
    """No new call is made any more."""


class ModelClient:
    """A teacher or judge with its ledger and budget.

    Attributes:
        teacher: the model.
        ledger: where answers are looked up and kept.
        budget: how many calls may be made, and what they may cost.
        calls: how many calls were answered.
        from_ledger: how many answers the ledger had.
        served: the models and fingerprints that the endpoint reported with its answers.
    """

    def __init__(self, teacher: Teacher, ledger: Ledger, budget: Budget) -> None:
        self.teacher = teacher
        self.ledger = ledger
        self.budget = budget
        self._keeper = Keeper(ledger)
        self.calls = 0
        self.from_ledger = 0
        self.served: set[str] = set()
        self._identity: asyncio.Future[str] | None = None
        self._running: dict[str, asyncio.Future[Answer]] = {}
        self._slots: asyncio.Semaphore | None = None
        self._under_way = 0
        self._failed_in_a_row = 0
        self._stop: BaseException | None = None
        self._stopped = asyncio.Event()
        self._loop = OwnLoop()  # one for all runs: the connections belong to it

    def identity(self) -> str:
        """The teacher's identity: everything about it that decides its answers."""
        return self._loop.run(self._identify())

    def run(
        self, items: Sequence[Item], work: Callable[[Item], Awaitable[Result]], *, label: str
    ) -> list[Result | TeacherError]:
        """Do the work for every item, several at the same time.

        Args:
            items: what to work on.
            work: makes an item's result by calls of `ask`.
            label: for the progress bar.

        Returns:
            The result of each item in their order; where its calls failed for good, the error.

        Raises:
            BudgetReached: a limit would be passed. What was under way is in the ledger.
            EmpathyEdgeError: a refused key, or another error that all later calls would meet too.
            KeyboardInterrupt: what was under way is in the ledger.
        """
        return self._loop.run(self._run(items, work, label))

    async def ask(self, request: Request) -> Answer:
        """Answer one request. Equal requests at the same time are one call.

        Raises:
            CutOff: the answer ended at `max_tokens`.
            TeacherError: the call failed for good; the ledger records the failure.
            BudgetReached: the call would pass a limit; it was not made.
        """
        key = request.key(await self._identify())
        known = self.ledger.find(key)
        if known is None and self.teacher.former_identity is not None:
            known = self.ledger.find(request.key(self.teacher.former_identity))
        if known is not None:
            self.from_ledger += 1
            return _whole(known, request)
        if key not in self._running:
            future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
            self._running[key] = future
            try:
                future.set_result(await self._call(request, key))
            except BaseException as error:
                future.set_exception(error)
            finally:
                del self._running[key]
            return _whole(future.result(), request)
        return _whole(await asyncio.shield(self._running[key]), request)

    def close(self) -> None:
        """Close the teacher's connections, and keep the answers that still wait, whatever happens."""
        try:
            try:
                self._loop.run(self.teacher.close())
            finally:
                self._loop.close()  # waits for the thread that writes
        finally:
            self._keeper.close()

    async def _run(
        self, items: Sequence[Item], work: Callable[[Item], Awaitable[Result]], label: str
    ) -> list[Result | TeacherError]:
        found: dict[int, Result | TeacherError] = {}
        queue = iter(enumerate(items))
        with progress() as bar:
            task = bar.add_task(label, total=len(items), note="")

            async def worker() -> None:
                for place, item in queue:
                    try:
                        found[place] = await work(item)
                    except TeacherError as error:
                        found[place] = error
                    except _Stopping:
                        return
                    except Exception as error:  # also a bug of ours: the others' answers are paid for
                        self._refuse_new_calls(error)
                        return
                    note = f"{self.calls} calls, {self.from_ledger} from the ledger"
                    bar.update(task, advance=1, note=note)

            await self._until_done(worker, min(self.teacher.parallel, len(items)))
        if isinstance(self._stop, BudgetReached):
            raise BudgetReached(
                f"{self._stop}\n  {len(found)} of {len(items)} are done and kept in the ledger; "
                "run the same command with a higher limit to go on."
            )
        if isinstance(self._stop, CallsFailed):
            done = sum(not isinstance(item, TeacherError) for item in found.values())
            raise CallsFailed(
                f"{self._stop}\n  {done} of {len(items)} are done and kept in the ledger; "
                "run the same command again when the endpoint answers."
            )
        if self._stop is not None:
            raise self._stop
        return [found[place] for place in range(len(items))]

    async def _until_done(self, worker: Callable[[], Coroutine[Any, Any, None]], count: int) -> None:
        """Run the workers. At Ctrl-C the calls under way are waited for; at the second one they are left."""

        async def workers() -> None:
            async with asyncio.TaskGroup() as group:
                for _ in range(count):
                    group.create_task(worker())

        running = asyncio.create_task(workers())
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError as interrupt:
            self._refuse_new_calls(interrupt)
            self.teacher.interrupt()
            if self._under_way:
                say(
                    f"  Stopping: waiting for the answers of {self._under_way} running calls. "
                    "Ctrl-C again stops at once."
                )
            await running
            raise

    def _stop_if_down(self, error: TeacherError) -> None:
        """Ask no more after many calls in a row that were given up. A refused or cut-off one is answered."""
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= FAILURES_IN_A_ROW:
            reason = f"{self._failed_in_a_row} calls in a row failed; the last one: {error}"
            self._refuse_new_calls(CallsFailed(reason))

    def _refuse_new_calls(self, reason: BaseException) -> None:
        if self._stop is None:
            self._stop = reason
        self._stopped.set()

    async def _identify(self) -> str:
        if self._identity is None:
            self._identity = asyncio.ensure_future(self.teacher.identity())
        return await asyncio.shield(self._identity)

    async def _call(self, request: Request, key: str) -> Answer:
        """Call within the budget, and again after failures that may pass."""
        if self._slots is None:
            self._slots = asyncio.Semaphore(self.teacher.parallel)
        async with self._slots:
            self._require_going()
            self.budget.count_call()
            try:
                answer = await self._tries(request, key)
            except StepNotKept:
                raise
            except TeacherError as error:
                if not error.is_kept:
                    self.ledger.record_failure(key, self.teacher.model, request, str(error), error.cost_usd)
                if isinstance(error, OtherModel):
                    self._refuse_new_calls(CallsFailed(str(error)))
                raise
            if answer.from_ledger:  # another process has fetched it
                self.from_ledger += 1
                return answer
            await self._keeper.keep(Entry(key, self.teacher.model, request, answer))
            self._failed_in_a_row = 0
            self.calls += 1
            self.served.add(answer.served)
            return answer

    async def _tries(self, request: Request, key: str) -> Answer:
        from tenacity import (
            AsyncRetrying,
            RetryCallState,
            retry_if_exception_type,
            stop_after_attempt,
            wait_random_exponential,
        )

        backoff = wait_random_exponential(multiplier=FIRST_PAUSE_S, max=MAX_PAUSE_S)

        def pause_s(state: RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            asked_for = error.retry_after_s if isinstance(error, TryAgain) else None
            return backoff(state) if asked_for is None else asked_for + min(0.25, backoff(state))

        attempts = AsyncRetrying(
            stop=stop_after_attempt(self.teacher.tries),
            wait=pause_s,
            retry=retry_if_exception_type(TryAgain),
            sleep=self._sleep,
            reraise=True,
        )
        try:
            async for attempt in attempts:
                with attempt:
                    return await self._one_try(request, key)
        except TryAgain as error:
            self._stop_if_down(error)
            tries = f"given up after {self.teacher.tries} tries: " if self.teacher.tries > 1 else ""
            raise TeacherError(f"{tries}{error}", 0.0) from None  # each try is in the ledger with its cost
        raise AssertionError("tenacity makes at least one try")

    async def _one_try(self, request: Request, key: str) -> Answer:
        self._require_going()
        reserved = self.budget.reserve(request, self.teacher.reasoning_tokens)
        cost: float | None = None
        self._under_way += 1
        try:
            answer = await self.teacher.answer(request, key)
            cost = 0.0 if answer.from_ledger else answer.cost_usd
            return answer
        except TeacherError as error:
            cost = error.cost_usd
            if isinstance(error, TryAgain) and cost != 0.0 and not error.is_kept:
                self.ledger.record_failure(key, self.teacher.model, request, str(error), cost)
            raise
        finally:
            self._under_way -= 1
            self.budget.settle(reserved, cost)

    async def _sleep(self, seconds: float) -> None:
        """Wait, but not longer than until calls are to stop."""
        try:
            await asyncio.wait_for(self._stopped.wait(), seconds)
        except TimeoutError:
            return

    def _require_going(self) -> None:
        if self._stop is not None:
            raise _Stopping


def _whole(answer: Answer, request: Request) -> Answer:
    """The answer, unless it was cut off."""
    if answer.is_cut_off:
        raise CutOff(f"the answer was cut off at {request.max_tokens} tokens")
    return answer
