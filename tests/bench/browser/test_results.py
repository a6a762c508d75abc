"""Results that lie, models in parts, templates in pieces, and results in profiles and reports."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from empathy_edge.bench.browser.limits import PER_MINUTE, RateLimit, Runs
from empathy_edge.bench.browser.parts import parts_of
from empathy_edge.bench.browser.plan import make_plan, phone_file
from empathy_edge.bench.browser.results import (
    BrowserResult,
    beside_native,
    cells,
    result_of,
    write_browser_result,
)
from empathy_edge.bench.browser.settings import PhoneSettings
from empathy_edge.bench.browser.template_pieces import template_pieces
from empathy_edge.bench.browser.upload import Refused, check_upload, max_upload_bytes, parse_upload
from empathy_edge.bench.latency import bench
from empathy_edge.bench.latency_summary import summaries
from empathy_edge.devices import load_device
from empathy_edge.formats.built_in_templates import BUILT_IN, built_in_template
from empathy_edge.formats.chat_format import render
from empathy_edge.formats.gguf_header import tensors_of
from empathy_edge.runs.settings import BenchSettings
from empathy_edge.runtimes import open_runtime
from tests.bench.browser.serving import honest_upload
from tests.conftest import assert_one_clear_error, run_command

pytest.importorskip("llama_cpp")


@pytest.fixture(scope="module")
def plan(exported: Path) -> Any:
    artifact = str(exported / "gguf-q8_0")
    file = phone_file(artifact)
    settings = PhoneSettings(prompt_tokens=16, decode_tokens=8, rounds=3, context=256)
    return make_plan(artifact, file, parts_of(file, 10**9), settings)


def upload_of(plan: Any, change: Callable[[dict[str, Any]], object] = lambda sent: None) -> bytes:
    """An honest upload as JSON, after a change."""
    content = {"sha256": plan.sha256, **plan.model_dump(mode="json")}
    sent = copy.deepcopy(honest_upload(content, "run"))
    change(sent)
    return json.dumps(sent).encode()


def result(plan: Any, change: Callable[[dict[str, Any]], object] = lambda sent: None) -> BrowserResult:
    upload = parse_upload(upload_of(plan, change))
    check_upload(upload, plan, 30)
    return result_of(upload, plan, 30)


LIES: dict[str, Callable[[dict[str, Any]], object]] = {
    "too fast": lambda sent: sent["samples"][0].update(token_times_s=[1e-5 * n for n in range(1, 9)]),
    "prefill too fast": lambda sent: sent["samples"][0].update(token_times_s=[1e-9, 1, 2, 3, 4, 5, 6, 7]),
    "backwards": lambda sent: sent["samples"][1].update(token_times_s=[1, 2, 1.5, 3, 4, 5, 6, 7]),
    "all at once": lambda sent: sent["samples"][0].update(token_times_s=[1.0] * 8),
    "negative": lambda sent: sent["samples"][0].update(token_times_s=[-1, 2, 3, 4, 5, 6, 7, 8]),
    "zero": lambda sent: sent["samples"][0].update(token_times_s=[0, 1, 2, 3, 4, 5, 6, 7]),
    "no number": lambda sent: sent["samples"][0].update(token_times_s=[math.nan] * 8),
    "infinite": lambda sent: sent["samples"][0].update(token_times_s=[1, math.inf] * 4),
    "text": lambda sent: sent["samples"][0].update(token_times_s=["1"] * 8),
    "more time than passed": lambda sent: sent["samples"][0].update(
        token_times_s=[10.0 * n for n in range(1, 9)]
    ),
    "a round missing": lambda sent: sent["samples"].pop(),
    "an answer missing": lambda sent: sent["answers"].pop(),
    "a short answer": lambda sent: sent["answers"][0]["reply_ids"].pop(),
    "a short round": lambda sent: sent["samples"][0]["token_times_s"].pop(),
    "too many windows": lambda sent: sent.update(windows=[{"end_s": 1, "seconds": 1, "tokens": 1}] * 401),
    "a hot window": lambda sent: sent.update(windows=[{"end_s": 1, "seconds": 0.001, "tokens": 1000}]),
    "another plan": lambda sent: sent.update(plan="0" * 64),
    "an unknown field": lambda sent: sent.update(admin=True),
    "a field missing": lambda sent: sent.pop("device"),
    "no threads": lambda sent: sent.update(threads=0),
    "many threads": lambda sent: sent.update(threads=10**6),
    "truth for a number": lambda sent: sent.update(threads=True),
    "a long name": lambda sent: sent["device"].update(name="x" * 61),
    "a long run": lambda sent: sent.update(run="x" * 65),
}


@pytest.mark.parametrize("lie", LIES)
def test_results_that_lie_are_refused(plan: Any, lie: str) -> None:
    result(plan)
    with pytest.raises(Refused) as refused:
        result(plan, LIES[lie])
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b"\xff\xfe", b'{"run": 1}', b"[" * 1000])
def test_what_is_no_result_is_refused(body: bytes) -> None:
    with pytest.raises(Refused):
        parse_upload(body)


def test_other_tokens_are_told(plan: Any) -> None:
    def changed(sent: dict[str, Any]) -> None:
        sent["answers"][1]["reply_ids"][3] += 1

    gap = plan.comparisons[1].gaps[3]
    assert result(plan).tokens == "same"
    found = result(plan, changed)
    assert found.tokens == ("near tie" if gap <= 0.5 else "differ")
    assert found.parting_gap_nats == gap
    prompt = result(plan, lambda sent: sent["answers"][0]["prompt_ids"].append(1))
    assert (prompt.tokens, prompt.parting_gap_nats) == ("differ", None)


def test_control_characters_do_not_reach_the_terminal(plan: Any) -> None:
    found = result(plan, lambda sent: sent["device"].update(name="\x1b]0;owned\x07 \u202ephone\r\n"))
    assert found.phone == "]0;owned   phone"


def test_heat_is_the_first_minute_beside_the_last(plan: Any) -> None:
    windows = [{"end_s": 10.0 * n, "seconds": 10.0, "tokens": 200 - n} for n in range(1, 13)]
    upload = parse_upload(upload_of(plan, lambda sent: sent.update(windows=windows)))
    check_upload(upload, plan, 200)
    first, last = result_of(upload, plan, 200).heat or (0, 0)
    assert (first, last) == (pytest.approx(19.65), pytest.approx(19.05))
    assert result(plan).heat is None


def test_the_rate_is_limited_by_address_and_a_run_ends(plan: Any) -> None:
    limit = RateLimit()
    assert [limit.allows("a") for _ in range(PER_MINUTE + 1)] == [True] * PER_MINUTE + [False]
    assert limit.allows("b")
    assert sum(limit.allows(str(number)) for number in range(200)) < 60
    runs = Runs()
    for number in range(100):
        runs.begin(str(number))
    assert runs.elapsed_s("0") is None and runs.elapsed_s("99") is not None
    runs.end("99")
    assert runs.elapsed_s("99") is None


def test_a_slow_phone_may_take_as_long_as_the_server_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs()
    runs.begin("slow")
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 20_000)
    assert (runs.elapsed_s("slow") or 0) >= 20_000


def test_the_longest_result_that_can_be_asked_for_is_taken(plan: Any) -> None:
    """40 rounds of 1024 tokens had more bytes than the server took, and a slow window more seconds."""
    longest = plan.model_copy(update={"rounds": 40, "decode_tokens": 1024})
    times = [round(12345.123457 + 60.000001 * place, 6) for place in range(1024)]

    def slow(sent: dict[str, Any]) -> None:
        windows = [{"end_s": 2048.123457, "seconds": 2048.123457, "tokens": 1024}]
        sent.update(samples=[{"token_times_s": times}] * 40, windows=windows)

    body = upload_of(longest, slow)
    assert 262_144 < len(body) <= max_upload_bytes(longest)
    upload = parse_upload(body)
    check_upload(upload, longest, 40 * 86_400)
    assert len(result_of(upload, longest, 40 * 86_400).samples) == 40


@pytest.mark.parametrize("part_bytes", [1, 3_000_000])
def test_a_model_in_parts_is_the_same_model(exported: Path, tmp_path: Path, part_bytes: int) -> None:
    (file,) = (exported / "gguf-q8_0").glob("*.gguf")
    parts = parts_of(file, part_bytes)
    assert len(parts) > 1
    content = file.read_bytes()
    place = tensors_of(file)
    for number, part in enumerate(parts):
        path = tmp_path / f"model-{number + 1:05}-of-{len(parts):05}.gguf"
        path.write_bytes(b"".join(part.read(0, part.size)))
        assert path.stat().st_size == part.size
        middle = b"".join(part.read(7, part.size - 3))
        assert middle == path.read_bytes()[7:-3]
        for name, found in tensors_of(path).items():
            theirs = place.pop(name)
            assert (found.kind, found.shape) == (theirs.kind, theirs.shape)
            here = path.read_bytes()[found.begin : found.begin + found.nbytes]
            assert here == content[theirs.begin : theirs.begin + theirs.nbytes]
    assert not place
    if part_bytes > 1:
        whole, split = open_runtime(file), open_runtime(tmp_path / f"model-00001-of-{len(parts):05}.gguf")
        said = [{"role": "user", "content": "I failed my exam."}]
        assert split.reply(said, max_new_tokens=8).token_ids == whole.reply(said, max_new_tokens=8).token_ids
        one = run_command("phone", tmp_path / f"model-00001-of-{len(parts):05}.gguf")
        assert_one_clear_error(one, 2, "one part of a split model")


def test_templates_in_pieces_are_the_templates() -> None:
    refused = {
        name for name in BUILT_IN if template_pieces(built_in_template(name, begins_with_bos=True)) is None
    }
    assert refused == {"mistral-v3", "mistral-v3-tekken"}, (
        "they put the system prompt before the last message"
    )


LEAVES_OUT_THOUGHTS = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.role == 'assistant' and '</think>' in message.content %}"
    "{{ message.content.split('</think>')[-1].lstrip('\n') }}"
    "{% else %}{{ message.content }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""As Qwen3's: of earlier replies only what comes after the thoughts is shown again."""

THOUGHTFUL = [
    {"role": "system", "content": "You listen."},
    {"role": "user", "content": "My dog died."},
    {"role": "assistant", "content": "<think>\nShe is sad.\n</think>\n\nI'm so sorry."},
    {"role": "user", "content": "Thank you."},
]


def test_thoughts_are_left_out_of_earlier_replies_where_the_template_does_that() -> None:
    """The page showed them to the model again, and its prompts were not the template's."""
    pieces = template_pieces(LEAVES_OUT_THOUGHTS)
    assert pieces is not None and pieces.thoughts == "dropped with spaces"
    assert pieces.render(THOUGHTFUL) == render(LEAVES_OUT_THOUGHTS, THOUGHTFUL)
    kept = template_pieces(built_in_template("chatml", begins_with_bos=False))
    assert kept is not None and kept.thoughts == "kept"
    keeps_lines = LEAVES_OUT_THOUGHTS.replace(".lstrip('\n')", "")
    found = template_pieces(keeps_lines)  # as DeepSeek's
    assert keeps_lines != LEAVES_OUT_THOUGHTS and found is not None and found.thoughts == "dropped"
    assert found.render(THOUGHTFUL) == render(keeps_lines, THOUGHTFUL)
    other = LEAVES_OUT_THOUGHTS.replace("</think>')[-1]", "</think>')[-1] + '!'")
    assert other != LEAVES_OUT_THOUGHTS and (found := template_pieces(other)) and found.thoughts == "kept"


def test_a_browser_calibrates_a_profile_of_its_own(plan: Any, exported: Path, tmp_path: Path) -> None:
    file = write_browser_result(tmp_path, result(plan), "abc")
    profile = tmp_path / "browser.yaml"
    options = ("--device", "pixel-8", "--out", profile)
    made = run_command("bench", "ingest", file, "--artifact", exported / "gguf-q8_0", *options)
    assert made.returncode == 0, made.stderr
    device = load_device(str(profile))
    assert device.name.endswith("(browser)")
    (run,) = device.runs
    assert run.decode_tps == 1000 and run.source.startswith("measured-browser")
    assert not any(name.startswith(("decode_", "prefill_")) for name in device.figures)
    other = run_command(
        "bench", "ingest", file, "--artifact", exported / "gguf-f16", *options[:3], tmp_path / "b.yaml"
    )
    assert_one_clear_error(other, 2, "another file")


def test_the_ratio_to_the_host_is_shown_apart(plan: Any, exported: Path) -> None:
    (alone,) = beside_native([result(plan)], [])
    assert (cells(alone)[0], cells(alone)[-1]) == ("Test phone", "–")
    settings = BenchSettings(prompt_tokens=16, decode_tokens=8, repetitions=5, threads=1)
    host = summaries(bench([str(exported / "gguf-q8_0")], settings))
    (row,) = beside_native([result(plan)], host)
    assert row.ratio == pytest.approx(1000 / host[0].decode_tps_median)
    assert cells(row)[-1].endswith("% (1 threads)")
