"""Thousands of connections to one endpoint.

A connection pool of httpx looks at all of its connections for each request, so that twice as many calls at
the same time take four times as long. Several small pools share the requests here.
"""

from __future__ import annotations

import math
import urllib.request
from collections.abc import AsyncIterator, Callable
from itertools import cycle
from typing import Any

import httpx2

from empathy_edge.errors import PrerequisiteError

PER_POOL = 4
"""Requests under way in one pool, and so its connections, at most."""

FEW = 16
"""Up to so many calls at the same time one pool is as fast."""

OTHER_FILES = 256
"""What a process has open beside its connections, at most about."""


class ManyPools(httpx2.AsyncBaseTransport):
    """A transport that spreads requests over several pools; each keeps the connections that it has opened.

    There are as many places as calls at the same time. The place that was given back last is taken first: its
    connection is open already.
    """

    def __init__(self, calls: int) -> None:
        """Make pools for so many calls at the same time; more of them open more connections."""
        context = httpx2.create_ssl_context()
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
        self._pools = [
            httpx2.AsyncHTTPTransport(verify=context, limits=limits)
            for _ in range(math.ceil(calls / PER_POOL))
        ]
        self._free = self._pools * PER_POOL
        self._turns = cycle(self._pools)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request by a pool with a free place, which is taken until the response is closed."""
        if not self._free:
            return await next(self._turns).handle_async_request(request)
        pool = self._free.pop()
        try:
            response = await pool.handle_async_request(request)
        except BaseException:
            self._free.append(pool)
            raise
        response.stream = _UntilClosed(response.stream, lambda: self._free.append(pool))
        return response

    async def aclose(self) -> None:
        """Close all connections."""
        for pool in self._pools:
            await pool.aclose()


class _UntilClosed(httpx2.AsyncByteStream):
    """The content of a response; calls `closed` once, after the response is closed."""

    def __init__(self, stream: Any, closed: Callable[[], None]) -> None:
        self._stream = stream
        self._closed: Callable[[], None] | None = closed

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._stream:
            yield part

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            closed, self._closed = self._closed, None
            if closed:
                closed()


def transport_for(calls: int) -> ManyPools | None:
    """The transport for so many calls at the same time; None where the client's own one is as good.

    A transport of ours would not use the proxies that the environment names.

    Raises:
        PrerequisiteError: the system does not allow so many connections.
    """
    if calls <= FEW:
        return None
    _allow_open_files(calls + OTHER_FILES)
    has_proxy = bool(urllib.request.getproxies().keys() - {"no"})  # NO_PROXY names no proxy
    return None if has_proxy else ManyPools(calls)


def _allow_open_files(count: int) -> None:
    """Raise the limit of open files where it may be raised; a connection is one of them."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= count:
        return
    if hard != resource.RLIM_INFINITY and hard < count:
        raise PrerequisiteError(
            f"So many calls at the same time need {count} open files; this system allows {hard}.",
            "Give a smaller --parallel, or raise the limit (`ulimit -Hn`).",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
