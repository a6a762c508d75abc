"""`empathy-edge phone`: serve the page until it is stopped, and show what came back."""

from __future__ import annotations

import asyncio
import secrets
import socket
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from empathy_edge.bench.browser.address import LOOPBACK, lan_address, show_qr_code, write_qr_code
from empathy_edge.bench.browser.certificate import Certificate, make_certificate
from empathy_edge.bench.browser.parts import parts_of
from empathy_edge.bench.browser.plan import make_plan, phone_file
from empathy_edge.bench.browser.results import (
    BrowserResult,
    beside_native,
    read_browser_results,
    show_results,
)
from empathy_edge.bench.browser.settings import PhoneSettings
from empathy_edge.bench.browser.wllama import wllama_files
from empathy_edge.bench.latency_summary import LatencySummary, summaries
from empathy_edge.bench.result_file import StandardResult
from empathy_edge.console import duration, say
from empathy_edge.console import out as stdout
from empathy_edge.errors import EmpathyEdgeError, require_extra
from empathy_edge.runs.run_folder import RunFolder

if TYPE_CHECKING:
    from empathy_edge.bench.browser.app import PhoneServer

PACKAGES = ("starlette", "uvicorn", "segno", "cryptography")


@dataclass
class _Stop:
    """What ends the server: time, or enough results."""

    server: Any
    after: int | None
    came: list[BrowserResult] = field(default_factory=list)

    def arrived(self, result: BrowserResult, file: Path) -> None:
        """Say that a result has come; enough of them end the server."""
        self.came.append(result)
        say(
            f"{escape(result.phone)}: decode {result.decode_tps:.1f} tokens/s in the browser, "
            f"{result.threads} threads, tokens: {result.tokens}. Written to {file}."
        )
        if self.after is not None and len(self.came) >= self.after:
            self.server.should_exit = True


def serve(
    artifact: str,
    settings: PhoneSettings,
    *,
    out: Path,
    native: StandardResult | None = None,
    qr_file: Path | None = None,
) -> list[BrowserResult]:
    """Serve an artifact to browsers until the time is up, enough results have come, or Ctrl-C.

    Args:
        artifact: a GGUF file, its artifact folder, or the shipped model's name.
        settings: as the user gave them.
        out: where results are written.
        native: the host's figures, for the ratio.
        qr_file: also write the QR code there.

    Returns:
        The results that came.

    Raises:
        EmpathyEdgeError: the artifact is no GGUF or too large, the port is busy, or `out` is a file.
    """
    for package in PACKAGES:
        require_extra(package, "phone", "Serving a model to a phone")
    from empathy_edge.bench.browser.app import PhoneServer, page_assets

    if out.exists() and not out.is_dir():
        raise EmpathyEdgeError(f"{out}: is a file; --out names a folder.")
    file = phone_file(artifact)
    parts = parts_of(file, settings.part_mb * 1_000_000)
    listener = _listen(settings)
    with listener, tempfile.TemporaryDirectory(prefix="empathy-edge-") as scratch:
        wllama = wllama_files()
        plan = make_plan(artifact, file, parts, settings)
        stop = _Stop(None, settings.stop_after)
        token = secrets.token_urlsafe(16)
        phone_server = PhoneServer(plan, parts, token, out, stop.arrived, page_assets(plan, wllama))
        address = lan_address() if settings.lan else LOOPBACK
        certificate = make_certificate(Path(scratch), sorted({address, LOOPBACK})) if settings.https else None
        stop.server = _uvicorn(phone_server, certificate)
        scheme = "https" if settings.https else "http"
        url = f"{scheme}://{address}:{listener.getsockname()[1]}/{token}/"
        _say_address(url, settings, certificate, plan.size_bytes)
        if qr_file:
            write_qr_code(url, qr_file)
        _run(stop.server, listener, settings.minutes)
    _show(out, native)
    return stop.came


def results_folder(artifact: str) -> Path:
    """Where results go by default: into the run that the artifact belongs to, else the working folder."""
    export = Path(artifact).resolve().parent
    if export.name == "export" and RunFolder(export.parent).record.is_file():
        return RunFolder(export.parent).phone
    return Path("phone-results")


def _listen(settings: PhoneSettings) -> socket.socket:
    """A socket on the port, before anything expensive is done."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("0.0.0.0" if settings.lan else LOOPBACK, settings.port))
        listener.listen(64)
    except OSError as error:
        listener.close()
        raise EmpathyEdgeError(
            f"Port {settings.port} cannot be used ({error.strerror}).\n"
            "  Choose another with --port, or --port 0 for any free one."
        ) from None
    return listener


def _uvicorn(phone_server: PhoneServer, certificate: Certificate | None) -> Any:
    import uvicorn

    return uvicorn.Server(
        uvicorn.Config(
            phone_server.app(),
            log_level="error",
            access_log=False,  # addresses hold the token
            server_header=False,
            lifespan="off",
            ws="none",
            limit_concurrency=64,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=2,
            ssl_keyfile=str(certificate.key) if certificate else None,
            ssl_certfile=str(certificate.certificate) if certificate else None,
        )
    )


def _say_address(
    url: str, settings: PhoneSettings, certificate: Certificate | None, model_bytes: int
) -> None:
    stdout.print(url, markup=False, soft_wrap=True)
    show_qr_code(url)
    if settings.lan:
        say(
            "[yellow]Everyone in this network who has the address can use the model and send results."
            "[/] Without it nothing is answered."
        )
    else:
        say("Only this machine can open it; --lan lets phones of this network in.")
    if certificate:
        say(
            "The browser will warn: the certificate was made for this run. Its SHA-256, to compare:\n"
            f"  {certificate.fingerprint}"
        )
    elif settings.lan:
        say(
            "Without --https a phone's browser allows one thread, and does not keep the page for offline use."
        )
    say(
        f"The phone downloads {model_bytes / 1e6:.0f} MB once. The server stops in "
        f"{duration(60 * settings.minutes)}, or with Ctrl-C."
    )


def _run(server: Any, listener: socket.socket, minutes: float) -> None:
    """Serve until something sets `should_exit`, the time is up, or Ctrl-C."""

    async def until_stopped() -> None:
        loop = asyncio.get_running_loop()
        timer = loop.call_later(60 * minutes, lambda: setattr(server, "should_exit", True))
        try:
            await server.serve(sockets=[listener])
        finally:
            timer.cancel()

    try:
        asyncio.run(until_stopped())
    except KeyboardInterrupt:
        say("Stopped.")  # the usual end of a server, not an error


def _show(out: Path, native: StandardResult | None) -> None:
    results = read_browser_results(out)
    if not results:
        say("No results came.")
        return
    host: list[LatencySummary] = summaries(native) if native else []
    show_results(beside_native(results, host))
    if not host:
        say("--native FILE (from `bench ARTIFACT --json FILE`) shows the ratio to this machine's own speed.")
