"""Where the page is: this machine's address in its network, and the QR code on the terminal."""

from __future__ import annotations

import socket
from pathlib import Path

from empathy_edge.console import console, say

LOOPBACK = "127.0.0.1"
_QUIET_ZONE = 2


def lan_address() -> str:
    """This machine's address in the network that its default route leads to; loopback where there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # a documentation address: nothing is sent
            return str(probe.getsockname()[0])
        except OSError:
            return LOOPBACK


def show_qr_code(url: str) -> None:
    """Print the address as a QR code, or say why the terminal cannot show one."""
    import segno

    rows = [list(row) for row in segno.make(url, error="l", micro=False).matrix_iter(border=_QUIET_ZONE)]
    why = _why_not(len(rows[0]))
    if why:
        say(f"No QR code: {why}. Type the address, or write the code to a file with --qr code.svg.")
        return
    for upper, lower in zip(rows[::2], [*rows[1::2], [0] * len(rows[0])], strict=False):
        line = "".join(_half_blocks(*pair) for pair in zip(upper, lower, strict=True))
        console.print(line, style="black on white", highlight=False, markup=False)


def _why_not(width: int) -> str:
    """Why a QR code of so many columns cannot be shown; empty where it can."""
    if not console.is_terminal:
        return "the output is no terminal"
    if "utf" not in (console.encoding or "").lower():
        return "the terminal's characters are not UTF-8"
    if console.width < width:
        return f"the terminal has {console.width} columns, the code needs {width}"
    return ""


def _half_blocks(upper: int, lower: int) -> str:
    return {(0, 0): " ", (1, 0): "▀", (0, 1): "▄", (1, 1): "█"}[(int(bool(upper)), int(bool(lower)))]


def write_qr_code(url: str, path: Path) -> None:
    """Write the address as a QR code: SVG or PNG, by the file's name."""
    import segno

    segno.make(url, error="l", micro=False).save(str(path), border=4, scale=8)
