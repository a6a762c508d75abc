"""What apps make of a GGUF file's chat template: other prompts than those of training, and how to avoid them.

ggufdoctor (PyPI, the extra `apps`) renders the template by jinja2 and by llama.cpp's own engine, and knows
which templates Ollama replaces by its own. Its findings are warnings: the file is right, an app may not be.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from importlib import metadata, util
from pathlib import Path
from typing import Any

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.chat_format import read_template, render, turn_end
from empathy_edge.formats.vocabulary import Vocabulary, vocabulary_of_gguf
from empathy_edge.system.cache import cache_folder
from empathy_edge.system.files import read_json, write_json
from empathy_edge.system.processes import run_captured

PLAIN_CHATS = frozenset({"user_only", "system_user", "multiturn"})
"""ggufdoctor's conversations of the kind in training; the others have tools, thoughts or lists of parts."""

_RUN = "import sys; from ggufdoctor.cli import main; sys.exit(main())"

SECONDS = 120
"""ggufdoctor renders the template for ten conversations in a sandbox without a bound on its time."""

MEMORY_BYTES = 4 * 2**30
"""What ggufdoctor may take for itself; without a bound a template could take all that there is."""

_BOUNDED = """\
try:
    import resource
    # Not RLIMIT_AS: its WebAssembly reserves far more addresses than it uses.
    resource.setrlimit(resource.RLIMIT_DATA, ({bytes}, {bytes}))
except (ImportError, AttributeError, ValueError, OSError):
    pass  # Windows and macOS: there only the time is bounded
{run}
"""

_OTHER_TEMPLATE = "export with another template: --template NAME"

FIXES = {
    # ggufdoctor's check: what is said of it, and what to do
    "S001": ("the file has no chat template", _OTHER_TEMPLATE),
    "S002": ("jinja2 cannot read the chat template", _OTHER_TEMPLATE),
    "S003": ("the chat template fails on an ordinary conversation", _OTHER_TEMPLATE),
    "S004": ("the chat template writes special tokens that the vocabulary lacks{missing}", _OTHER_TEMPLATE),
    "S005": (
        "the chat template never writes the end token {eos}; an app that stops only there does not stop",
        "give the app the stop text {stop} (bundles name it)",
    ),
    "S006": (
        "the chat template writes {bos}, and the tokenizer adds it: twice in an app that renders the "
        "template itself",
        "there, tokenize without special tokens, or take a bundle's files",
    ),
    "S007": ("the chat template never opens the assistant's turn", _OTHER_TEMPLATE),
    "S008": ("the chat template writes nothing for an ordinary conversation", _OTHER_TEMPLATE),
    "X001": ("llama.cpp renders the chat template to another text than jinja2", _OTHER_TEMPLATE),
    "X002": ("only one of jinja2 and llama.cpp can render the chat template", _OTHER_TEMPLATE),
    "X003": (
        "Ollama would take its own template `{ollama}` in place of the model's: other prompts{lost}",
        "`export bundle --for ollama`, and create the model from its Modelfile",
    ),
    "X004": ("llama.cpp renders the chat template with other white space than jinja2", _OTHER_TEMPLATE),
}
"""Findings about prompts as they are in training; others (tools, upstream models) are left out."""


def app_warnings(file: Path) -> list[str]:
    """Warnings of one line each, with the fix, for a GGUF file of an artifact's folder; none if all is well.

    Without ggufdoctor only what is found here.
    """
    try:
        template = read_template(file.parent)
        vocabulary = vocabulary_of_gguf(file)
        lines = _bos_warnings(template, vocabulary)
        stop = turn_end(template, vocabulary.eos)
        found = _findings(file, template, vocabulary)
    except EmpathyEdgeError as error:
        return [f"what apps make of the chat template is not known: {str(error).splitlines()[0]}"]
    of_check: dict[str, str] = {}
    for finding in found:
        line = _line(finding, vocabulary, stop)
        if line:
            of_check.setdefault(finding["id"], line)  # once, not for each conversation
    return [*lines, *of_check.values()]


def has_ggufdoctor() -> bool:
    """Whether ggufdoctor is installed."""
    return util.find_spec("ggufdoctor") is not None


def _bos_warnings(template: str, vocabulary: Vocabulary) -> list[str]:
    """Whether llama.cpp would put a token before the prompt that training did not see there."""
    if not vocabulary.adds_bos:
        return []
    prompt = render(template, [{"role": "user", "content": "a"}], bos=vocabulary.bos, eos=vocabulary.eos)
    if prompt.startswith(vocabulary.bos):
        return []
    return [
        f"the chat template does not write {vocabulary.bos}, but llama.cpp's programs, Ollama and LM Studio "
        "put it before every prompt: not the prompt of training; train and export with a template that "
        "begins with {{ bos_token }}"
    ]


def _findings(file: Path, template: str, vocabulary: Vocabulary) -> list[dict[str, Any]]:
    """What ggufdoctor finds; kept in the cache: all artifacts of a checkpoint have the same template."""
    if not has_ggufdoctor():
        return []
    version = metadata.version("ggufdoctor")
    tokens = hashlib.sha256("\0".join(sorted(vocabulary.tokens)).encode()).hexdigest()
    known = json.dumps([version, template, vocabulary.bos, vocabulary.eos, vocabulary.adds_bos, tokens])
    kept = cache_folder() / "app-warnings" / f"{hashlib.sha256(known.encode()).hexdigest()[:32]}.json"
    if str(kept) in _ENDLESS:
        raise _did_not_end()
    if not kept.is_file():
        with tempfile.TemporaryDirectory(prefix="ggufdoctor-") as scratch:
            try:
                found = _run_ggufdoctor(file, Path(scratch))
            except TimeoutError:
                _ENDLESS.add(str(kept))
                raise _did_not_end() from None
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_json(kept, found)
    kept_findings: list[dict[str, Any]] = read_json(kept)
    return kept_findings


_ENDLESS: set[str] = set()
"""Templates with which ggufdoctor did not end in this process: all artifacts of an export have the same."""


def _did_not_end() -> EmpathyEdgeError:
    return EmpathyEdgeError(f"ggufdoctor: it did not end within {SECONDS} s; the template may never end.")


def _run_ggufdoctor(file: Path, scratch: Path) -> list[dict[str, Any]]:
    """The findings in ggufdoctor's report, which has a version of its own: 1.

    Raises:
        EmpathyEdgeError: it wrote none.
        TimeoutError: it did not end in time.
    """
    report = scratch / "report.json"
    nothing_ignored = ["--ignore-file", str(scratch / "none")]
    options = ["--fail-on", "never", "--json", str(report), *nothing_ignored]
    code = _BOUNDED.format(bytes=MEMORY_BYTES, run=_RUN)
    try:
        command = [sys.executable, "-P", "-c", code, str(file.resolve()), *options]
        done = run_captured(command, timeout_s=SECONDS)
    except EmpathyEdgeError:
        raise TimeoutError from None
    if not report.is_file():
        said = (done.stderr.strip().splitlines() or ["it wrote no report"])[-1]
        raise EmpathyEdgeError(f"ggufdoctor: {said}")
    found: list[dict[str, Any]] = read_json(report).get("findings", [])
    return found


def _line(finding: dict[str, Any], vocabulary: Vocabulary, stop: str) -> str | None:
    """The warning of a finding; None where it says nothing of prompts as they are in training."""
    identity, evidence = finding.get("id"), finding.get("evidence") or {}
    chats = {*evidence.get("fixtures", ()), *([finding["fixture"]] if finding.get("fixture") else ())}
    is_note = finding.get("severity") == "info" and identity != "S006"
    is_elsewhere = bool(chats) and not chats & PLAIN_CHATS
    if identity not in FIXES or is_note or is_elsewhere or _is_first_token(evidence, vocabulary):
        return None
    what, fix = FIXES[identity]
    values = {
        "bos": vocabulary.bos,
        "eos": vocabulary.eos,
        "lost": _lost(evidence),
        "missing": f" ({', '.join(map(str, evidence.get('missing', ())))})",
        "ollama": str(evidence.get("ollama_template")),
        "stop": stop,
    }
    for name, value in values.items():
        what, fix = what.replace(f"{{{name}}}", value), fix.replace(f"{{{name}}}", value)
    return f"{what}; {fix}"


def _is_first_token(evidence: dict[str, Any], vocabulary: Vocabulary) -> bool:
    """Whether two prompts differ by nothing but a first token that llama.cpp adds to one of them."""
    own, other = _changed(evidence, "-"), _changed(evidence, "+")
    if not (own and vocabulary.adds_bos and own[0].startswith(vocabulary.bos)):
        return False
    return [own[0].removeprefix(vocabulary.bos), *own[1:]] == other


def _changed(evidence: dict[str, Any], sign: str) -> list[str]:
    """The lines of a difference that only the model's own prompt has (-), or only the other one (+)."""
    return [line[1:] for line in str(evidence.get("diff", "")).splitlines()[2:] if line[:1] == sign]


def _lost(evidence: dict[str, Any]) -> str:
    """A line of the model's own prompt that Ollama's lacks, mostly of the default system turn."""
    lines = [line.strip() for line in _changed(evidence, "-")]
    said = [line for line in lines if line and not line.startswith("<")] or lines
    return f" (without “{said[0][:60]}”)" if said else ""
