#!/usr/bin/env python3
"""Print the oldest versions that pyproject.toml allows, as pip requirements, for `make test-lowest`.

uv resolves them: direct dependencies at their lower bounds, what those need as new as fits
(`--resolution lowest-direct`). llama-cpp-python is left out, since set-up compiles it, and so are torch's
packages for GPUs.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = re.compile(r"(llama-cpp-python|nvidia-|cuda-|triton)")


def main() -> int:
    """Print the requirements; returns the exit code."""
    command = [
        Path(sys.executable).parent / "uv",
        *("pip", "compile", "--quiet", "--no-header", "--no-annotate", "--resolution", "lowest-direct"),
        *("--python-version", "3.11", "--extra", "all", "--extra", "dev", "pyproject.toml"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8", check=False)
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        return 1
    for line in done.stdout.splitlines():
        if not LEFT_OUT.match(line):
            print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
