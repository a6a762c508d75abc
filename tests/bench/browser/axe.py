"""axe-core finds faults of accessibility in a page. It is fetched as wllama is: once, with a pinned hash."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import tarfile
import urllib.request
from typing import Any

import pytest

from empathy_edge.bench.browser.wllama import registry
from empathy_edge.system.cache import cache_folder
from empathy_edge.system.files import write_atomically
from tests.bench.browser.chromium import Browser

VERSION = "4.14.1"
INTEGRITY = "sha512-FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="
"""The registry's own hash of the archive (its field dist.integrity)."""

SERIOUS = ("serious", "critical")
WIDTHS = (360, 1280)
"""Of a phone's screen and of a window, CSS pixels."""


def axe_source() -> str:
    """The script; skips the test where it can neither be found in the cache nor be fetched."""
    archive = cache_folder() / "axe-core" / f"axe-core-{VERSION}.tgz"
    content = archive.read_bytes() if archive.is_file() else _download()
    found = "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode("ascii")
    assert found == INTEGRITY, f"another archive than axe-core {VERSION}"
    if not archive.is_file():
        write_atomically(archive, content)
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as files:
        script = files.extractfile("package/axe.min.js")
        assert script is not None
        return script.read().decode("utf-8")


def _download() -> bytes:
    url = f"{registry(os.environ)}/axe-core/-/axe-core-{VERSION}.tgz"
    try:
        with urllib.request.urlopen(url, timeout=60) as response:
            content: bytes = response.read()
    except OSError as error:
        pytest.skip(f"axe-core {VERSION} cannot be fetched from the npm registry: {error}")
    return content


def look(page: Browser, *, width: int, scheme: str) -> None:
    """Show the page in a window of this width, light or dark."""
    page.devtools(
        "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
    )
    page.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])


def faults(page: Browser, source: str) -> list[str]:
    """Serious and critical faults of the page as it is now: the rule, and the first element it is about."""
    found: list[dict[str, Any]] = page.run(
        f"{source};\nreturn axe.run({{resultTypes: ['violations']}}).then(found => found.violations)"
    )
    lines = []
    for item in found:
        if item["impact"] in SERIOUS:
            node = item["nodes"][0]
            lines.append(f"{item['id']}: {node['html'][:200]} ({node['failureSummary']})")
    return lines


def assert_accessible(page: Browser, source: str, *, before: str = "") -> None:
    """Nothing serious at either width, light or dark, and no scrolling sideways.

    Args:
        page: with the page open.
        source: axe-core's.
        before: a script that is run first, to open what is folded.
    """
    for width in WIDTHS:
        for scheme in ("light", "dark"):
            look(page, width=width, scheme=scheme)
            if before:
                page.run(before)
            assert faults(page, source) == [], (width, scheme)
            # Not innerWidth: a phone makes that as wide as what is in it.
            assert page.run("return document.documentElement.scrollWidth") <= width, width
