#!/usr/bin/env python3
"""Create .venv with everything that this project needs.

`make setup` runs it; without make: python scripts/setup_venv.py. It uses only the standard library.

llama.cpp is compiled, while the other packages are installed, unless there is a wheel of llama-cpp-python:
one that pip finds (PIP_FIND_LINKS, PIP_EXTRA_INDEX_URL), or one that an earlier set-up on this machine made.
An interrupted set-up goes on where it stopped. With --wheel it only prints what
pip installs llama.cpp from: the compiled wheel's path, or else the requirement.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
READY = VENV / ".ready"
LOG = VENV / "setup.log"
BUILD = VENV / "build-llama-cpp"

OLDEST_PYTHON = (3, 11)
SPACE_GB = 5.2
SECONDS_BETWEEN_LINES = 5

NAME = "llama-cpp-python"
REST = "onnx,litert,train,convert,qlora,api,judge,score,report,apps,phone,second-engine,dev"
"""Every extra except `gguf` and `demo`, which need llama-cpp-python."""

TORCH_FOR_CPU = "https://download.pytorch.org/whl/cpu"
"""The index of PyTorch's builds without CUDA, as pytorch.org names it."""

ONLY_LIBRARY = ROOT / "scripts" / "llama_cpp.cmake"
DEFINITIONS = ("LLAVA_BUILD=OFF", f"CMAKE_PROJECT_INCLUDE={ONLY_LIBRARY.as_posix()}")
"""No image input and no programs of llama.cpp: this halves the compile time. CMAKE_ARGS adds to them."""

HOW_TO_COMPILE = """\
  Debian, Ubuntu:  sudo apt-get install g++ cmake
  Fedora:          sudo dnf install gcc-c++ cmake
  macOS:           xcode-select --install, then: brew install cmake
  Windows:         winget install Kitware.CMake Microsoft.VisualStudio.2022.BuildTools \
(with its C++ tools), or use WSL"""


class SetupError(Exception):
    """The user has to do something first; the message says what."""


def main() -> int:
    """Check, then install; returns the exit code."""
    if sys.argv[1:] == ["--wheel"]:
        version = pinned("llama_cpp_python")
        print(cached_wheel(version) or f"{NAME}=={version}")
        return 0
    started = time.monotonic()
    sys.stdout.reconfigure(line_buffering=True)
    try:
        check_python()
        version = pinned("llama_cpp_python")
        compiled = installed("llama_cpp_python") == version
        if not compiled and not cached_wheel(version) and not wheels_are_offered():
            check_compiler()
        check_space()
        create_venv()
        wheel = None if compiled else find_wheel(version)
        if not compiled and not wheel:
            check_compiler()
        source = None if compiled or wheel else download_source(version)
        say_which_torch()
        install(version, compiled, wheel, source)
    except SetupError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("Interrupted. Run the same command again: it goes on from here.", file=sys.stderr)
        return 130
    shutil.rmtree(BUILD, ignore_errors=True)
    READY.touch()
    print(f"Ready after {clock(time.monotonic() - started)}: {VENV.name}. Next: make demo, or make test.")
    return 0


def check_python() -> None:
    """Refuse an interpreter that is too old for the project, or has no venv."""
    if sys.version_info < OLDEST_PYTHON:
        raise SetupError(
            f"Python 3.11 or newer is needed, this is {platform.python_version()}. Name another one: "
            "make PYTHON=python3.12 setup"
        )
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        raise SetupError(
            "This Python has no venv module. Debian, Ubuntu: sudo apt-get install python3-venv"
        ) from None


def check_compiler() -> None:
    """Refuse if llama.cpp has to be compiled and there is no compiler."""
    if not any(map(shutil.which, ("c++", "g++", "clang++", "cl"))) and not visual_studio():
        raise SetupError(
            "llama.cpp has to be compiled, and there is no C++ compiler on this machine.\n"
            f"{HOW_TO_COMPILE}\n"
            "  Or give pip a wheel of llama-cpp-python: "
            "PIP_FIND_LINKS=FOLDER or PIP_EXTRA_INDEX_URL=ADDRESS make setup"
        )
    if not shutil.which("cmake"):
        print(
            "cmake is not installed; pip fetches one for this build only. To have it for good:\n"
            f"{HOW_TO_COMPILE}"
        )


def wheels_are_offered() -> bool:
    """Whether pip looks elsewhere than in the public index, which has no wheels of llama-cpp-python."""
    names = ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL")
    return any(os.environ.get(name) for name in names)


def visual_studio() -> bool:
    """Whether Visual Studio's installer is there (Windows); cmake finds the compiler through it."""
    programs = os.environ.get("PROGRAMFILES(X86)", "")
    return bool(programs) and Path(programs, "Microsoft Visual Studio", "Installer", "vswhere.exe").is_file()


def check_space() -> None:
    """Refuse a disk that is too small for the environment."""
    free = shutil.disk_usage(ROOT).free / 1e9
    if free < SPACE_GB and not VENV.exists():
        raise SetupError(f"The set-up needs about {SPACE_GB} GB, and {free:.1f} GB are free at {ROOT}.")


def create_venv() -> None:
    """Make .venv, or repair one that has no pip; nothing in it is deleted."""
    if (
        PYTHON.exists()
        and subprocess.run([PYTHON, "-m", "pip", "--version"], capture_output=True).returncode == 0
    ):
        return
    print(f"Making {VENV} …", flush=True)
    made = subprocess.run(
        [sys.executable, "-m", "venv", VENV], capture_output=True, text=True, encoding="utf-8"
    )
    if made.returncode:
        raise SetupError(f"{VENV} could not be made: {(made.stdout + made.stderr).strip()[-500:]}")


def pinned(name: str) -> str:
    """The version that constraints.txt gives a package."""
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    found = re.search(rf"^{name}==(.+)$", text, re.M)
    if not found:
        raise SetupError(f"constraints.txt does not name {name}.")
    return found.group(1).strip()


def installed(name: str) -> str:
    """The version of a package in .venv; empty where it is not there."""
    code = f"from importlib.metadata import version; print(version('{name}'))"
    if not PYTHON.exists():
        return ""
    return subprocess.run(
        [PYTHON, "-c", code], capture_output=True, text=True, encoding="utf-8"
    ).stdout.strip()


def wheel_folder(version: str) -> Path:
    """Where a compiled wheel is kept, by version, processor and options: it runs on this processor only."""
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "empathy-edge"
    cache = Path(os.environ.get("EMPATHY_EDGE_CACHE", default)).expanduser()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        processor = platform.processor()
    options = [DEFINITIONS[0], ONLY_LIBRARY.read_text(encoding="utf-8"), os.environ.get("CMAKE_ARGS", "")]
    parts = [version, platform.machine(), processor, *options]
    return cache / "wheels" / hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def cached_wheel(version: str) -> Path | None:
    """The wheel that an earlier set-up compiled on this machine."""
    return next(iter(wheel_folder(version).glob("llama_cpp_python-*.whl")), None)


def find_wheel(version: str) -> Path | None:
    """A wheel that was compiled here before, or one that pip finds."""
    if wheel := cached_wheel(version):
        print(f"llama.cpp: compiled by an earlier set-up, {wheel}")
        return wheel
    print(f"Looking for a wheel of {NAME} {version} …", flush=True)
    folder = VENV / "wheels"
    command = ["download", "--no-deps", "--only-binary", NAME, "--dest", folder, f"{NAME}=={version}"]
    if pip(*command).returncode == 0:
        print("llama.cpp: taken from a wheel that pip found")
        return next(folder.glob(f"llama_cpp_python-{version}*.whl"))
    return None


def download_source(version: str) -> Path:
    """llama-cpp-python's source, unpacked where a compilation that was interrupted finds it again."""
    folder = BUILD / f"llama_cpp_python-{version}"
    if (folder / "pyproject.toml").is_file():
        return folder
    print(f"There is none: downloading the source of {NAME} {version} …", flush=True)
    command = ["download", "--no-deps", "--no-binary", NAME, "--dest", BUILD, f"{NAME}=={version}"]
    done = pip(*command)
    if done.returncode:
        last = [line for line in done.stderr.splitlines() if line.startswith("ERROR")][-1:]
        raise SetupError(
            f"llama-cpp-python {version} could not be downloaded ({' '.join(last)[:200]}).\n"
            "  Go online and run the same command again, or point pip at a mirror (PIP_INDEX_URL) "
            "or at a folder of\n  wheels (PIP_FIND_LINKS)."
        )
    with tarfile.open(next(BUILD.glob(f"*-{version}.tar.gz"))) as archive:
        safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # Python 3.11.4 has it
        archive.extractall(BUILD / "unpacked", **safe)
    (BUILD / "unpacked" / folder.name).rename(folder)
    return folder


def pip(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the environment's pip, with one retry at most."""
    options = ["--disable-pip-version-check", *map(str, arguments), "--retries", "1"]
    command = [str(PYTHON), "-m", "pip", *options]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8")


def say_which_torch() -> None:
    """On Linux without an NVIDIA GPU, name PyTorch's CPU build: pip's default one comes with CUDA."""
    linux = platform.system() == "Linux" and platform.machine() == "x86_64"
    other_index = os.environ.get("PIP_EXTRA_INDEX_URL") or os.environ.get("PIP_INDEX_URL")
    if linux and not other_index and not shutil.which("nvidia-smi") and not installed("torch"):
        print(
            "No NVIDIA GPU here. PyTorch's CPU build saves about 3 GB; "
            "it is in an index of its own:\n"
            f"  make setup PIP_EXTRA_INDEX_URL={TORCH_FOR_CPU}"
        )


def install(version: str, compiled: bool, wheel: Path | None, source: Path | None) -> None:
    """Compile llama.cpp and install the other packages at the same time; then what needs llama.cpp."""
    began = time.monotonic()
    constraints = ["-c", ROOT / "constraints.txt"]
    LOG.write_text("", encoding="utf-8")
    jobs = [Job("packages", ["install", *constraints, "-e", f"{ROOT}[{REST}]"])]
    if source:
        minutes = "about 3 minutes on 2 cores; kept for the next time"
        print(f"Compiling llama.cpp ({minutes}) and installing the packages. Log: {LOG}", flush=True)
        target = wheel_folder(version)
        settings = [f"build-dir={BUILD / 'objects'}", *(f"cmake.define.{item}" for item in DEFINITIONS)]
        options = [f"--config-settings={item}" for item in settings]
        build = ["wheel", "-v", "--no-deps", "--wheel-dir", target, *options, source]
        cores = os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL", str(os.cpu_count() or 2))
        jobs.append(Job("llama.cpp", build, {"CMAKE_BUILD_PARALLEL_LEVEL": cores}))
    else:
        print(f"Installing the packages. Log: {LOG}", flush=True)
    watch(jobs, began)
    print("Installing llama.cpp and what needs it: the last part.", flush=True)
    llama = [wheel or cached_wheel(version)] if not compiled else []
    watch([Job("last part", ["install", *constraints, *llama, "-e", f"{ROOT}[all,dev]"])], began)


class Job:
    """A running pip command, whose output is read while it runs and kept in the log.

    Attributes:
        name: what is shown.
        doing: what pip does at the moment, in a few words.
        share: how much of it is done, 0 to 1; 0 if not known.
        last: the last lines of its output.
        began: when it was started (`time.monotonic`).
    """

    def __init__(self, name: str, arguments: list[object], environment: dict[str, str] | None = None) -> None:
        command = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
        self.name = name
        self.doing = "starting"
        self.share = 0.0
        self.last: list[str] = []
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        with open(LOG, "a", encoding="utf-8") as log:
            for line in self.process.stdout or ():
                log.write(line)
                log.flush()
                self.last = [*self.last[-40:], line.rstrip()]
                self._read_progress(line.strip())

    def _read_progress(self, line: str) -> None:
        """Read ninja's `[12/88] … file.cpp`, make's `[ 45%] Building …`, and pip's own messages."""
        if step := re.match(r"\[(\d+)/(\d+)\]", line):
            self.share = int(step.group(1)) / int(step.group(2))
            self.doing = f"{step.group(1)} of {step.group(2)} files{last_file(line)}"
        elif step := re.match(r"\[\s*(\d+)%\] (.*)", line):
            self.share = int(step.group(1)) / 100
            self.doing = f"{step.group(1)} %, {Path(step.group(2).split()[-1]).name}"
        elif step := re.match(r"(Collecting|Downloading|Building wheel for|Using cached) (\S+)", line):
            self.doing = f"{step.group(1).lower()} {Path(step.group(2)).name}"
        elif line.startswith("Installing collected packages"):
            self.doing = f"installing {line.count(',') + 1} packages (the longest part of it)"

    def state(self, seconds: float) -> str:
        """The job's part of a progress line, `seconds` after its start."""
        left = f", about {clock(seconds / self.share * (1 - self.share))} left" if self.share > 0.05 else ""
        return f"{self.name}: {'done' if self.process.poll() == 0 else self.doing + left}"


def last_file(line: str) -> str:
    """`, NAME` of the last file in a line of ninja; empty where it names none, as in `: && :`."""
    names = [Path(word).name for word in line.split()]
    files = [name for name in names if re.fullmatch(r"[\w+-][\w.+-]*\.\w+", name)]
    return f", {files[-1]}" if files else ""


def watch(jobs: list[Job], began: float) -> None:
    """Print a line every few seconds until all jobs are done; if one fails, the others are stopped.

    Args:
        jobs: they run already.
        began: when the installation began (`time.monotonic`); the lines say how long ago that was.

    Raises:
        SetupError: a job failed; the message has the lines that say why.
    """
    try:
        while any(job.process.poll() is None for job in jobs):
            time.sleep(SECONDS_BETWEEN_LINES)
            now = time.monotonic()
            states = "; ".join(job.state(now - job.began) for job in jobs)
            print(f"  {clock(now - began):>10}  {states}", flush=True)
            if any(job.process.poll() for job in jobs):
                break
        for job in jobs:
            if job.process.poll():
                job.reader.join(5)
                raise SetupError(explain(job))
    finally:
        for job in jobs:
            if job.process.poll() is None:
                job.process.terminate()
                job.process.wait()


def explain(job: Job) -> str:
    """What went wrong, from the last lines of its output."""
    errors = [line for line in job.last if re.search(r"error|ERROR|No space|fatal", line)]
    reasons = (errors or job.last)[-4:]
    text = "\n  ".join(line[:200] for line in reasons)
    advice = "Run the same command again to go on"
    if "No space left" in text:
        advice = "Free some space and run the same command again"
    elif re.search(r"resolv|connect|Connection|timed out|No matching distribution", text):
        advice = (
            "Is the machine online? If so, run the same command again; "
            "else point pip at a mirror or a folder of wheels"
        )
    return f"{job.name} could not be installed:\n  {text}\n  {advice}. The whole log: {LOG}"


def clock(seconds: float) -> str:
    """45 s, 3 min 20 s."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


if __name__ == "__main__":
    sys.exit(main())
