"""Replies drawn by the runtimes: from the whole distribution, with the right log-probabilities."""

from pathlib import Path

import numpy as np
import pytest

from empathy_edge.bench.check.baseline.drawing import draw_records
from empathy_edge.bench.check.prompts import read_prompts
from empathy_edge.runs.settings import ReplySettings
from empathy_edge.runtimes import llama_cpp_score, open_runtime
from empathy_edge.runtimes.base import Sampling
from empathy_edge.runtimes.drawn import choose

PROMPTS = ("My dog died this morning.", "I got the job!", "hi", "The river is over the bridge, and it rains.")


def test_choose_gives_each_token_its_share() -> None:
    logits = np.log(np.array([0.1, 0.6, 0.3], np.float32))
    drawn = [choose(logits, 1.0, (place + 0.5) / 1000)[0] for place in range(1000)]
    assert [drawn.count(token) for token in range(3)] == [100, 600, 300]
    token, log_prob = choose(logits, 0.5, 0.5)
    assert token == 1 and log_prob == pytest.approx(np.log(0.36 / 0.46), abs=1e-6)
    assert choose(logits, 0.0, 0.99) == (1, pytest.approx(np.log(0.6), abs=1e-6))


def test_choose_never_leaves_the_vocabulary() -> None:
    assert choose(np.zeros(4, np.float32), 1.0, np.nextafter(1.0, 0.0))[0] == 3


@pytest.mark.parametrize("samples", [1, 3])
def test_many_at_once_are_as_one_by_one(exported: Path, samples: int) -> None:
    runtime = open_runtime(exported / "gguf-f16", context=256)
    prompts = [runtime.encode([{"role": "user", "content": text}]) for text in PROMPTS * 5]
    count = 0

    def drawn() -> None:
        nonlocal count
        count += 1

    replies = runtime.draw(prompts, samples, Sampling(0.8, 1, 12, ignore_stop=False), drawn)
    assert count == len(replies) == len(prompts) * samples
    assert len({tuple(reply.token_ids) for reply in replies}) > len(replies) / 2
    for place in range(0, len(replies), 7):
        reply, prompt = replies[place], prompts[place // samples]
        expected = runtime.log_probs([*prompt, *reply.token_ids], len(prompt), 0.8)
        assert reply.log_probs == pytest.approx(list(expected), abs=0.05)
        assert reply.stopped == (reply.token_ids[-1] in runtime.stop_ids)
        assert reply.stopped or len(reply.token_ids) == 12
    again = runtime.draw(prompts[:2], samples, Sampling(0.8, 1, 12, ignore_stop=False))
    assert [reply.token_ids for reply in again] == [reply.token_ids for reply in replies[: 2 * samples]]


def test_replies_scored_at_once_are_as_one_by_one(
    exported: Path, exported_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llama_cpp_score, "CELLS", 400)
    for artifact in (exported / "gguf-f16", exported_onnx / "onnx-portable-fp32"):
        runtime = open_runtime(artifact, context=512)
        prompt = runtime.encode([{"role": "user", "content": PROMPTS[0] * 40}])
        sampling = Sampling(1.0, 1, 24, ignore_stop=True)
        replies = [reply.token_ids for reply in runtime.draw([prompt], 20, sampling)] + [prompt[:70], [5]]
        assert len(prompt) > 256
        found = runtime.reply_log_probs(prompt, replies, 0.8)
        assert len(found) == len(replies)
        for reply, log_probs in zip(replies, found, strict=True):
            expected = runtime.log_probs([*prompt, *reply], len(prompt), 0.8)
            assert list(log_probs) == pytest.approx(list(expected), abs=0.05)


def test_greedy_replies_are_those_of_the_runtime(exported: Path) -> None:
    runtime = open_runtime(exported / "gguf-f16", context=256)
    prompts = [runtime.encode([{"role": "user", "content": text}]) for text in PROMPTS]
    replies = runtime.draw(prompts, 1, Sampling(0.0, 0, 12, ignore_stop=False))
    for prompt, reply in zip(prompts, replies, strict=True):
        assert runtime.text_of(reply) == runtime.reply(prompt, max_new_tokens=12).text


@pytest.mark.slow
def test_a_runtime_that_draws_one_by_one(exported_onnx: Path, tmp_path: Path) -> None:
    runtime = open_runtime(exported_onnx / "onnx-portable-fp32", context=256)
    prompt = runtime.encode([{"role": "user", "content": PROMPTS[0]}])
    replies = runtime.draw([prompt], 3, Sampling(0.8, 5, 8, ignore_stop=False))
    assert len({tuple(reply.token_ids) for reply in replies}) > 1
    assert all(reply.log_probs is None for reply in replies)
    settings = ReplySettings(samples=2, max_new_tokens=8)
    for record in draw_records(runtime, read_prompts(None, 2, 0), settings, tmp_path / "parts.jsonl"):
        for reply, temperature in ((record.replies[1], settings.temperature), (record.greedy, 1.0)):
            ids = [*record.token_ids, *reply.token_ids]
            expected = runtime.log_probs(ids, len(record.token_ids), temperature)
            assert reply.log_probs == pytest.approx(list(expected), abs=1e-4)
