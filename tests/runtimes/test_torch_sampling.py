"""Replies drawn many at once: the same chances as one at a time, whatever their lengths."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from empathy_edge.formats.chat_format import messages_for
from empathy_edge.runtimes.torch_runtime import TorchRuntime
from empathy_edge.runtimes.torch_sampling import EndTokens, draw

SAID = ("My cat died.", "I won the race, and my whole family came to see it!", "No.", "Why me? " * 12)


@pytest.fixture(scope="module")
def runtime(tiny_model: Path) -> TorchRuntime:
    return TorchRuntime(tiny_model, threads=1)


def test_log_probabilities_are_those_of_teacher_forcing(runtime: TorchRuntime) -> None:
    prompts = [runtime.encode(messages_for(said)) for said in SAID for _ in range(3)]
    stops = {token for token in range(0, 49152, 10)}  # so that some rows end early
    drawn = draw(
        runtime.model, prompts, tokens=EndTokens(stops, 2), max_new_tokens=24, temperature=1.3, seed=1
    )
    assert len({tuple(item.token_ids) for item in drawn}) > 6
    assert any(item.stopped for item in drawn) and len({len(item.token_ids) for item in drawn}) > 2
    for prompt, item in zip(prompts, drawn, strict=True):
        forced = runtime.log_probs([*prompt, *item.token_ids], len(prompt), 1.3)
        assert np.abs(forced - item.log_probs).max() < 2e-3
        assert item.stopped == (item.token_ids[-1] in stops)


def test_greedy_ones_are_the_runtimes_own(runtime: TorchRuntime) -> None:
    conversations = [messages_for(said) for said in SAID]
    prompts = [runtime.encode(messages) for messages in conversations]
    end = EndTokens(runtime.stop_ids, 2)
    drawn = draw(runtime.model, prompts, tokens=end, max_new_tokens=12, temperature=0.0, seed=0)
    replies = runtime.reply_batch(conversations, max_new_tokens=12)
    ours = [tuple(item.token_ids[: -1 if item.stopped else None]) for item in drawn]
    assert ours == [reply.token_ids for reply in replies]


def test_each_seed_gives_its_own_replies(runtime: TorchRuntime) -> None:
    prompts = [runtime.encode(messages_for(SAID[0]))] * 4
    end = EndTokens(runtime.stop_ids, 2)
    first, again, other = (
        draw(runtime.model, prompts, tokens=end, max_new_tokens=8, temperature=1.0, seed=seed)
        for seed in (0, 0, 1)
    )
    assert first == again != other
