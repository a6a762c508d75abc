"""A GGUF file is opened in a process of its own first: llama.cpp aborts on files that it cannot compute.

An abort would end this process with a native backtrace. What was opened once without a crash is remembered by
its hash and llama.cpp's version.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from importlib.metadata import version
from pathlib import Path

from empathy_edge.errors import EmpathyEdgeError, PrerequisiteError, require_extra
from empathy_edge.formats.gguf_header import check_gguf
from empathy_edge.system.cache import cache_folder
from empathy_edge.system.files import write_atomically
from empathy_edge.system.hash_cache import sha256_file
from empathy_edge.system.processes import run_captured

_WINDOWS_CRASH = 0xC0000000
"""Exit codes from here on are crashes on Windows."""

_OPEN = "import sys; from empathy_edge.runtimes.first_open import open_once; open_once(sys.argv[1])"


def require_opens(file: Path) -> None:
    """Refuse a GGUF file that crashes llama.cpp.

    Raises:
        EmpathyEdgeError: it is damaged, or crashes llama.cpp; names the file and what llama.cpp said.
    """
    require_extra("llama_cpp", "gguf", f"Running {file.name}")
    check_gguf(file)
    mark = cache_folder() / "opened" / f"{sha256_file(file)[:32]}-{version('llama-cpp-python')}"
    if mark.is_file():
        return
    environment = {**os.environ, "GGML_NO_BACKTRACE": "1"}
    ended = run_captured([sys.executable, "-P", "-c", _OPEN, str(file.resolve())], environment)
    if ended.returncode == -9:
        raise PrerequisiteError(
            f"{file}: the process that opened it was killed: there is too little memory.",
            "Close other programs, or take a smaller file.",
        )
    if ended.returncode == -4:
        raise PrerequisiteError(
            "llama-cpp-python was built for another processor: it uses an instruction that this one lacks.",
            "Build it here: pip install --force-reinstall --no-binary llama-cpp-python llama-cpp-python",
        )
    if ended.returncode < 0 or ended.returncode >= _WINDOWS_CRASH:
        failed = re.search(r"GGML_ASSERT\(.{1,120}?\) failed", ended.stderr)
        said = f" ({failed[0]})" if failed else ""
        raise EmpathyEdgeError(
            f"{file}: llama.cpp crashes when it opens this file{said}.\n"
            "  The file is damaged, or of a shape that llama.cpp does not compute; take another export of it."
        )
    if ended.returncode == 0:
        with contextlib.suppress(OSError):  # a cache that cannot be written: it is tried again next time
            write_atomically(mark, "")


def open_once(file: str) -> None:
    """Load a file and compute two tokens with it; what fails without a crash is found by the caller."""
    import llama_cpp

    try:
        model = llama_cpp.Llama(file, n_ctx=64, n_batch=8, n_threads=1, verbose=True)
        model.eval([0, 0])
    except Exception:
        sys.exit(1)
