"""Write the index of figures, docs/results/README.md, and the line beside the figures on each page.

Both are made from docs/results/figures.yaml; a test compares the pages with it.
"""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

from scripts.figures import Catalogue, Figures, Thing, read_catalogue
from scripts.markdown import ROOT, headings

INDEX = ROOT / "docs" / "results" / "README.md"
WIDTH = 100

HEAD = """\
# Results

Made by `make docs` from [figures.yaml](figures.yaml); a test fails when it is stale. Every set of
figures has its command and the commit at which it was measured. `make results` lists them, and one
of them is made again by its name:

```sh
make results NAME=gate-simulation
make results NAME=paper DATA=folder    # the folder where the data lie that it needs
```

The commands run in a new folder, `runs/results/NAME`, with what they need linked into it. Their
output is kept there in `output.txt`, and commit, machine and date in `run.json`. They run the code
as it is now: to run that of the measurement, check out its commit first. Times are of the machine
that is named with the command.

Beside the pages lie [certificates](certificates/) of judges, blind [verdicts](verdicts/) on pairs
of responses, by the key of each pair, and [responses](responses/) of each arm to the test split as
JSONL (id, text).
"""

THINGS = """\
## What commands need

Nothing of this is in the repository, unless it says so.
"""

LINE = re.compile(
    r"^\[(?:`make results NAME=[a-z0-9-]+`|No command)\]\(\S*README\.md#\S+\); commits? .*\n\n", re.M
)
"""The line beside figures on a page, with the empty one after it."""


def index_markdown(catalogue: Catalogue) -> str:
    """The index."""
    lines = [HEAD, "| figures | what is measured | minutes | commit, date |", "|---|---|---|---|"]
    lines += [_row(item) for item in catalogue.figures]
    lines += ["", "## Commands", ""]
    for item in catalogue.figures:
        lines += [_section(item), ""]
    lines += [THINGS, "| | where it comes from |", "|---|---|"]
    lines += [_row_of_thing(name, thing) for name, thing in catalogue.things.items()]
    return "\n".join(lines) + "\n"


def _row(item: Figures) -> str:
    minutes = f"[{item.minutes:g}](#{item.name})" if item.minutes else f"[no command](#{item.name})"
    page = _address(item.page, INDEX)
    commits = _commits(item).partition(" ")[2]
    return f"| [{item.name}]({page}) | {item.gives} | {minutes} | {commits} |"


def _section(item: Figures) -> str:
    """The commands of some figures, with what they need."""
    pages = [f"[{page}]({_address(page, INDEX)})" for page in (item.page, *item.also)]
    lines = [f"### {item.name}", "", f"{', '.join(pages)}; {_commits(item)}.", ""]
    lines.append(_wrapped(f"Measured on {item.machine}."))
    if item.needs:
        lines.append(_wrapped(f"Needs {', '.join(f'`{need}`' for need in item.needs)}."))
    if item.remark:
        lines.append(_wrapped(item.remark if item.commands else f"No command: {item.remark}"))
    if item.commands:
        lines += ["", *(["In the checkout:", ""] if item.folder == "checkout" else []), "```sh"]
        lines += [command.strip() for command in item.commands]
        lines.append("```")
    return "\n".join(lines)


def _row_of_thing(name: str, thing: Thing) -> str:
    kind = "" if thing.kind == "file" else f" ({thing.kind})"
    return f"| `{name}`{kind} | {thing.get} |"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def _commits(item: Figures) -> str:
    """As `commit 8ae3c0c, 2026-11-23`."""
    word = "commit" if len(item.commits) == 1 else "commits"
    return f"{word} {', '.join(f'`{commit}`' for commit in item.commits)}, {item.date}"


def _address(page: str, seen_from: Path) -> str:
    """The relative address of a page or section."""
    file, _, anchor = page.partition("#")
    path = Path(os.path.relpath(ROOT / file, seen_from.parent)).as_posix()
    return f"{path}#{anchor}" if anchor else path


def pages_with_lines(catalogue: Catalogue) -> Iterator[tuple[Path, str]]:
    """Each page with figures, and its text with new lines; README.md has no room for them."""
    for file in sorted({item.file for item in catalogue.figures} - {ROOT / "README.md"}):
        shown = [item for item in catalogue.figures if item.file == file]
        yield file, page_with_lines(file, shown)


def page_with_lines(file: Path, shown: list[Figures]) -> str:
    """A page's text with a line below the heading of each section that has figures."""
    text = LINE.sub("", file.read_text(encoding="utf-8"))
    places = headings(text)
    lines = text.split("\n")
    index = Path(os.path.relpath(INDEX, file.parent)).as_posix()
    for item in reversed(sorted(shown, key=lambda item: _line_of(item, places))):
        at = _line_of(item, places) + 1  # behind the heading and the empty line
        name = f"`make results NAME={item.name}`" if item.commands else "No command"
        lines[at:at] = [f"[{name}]({index}#{item.name}); {_commits(item)}.", ""]
    return "\n".join(lines)


def _line_of(item: Figures, places: dict[str, int]) -> int:
    return places[item.anchor] if item.anchor else min(places.values())


if __name__ == "__main__":
    everything = read_catalogue()
    INDEX.write_text(index_markdown(everything), encoding="utf-8")
    for page, text in pages_with_lines(everything):
        page.write_text(text, encoding="utf-8")
