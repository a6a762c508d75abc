"""A judge that fails while artifacts are checked: what is finished stays, the others are undecided."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from empathy_edge.bench.check.baseline.record import Baseline, read_baseline, write_baseline
from empathy_edge.bench.check.check_judge import CheckJudge, Compared
from empathy_edge.bench.check.run import check
from empathy_edge.bench.check.steps.faults import JudgeError
from empathy_edge.errors import PrerequisiteError
from empathy_edge.judging.raters.model_rater import ModelRater
from empathy_edge.llm.api_settings import ApiSettings
from empathy_edge.runs.settings import CheckSettings
from tests.bench.check.test_model_rater import by_words
from tests.conftest import run_command
from tests.llm.fault_server import FaultServer

pytest.importorskip("openai")
JUDGE = "openai:judge"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultServer]:
    """A judge on loopback that rates by the number of words."""
    monkeypatch.setenv("EMPATHY_EDGE_LEDGER", str(tmp_path / "ledger.sqlite"))
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    with FaultServer(fault_rate=0, answer=by_words) as running:
        yield running


@pytest.fixture
def judged(baseline_file: Path, server: FaultServer) -> Baseline:
    """A baseline as with the judge on loopback, if it were certified."""
    rater = ModelRater(JUDGE, ApiSettings(base_url=server.url), "check")
    identity = rater.identity
    rater.close()
    known = read_baseline(baseline_file)
    records = []
    for number, record in enumerate(known.prompts):
        ratings = [float((number + place) % 3) for place in range(len(record.replies))]
        replies = [
            reply.model_copy(update={"rating": rating})
            for reply, rating in zip(record.replies, ratings, strict=True)
        ]
        records.append(record.model_copy(update={"replies": tuple(replies), "misplaced_rating": -1.0}))
    certified = {"agreement": 0.95, "agreement_low": 0.9, "agreement_high": 0.99, "pairs": 200, "doubts": ()}
    judge = known.judge.model_copy(update={"name": JUDGE, "identity": identity, **certified})
    return known.model_copy(update={"judge": judge, "prompts": tuple(records)})


def test_a_limit_that_is_reached_leaves_the_finished_verdicts(
    judged: Baseline, server: FaultServer, exported: Path, damaged: Path, tmp_path: Path
) -> None:
    """PASS, FAIL, and the third one needs the judge, who may answer four calls."""
    cut, baseline = tmp_path / "cut.gguf", tmp_path / "judged.json.gz"
    cut.write_bytes(next((exported / "gguf-f16").glob("*.gguf")).read_bytes()[:100_000])
    write_baseline(baseline, judged)
    files = tmp_path / "check.json", tmp_path / "check.xml"
    result = run_command(
        "check", exported / "gguf-f16", cut, damaged, "--baseline", baseline, "--judge", JUDGE,
        "--base-url", server.url, "--max-calls", "4", "--json", files[0], "--junit", files[1],
    )  # fmt: skip
    assert result.returncode == 1, result.stdout + result.stderr
    artifacts = json.loads(files[0].read_text())["artifacts"]
    assert [item["verdict"] for item in artifacts] == ["PASS", "FAIL", "UNDECIDED"]
    (note,) = [text for text in artifacts[2]["notes"] if "cannot rate" in text]
    assert "--max-calls 4 is reached" in note and "with a higher limit" in note
    assert f"the other ratings by {JUDGE}" in artifacts[2]["to_decide"]
    assert 'failures="1" skipped="1"' in files[1].read_text()
    assert 0 < len(server.paid) <= 4


def test_a_judge_that_stops_at_the_only_artifact_leaves_it_undecided(
    judged: Baseline, server: FaultServer, damaged: Path
) -> None:
    api = ApiSettings(base_url=server.url, max_calls=4)
    found = check([str(damaged)], judged, CheckSettings(), JUDGE, api)
    assert found.exit_code() == 4 and found.artifacts[0].prompts_needed is None
    assert found.artifacts[0].prompts_answered >= 32 and found.artifacts[0].well_formed is not None


def test_a_missing_key_stops_at_once_and_takes_no_verdict_away(
    judged: Baseline, exported: Path, damaged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(PrerequisiteError, match=f"The judge {JUDGE} cannot rate: .*OPENAI_API_KEY"):
        check([str(damaged)], judged, CheckSettings(), JUDGE)
    found = check([str(exported / "gguf-f16"), str(damaged)], judged, CheckSettings(), JUDGE)
    assert [item.verdict for item in found.artifacts] == ["PASS", "UNDECIDED"]
    assert "OPENAI_API_KEY is not set" in found.artifacts[1].notes[-1]
    assert found.artifacts[1].prompts_scored > 0 and "the same command" in found.artifacts[1].to_decide


def test_another_judge_is_refused_each_time(judged: Baseline, server: FaultServer) -> None:
    """The next artifact must not be rated by the judge that was refused for the one before."""
    record = judged.judge.model_copy(update={"identity": "another"})
    other = judged.model_copy(update={"judge": record})
    judge = CheckJudge(other, JUDGE, ApiSettings(base_url=server.url))
    for _ in range(2):
        with pytest.raises(JudgeError, match="is not the judge that rated the baseline") as found:
            judge.points([])
        assert found.value.cannot_start and found.value.shown().exit_code == 2


def test_a_bug_of_ours_is_not_the_judges(judged: Baseline, server: FaultServer) -> None:
    judge = CheckJudge(judged, JUDGE, ApiSettings(base_url=server.url))
    with pytest.raises(AttributeError) as found:
        judge.points([Compared(None, ["a", "b"], [])])  # type: ignore[arg-type]
    assert found.value.__cause__ is None
    judge.close()
