"""List the figures of the documentation, or make those of one name again. `make results` runs it.

    python -m scripts.results
    python -m scripts.results NAME --data FOLDER

Commands run in a new folder, runs/results/NAME, with what they need linked into it. Their output is shown and
kept in output.txt; run.json beside it has the commit, the machine, the date, and how each command ended.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import IO, NamedTuple, TypedDict

from empathy_edge.errors import EmpathyEdgeError, PrerequisiteError
from empathy_edge.system.files import write_json
from empathy_edge.system.machine import Machine, machine
from scripts.figures import Catalogue, Figures, Thing, read_catalogue
from scripts.markdown import ROOT

RUNS = ROOT / "runs" / "results"
VERDICTS = (1, 4)
"""Exit codes of `empathy-edge` that say FAIL and UNDECIDED: results, not faults."""

WIDTH = 100


class CommandRecord(TypedDict):
    """How a command ended."""

    command: str
    exit_code: int
    seconds: float


class RunRecord(TypedDict):
    """What stands in run.json.

    Attributes:
        figures: their name.
        commit: of the checkout; None where it is no git repository.
        changed: whether files differ from that commit.
        measured_at: the commits of the figures that the documentation shows.
        began: the time, UTC.
        machine: its processor, cores and memory.
        commands: those that have ended.
    """

    figures: str
    commit: str | None
    changed: bool
    measured_at: list[str]
    began: str
    machine: Machine
    commands: list[CommandRecord]


class Places(NamedTuple):
    """Where things are looked for: a folder that the user gave, the checkout, the folders of former runs."""

    data: Path | None
    root: Path
    runs: Path


def listing(catalogue: Catalogue) -> str:
    """All figures for a terminal."""
    lines = []
    for item in catalogue.figures:
        minutes = f"{item.minutes:g} min" if item.minutes else "no command"
        lines.append(f"{item.name}  ({minutes}; {', '.join(item.commits)}, {item.date})")
        needs = f"Needs {', '.join(item.needs)}." if item.needs else ""
        for text in (item.gives, needs, item.remark):
            lines += textwrap.wrap(text, WIDTH, initial_indent="    ", subsequent_indent="      ")
    lines += [
        "",
        "Commands and what they need: docs/results/README.md. To make some figures again:",
        "    make results NAME=gate-simulation",
        "    make results NAME=paper DATA=FOLDER    (the folder where the data lie)",
    ]
    return "\n".join(lines)


def rerun(catalogue: Catalogue, name: str, places: Places) -> int:
    """Run the commands of some figures; returns the exit code.

    Raises:
        EmpathyEdgeError: no such figures, or no commands for them.
        PrerequisiteError: something that the commands need is not there.
    """
    figures = catalogue.find(name)
    if not figures.commands:
        raise EmpathyEdgeError(f"{name}: no command makes these figures again. {figures.remark}")
    found = things_at_hand(catalogue, figures, places)
    folder = new_folder(places.runs, name)
    if figures.folder == "own":
        link(found, folder)
    print(
        f"{figures.gives}\nIn {folder}; about {figures.minutes:g} minutes on {figures.machine}.", flush=True
    )
    commit, changed = commit_of(places.root)
    record = RunRecord(
        figures=name,
        commit=commit,
        changed=changed,
        measured_at=list(figures.commits),
        began=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=machine(),
        commands=[],
    )
    return _run_commands(figures, record, folder, folder if figures.folder == "own" else places.root)


def things_at_hand(catalogue: Catalogue, figures: Figures, places: Places) -> dict[str, Path]:
    """The files that the commands need, by their names there.

    Raises:
        PrerequisiteError: something is missing; all of it is named.
    """
    found, missing = {}, []
    for need in figures.needs:
        thing = catalogue.things[need]
        path = next(_candidates(need, thing, figures, places), None)
        if thing.kind == "file" and path is not None:
            found[need] = path
        elif thing.kind == "file" or not _is_installed(need, thing):
            missing.append(f"{need}: {thing.get}")
    if missing:
        remedy = "Get it, and say with DATA=FOLDER (--data) where it lies, unless a command here makes it."
        raise PrerequisiteError(f"{figures.name} needs what is not here:\n  " + "\n  ".join(missing), remedy)
    return found


def _is_installed(name: str, thing: Thing) -> bool:
    return bool(shutil.which(name) if thing.kind == "program" else find_spec(name))


def _candidates(name: str, thing: Thing, figures: Figures, places: Places) -> Iterator[Path]:
    """Where a file is: the user's folder first, then the checkout, then the newest run that made it."""
    folders = [places.root]
    if figures.folder == "own":
        folders = [*([places.data] if places.data else []), *folders]
        if thing.made_by:
            made = [path for path in _runs_of(thing.made_by, places.runs) if (path / name).exists()]
            folders += sorted(made, key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for folder in folders:
        if (folder / name).exists():
            yield (folder / name).resolve()


def _runs_of(name: str, runs: Path) -> Iterator[Path]:
    """The folders of former runs of some figures."""
    for path in runs.glob(f"{name}*"):
        number = path.name.removeprefix(name)
        if not number or (number[0] == "-" and number[1:].isdigit()):
            yield path


def new_folder(runs: Path, name: str) -> Path:
    """A folder that was not there; where one of this name is, it gets a number."""
    runs.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        folder = runs / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder


def link(found: dict[str, Path], folder: Path) -> None:
    """Put links to what is needed where the commands look for it."""
    for name, path in found.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(path, target_is_directory=path.is_dir())


def commit_of(root: Path) -> tuple[str | None, bool]:
    """The commit of a checkout, and whether files differ from it; None without git."""
    try:
        head = _git(root, "rev-parse", "HEAD")
        return head, bool(_git(root, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError):
        return None, False


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", check=True
    ).stdout.strip()


def _run_commands(figures: Figures, record: RunRecord, folder: Path, where: Path) -> int:
    """Run each command in a bash of its own, until one fails; returns the exit code."""
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    environment = {**os.environ, "PATH": programs}
    write_json(folder / "run.json", record)
    with (folder / "output.txt").open("wb") as kept:
        for command in figures.commands:
            _show(kept, f"\n$ {command.strip()}\n".encode())
            began = time.monotonic()
            code = _run_one(command, where, environment, kept)
            seconds = round(time.monotonic() - began, 1)
            record["commands"].append(CommandRecord(command=command, exit_code=code, seconds=seconds))
            write_json(folder / "run.json", record)
            if code and not (code in VERDICTS and command.startswith("empathy-edge ")):
                print(f"Error: exit code {code}; the output is in {folder / 'output.txt'}.", file=sys.stderr)
                return code
    print(f"\nOutput: {folder / 'output.txt'}; the figures of the documentation: {figures.page}")
    return 0


def _run_one(command: str, where: Path, environment: dict[str, str], kept: IO[bytes]) -> int:
    """Run a command; what it writes is shown at once, and kept. Returns its exit code."""
    started = subprocess.Popen(
        ["bash", "-eu", "-o", "pipefail", "-c", command],
        cwd=where,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=0,
    )
    assert started.stdout is not None
    while piece := started.stdout.read(65536):
        _show(kept, piece)
    code = started.wait()
    return code if code >= 0 else 128 - code  # ended by a signal; as shells say it


def _show(kept: IO[bytes], text: bytes) -> None:
    kept.write(text)
    kept.flush()
    sys.stdout.flush()  # what was printed as text comes first
    sys.stdout.buffer.write(text)
    sys.stdout.buffer.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """List the figures, or make some again; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m scripts.results", description=__doc__.split("\n")[0])
    parser.add_argument("name", nargs="?", help="the figures to make again; without it, all are listed")
    parser.add_argument("--data", type=Path, help="the folder with the data that they need")
    parser.add_argument("--runs", type=Path, default=RUNS, help="where the new folder goes [runs/results]")
    given = parser.parse_args(arguments)
    try:
        catalogue = read_catalogue()
        if given.name is None:
            print(listing(catalogue))
            return 0
        if given.data is not None and not given.data.is_dir():
            raise EmpathyEdgeError(f"{given.data}: no such folder.")
        return rerun(catalogue, given.name, Places(given.data, ROOT, given.runs.absolute()))
    except EmpathyEdgeError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
