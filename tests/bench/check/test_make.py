"""Two commands that make a baseline of one reference at once: the replies are drawn by one of them."""

from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest
from filelock import FileLock

from empathy_edge.bench.check import make as baseline_making
from empathy_edge.bench.check.baseline import drawing
from empathy_edge.bench.check.certificate import open_judge
from empathy_edge.bench.check.make import make_baseline
from empathy_edge.bench.check.prompts import read_prompts
from empathy_edge.judging.raters.sheet_rater import RatingsMissing
from empathy_edge.llm.api_settings import ApiSettings
from empathy_edge.runs.settings import ReplySettings


@pytest.mark.parametrize("is_finished", [True, False])
def test_a_second_command_waits_and_goes_on_with_the_firsts_replies(
    is_finished: bool, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the first holds the lock, the second leaves the file of unfinished replies alone."""
    monkeypatch.setenv("EMPATHY_EDGE_CACHE", str(tmp_path / "cache"))
    settings, prompts = ReplySettings(samples=2, max_new_tokens=8), read_prompts(None, 4, 0)

    def make() -> None:
        rater = open_judge(f"sheet:{tmp_path / 'ratings.csv'}", ApiSettings())
        with pytest.raises(RatingsMissing):
            make_baseline(str(exported / "gguf-f16"), prompts, rater, settings)

    make()
    (kept,) = (tmp_path / "cache" / "replies").glob("*.jsonl")
    whole, unfinished = kept.read_text(), kept.with_suffix(".part")
    kept.rename(unfinished)
    unfinished.write_text(whole[: len(whole) // 2])
    said: list[str] = []
    for module in (baseline_making, drawing):
        monkeypatch.setattr(module, "say", said.append)
    with ThreadPoolExecutor(1) as second:
        with FileLock(kept.with_suffix(".lock")):
            running = second.submit(make)
            while not any("Waiting for another command that draws the replies" in line for line in said):
                assert not running.done(), f"did not wait: {said}"
                wait([running], timeout=0.05)
            assert unfinished.read_text() == whole[: len(whole) // 2]
            unfinished.write_text(whole)
            if is_finished:
                unfinished.rename(kept)
        running.result()
    assert any("are known from an earlier command" in line for line in said) is is_finished
    assert any("4 of 4 prompts have replies from an earlier run" in line for line in said) is not is_finished
    assert kept.read_text() == whole and not unfinished.exists()
