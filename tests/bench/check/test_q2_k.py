"""The control of rounding: the reference's own Q2_K form, drawn and rated beside the reference."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from empathy_edge.bench.check.baseline.drawing import draw_records
from empathy_edge.bench.check.baseline.q2_k import WriteQ2K, with_q2_k
from empathy_edge.bench.check.baseline.record import Baseline, PromptRecord, read_baseline, write_baseline
from empathy_edge.bench.check.certificate import open_judge
from empathy_edge.bench.check.make import make_baseline
from empathy_edge.bench.check.prompts import CheckPrompt, read_prompts
from empathy_edge.bench.check.steps.controls import controls_of
from empathy_edge.export.gguf.quantize import write_q2_k
from empathy_edge.judging.raters.sheet_rater import RatingsMissing
from empathy_edge.llm.api_settings import ApiSettings
from empathy_edge.models.find import find_model
from empathy_edge.runs.settings import ReplySettings
from empathy_edge.runtimes import open_runtime
from empathy_edge.system.cache import cache_folder
from tests.bench.check.rated import rated_baseline
from tests.bench.check.test_sheet_rater import fill, like_the_readers

SETTINGS = ReplySettings(samples=2, max_new_tokens=8)
CERTIFYING = 896


@pytest.fixture
def prompts() -> list[CheckPrompt]:
    return read_prompts(None, 4, 0)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EMPATHY_EDGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def made(reference: Path, prompts: list[CheckPrompt], judge: str, write: WriteQ2K | None) -> Baseline:
    rater = open_judge(judge, ApiSettings())
    return make_baseline(str(reference), prompts, rater, SETTINGS, write_q2_k=write)


def different(record: PromptRecord) -> int:
    """How many different replies people rate."""
    texts = {reply.text for reply in record.replies} | {record.misplaced_text}
    return len(texts if record.q2_k_text is None else texts | {record.q2_k_text})


def test_people_rate_the_q2_k_form_beside_the_reference(
    exported: Path, prompts: list[CheckPrompt], tmp_path: Path, cache: Path
) -> None:
    reference, sheet = exported / "gguf-f16", tmp_path / "ratings.csv"
    with pytest.raises(RatingsMissing):
        made(reference, prompts, f"sheet:{sheet}", write_q2_k)
    rows = fill(sheet, like_the_readers(cache))
    known = made(reference, prompts, f"sheet:{sheet}", write_q2_k)
    assert known.judge.certified
    assert rows == CERTIFYING + sum(map(different, known.prompts))
    assert all(record.q2_k_text and record.q2_k_rating is not None for record in known.prompts)
    own = {reply.text for record in known.prompts for reply in record.replies}
    assert {record.q2_k_text for record in known.prompts} - own
    q2_k = controls_of(known).q2_k
    assert q2_k is not None and q2_k.mean < 0.5
    (kept,) = (cache_folder() / "replies").glob("*.q2_k.json")
    assert json.loads(kept.read_text())["texts"] == [record.q2_k_text for record in known.prompts]
    assert not list(kept.parent.glob(".q2_k-*"))
    write_baseline(tmp_path / "b.json.gz", known)
    assert read_baseline(tmp_path / "b.json.gz") == known
    bare = [record.model_copy(update={"q2_k_text": None, "q2_k_rating": None}) for record in known.prompts]
    write_baseline(tmp_path / "bare.json.gz", known.model_copy(update={"prompts": tuple(bare)}))
    assert b'"q2_k_text"' not in gzip.decompress((tmp_path / "bare.json.gz").read_bytes())
    assert read_baseline(tmp_path / "bare.json.gz").prompts[0].q2_k_text is None


def test_a_sheet_that_was_written_without_it_stays_without_it(
    exported: Path, prompts: list[CheckPrompt], tmp_path: Path, cache: Path
) -> None:
    sheet = tmp_path / "ratings.csv"
    judge = f"sheet:{sheet}"
    with pytest.raises(RatingsMissing):
        made(exported / "gguf-f16", prompts, judge, None)
    written = sheet.read_text(encoding="utf-8-sig")
    with pytest.raises(RatingsMissing):
        made(exported / "gguf-f16", prompts, judge, write_q2_k)
    assert sheet.read_text(encoding="utf-8-sig") == written
    fill(sheet, like_the_readers(cache))
    known = made(exported / "gguf-f16", prompts, judge, write_q2_k)
    assert known.judge.certified and known.prompts[0].q2_k_text is None and controls_of(known).q2_k is None


def test_it_is_not_drawn_for_a_judge_who_does_not_count(exported: Path, prompts: list[CheckPrompt]) -> None:
    def refuse(source: Path, file: Path) -> None:
        raise AssertionError(f"{source} was quantized")

    known = made(exported / "gguf-f16", prompts, f"likelihood:{exported / 'gguf-f16'}", refuse)
    assert not known.judge.certified and known.prompts[0].q2_k_text is None


def test_where_it_cannot_be_made_a_line_says_why(
    exported: Path, prompts: list[CheckPrompt], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = draw_records(
        open_runtime(exported / "gguf-f16", context=512), prompts, SETTINGS, tmp_path / "replies.jsonl"
    )
    capsys.readouterr()
    quantized = find_model(str(exported / "gguf-q8_0"))
    for source, why in ((quantized, "could not quantize it to q2_k"), (None, "it has no GGUF")):
        kept = tmp_path / "kept" / "replies.q2_k.json"
        assert with_q2_k(records, source, SETTINGS, write_q2_k, kept) == records and not kept.exists()
        said = " ".join(capsys.readouterr().err.split())
        assert "own Q2_K form is left out" in said and why in said


@pytest.mark.parametrize(("shift", "in_doubt"), [(-1.0, False), (0.2, False), (2.0, True)])
def test_a_judge_who_prefers_it_is_in_doubt(shift: float, in_doubt: bool) -> None:
    generator = np.random.default_rng(1)
    baseline = rated_baseline(generator, 160)
    assert controls_of(baseline).q2_k is None
    rated = []
    for record in baseline.prompts[:128]:
        rating = generator.normal() + shift
        rated.append(record.model_copy(update={"q2_k_text": "rounded", "q2_k_rating": rating}))
    found = controls_of(baseline.model_copy(update={"prompts": (*rated, *baseline.prompts[128:])}))
    assert found.q2_k is not None and found.q2_k.low < found.q2_k.mean < found.q2_k.high
    assert any("prefers the reference's own Q2_K form" in doubt for doubt in found.doubts) is in_doubt
