"""Every link between pages leads somewhere; addresses on the web are only checked for their form."""

import re
from collections.abc import Iterator
from pathlib import Path

from scripts.markdown import ROOT, anchors, links, pages

WEB = re.compile(r"https?://[a-z0-9-]+(\.[a-z0-9-]+)+(:\d+)?(/\S*)?", re.IGNORECASE)


def faults(page: Path) -> Iterator[str]:
    """Links of a page that lead nowhere."""
    for line, address in links(page.read_text(encoding="utf-8")):
        place = f"{page.name}:{line}: {address}"
        if "://" in address or address.startswith("mailto:"):
            if not WEB.fullmatch(address):
                yield f"{place} is no address on the web"
            continue
        file, _, anchor = address.partition("#")
        target = (page.parent / file).resolve() if file else page
        if not target.exists():
            yield f"{place} does not exist"
        elif anchor and anchor not in anchors(target.read_text(encoding="utf-8")):
            yield f"{place}: no such heading"


def test_links_lead_somewhere() -> None:
    assert [fault for page in pages() for fault in faults(page)] == []


def test_the_index_names_every_page() -> None:
    index = ROOT / "docs" / "README.md"
    named = {(index.parent / address).resolve() for _, address in links(index.read_text())}
    named_results = {
        (ROOT / "docs" / "results" / address.partition("#")[0]).resolve()
        for _, address in links((ROOT / "docs" / "results" / "README.md").read_text())
    }
    expected = {*(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "guides").glob("*.md")} - {index}
    assert expected - named == set()
    assert set((ROOT / "docs" / "results").glob("*.md")) - named_results <= {ROOT / "docs/results/README.md"}


def test_wrong_links_are_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# A `heading`, with words\n\n## Twice\n\n## Twice\n")
    page = tmp_path / "page.md"
    good = (
        "[a](other.md#a-heading-with-words) [b](other.md#twice-1) [over a\nline](other.md) `[no](link.md)`\n"
    )
    page.write_text(good)
    assert list(faults(page)) == []
    page.write_text(
        f"{good}[c](missing.md) [d](other.md#nowhere) [e](https://no host/) [f](https://nohost)\n```\n[x](y)\n```\n"
    )
    found = list(faults(page))
    assert [fault.split(": ")[0] for fault in found] == ["page.md:3"] * 3
