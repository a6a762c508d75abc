"""What is served: the page, wllama, the model's parts, the plan; and the results that are taken.

Everything lies behind a token in the address. Without it every path is the same 404. No path of the request
ever becomes a path on the disk: names are looked up in a table that is made at the start.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from rich.markup import escape
from starlette.concurrency import iterate_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from empathy_edge.bench.browser.limits import MAX_RESULTS, RateLimit, Runs
from empathy_edge.bench.browser.parts import Part
from empathy_edge.bench.browser.plan import PhonePlan
from empathy_edge.bench.browser.results import BrowserResult, result_of, write_browser_result
from empathy_edge.bench.browser.upload import Refused, check_upload, max_upload_bytes, parse_upload
from empathy_edge.console import say

UPLOAD_TIMEOUT_S = 30.0

SECURITY_HEADERS = {
    # Threads need a page that shares its process with no other site.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    # wllama starts its workers from text that it carries (blob:); nothing else is loaded from anywhere.
    "Content-Security-Policy": "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; "
    "worker-src 'self' blob:; connect-src 'self' blob:; style-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    # The address holds the token.
    "Referrer-Policy": "no-referrer",
}

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
    ".json": "application/json",
    "": "text/plain; charset=utf-8",
}

_RANGE = re.compile(r"bytes=(\d{1,15})-(\d{0,15})")


@dataclass(frozen=True)
class Asset:
    """A small file held in memory, plain and compressed."""

    content: bytes
    compressed: bytes
    media_type: str
    etag: str


@dataclass
class PhoneServer:
    """What the routes share.

    Attributes:
        plan: what the page is told.
        parts: of the model.
        token: without which nothing is answered.
        out: where results are written.
        arrived: called with each new result and its file.
        assets: by name.
        results: how many have come.
        limit: of results and new runs.
        runs: that phones have begun.
    """

    plan: PhonePlan
    parts: list[Part]
    token: str
    out: Path
    arrived: Callable[[BrowserResult, Path], None]
    assets: dict[str, Asset]
    results: int = 0
    limit: RateLimit = field(default_factory=RateLimit)
    runs: Runs = field(default_factory=Runs)

    def app(self) -> ASGIApp:
        """The application."""
        routes = [
            Route("/{token}/", self.page),
            Route("/{token}/model/{number:int}", self.part),
            Route("/{token}/runs", self.begin, methods=["POST"]),
            Route("/{token}/results", self.take_result, methods=["POST"]),
            Route("/{token}/{name}", self.asset),
        ]
        # No redirects: they would repeat the Host that a request names.
        return _Guard(Router(routes, redirect_slashes=False), self.token)

    async def page(self, request: Request) -> Response:
        """The page itself."""
        return _send(self.assets["index.html"], request)

    async def asset(self, request: Request) -> Response:
        """A file of the page."""
        found = self.assets.get(request.path_params["name"])
        return _send(found, request) if found else _not_found()

    async def part(self, request: Request) -> Response:
        """A part of the model, or a range of it."""
        number = request.path_params["number"]
        if number >= len(self.parts):
            return _not_found()
        part, etag = self.parts[number], f'"{self.plan.model_sha256[:32]}-{len(self.parts)}-{number}"'
        headers = {"ETag": etag, "Accept-Ranges": "bytes", "Cache-Control": "private, no-cache"}
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        begin, end = 0, part.size
        asked = request.headers.get("range")
        if asked and request.headers.get("if-range") in (None, etag):
            found = _range(asked, part.size)
            if found is None:
                return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{part.size}"})
            begin, end = found
            headers["Content-Range"] = f"bytes {begin}-{end - 1}/{part.size}"
        headers["Content-Length"] = str(end - begin)
        status = 206 if "Content-Range" in headers else 200
        if request.method == "HEAD":
            return Response(status_code=status, headers=headers)
        blocks = iterate_in_threadpool(part.read(begin, end))
        return StreamingResponse(blocks, status, headers, "application/octet-stream")

    async def begin(self, request: Request) -> Response:
        """A phone begins its bench: it gets a name for the run, and the clock starts."""
        if not self.limit.allows(_address(request)):
            return _too_many()
        run = secrets.token_urlsafe(16)
        self.runs.begin(run)
        return JSONResponse({"run": run}, headers={"Cache-Control": "no-store"})

    async def take_result(self, request: Request) -> Response:
        """A result: limited in size, number and rate, checked, and written; its run ends only then."""
        if self.results >= MAX_RESULTS or not self.limit.allows(_address(request)):
            return _too_many()
        if request.headers.get("content-type", "").partition(";")[0] != "application/json":
            return _refused(415, "results are application/json")
        most = max_upload_bytes(self.plan)
        try:
            async with asyncio.timeout(UPLOAD_TIMEOUT_S):
                body = await _body(request, most)
        except TimeoutError:
            return _refused(408, "it came too slowly")
        if body is None:
            return _refused(413, f"a result has at most {most} bytes")
        try:
            upload = parse_upload(body)
            elapsed_s = self.runs.elapsed_s(upload.run)
            if elapsed_s is None:
                raise Refused("no such run was begun, or its result has come already")
            check_upload(upload, self.plan, elapsed_s)
        except Refused as error:
            return _refused(422, str(error))
        result = result_of(upload, self.plan, elapsed_s)
        try:
            file = write_browser_result(self.out, result, secrets.token_hex(4))
        except OSError as error:
            say(f"[red]A result cannot be written into {escape(str(self.out))} ({error.strerror}).[/]")
            return _refused(507, "it cannot be written there now; send it again later")
        self.runs.end(upload.run)
        self.results += 1
        self.arrived(result, file)
        return JSONResponse({"tokens": result.tokens, "file": file.name})


class _Guard:
    """Refuses every address without the token, and puts the security headers on every answer."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode("ascii")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    *((name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()),
                ]
            await send(message)

        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        given = scope["path"].encode("utf-8", "replace").split(b"/")
        if len(given) < 3 or not hmac.compare_digest(given[1], self._token):
            await _not_found()(scope, receive, send_with_headers)
        else:
            await self._app(scope, receive, send_with_headers)


def page_assets(plan: PhonePlan, wllama: dict[str, bytes]) -> dict[str, Asset]:
    """Everything that is served from memory, by its name in the address."""
    folder = resources.files("empathy_edge.bench.browser") / "page"
    files = {item.name: item.read_bytes() for item in folder.iterdir() if item.is_file()}
    files |= wllama
    content = {"sha256": plan.sha256, **plan.model_dump(mode="json")}
    files["plan.json"] = json.dumps(content, ensure_ascii=False).encode("utf-8")
    return {name: _asset(name, content) for name, content in files.items()}


def _asset(name: str, content: bytes) -> Asset:
    return Asset(
        content=content,
        compressed=gzip.compress(content, 6, mtime=0),
        media_type=_TYPES.get(Path(name).suffix, _TYPES[""]),
        etag=hashlib.sha256(content).hexdigest()[:32],
    )


def _send(asset: Asset, request: Request) -> Response:
    is_compressed = "gzip" in request.headers.get("accept-encoding", "")
    etag = f'"{asset.etag}{"-gzip" if is_compressed else ""}"'
    headers = {"ETag": etag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=headers)
    if is_compressed:
        headers["Content-Encoding"] = "gzip"
    return Response(
        asset.compressed if is_compressed else asset.content, headers=headers, media_type=asset.media_type
    )


def _range(asked: str, size: int) -> tuple[int, int] | None:
    """First byte, and the one after the last, of a single range; None where there is no such."""
    match = _RANGE.fullmatch(asked.strip())
    if match is None:
        return None
    begin = int(match[1])
    end = min(int(match[2]) + 1, size) if match[2] else size
    return (begin, end) if begin < end else None


async def _body(request: Request, most: int) -> bytes | None:
    """What was sent; None where it is too much, of which no more than the limit is read."""
    body = b""
    stream: AsyncIterator[bytes] = request.stream()
    try:
        async for block in stream:
            body += block
            if len(body) > most:
                return None
    except ClientDisconnect:
        return None
    return body


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def _not_found() -> Response:
    return PlainTextResponse("Not found\n", 404)


def _too_many() -> Response:
    return PlainTextResponse("Too many; wait a minute.\n", 429, headers={"Retry-After": "60"})


def _refused(status: int, why: str) -> Response:
    return JSONResponse({"refused": why}, status)
