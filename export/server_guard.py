"""Run a server until whoever started this closes its end of the pipe.

`python -m empathy_edge.export.server_guard PROGRAM ARGUMENT…` starts the program and reads its own stdin. The
pipe closes also where the one who started this was killed: no server is ever left behind.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading

SECONDS_TO_END = 5


def main() -> int:
    """Start the program; end it when stdin closes; returns its exit code, 128 and more for a signal."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches the whole terminal: the pipe says when to end
    server = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=True)
    threading.Thread(target=_end_with_stdin, args=(server,), daemon=True).start()
    code = server.wait()
    return code if code >= 0 else 128 - code


def _end_with_stdin(server: subprocess.Popen[bytes]) -> None:
    while os.read(0, 1024):  # not sys.stdin: its lock, held by this thread, would abort the interpreter's end
        pass
    _end(server, by_force=False)
    try:
        server.wait(SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        _end(server, by_force=True)


def _end(server: subprocess.Popen[bytes], *, by_force: bool) -> None:
    """End the program, and what it started: it may be a script that starts the server."""
    if os.name == "nt":
        server.kill()
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL if by_force else signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
