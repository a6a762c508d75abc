"""The functions of the Python API on the tiny model."""

from __future__ import annotations

import asyncio
import os
import shutil
import warnings
from pathlib import Path

import pytest

pytest.importorskip("torch")

from empathy_edge.api import (
    BenchSettings,
    ChatSettings,
    DistillResult,
    DistillSettings,
    EmpathyEdgeError,
    ExportSettings,
    ReplySettings,
    TeacherSettings,
    VerdictFailed,
    bench,
    chat,
    check,
    distill,
    export,
    finetune,
    set_quiet,
)
from empathy_edge.data import sample_dialogues
from empathy_edge.formats.json_lines import read_jsonl, write_jsonl
from tests.api.conftest import FEW_ROWS, Made

REPLIES = ReplySettings(max_prompts=80, max_new_tokens=12, samples=3, temperature=0.5)
"""As CHECK_REPLIES of the command line."""


def test_distill_returns_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = distill("sample", tmp_path / "rows", reference="first-draft", models=["editor"])
    assert len(read_jsonl(rows.sft_file)) == rows.sft_rows > 0
    assert len(read_jsonl(rows.preference_file)) == rows.preference_pairs > 0
    assert len(read_jsonl(rows.test_file)) == rows.test_dialogues > 0
    assert os.fspath(rows) == str(tmp_path / "rows")
    assert f"SFT rows {rows.sft_rows}" in " ".join(repr(rows).split())
    assert "<td" in rows._repr_html_() and str(rows.preference_pairs) in rows._repr_html_()
    printed = capsys.readouterr()
    assert printed.out == "" and f"{rows.sft_rows} SFT rows" in printed.err
    with pytest.raises(EmpathyEdgeError, match="other settings"):
        distill("sample", tmp_path / "rows", settings=FEW_ROWS)
    fewer = distill("sample", tmp_path / "rows", settings=FEW_ROWS, update=True)
    assert (fewer.sft_rows, fewer.preference_pairs) == (8, 8)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"teacher": "openai:gpt"}, "no argument of the method 'rated'"),
        ({"method": "direct"}, "needs a teacher"),
        ({"method": "direct", "settings": DistillSettings()}, "takes TeacherSettings"),
        (
            {"method": "direct", "teacher": "file:x", "models": ["a"]},
            "`models` is no argument with a teacher",
        ),
        ({"models": []}, "1 fault in the settings"),
        ({"columns": {"dance": "x"}}, "no such field"),
    ],
)
def test_distill_refuses(tmp_path: Path, arguments: dict[str, object], words: str) -> None:
    with pytest.raises(EmpathyEdgeError, match=words):
        distill("sample", tmp_path / "rows", **arguments)  # type: ignore[arg-type]
    assert not (tmp_path / "rows").exists()


def test_distill_asks_a_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of answers is a teacher. Settings and keywords mean the same; a running loop is a notebook's."""
    monkeypatch.setenv("EMPATHY_EDGE_CACHE", str(tmp_path / "cache"))
    teacher = f"file:{_answers(tmp_path / 'answers.jsonl', 2)}"

    async def cell() -> DistillResult:
        return distill("sample", tmp_path / "one", method="direct", teacher=teacher)

    made = asyncio.run(cell())
    settings = TeacherSettings(method="direct", teacher=teacher)
    again = distill("sample", tmp_path / "two", settings=settings)
    assert made.found.dialogues == again.found.dialogues == 2
    assert made.found.cost_usd == 0.0 and "cost, USD" in repr(made)


def _answers(file: Path, count: int) -> Path:
    """Answers to the first dialogues of the shipped training split, as a teacher would give them."""
    rows = [row for row in read_jsonl(sample_dialogues()) if row["split"] == "train"]
    text = "I am so sorry to hear that. It must have been a very hard day for you."
    write_jsonl(file, [{"id": row["id"], "initial": text} for row in rows[:count]])
    return file


@pytest.mark.slow
def test_the_whole_path(made: Made, tiny_model: Path) -> None:
    assert (made.rows.sft_rows, made.rows.preference_pairs) == (8, 8)
    assert made.tuned.base == str(tiny_model)
    assert [path.parent.name for path in made.tuned.adapters] == ["sft", "dpo"]
    assert all((path / "adapter_config.json").is_file() for path in made.tuned.adapters)
    assert made.tuned.sft and made.tuned.sft.steps == 2 and made.tuned.sft.loss_first > 0
    assert made.tuned.dpo and made.tuned.dpo.pairs == 8
    exported = made.exported
    assert exported.ok and exported.merge and exported.checkpoint == exported.folder / "merged"
    first, second = exported
    assert first is exported["gguf-f16"] and len(exported) == 2
    assert first.file.is_file() and first.size_mb > second.size_mb > 1
    assert first.mean_kl is not None and second.mean_kl is not None and first.mean_kl < second.mean_kl
    assert first.top1_agreement is not None and first.top1_agreement > 0.9
    for shown, word in ((made.tuned, "SFT"), (exported, "gguf-q8_0")):
        assert word in repr(shown) and word in shown._repr_html_()
    with pytest.raises(KeyError, match="gguf-f16, gguf-q8_0"):
        exported["gguf-q4_0"]


@pytest.mark.slow
def test_a_second_call_makes_nothing_again(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    file = made.exported["gguf-f16"].file
    before = file.stat().st_mtime_ns
    names = [item.name for item in made.exported]
    again = export(None, made.exported.folder, adapters=made.tuned.adapters, to=names)
    assert again.artifacts == made.exported.artifacts and file.stat().st_mtime_ns == before
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_one_step_alone(made: Made, tiny_model: Path, tmp_path: Path) -> None:
    from empathy_edge.api import DpoSettings

    with pytest.raises(EmpathyEdgeError, match="belongs to only='dpo'"):
        finetune(made.rows, tmp_path / "tuned", base=tiny_model, sft_folder=made.tuned.folder / "sft")
    found = finetune(
        made.rows,
        tmp_path / "tuned",
        base=tiny_model,
        only="dpo",
        sft_folder=made.tuned.folder,
        dpo=DpoSettings(batch_size=8, weights="fp32", length_probes=0),
        device="cpu",
    )
    assert found.sft is None and found.dpo and found.dpo.steps == 1
    assert found.adapters == (made.tuned.adapters[0], tmp_path / "tuned" / "dpo" / "adapter")
    assert "EMPATHY_EDGE_DEVICE" not in os.environ


def test_an_artifact_that_differs_is_a_result(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The query weights are not reordered for llama.cpp's RoPE, as a faulty writer would."""
    from empathy_edge.export.gguf import writer

    with monkeypatch.context() as faulty:
        faulty.setattr(writer, "interleave_rope", lambda weight, heads: weight)
        made = export(tiny_model, tmp_path / "out", to="gguf-f16")
    (artifact,) = made
    assert made.ok is False and artifact.ok is False
    assert any("mean KL above" in reason for reason in artifact.failed)
    assert "mean KL above" in repr(made) and ">wrong<" in made._repr_html_()
    unknown = export(tiny_model, tmp_path / "out", to="gguf-f16", verify="none")
    assert unknown.ok is None and unknown["gguf-f16"].mean_kl is None and unknown.merge is None


def test_export_refuses(tiny_model: Path, tmp_path: Path) -> None:
    for arguments, words in (
        ({"to": "gguf-q9"}, "q9"),
        ({"to": "gguf-f16", "weights": [1.0]}, "0 adapters but 1 weights"),
        ({"to": "gguf-f16", "settings": ExportSettings(converter="/nowhere/convert.py")}, "nowhere"),
    ):
        with pytest.raises(EmpathyEdgeError, match=words):
            export(tiny_model, tmp_path / "out", **arguments)  # type: ignore[arg-type]


def test_verdicts_are_returned(
    exported: Path, baseline_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """PASS of an exact copy, FAIL of half a file: the command ends with 1 there."""
    cut = tmp_path / "cut.gguf"
    whole = (exported / "gguf-f16" / "model.gguf").read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    found = check([exported / "gguf-f16", cut], baseline=baseline_file)
    copy, half = found
    assert (copy.verdict, copy.decided_by) == ("PASS", "likelihood, any judge")
    assert 0.45 <= copy.win_rate_low <= 0.5 <= copy.win_rate_high
    assert half.verdict == "FAIL" and "cannot be opened" in half.sentence and not found.ok
    assert found.report.exit_code() == 1
    assert half.sentence in repr(found) and "cut.gguf" in found._repr_html_()
    assert capsys.readouterr().out == ""
    assert check(exported / "gguf-f16", baseline=baseline_file).ok


@pytest.mark.slow
def test_check_against_a_reference(tiny_model: Path, exported: Path) -> None:
    judge = f"likelihood:{exported / 'gguf-f16'}"
    found = check(exported / "gguf-q8_0", reference=tiny_model, replies=REPLIES, judge=judge)
    (artifact,) = found
    assert found.report.prompts == 80 and artifact.prompts_scored > 0
    assert artifact.verdict in ("PASS", "UNDECIDED") and bool(artifact.to_decide) is not found.ok


def test_check_refuses(exported: Path, baseline_file: Path) -> None:
    artifact = exported / "gguf-f16"
    for arguments, words in (
        ({}, "either reference or baseline"),
        ({"baseline": baseline_file, "replies": REPLIES}, "`replies` is set by the baseline"),
        ({"baseline": artifact / "manifest.json"}, "baseline"),
    ):
        with pytest.raises(EmpathyEdgeError, match=words):
            check(artifact, **arguments)  # type: ignore[arg-type]
    with pytest.raises(EmpathyEdgeError, match="no such file or folder"):
        check(artifact.parent / "gguf-q1", baseline=baseline_file)


def test_a_conversation(exported: Path) -> None:
    settings = ChatSettings(context=512, max_new_tokens=8)
    with chat(exported / "gguf-f16", system="Be kind.", settings=settings) as talk:
        assert talk.system == "Be kind." and talk.model == "gguf-f16"
        first = talk.say("Hello")
        assert first.text == str(first) and first.from_model and first.tokens <= 8
        assert first.ttft_s is not None and first.ttft_s > 0
        pieces = list(talk.stream("And you?"))
        assert talk.last_reply is not None and "".join(pieces).strip() == talk.last_reply.text
        roles = [turn["role"] for turn in talk.turns]
        assert roles == ["user", "assistant"] * 2 and "4 turns" in repr(talk)
        talk.reset()
        assert talk.turns == () and talk.say("Hello").text == first.text
        assert first.text.split()[0] in first._repr_html_()
        with pytest.raises(EmpathyEdgeError, match="Nothing to answer"):
            talk.say("  ")
    assert talk.turns[0]["content"] == "Hello" and "closed" in repr(talk)
    with pytest.raises(EmpathyEdgeError, match="closed"):
        talk.say("Hello")


def test_a_reply_that_is_left_unfinished_stays_as_far_as_it_came(exported: Path) -> None:
    with chat(exported / "gguf-f16", settings=ChatSettings(context=512, max_new_tokens=16)) as talk:
        heard = ""
        for piece in talk.stream("Hello"):
            heard += piece
            if len(heard) > 3:
                break
        talk.say("And you?")
        roles = [turn["role"] for turn in talk.turns]
        assert roles == ["user", "assistant", "user", "assistant"]
        assert talk.turns[1]["content"] == heard.strip()
        too_long = "word " * 2000
        before = talk.turns
        with pytest.raises(EmpathyEdgeError, match="context window"):
            talk.say(too_long)
        assert talk.turns == before  # the message is not kept, and the earlier ones are


def test_a_person_in_danger_is_told_of_human_help(exported: Path) -> None:
    said = "I want to kill myself."
    with chat(exported / "gguf-f16", settings=ChatSettings(country="DE", context=512)) as talk:
        reply = talk.say(said)
        assert not reply.from_model and "116" in reply.text and reply.ttft_s is None
        assert "not of the model" in reply._repr_html_()
        assert [turn["role"] for turn in talk.turns] == ["user", "assistant"]
    off = ChatSettings(crisis_help=False, max_new_tokens=4, context=512)
    with chat(exported / "gguf-f16", settings=off) as talk:
        assert talk.say(said).from_model


def test_latency(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = BenchSettings(decode_tokens=8, threads=1)
    found = bench(exported / "gguf-f16", prompt_tokens=[16], settings=settings)
    (row,) = found.rows
    assert row.repetitions == 5 and row.prompt_tokens == 16 and row.decode_tps_median > 0
    assert found.samples.label == "measured-host"
    assert "decode tok/s" in repr(found) and "gguf-f16" in found._repr_html_()
    assert capsys.readouterr().out == ""


def test_quiet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    set_quiet()
    try:
        distill("sample", tmp_path / "rows", settings=FEW_ROWS)
        assert capsys.readouterr() == ("", "")
    finally:
        set_quiet(False)
    distill("sample", tmp_path / "rows", settings=FEW_ROWS)
    assert "8 SFT rows" in capsys.readouterr().err


@pytest.mark.slow
def test_warnings_of_the_users_code_are_shown_as_before(made: Made) -> None:
    """Training silences those of libraries; the filters are the user's again after it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        shutil.rmtree(made.tuned.folder.parent / "again", ignore_errors=True)
        export(None, made.tuned.folder.parent / "again", adapters=made.tuned.adapters, to="gguf-f16")
        warnings.warn("mine", stacklevel=1)
    assert "mine" in [str(item.message) for item in caught]
    assert VerdictFailed.exit_code == 1
