"""Size, loss and speed of artifacts side by side: what few bits take from a fine-tune, and what keeps it.

Run as `python -m empathy_edge.bench.frontier BASE CHECKPOINT DATA ARTIFACT …`: the base, the fine-tuned
checkpoint, dialogues whose test split gives the prompts, and artifact folders. Speeds are compared with
those of the first artifact.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from empathy_edge.console import progress
from empathy_edge.formats.chat_format import messages_for
from empathy_edge.formats.dialogue import read_dialogues
from empathy_edge.judging.statistics import bootstrap
from empathy_edge.runtimes import Reply, Runtime, open_runtime
from empathy_edge.runtimes.distributions import kl_divergence, log_softmax
from empathy_edge.system.files import read_json

PROMPTS, RESPONSE_TOKENS = 48, 48
ROUNDS, PROMPT_TOKENS, DECODE_TOKENS = 10, 64, 64
RESAMPLES = 2000


class Text(NamedTuple):
    """Token ids of a prompt, and of the fine-tuned model's own greedy response to it."""

    prompt: list[int]
    response: tuple[int, ...]


LogProbs = list[np.ndarray]
"""For each text the log-probabilities of every next token, float32 [len(response) + 1, vocabulary]."""


def table(base: str, checkpoint: str, data: Path, artifacts: Sequence[Path]) -> str:
    """A Markdown table, a row for each artifact; 95 % bootstrap intervals over prompts and rounds."""
    texts, of_tuned = _texts_and_log_probs(checkpoint, data)
    of_base = _log_probs_of(base, texts)
    tokens = sum(len(positions) for positions in of_tuned)
    base_from_tuned = _divergences(of_tuned, of_base)
    tuned_from_base = np.concatenate(_divergences(of_base, of_tuned)).mean()
    columns = [
        f"{len(texts)} prompts, {tokens} response tokens",
        "MB",
        "mean KL from the fine-tuned [95 %]",
        "p99",
        "top-1",
        "mean KL from the base",
        f"decode, × {artifacts[0].name} [95 %]",
    ]
    lines = [
        f"| {' | '.join(columns)} |",
        "|---|---|---|---|---|---|---|",
        f"| the base itself | | {_mean(base_from_tuned)} | | {_agreement(of_tuned, of_base):.1%} | 0 | |",
        f"| the fine-tuned itself | | 0 | | 100 % | {tuned_from_base:.3f} | |",
    ]
    with progress() as bar:
        task = bar.add_task("frontier", total=len(artifacts), note="")
        for folder in artifacts:
            bar.update(task, note=folder.name)
            found = _log_probs_of(str(folder), texts)
            from_tuned = _divergences(of_tuned, found)
            from_base = np.concatenate(_divergences(of_base, found)).mean()
            size_mb = read_json(folder / "manifest.json")["artifact"]["size_mb"]
            p99 = np.percentile(np.concatenate(from_tuned), 99)
            lines.append(
                f"| {folder.name} | {size_mb:.0f} | {_mean(from_tuned)} | {p99:.2f} "
                f"| {_agreement(of_tuned, found):.1%} | {from_base:.3f} | {_speed(folder, artifacts[0])} |"
            )
            bar.advance(task)
    return "\n".join(lines)


def _texts_and_log_probs(checkpoint: str, data: Path) -> tuple[list[Text], LogProbs]:
    """The fine-tuned model's responses to test prompts, and its log-probabilities over them."""
    prompts = [item.utterance for item in read_dialogues(data) if item.split == "test"][:PROMPTS]
    tuned = open_runtime(checkpoint)
    texts = []
    for prompt in prompts:
        ids = tuned.encode(messages_for(prompt))
        texts.append(Text(ids, tuned.reply(ids, max_new_tokens=RESPONSE_TOKENS).token_ids))
    log_probs = [_log_probs(tuned, text) for text in texts]
    tuned.close()
    return texts, log_probs


def _log_probs_of(model: str, texts: list[Text]) -> LogProbs:
    runtime = open_runtime(model, context=1024, exact_logits=True)
    found = [_log_probs(runtime, text) for text in texts]
    runtime.close()
    gc.collect()
    return found


def _log_probs(runtime: Runtime, text: Text) -> np.ndarray:
    """Of each next token over the response, float32 [len(response) + 1, vocabulary]."""
    logits = runtime.logits([*text.prompt, *text.response])[len(text.prompt) - 1 :]
    return log_softmax(logits).astype(np.float32)


def _divergences(reference: LogProbs, found: LogProbs) -> list[np.ndarray]:
    """KL(reference ‖ found) in nats for each token of each response, [len(response) + 1] each."""
    return [kl_divergence(log_p, log_q) for log_p, log_q in zip(reference, found, strict=True)]


def _agreement(reference: LogProbs, found: LogProbs) -> float:
    """The share of tokens of which both find the same one likeliest."""
    same = [
        log_p.argmax(axis=-1) == log_q.argmax(axis=-1) for log_p, log_q in zip(reference, found, strict=True)
    ]
    return float(np.concatenate(same).mean())


def _mean(divergences: list[np.ndarray]) -> str:
    """The mean over tokens, and the interval of the mean over prompts."""
    means = [float(of_text.mean()) for of_text in divergences]
    interval = bootstrap(means, resamples=RESAMPLES, seed=0)
    return f"{np.concatenate(divergences).mean():.4f} [{interval.low:.4f}, {interval.high:.4f}]"


def _speed(folder: Path, reference: Path) -> str:
    """Decode speed against the reference's, in alternating rounds."""
    if folder == reference:
        return "1"
    pair = [open_runtime(item, context=256) for item in (folder, reference)]
    ratios = []
    for number in range(ROUNDS + 1):
        speeds = {runtime: _decode_tps(runtime) for runtime in (pair if number % 2 else pair[::-1])}
        if number > 0:  # the first round warms up
            ratios.append(speeds[pair[0]] / speeds[pair[1]])
    for runtime in pair:
        runtime.close()
    ratio = bootstrap(ratios, resamples=RESAMPLES, seed=0)
    return f"{ratio.mean:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"


def _decode_tps(runtime: Runtime) -> float:
    runtime.forget()
    prompt = list(range(1000, 1000 + PROMPT_TOKENS))
    reply = runtime.reply(prompt, max_new_tokens=DECODE_TOKENS, ignore_stop=True)
    assert isinstance(reply, Reply) and reply.decode_tps is not None
    return reply.decode_tps


if __name__ == "__main__":
    print(table(sys.argv[1], sys.argv[2], Path(sys.argv[3]), [Path(item) for item in sys.argv[4:]]))
