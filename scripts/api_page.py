"""Print `docs/api.md`, made from the signatures and docstrings of the Python API; a test compares the two."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Iterator

from pydantic import BaseModel
from pydantic.fields import FieldInfo

import empathy_edge
from empathy_edge import api

WIDTH = 100

EXAMPLE = """\
from empathy_edge import chat, check, distill, export, finetune

rows = distill("sample", "rows", reference="first-draft", models=["editor"])
tuned = finetune(rows, "tuned", base="smollm2-135m")
made = export(tuned.base, "exported", adapters=tuned.adapters, to=["gguf-f16", "gguf-q8_0"])
print(check(made, reference=made.checkpoint))
with chat(made["gguf-q8_0"]) as talk:
    print(talk.say("I lost my job today."))
"""
"""The whole path in eight lines; a test runs it."""

HEAD = """\
# Python API

Made by `make docs` from signatures and docstrings; a test fails when it is stale. The whole path, from \
dialogues to a reply:

```python
{example}```

A [notebook](examples/quickstart.ipynb) does the same with little data, in a few minutes.

- All names come from `empathy_edge`. Importing them loads no library; what a function needs is \
imported when it is called.
- The functions do what [the commands](commands.md) of the same names do, with the same files: a \
folder that a command made can be given to a function, and the other way round.
- Paths are `str` or `Path`. Results stand for their folders: `finetune` takes what `distill` \
returned.
- Messages and progress go to stderr, in a notebook below the cell, where a task's line is written \
over. `set_quiet()` turns them off. Nothing is printed on stdout: results are returned. In a \
notebook they show themselves as tables.
- Errors are `EmpathyEdgeError`, whose message says what to do, and its subclasses \
`PrerequisiteError` (a package, a model, memory or disk space is missing) and `VerdictFailed`. \
Settings with a wrong value raise pydantic's `ValidationError` where they are made.
- `empathy_edge.export` is also a package (as `distill`, `finetune`, `chat` and `bench` are): \
`from empathy_edge.export import merged` works as before.
"""

FUNCTIONS = (
    api.distill, api.finetune, api.export, api.check, api.chat, api.bench, api.set_quiet,
)  # fmt: skip
RESULTS = (
    api.DistillResult, api.FinetuneResult, api.ExportResult, api.ExportedArtifact, api.CheckResult,
    api.Chat, api.ChatReply, api.BenchResult,
)  # fmt: skip
SETTINGS = (
    api.DistillSettings, api.TeacherSettings, api.TrainSettings, api.DpoSettings, api.ExportSettings,
    api.ReplySettings, api.CheckSettings, api.ApiSettings, api.ChatSettings, api.BenchSettings,
)  # fmt: skip

SECTION = re.compile(r"^(Args|Attributes|Returns|Raises):$", re.MULTILINE)
ITEM = re.compile(r"^(\w+): ", re.MULTILINE)


def api_markdown() -> str:
    """The page."""
    parts = [_wrapped_lines(HEAD.format(example=EXAMPLE)), "## Functions\n"]
    parts += [_function(function) for function in FUNCTIONS]
    parts.append("## Results\n")
    parts += [_result(kind) for kind in RESULTS]
    parts.append("## Settings\n")
    parts.append(_wrapped("Fields with their defaults. Each field is also an option of the commands.") + "\n")
    parts += [_settings(kind) for kind in SETTINGS]
    return "\n".join(parts)


def names_on_the_page() -> set[str]:
    """What the page describes."""
    return {item.__name__ for item in (*FUNCTIONS, *RESULTS, *SETTINGS)}


def _function(function: Callable[..., object]) -> str:
    return f"### {function.__name__}\n\n```python\n{_signature(function)}\n```\n\n{_described(function)}\n"


def _result(kind: type) -> str:
    """A class of results: what its docstring says, then its public properties and methods."""
    lines = [f"### {kind.__name__}\n", _described(kind)]
    members = [(name, item) for name, item in vars(kind).items() if not name.startswith("_")]
    for name, item in members:
        if isinstance(item, property):
            lines.append(_bullet(f"`{name}`", _first_paragraph(item)))
    for name, item in members:
        if inspect.isfunction(item):
            lines.append(_bullet(f"`{name}({_parameters(item)})`", _first_paragraph(item)))
    return "\n".join(lines) + "\n"


def _settings(kind: type[BaseModel]) -> str:
    lines = [f"### {kind.__name__}\n", _wrapped(_prose(kind)) + "\n"]
    for name, info in kind.model_fields.items():
        lines.append(_bullet(f"`{name}`", f"{info.description} {_default(info)}"))
    return "\n".join(lines) + "\n"


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "Must be given."
    value = info.get_default(call_default_factory=True)
    return f"Default: `{value!r}`."


def _signature(function: Callable[..., object]) -> str:
    """The signature over several lines, as it is in the source."""
    signature = inspect.signature(function)
    lines = [f"def {function.__name__}("]
    is_keyword_only = False
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not is_keyword_only:
            lines.append("    *,")
            is_keyword_only = True
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        lines.append(f"    {parameter.name}: {_annotation(parameter.annotation)}{default},")
    return "\n".join([*lines, f") -> {_annotation(signature.return_annotation)}"])


def _annotation(annotation: object) -> str:
    """As a user would write it; annotations of these modules are texts."""
    known = {"AnyPath": "str | Path", "Method": '"rated" | "direct" | "improve-human" | "improve-llm"'}
    known["Device"] = '"auto" | "cpu" | "cuda" | "mps"'
    text = re.sub(r"\b(AnyPath|Method|Device)\b", lambda found: known[found[1]], str(annotation))
    return re.sub(r"Literal\[([^\]]*)\]", lambda found: found[1].replace(", ", " | "), text)


def _parameters(function: Callable[..., object]) -> str:
    names = [name for name in inspect.signature(function).parameters if name != "self"]
    return ", ".join(names)


def _described(item: Callable[..., object]) -> str:
    """A docstring as Markdown: its paragraphs, then its sections as lists."""
    first, *rest = SECTION.split(inspect.getdoc(item) or "")
    parts = [_paragraphs(first)]
    for name, body in zip(rest[::2], rest[1::2], strict=True):
        if name not in ("Args", "Attributes"):
            parts.append(f"{name}:\n")
        parts.append("\n".join(_bullets(name, body)) + "\n")
    return "\n".join(parts).rstrip("\n") + "\n"


def _bullets(section: str, body: str) -> Iterator[str]:
    _, *items = ITEM.split(textwrap.dedent(body.strip("\n")))
    for name, text in zip(items[::2], items[1::2], strict=True):
        yield _bullet(f"`{name}`" if section != "Returns" else name, " ".join(text.split()))


def _bullet(name: str, text: str) -> str:
    return textwrap.fill(
        f"- {name}: {text}", WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )


def _first_paragraph(item: object) -> str:
    return " ".join((inspect.getdoc(item) or "").split("\n\n")[0].split())


def _prose(kind: type) -> str:
    """A class's docstring without its sections, as one paragraph."""
    return " ".join(SECTION.split(inspect.getdoc(kind) or "")[0].split())


def _paragraphs(text: str) -> str:
    return "\n\n".join(_wrapped(paragraph) for paragraph in text.strip().split("\n\n")) + "\n"


def _wrapped(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), WIDTH, break_long_words=False, break_on_hyphens=False)


def _wrapped_lines(text: str) -> str:
    """The lines outside of code, wrapped."""
    lines, in_code = [], False
    for line in text.splitlines():
        in_code ^= line.startswith("```")
        if in_code or len(line) <= WIDTH:
            lines.append(line)
        else:
            indent = "  " if line.startswith("- ") else ""
            lines.append(
                textwrap.fill(
                    line, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
                )
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    assert names_on_the_page() <= set(empathy_edge.__all__)
    print(api_markdown(), end="")
