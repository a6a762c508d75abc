"""Markdown files as the checks of text need them: fenced blocks with their marks, prose, headings, links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

FENCE = re.compile(r"^\s*```(\S*)")
MARK = re.compile(r"^<!--\s*(.*?)\s*-->$")
INLINE_CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
NO_WORD = re.compile(r"[^\w\- ]")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        line: of its fence, from 1.
        language: the word behind the fence; may be empty.
        text: what is in it.
        marks: the comments on the lines right before it.
    """

    line: int
    language: str
    text: str
    marks: tuple[str, ...]


def pages() -> list[Path]:
    """Every Markdown file of the documentation: README and the like, and all of docs/."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(text: str) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    marks: list[str] = []
    inside: list[str] | None = None
    start, language = 0, ""
    for number, line in enumerate(text.split("\n"), 1):
        fence = FENCE.match(line)
        if inside is not None and fence:
            yield Block(start, language, "\n".join(inside), tuple(marks))
            inside, marks = None, []
        elif inside is not None:
            inside.append(line)
        elif fence:
            inside, start, language = [], number, fence[1]
        elif mark := MARK.match(line):
            marks.append(mark[1])
        elif line.strip():
            marks = []


def prose(text: str) -> Iterator[tuple[int, str]]:
    """The lines of a page with their numbers from 1; blank in place of fenced blocks and comments."""
    inside = comment = False
    for number, line in enumerate(text.split("\n"), 1):
        fence = FENCE.match(line)
        comment = comment or line.startswith("<!--")
        yield number, "" if inside or fence or comment else line
        inside ^= bool(fence)
        comment = comment and "-->" not in line


def without_code(line: str) -> str:
    """A line of prose without inline code and without the addresses of links."""
    plain = INLINE_CODE.sub("CODE", line)
    return re.sub(r"\]\([^)\s]*\)", "]", plain)


def headings(text: str) -> dict[str, int]:
    """The anchors of a page's headings, as GitHub makes them, with their lines from 1."""
    found: dict[str, int] = {}
    for number, line in prose(text):
        if heading := re.match(r"#{1,6} (.+)", line):
            plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1]).replace("`", "")
            anchor = NO_WORD.sub("", plain.strip().lower()).replace(" ", "-")
            count = sum(1 for other in found if re.fullmatch(re.escape(anchor) + r"(-\d+)?", other))
            found[f"{anchor}-{count}" if count else anchor] = number
    return found


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings."""
    return set(headings(text))


def links(text: str) -> Iterator[tuple[int, str]]:
    """The addresses of a page's links with their lines; links may go over the end of a line."""
    lines = dict(prose(text))
    whole = "\n".join(INLINE_CODE.sub("CODE", line) for _, line in sorted(lines.items()))
    for match in LINK.finditer(whole):
        yield whole.count("\n", 0, match.start()) + 1, match[1]
