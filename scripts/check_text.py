"""Plain English: no banned words in docs, docstrings and messages; no long lines and sentences in docs.

Run by `make lint`. The words, with examples, are in text_rules.toml; the limits are in CONTRIBUTING.md.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scripts.markdown import ROOT, pages, prose, without_code

CODE = ("empathy_edge", "bench", "export", "prompts", "devices", "scripts")
"""Folders whose docstrings and messages are checked."""

PEOPLES_WORDS = (
    "crisis_signs.py",
    "figures_of_speech.py",
    "safety_rules.py",
    "crisis_patterns.py",
    "filters.py",
)
"""Tables of what people say: no text of ours."""

GENERATED = ("commands.md",)
"""Made from help texts, which are checked where they are written; lines may be longer."""

MAX_COLUMNS = 100
MAX_WORDS = 40
MAX_LINES = {"README.md": 120}
MAX_LINES_OF_A_GUIDE = 120

SENTENCE_END = re.compile(r"(?<=[.!?:;])[\")”’*]*\s+(?=[\"(“*\[`A-Z0-9])")
NO_SENTENCE = re.compile(r"^\s*(\||#|!\[|<|$)|^    ")
ITEM = re.compile(r"^\s*([-*]|\d+\.)\s+")


@dataclass(frozen=True)
class Rule:
    """A word and what to write instead.

    Attributes:
        find: the expression.
        instead: for the message.
        wrong: sentences that have the word.
        right: sentences that have not.
        exceptions: where one of these is found, too, the word is allowed.
    """

    find: re.Pattern[str]
    instead: str
    wrong: tuple[str, ...]
    right: tuple[str, ...]
    exceptions: tuple[str, ...]

    def found_in(self, text: str) -> str | None:
        """The banned word in a text; None where there is none."""
        match = self.find.search(text)
        if match is None or any(re.search(item, text, re.IGNORECASE) for item in self.exceptions):
            return None
        return match[0]


def read_rules() -> list[Rule]:
    """The table of words."""
    table = tomllib.loads((Path(__file__).parent / "text_rules.toml").read_text(encoding="utf-8"))
    return [
        Rule(
            re.compile(row["find"], re.IGNORECASE),
            row["instead"],
            tuple(row["wrong"]),
            tuple(row["right"]),
            tuple(row.get("except", ())),
        )
        for row in table["rule"]
    ]


def faults_of_page(page: Path, rules: list[Rule]) -> Iterator[str]:
    """What is wrong in a Markdown file, each with its place."""
    text = page.read_text(encoding="utf-8")
    name = page.relative_to(ROOT)
    yield from _too_many_lines(name, text)
    for number, line in prose(text):
        yield from _banned(f"{name}:{number}", without_code(line), rules)
        is_table = line.startswith("|")
        if len(line) > MAX_COLUMNS and not is_table and "](" not in line and page.name not in GENERATED:
            yield f"{name}:{number}: {len(line)} columns (at most {MAX_COLUMNS})"
    if "results" not in name.parts and "decisions" not in name.parts:
        for number, sentence in sentences(text):
            words = len(sentence.split())
            if words > MAX_WORDS:
                yield f"{name}:{number}: a sentence of {words} words (at most {MAX_WORDS}): {sentence[:60]}…"


def _too_many_lines(name: Path, text: str) -> Iterator[str]:
    most = MAX_LINES_OF_A_GUIDE if "guides" in name.parts else MAX_LINES.get(str(name))
    count = len(text.splitlines())
    if most is not None and count > most:
        yield f"{name}: {count} lines (at most {most})"


def sentences(text: str) -> Iterator[tuple[int, str]]:
    """The sentences of paragraphs and list items, each with the line where its paragraph begins."""
    paragraph: list[str] = []
    start = 0
    for number, line in [*prose(text), (0, "")]:
        ends = NO_SENTENCE.match(line) and not (paragraph and line.startswith("    "))
        if paragraph and (ends or ITEM.match(line)):
            for sentence in SENTENCE_END.split(" ".join(paragraph)):
                yield start, sentence
            paragraph = []
        if not ends:
            if not paragraph:
                start = number
            paragraph.append(ITEM.sub("", without_code(line)).strip())


def faults_of_code(file: Path, rules: list[Rule]) -> Iterator[str]:
    """Banned words in the texts of a Python file: docstrings, messages, help."""
    name = file.relative_to(ROOT)
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.count(" ") > 1:
            yield from _banned(f"{name}:{node.lineno}", node.value, rules)


def _banned(place: str, text: str, rules: list[Rule]) -> Iterator[str]:
    for rule in rules:
        if word := rule.found_in(text):
            yield f"{place}: “{word}”; write: {rule.instead}"


def all_faults() -> Iterator[str]:
    """What is wrong in the whole tree."""
    rules = read_rules()
    for page in pages():
        yield from faults_of_page(page, rules)
    for folder in CODE:
        for file in sorted((ROOT / folder).rglob("*.py")):
            if file.name not in PEOPLES_WORDS:
                yield from faults_of_code(file, rules)


if __name__ == "__main__":
    found = list(all_faults())
    print("\n".join(found) if found else "Text: nothing found.")
    sys.exit(1 if found else 0)
