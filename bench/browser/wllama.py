"""wllama, llama.cpp in WebAssembly: fetched once from the npm registry, checked against a pinned hash.

Version 2 and not 3: the later ones have no tokenizer, and need features that Safari lacks
(docs/decisions/011-wllama-2-in-the-browser.md).
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping

from empathy_edge.console import say
from empathy_edge.errors import EmpathyEdgeError, PrerequisiteError
from empathy_edge.system.cache import cache_folder
from empathy_edge.system.files import write_atomically

VERSION = "2.3.7"
INTEGRITY = "sha512-T273gBEqEZCHAoyNZDg+X6boQWktaq+efNF6bJo5aHToJr7jS1kCYImKXDdBi2/CccRuBUcMBHHLHiQN4+OfKQ=="
"""The registry's own hash of the archive (its field dist.integrity)."""

REGISTRY = "https://registry.npmjs.org"
MAX_ARCHIVE_BYTES = 20_000_000
MAX_FILE_BYTES = 10_000_000
TIMEOUT_S = 60

FILES = {
    "wllama.js": "package/esm/index.js",
    "single.wasm": "package/esm/single-thread/wllama.wasm",
    "multi.wasm": "package/esm/multi-thread/wllama.wasm",
    "LICENCE": "package/LICENCE",
}
"""Our name of a file → its name in the archive."""


def wllama_files() -> dict[str, bytes]:
    """The files that the page loads, by our name; fetched at the first use, and kept in the cache.

    Raises:
        PrerequisiteError: they are not in the cache, and the registry cannot be reached.
        EmpathyEdgeError: what the registry sent is not the pinned archive.
    """
    archive = cache_folder() / "wllama" / f"wllama-{VERSION}.tgz"
    content = archive.read_bytes() if archive.is_file() else b""
    if not _is_pinned(content):
        content = _download()
        if not _is_pinned(content):
            raise EmpathyEdgeError(
                f"@wllama/wllama {VERSION}: the registry sent another archive than the pinned one "
                f"({len(content)} bytes); nothing of it is used."
            )
        write_atomically(archive, content)
    return _unpack(content)


def _is_pinned(content: bytes) -> bool:
    return "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode("ascii") == INTEGRITY


def _download() -> bytes:
    url = f"{registry(os.environ)}/@wllama/wllama/-/wllama-{VERSION}.tgz"
    host = urllib.parse.urlsplit(url).hostname
    say(f"Fetching wllama {VERSION} (3 MB) from {host}, once …")
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:
            content: bytes = response.read(MAX_ARCHIVE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise PrerequisiteError(
            f"wllama, which runs the model in the browser, could not be fetched from {host}: {reason}.",
            "Connect to the internet once, or name a registry that can be reached: NPM_CONFIG_REGISTRY=https://…",
        ) from None
    return content


def registry(environment: Mapping[str, str]) -> str:
    """The npm registry: as npm's variable says, else npm's own setting if there is npm, else the public."""
    for name in ("NPM_CONFIG_REGISTRY", "npm_config_registry"):
        if given := environment.get(name):
            return _checked(given)
    if npm := shutil.which("npm"):
        try:
            asked = subprocess.run(
                [npm, "config", "get", "registry"], capture_output=True, text=True, timeout=20, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return REGISTRY
        if asked.returncode == 0 and asked.stdout.strip().startswith("http"):
            return _checked(asked.stdout)
    return REGISTRY


def _checked(url: str) -> str:
    """A registry's address without the slash at its end."""
    if not url.strip().startswith(("https://", "http://")):
        raise EmpathyEdgeError(f"NPM_CONFIG_REGISTRY: {url!r} is not a web address.")
    return url.strip().rstrip("/")


def _unpack(content: bytes) -> dict[str, bytes]:
    """The files of `FILES`, read from memory: nothing is written under a name that the archive chose."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        for name, inside in FILES.items():
            handle = archive.extractfile(inside)
            assert handle is not None, "the archive is the pinned one"
            found[name] = handle.read(MAX_FILE_BYTES)
    return found
