#!/usr/bin/env python3
"""Print pip constraints that hold every package named in pyproject.toml at its lower bound, for `make test-lowest`.

What those packages need in turn is not held (uv calls this resolution lowest-direct).
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def lower_bounds() -> dict[str, str]:
    """Name → the lowest version that pyproject.toml allows, of every direct dependency that has one."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = list(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        requirements += extra
    found: dict[str, str] = {}
    for requirement in requirements:
        if match := re.match(r"([\w.-]+)(?:\[[\w,-]+\])?>=([\w.]+)", requirement):
            found[match.group(1).lower()] = match.group(2)
    return found


def main() -> None:
    """Print the constraints."""
    for name, version in sorted(lower_bounds().items()):
        print(f"{name}=={version}")


if __name__ == "__main__":
    main()
