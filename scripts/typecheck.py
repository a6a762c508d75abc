#!/usr/bin/env python3
"""Run mypy and import-linter on the package under its installed names. `make lint` runs it.

`export/`, `bench/`, `prompts/` and `devices/` are installed as `empathy_edge.export` and so on. Both tools
read files, not installed packages, so this makes a folder of links in which every file lies where its import
name says.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TREE = ROOT / "build" / "typecheck"
MAPPED = ("bench", "devices", "export", "prompts")


def make_tree() -> None:
    """Links in `TREE/empathy_edge` to everything that is installed there."""
    package = TREE / "empathy_edge"
    shutil.rmtree(package, ignore_errors=True)
    package.mkdir(parents=True)
    inside = [path for path in (ROOT / "empathy_edge").iterdir() if path.name != "__pycache__"]
    for path in [*inside, *(ROOT / name for name in MAPPED)]:
        (package / path.name).symlink_to(path, target_is_directory=path.is_dir())


def main() -> int:
    """Make the links, run both tools; returns the worse exit code."""
    make_tree()
    config = str(ROOT / "pyproject.toml")
    tools = Path(sys.executable).parent
    commands = [
        [tools / "mypy", "--config-file", config, "--cache-dir", ROOT / ".mypy_cache", "-p", "empathy_edge"],
        [tools / "lint-imports", "--config", config, "--cache-dir", ROOT / ".import_linter_cache"],
    ]
    environment = os.environ | {"PYTHONPATH": str(TREE)}
    return max(
        subprocess.run(command, cwd=TREE, env=environment, check=False).returncode for command in commands
    )


if __name__ == "__main__":
    sys.exit(main())
