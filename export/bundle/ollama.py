"""A Modelfile, with which Ollama gives the model exactly the prompt that it was trained on.

Without one, `ollama create` compares the model's chat template with a list of its own and takes the nearest
(fewer than 100 changed characters): SmolLM2's becomes ChatML, and its default system turn is lost. A
TEMPLATE in the Modelfile takes the place of either. Ollama's built-in renderers (RENDERER) are not used: they
are Go code inside of Ollama, which nothing here could compare with the model's template.

Sources, all of ollama/ollama: template/template.go, server/create.go and images.go, parser/parser.go,
llm/llama_server.go.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.export.bundle.app_settings import AppSettings
from empathy_edge.export.bundle.go_template import go_template
from empathy_edge.formats.prompt_shape import START, NoShape, PromptShape, shape_of
from empathy_edge.formats.vocabulary import Vocabulary

MODELFILE = "Modelfile"

MAX_BYTES = 1_000_000
"""A Modelfile holds texts; more is no Modelfile."""

INSTRUCTIONS = (
    *("adapter", "draft", "from", "license", "message", "parameter", "parser", "renderer", "requires"),
    *("system", "template"),
)
"""What a Modelfile may say, as Ollama's parser knows it."""

_FILES = ("adapter", "draft", "from")
"""The instructions that name a file."""


def modelfile(settings: AppSettings, vocabulary: Vocabulary) -> str:
    """The Modelfile of a GGUF artifact.

    Args:
        settings: the artifact's files, template, system prompt and limits.
        vocabulary: of the GGUF file.

    Raises:
        EmpathyEdgeError: the chat template cannot be written as a Go template; says why.
    """
    lines = [f"FROM ./{settings.model_file}"]
    if settings.adapter:
        lines.append(f"ADAPTER ./{settings.adapter}")
    lines.append(f'TEMPLATE """{go_template(ollama_shape(settings.template, vocabulary))}"""')
    if settings.system:
        lines.append(f'SYSTEM """{_quotable(settings.system)}"""')
    lines += [f'PARAMETER stop "{stop}"' for stop in settings.stop]
    lines += [
        f"PARAMETER num_ctx {settings.context}",
        f"PARAMETER num_predict {settings.max_new_tokens}",
        f"PARAMETER temperature {settings.temperature:g}",
        "PARAMETER repeat_penalty 1",
    ]
    return "\n".join(lines) + "\n"


def ollama_shape(template: str, vocabulary: Vocabulary) -> PromptShape:
    """The shape of the text that Ollama must make: without the token that llama.cpp puts before it.

    Raises:
        EmpathyEdgeError: Ollama cannot make the prompt of training.
    """
    try:
        shape = shape_of(template, bos=vocabulary.bos, eos=vocabulary.eos)
    except NoShape as error:
        raise EmpathyEdgeError(
            f"For Ollama the model's chat template would have to be a Go template, but {error}.\n"
            "  Ollama would give the model another prompt than that of training. "
            "llama-server (--for llama-cpp) renders the template itself."
        ) from None
    if not vocabulary.adds_bos:
        return shape
    gaps = dict(shape.gaps)
    for pair, text in gaps.items():
        if pair[0] == START:
            if not text.startswith(vocabulary.bos):
                raise EmpathyEdgeError(
                    f"Ollama would put {vocabulary.bos} before every prompt, since the GGUF file says so; "
                    "the chat template does not write it, so the prompt would not be that of training.\n"
                    "  Export again with a tokenizer that does not add it, or a template that begins with it."
                )
            gaps[pair] = text.removeprefix(vocabulary.bos)
    return replace(shape, gaps=gaps)


def _quotable(text: str) -> str:
    """A text as it stands between three quotation marks: Ollama's parser knows no escapes.

    Raises:
        EmpathyEdgeError: the parser would change it.
    """
    lost = [character for character in text if not (character.isprintable() or character in "\n\t")]
    if lost or '"""' in text:
        what = f"the character {lost[0]!r}" if lost else "three quotation marks"
        raise EmpathyEdgeError(f"Ollama's Modelfile cannot hold the system prompt: it contains {what}.")
    return text


def check_modelfile(file: Path) -> None:
    """Check that a Modelfile is one, and takes its model from the folder that it is in.

    Raises:
        EmpathyEdgeError: names the file and the fault.
    """
    if file.stat().st_size > MAX_BYTES:
        raise EmpathyEdgeError(f"{file}: {file.stat().st_size / 1e6:.0f} MB is no Modelfile's size.")
    try:
        instructions = list(_instructions(file.read_text(encoding="utf-8-sig")))
    except (UnicodeDecodeError, ValueError) as error:
        raise EmpathyEdgeError(f"{file}: is no Modelfile ({error}).") from None
    if not any(name == "from" for name, _ in instructions):
        raise EmpathyEdgeError(f"{file}: has no FROM line.")
    for name, value in instructions:
        if name in _FILES and not _is_beside(file, value):
            raise EmpathyEdgeError(
                f"{file}: {name.upper()} names {value!r}, which is no GGUF file of this folder."
            )


def _is_beside(file: Path, value: str) -> bool:
    """Whether a value names a GGUF file in the same folder; without ./ it could be one of a registry."""
    name = value.removeprefix("./")
    files = {item.name for item in file.parent.iterdir() if item.is_file()}
    return value.startswith("./") and name.endswith(".gguf") and name in files


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    """Each instruction of a Modelfile and its value, read as Ollama's parser does it.

    Raises:
        ValueError: a line is no instruction, or a quotation does not end.
    """
    lines = iter(re.split(r"[\r\n]", text))
    for line in lines:
        line = line.strip(" \t")
        if not line or line.startswith("#"):
            continue
        name, value = _name_and_value(line)
        mark = next((mark for mark in ('"""', '"') if value.startswith(mark)), "")
        while mark and not (len(value) >= 2 * len(mark) and value.rstrip(" \t").endswith(mark)):
            rest = next(lines, None)
            if rest is None:
                raise ValueError(f"the quotation after {name.upper()} does not end")
            value += f"\n{rest}"
        value = value.rstrip(" \t")
        yield name, value[len(mark) : len(value) - len(mark)]


def _name_and_value(line: str) -> Sequence[str]:
    name, _, value = re.sub(r"^(\w+)[ \t]+", r"\1 ", line).partition(" ")
    if name.lower() not in INSTRUCTIONS or not value:
        raise ValueError(f"{line[:40]!r} is no instruction with a value")
    return name.lower(), value
