"""How often someone may send something: a result, a wrong address."""

from __future__ import annotations

import time
from collections import defaultdict, deque

PER_MINUTE = 10
"""Results, and new runs of the bench, from one address."""
ALL_PER_MINUTE = 60
MAX_RESULTS = 200
"""Of one run of the server, so that nobody fills the disk: 50 MB at most with the usual settings."""
MAX_ADDRESSES = 1000


class RateLimit:
    """Counts calls by address in the last minute."""

    def __init__(self) -> None:
        self._all: deque[float] = deque()
        self._by_address: defaultdict[str, deque[float]] = defaultdict(deque)

    def allows(self, address: str) -> bool:
        """Whether one more call is allowed now; counts it if so."""
        now = time.monotonic()
        if len(self._by_address) > MAX_ADDRESSES:
            self._by_address.clear()
        mine = self._by_address[address]
        for calls in (self._all, mine):
            while calls and now - calls[0] > 60:
                calls.popleft()
        if len(self._all) >= ALL_PER_MINUTE or len(mine) >= PER_MINUTE:
            return False
        self._all.append(now)
        mine.append(now)
        return True


class Runs:
    """Runs of the bench that phones have begun: a name that cannot be guessed → when it began.

    They have no largest age: a slow phone may take as long as the server runs.
    """

    MAX_OPEN = 64

    def __init__(self) -> None:
        self._begun: dict[str, float] = {}

    def begin(self, name: str) -> None:
        """Note a new run; the oldest is forgotten where there are too many."""
        while len(self._begun) >= self.MAX_OPEN:
            del self._begun[next(iter(self._begun))]
        self._begun[name] = time.monotonic()

    def elapsed_s(self, name: str) -> float | None:
        """Seconds since a run began; None where there is no such run, or its result has come."""
        begun = self._begun.get(name)
        return None if begun is None else time.monotonic() - begun

    def end(self, name: str) -> None:
        """Its result has come: no second one is taken."""
        self._begun.pop(name, None)
