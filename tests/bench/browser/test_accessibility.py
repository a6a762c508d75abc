"""Our pages in a real Chromium: axe finds nothing serious, narrow screens suffice, nothing is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench.browser.axe import assert_accessible, axe_source, look
from tests.bench.browser.chromium import browser, chromedriver
from tests.bench.browser.serving import Served
from tests.conftest import dialogue_row, run_command, write_rows

pytestmark = pytest.mark.slow

OPEN = "for (const item of document.querySelectorAll('details')) item.open = true"


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with chromedriver(tmp_path_factory.mktemp("chromium")) as address:
        yield address


@pytest.fixture(scope="module")
def axe(driver: str) -> str:
    return axe_source()


def test_the_report(driver: str, axe: str, finished_run: Path) -> None:
    with browser(driver) as page:
        page.devtools("Network.enable")
        page.devtools(
            "Network.emulateNetworkConditions",
            offline=True,
            latency=0,
            downloadThroughput=-1,
            uploadThroughput=-1,
        )
        page.open((finished_run / "report" / "report.html").as_uri())
        assert page.run("return performance.getEntriesByType('resource').length") == 0
        assert_accessible(page, axe)
        assert_accessible(page, axe, before=OPEN)
        assert page.log() == []


def test_names_and_commands_in_the_report_are_broken_at_spaces_only(driver: str, finished_run: Path) -> None:
    words = "[...document.querySelectorAll('.word')]"
    with browser(driver) as page:
        page.open((finished_run / "report" / "report.html").as_uri())
        look(page, width=360, scheme="light")
        page.run(OPEN)
        assert page.run(f"return {words}.some(word => word.textContent.startsWith('RUN/export/gguf-'))")
        assert page.run(f"return {words}.filter(word => word.getClientRects().length > 1).length") == 0
        commands = "[...document.querySelectorAll('code.command')].map(item => item.textContent)"
        assert all(text.startswith("empathy-edge ") for text in page.run(f"return {commands}"))


def test_what_is_folded_in_the_report_is_printed(driver: str, finished_run: Path) -> None:
    inside = "[...document.querySelectorAll('details > :not(summary)')]"
    shown = f"return {inside}.every(item => item.checkVisibility())"
    with browser(driver) as page:
        page.open((finished_run / "report" / "report.html").as_uri())
        look(page, width=1280, scheme="light")
        assert not page.run(shown)
        page.devtools("Emulation.setEmulatedMedia", media="print")
        assert page.run(shown)


def test_the_phone_page(driver: str, axe: str, served: Served) -> None:
    with browser(driver) as page:
        page.open(served.url)
        assert_accessible(page, axe)
        page.load_model()
        page.say("I failed my exam.")
        page.say("I want to kill myself")
        page.measure()
        assert_accessible(page, axe)


@pytest.mark.parametrize("alone", [False, True])
def test_the_sheet_for_people(driver: str, axe: str, tmp_path: Path, alone: bool) -> None:
    rows = [
        dialogue_row(id=f"d{place}", split="test", utterance=f"My cat {place} died.") for place in range(4)
    ]
    dialogues = write_rows(tmp_path / "test.jsonl", *rows)
    for arm in ("a", "b"):
        replies = [{"id": row["id"], "text": f"{arm}: I am sorry about {row['id']}."} for row in rows]
        write_rows(tmp_path / f"{arm}.jsonl", *({**row, "finish_reason": "stop"} for row in replies))
    options = ("--alone",) if alone else ()
    made = run_command(
        "judge", "sheet", "make", tmp_path / "a.jsonl", tmp_path / "b.jsonl", *options,
        "--dialogues", dialogues, "--out", tmp_path / "sheet",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    with browser(driver) as page:
        page.open((tmp_path / "sheet" / "sheet.html").as_uri())
        assert_accessible(page, axe)
        chosen = "s5" if alone else "r2"
        before = page.text("place")
        page.run("document.getElementById(arguments[0]).focus()", chosen)
        page.click(chosen)
        assert page.text("place") != before and "1 answered" in page.text("place")
        assert_accessible(page, axe)
