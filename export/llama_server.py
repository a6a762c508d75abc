"""Any llama.cpp server, started on this machine's loopback address with one GGUF, and ended after it."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from empathy_edge.errors import EmpathyEdgeError, PrerequisiteError
from empathy_edge.formats.chat_format import Message

HOST = "127.0.0.1"
SECONDS_TO_LOAD = 300
SECONDS_TO_ANSWER = 300
SECONDS_TO_END = 10
TRIES = 3
"""A free port may be taken by another program before the server has it."""

XLLAMACPP = "xllamacpp"
"""The package whose server is taken where there is no llama-server."""

_PORT_TAKEN = re.compile(r"(?i)address already in use|could ?n.t bind|failed to bind|bind\(\) failed")
_UNKNOWN_OPTION = re.compile(r"(?i)invalid argument|unknown argument|unrecognized arguments")


@dataclass(frozen=True)
class ServedModel:
    """What a server is given.

    Attributes:
        file: a GGUF.
        lora: a LoRA adapter beside it, or None.
        template: the file of another chat template than the GGUF's, or None.
    """

    file: Path
    lora: Path | None = None
    template: Path | None = None


@dataclass(frozen=True)
class ServerReply:
    """A greedy reply.

    Attributes:
        token_ids: the new tokens, without the stop token.
        stopped: whether it ended at a stop token.
        likeliest: for each new token, the likeliest tokens and their log-probabilities in nats.
    """

    token_ids: list[int]
    stopped: bool
    likeliest: list[dict[int, float]]


def server_command(server: Path | None) -> list[str]:
    """The program that is started: the one given, a llama-server on the PATH, or the package xllamacpp's.

    Raises:
        PrerequisiteError: there is none, or the file given is not a program.
    """
    if server is not None:
        found = shutil.which(server) or (shutil.which(server.resolve()) if server.is_file() else None)
        if found is None:
            raise PrerequisiteError(
                f"{server}: there is no program of this name that can be run.",
                "Give the path of the llama-server that your app ships, and make it executable (chmod +x).",
            )
        return [found]
    on_path = shutil.which("llama-server")
    if on_path is not None:
        return [on_path]
    if find_spec(XLLAMACPP) is None:
        raise PrerequisiteError(
            "there is no llama-server on the PATH, and the package 'xllamacpp', which has one, is missing.",
            "Give one with --server PATH, or: pip install 'empathy-edge[second-engine]'",
        )
    return [sys.executable, "-P", "-m", "empathy_edge.export.xllamacpp_server"]


class LlamaServer:
    """A running server. `name` says which build it is."""

    def __init__(self, program: str, port: int) -> None:
        self.program = program
        self._base = f"http://{HOST}:{port}"
        # No proxy of the environment: the address is this machine's own.
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
        self.name = program

    def is_ready(self) -> bool:
        """Whether the model is loaded."""
        try:
            with self._open(f"{self._base}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def read_build(self) -> None:
        """Name the build, as the server says it; some packages leave it out."""
        build = str(self._ask("/props").get("build_info", ""))
        if build and "unknown" not in build:
            self.name = f"llama.cpp {build} ({self.program})"
        elif self.program == XLLAMACPP:
            self.name = f"{XLLAMACPP} {version(XLLAMACPP)}"

    def prompt(self, messages: list[Message]) -> str:
        """The text of a conversation, by the server's own rendering of the chat template."""
        return str(self._ask("/apply-template", {"messages": messages})["prompt"])

    def tokens(self, text: str, *, as_prompt: bool) -> list[int]:
        """Token ids of a text; `as_prompt` lets the server add what it adds to prompts (BOS)."""
        question = {"content": text, "add_special": as_prompt, "parse_special": True}
        return [int(token) for token in self._ask("/tokenize", question)["tokens"]]

    def greedy(self, prompt: Sequence[int], new_tokens: int, top: int) -> ServerReply:
        """The greedy reply to a prompt of token ids, with the `top` likeliest tokens at each place."""
        question = {
            "prompt": list(prompt),
            "n_predict": new_tokens,
            "temperature": 0,
            "n_probs": top,
            "return_tokens": True,
            "cache_prompt": False,
        }
        answer = self._ask("/completion", question)
        places = answer.get("completion_probabilities", [])
        likeliest = [
            {int(item["id"]): float(item["logprob"]) for item in place["top_logprobs"]} for place in places
        ]
        ids = [int(token) for token in answer["tokens"]]
        return ServerReply(ids, answer.get("stop_type") == "eos", likeliest)

    def _ask(self, path: str, question: dict[str, Any] | None = None) -> dict[str, Any]:
        data = None if question is None else json.dumps(question).encode()
        request = urllib.request.Request(self._base + path, data, {"Content-Type": "application/json"})
        try:
            with self._open(request, timeout=SECONDS_TO_ANSWER) as answer:
                found = json.loads(answer.read())
        except urllib.error.HTTPError as error:
            said = error.read()[:300].decode("utf-8", "replace")
            raise EmpathyEdgeError(
                f"{self.program}: {path} answered {error.code}: {said}\n"
                "  The server may be too old: /apply-template came with b4599 (January 2025)."
            ) from None
        except (OSError, ValueError) as error:
            raise EmpathyEdgeError(f"{self.program}: no answer to {path}: {error}") from None
        if not isinstance(found, dict):
            raise EmpathyEdgeError(f"{self.program}: {path} did not answer with a JSON object.")
        return found


@contextlib.contextmanager
def serve(command: list[str], model: ServedModel, *, threads: int, context: int) -> Iterator[LlamaServer]:
    """Start a server, wait until it has loaded the model, and end it with the block.

    Raises:
        EmpathyEdgeError: it ends before it is ready; says what it printed last.
    """
    options = ["-m", str(model.file.resolve()), "--host", HOST, "-c", str(context), "-t", str(threads)]
    options += ["-np", "1", "-ngl", "0", "--jinja"]
    if model.lora:
        options += ["--lora", str(model.lora.resolve())]
    if model.template:
        options += ["--chat-template-file", str(model.template.resolve())]
    program = XLLAMACPP if "-m" in command else Path(command[0]).name
    for tries_left in reversed(range(TRIES)):
        port = _free_port()
        with tempfile.TemporaryFile() as log:
            guard = [sys.executable, "-P", "-m", "empathy_edge.export.server_guard"]
            process = subprocess.Popen(
                [*guard, *command, *options, "--port", str(port)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            try:
                server = LlamaServer(program, port)
                if _is_ready(server, process):
                    server.read_build()
                    yield server
                    return
            finally:
                _end(process)
            said = _last_lines(log)
        if not (_PORT_TAKEN.search(said) and tries_left):
            raise EmpathyEdgeError(_why(program, model, process, said))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _is_ready(server: LlamaServer, process: subprocess.Popen[bytes]) -> bool:
    """Wait for the server; False where it ended or takes too long."""
    until = time.monotonic() + SECONDS_TO_LOAD
    while process.poll() is None and time.monotonic() < until:
        # Asked first whether it still runs: another program may have taken the port.
        if server.is_ready() and process.poll() is None:
            return True
        time.sleep(0.1)
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """Close the guard's pipe, upon which it ends the server."""
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.close()
    try:
        process.wait(SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _last_lines(log: Any) -> str:
    log.seek(0)
    lines = log.read().decode("utf-8", "replace").strip().splitlines()
    return "\n".join(line[:200] for line in lines[-200:])


def _why(program: str, model: ServedModel, process: subprocess.Popen[bytes], said: str) -> str:
    """Why a server did not come up, in words."""
    lines = said.splitlines()
    telling = [line for line in lines if re.search(r"(?i)error|fail|invalid|unknown|assert", line)]
    last = " / ".join((telling or lines)[-2:]) or "it printed nothing"
    if _UNKNOWN_OPTION.search(said):
        return f"{program} does not take the options of llama-server: {last}"
    code = process.returncode
    how = f"crashed (signal {code - 128})" if code > 128 else f"ended with exit code {code}"
    return f"{program} {how} before it had loaded {model.file}: {last}"
