"""A figure of matplotlib as SVG inside a page: the page's colours and font, ids of its own, nothing loaded.

An <img> could not take the page's colours, which change with the reader's dark or light theme.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT = "#010101", "#010102"
FIRST, SECOND = "#010103", "#010104"
PASS, UNDECIDED, FAIL = "#010105", "#010106", "#010107"
PAPER = "#010108"
"""What is drawn in one of these gets a colour of the page, by its name in the page's style sheet."""

_OF_THE_PAGE = {
    INK: "var(--ink)",
    FAINT: "var(--faint)",
    FIRST: "var(--first)",
    SECOND: "var(--second)",
    PASS: "var(--pass)",
    UNDECIDED: "var(--undecided)",
    FAIL: "var(--fail)",
    PAPER: "var(--paper)",
}

FONT_SIZE = 9
"""Of all text, in points (1/72 inch): the unit of the picture's own coordinates."""

_SETTINGS = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "empathy-edge",  # ids that are the same each time
    "text.parse_math": False,  # a name may have dollar signs
    "font.size": FONT_SIZE,
    "axes.titlesize": FONT_SIZE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.facecolor": "none",
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "figure.facecolor": "none",
    "grid.color": FAINT,
    "legend.frameon": False,
    "text.color": INK,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
}

_REFERENCE = re.compile(r"#([\w.-]+)")
_FONT = re.compile(r"font-family:[^;]*;?\s*")


@dataclass(frozen=True)
class Picture:
    """A picture of the report.

    Attributes:
        title: what it shows, in one line.
        description: the same figures in words, for people who do not see it.
        svg: one element, to be put into the page as it is.
    """

    title: str
    description: str
    svg: str


@contextmanager
def drawing(width: float, height: float) -> Iterator[tuple[Figure, Axes]]:
    """A figure with one panel, in inches; what is drawn inside the block has the report's look.

    It belongs to nobody's pyplot: no global state is changed.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.add_subplot()


def picture(figure: Figure, name: str, title: str, description: str) -> Picture:
    """The figure as a `Picture`, inside `drawing`; no other picture of the page has this name."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg")
    root = ElementTree.fromstring(buffer.getvalue())  # comments and the document type are left behind
    _drop(root, {"metadata", "style"})
    used = _references(root)
    for element in root.iter():
        _rewrite(element, name, used)
    for size in ("width", "height", "version"):
        root.attrib.pop(size, None)
    root.attrib |= {"role": "img", "aria-labelledby": f"{name}-title", "aria-describedby": f"{name}-words"}
    for place, (tag, end, text) in enumerate((("title", "title", title), ("desc", "words", description))):
        element = ElementTree.Element(tag, id=f"{name}-{end}")
        element.text = text
        root.insert(place, element)
    return Picture(title, description, ElementTree.tostring(root, encoding="unicode"))


def _drop(root: ElementTree.Element, tags: set[str]) -> None:
    """Remove elements with these names; matplotlib's style would hold for the whole page."""
    for parent in list(root.iter()):
        for child in list(parent):
            if _local(child.tag) in tags:
                parent.remove(child)


def _local(name: str) -> str:
    """A name without its name space: HTML has none."""
    return name.rpartition("}")[2]


def _references(root: ElementTree.Element) -> set[str]:
    """The ids that something in the picture refers to."""
    found: set[str] = set()
    for element in root.iter():
        for name, value in element.attrib.items():
            if _local(name) == "href" or "url(#" in value:
                found.update(_REFERENCE.findall(value))
    return found


def _rewrite(element: ElementTree.Element, name: str, used: set[str]) -> None:
    """Names without name spaces, ids that no other picture has, colours and font of the page."""
    element.tag = _local(element.tag)
    attributes = {_local(key): value for key, value in element.attrib.items()}
    if "id" in attributes and attributes["id"] not in used:
        del attributes["id"]
    elif "id" in attributes:
        attributes["id"] = f"{name}-{attributes['id']}"
    for key, value in attributes.items():
        if key == "href":
            attributes[key] = value.replace("#", f"#{name}-", 1)
        elif key == "style":
            for color, of_the_page in _OF_THE_PAGE.items():
                value = value.replace(color, of_the_page)
            attributes[key] = _FONT.sub("", value).replace("url(#", f"url(#{name}-")
        elif "url(#" in value:
            attributes[key] = value.replace("url(#", f"url(#{name}-")
    element.attrib.clear()
    element.attrib.update(attributes)
