"""Thousands of connections to one endpoint.

A connection pool of httpx looks at all of its connections for each request, so that twice as many calls at
the same time take four times as long. Several small pools take turns here.
"""

from __future__ import annotations

import math
import urllib.request
from itertools import cycle

import httpx2

from empathy_edge.errors import PrerequisiteError

PER_POOL = 4
"""Connections of one pool, about."""

FEW = 16
"""Up to so many calls at the same time one pool is as fast."""

OTHER_FILES = 256
"""What a process has open beside its connections, at most about."""


class ManyPools(httpx2.AsyncBaseTransport):
    """A transport that spreads requests over several pools; each keeps the connections that it has opened."""

    def __init__(self, calls: int) -> None:
        """Make pools for so many calls at the same time."""
        context = httpx2.create_ssl_context()
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
        self._pools = [
            httpx2.AsyncHTTPTransport(verify=context, limits=limits)
            for _ in range(math.ceil(calls / PER_POOL))
        ]
        self._turns = cycle(self._pools)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request by the pool whose turn it is."""
        return await next(self._turns).handle_async_request(request)

    async def aclose(self) -> None:
        """Close all connections."""
        for pool in self._pools:
            await pool.aclose()


def transport_for(calls: int) -> ManyPools | None:
    """The transport for so many calls at the same time; None where the client's own one is as good.

    A transport of ours would not use the proxies that the environment names.

    Raises:
        PrerequisiteError: the system does not allow so many connections.
    """
    if calls <= FEW or urllib.request.getproxies():
        return None
    _allow_open_files(calls + OTHER_FILES)
    return ManyPools(calls)


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
