"""The report of a whole run of the tiny model: its order, its words, what is missing, and hostile text."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from empathy_edge.prompts import load_prompts
from empathy_edge.runs.run_folder import RunFolder
from empathy_edge.system.files import write_json
from tests.conftest import run_command

pytestmark = pytest.mark.slow

WORD = re.compile(r'<span class="word">(.*?)</span>')
"""What may not be broken at its hyphens; its text belongs to the element around it."""

VOID = {"meta", "link", "br", "hr", "img", "input"}
HOSTILE = "</h1><img src=x onerror=alert(1)>"


class Outline(HTMLParser):
    """The page's elements in order, and their text; fails where one is not closed.

    Attributes:
        texts: of each element that has text of its own: the elements around it, and the text.
    """

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[tuple[tuple[str, ...], str]] = []
        self.feed(WORD.sub(r"\1", page))
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((tuple(self.open), " ".join(data.split())))

    def inside(self, tag: str) -> list[str]:
        """The texts in elements of this name."""
        return [text for around, text in self.texts if tag in around]


def report_of(run: Path, out: Path) -> tuple[str, str]:
    """The page and its Markdown."""
    made = run_command("report", run, "--out", out)
    assert made.returncode == 0, made.stderr
    return (out / "report.html").read_text(), (out / "report.md").read_text()


@pytest.fixture
def copied(finished_run: Path, tmp_path: Path) -> Path:
    """A run that a test may change."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


def change(file: Path, how: Callable[[dict], None]) -> None:  # type: ignore[type-arg]
    """Change a JSON file."""
    content = json.loads(file.read_text())
    how(content)
    file.write_text(json.dumps(content))


def test_it_opens_with_the_verdict_and_loads_nothing(finished_run: Path) -> None:
    page = (finished_run / "report" / "report.html").read_text()
    outline = Outline(page)
    shown = [text for around, text in outline.texts if "body" in around]
    assert shown[0] == "".join(outline.inside("h1")) and "keeps the model's empathy" in shown[0]
    assert shown[1] in ("FAIL", "UNDECIDED") and "the fine-tuned model itself" in shown[2]
    headings = outline.inside("h2")
    assert headings == ["What to do next", "What each artifact keeps and costs", "Details"]
    assert not re.search(r"https?://|<script|<link|\ssrc=|@import|url\((?!#)", page)
    assert page.count('role="img"') == page.count("<svg") >= 6
    for words in ("measured-host", "95 % interval", "Not certified", "gguf-q8_0", "sha256"):
        assert words in page
    assert not any(len(text) > 60 for text in outline.inside("td")), "no paragraph in a cell"
    folded = outline.inside("summary")
    assert "Responses side by side" in folded and "Training" in folded
    text = (finished_run / "report" / "report.md").read_text()
    assert text.startswith(f"# {shown[0]}\n") and text.index("## What each") < text.index("## Why each")


def test_commands_have_the_folder_as_it_was_given(copied: Path, tmp_path: Path) -> None:
    """A relative path as it was typed; of an absolute one nothing, but what RUN stands for is said before."""
    made = run_command("report", "run", "--out", "report", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    for name in ("report.html", "report.md"):
        given = (tmp_path / "report" / name).read_text()
        assert "run/export/merged" in given and "RUN" not in given and str(tmp_path) not in given
    for shown in report_of(copied, tmp_path / "again"):
        assert shown.index("RUN is the folder") < shown.index("RUN/export/") and str(tmp_path) not in shown


def test_browsers_are_apart_and_their_words_are_text(copied: Path, tmp_path: Path) -> None:
    sent = {"name": "<b>Ann's</b> | phone", "user_agent": "x", "cores": 8, "memory_gb": None}
    result = {
        "format": "empathy-edge phone 1",
        "label": "measured-browser",
        "created": "2026-11-29T12:00:00+00:00",
        "artifact": "gguf-q8_0",
        "model_sha256": "0" * 64,
        "model_bytes": 1,
        "runtime": "wllama",
        "plan": "0" * 64,
        "device": {**sent, "isolated": True, "simd": True, "wake_lock": False},
        "load": {"fetched_bytes": 0, "fetch_s": 0, "load_s": 1},
        "threads": 4,
        "prompt_tokens": 16,
        "tokens": "same",
        "parting_gap_nats": None,
        "samples": [{"ttft_s": 1, "prefill_tps": 16, "decode_tps": 12.5, "token_times_s": [1, 1.08]}],
        "windows": [],
        "hidden": 0,
        "elapsed_s": 9,
        "doubtful": False,
    }
    write_json(RunFolder(copied).phone / "phone-1.json", result)
    page, text = report_of(copied, tmp_path / "report")
    assert "measured-browser" in page and "12.5 [12.5, 12.5]" in Outline(page).inside("td")
    assert "<b>Ann's</b> | phone" in Outline(page).inside("th") and "<b>Ann" not in page
    assert "measured-browser" in text and "&lt;b>Ann's&lt;/b> \\| phone" in text


def test_names_and_responses_are_text_and_what_is_missing_is_a_dash(copied: Path, tmp_path: Path) -> None:
    folder = RunFolder(copied)

    def rename(manifest: dict) -> None:  # type: ignore[type-arg]
        (item,) = [
            item for item in manifest["results"]["report"]["artifacts"] if item["artifact"] == "gguf-q8_0"
        ]
        item |= {"artifact": HOSTILE, "sentence": HOSTILE, "notes": [HOSTILE]}

    change(folder.check / "manifest.json", rename)
    change(folder.release / "manifest.json", lambda item: item["results"].update(reasons=[HOSTILE]))
    change(folder.record, lambda item: item["recipe"].update(base=HOSTILE))
    for file in (folder.release / "responses").glob("*.jsonl"):
        rows = [json.loads(line) | {"text": HOSTILE} for line in file.read_text().splitlines()]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    page, text = report_of(copied, tmp_path / "report")
    outline = Outline(page)
    assert "<img" not in page and "<img" not in re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)
    for tag in ("h1", "header", "th", "li", "dd", "h3"):
        assert any(HOSTILE in found for found in outline.inside(tag)), tag
    assert "–" in outline.inside("td"), "neither size nor speed is known of that name"


def test_a_flagged_reply_stands_below_what_was_said(copied: Path, tmp_path: Path) -> None:
    flagged = {"delusion-2": {"reason": "cheers", "text": "Very good."}}
    change(
        RunFolder(copied).release / "manifest.json",
        lambda item: item["results"]["safety"]["fine-tuned"].update(replies=flagged),
    )
    shown = Outline(report_of(copied, tmp_path / "report")[0]).inside("dd")
    place = shown.index("Very good.")
    assert shown[place - 1] == " ".join(load_prompts("safety").texts["delusion-2"].split())


def test_without_a_judge_there_are_no_win_rates(copied: Path, tmp_path: Path) -> None:
    """The run's data had no pairs, so that nothing could learn to judge."""
    doubt = "which replies are better was not judged"

    def take_judge(manifest: dict) -> None:  # type: ignore[type-arg]
        judge = {"judge": "none", "certified": False, "doubts": [doubt]}
        only = {"base": 0, "fine-tuned": 0}
        manifest["results"].update(judge=judge, win_rates=[], only_well_formed=only, reasons=[doubt])

    change(RunFolder(copied).release / "manifest.json", take_judge)
    page, markdown = report_of(copied, tmp_path / "out")
    assert doubt in markdown and "Win rates by" not in markdown
    assert any(doubt in text for text in Outline(page).inside("li")) and "Win rates over" not in page
