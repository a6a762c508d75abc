"""Size, loss and speed of artifacts beside each other: what few bits take from a fine-tune, and which way keeps it.

Run as `python -m empathy_edge.bench.frontier BASE CHECKPOINT DATA ARTIFACT …`: the base, the fine-tuned checkpoint, dialogues whose
test split gives the prompts, and artifact folders, the first of which the speeds are compared with.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from empathy_edge.console import progress
from empathy_edge.formats.chat_format import messages_for
from empathy_edge.formats.dialogue import read_dialogues
from empathy_edge.judging.statistics import bootstrap_mean
from empathy_edge.runtimes import Reply, Runtime, open_runtime
from empathy_edge.system.files import read_json

PROMPTS, RESPONSE_TOKENS = 48, 48
ROUNDS, PROMPT_TOKENS, DECODE_TOKENS = 10, 64, 64

Text = tuple[list[int], tuple[int, ...]]
"""A prompt's token ids, and those of the fine-tuned model's own greedy response."""


def table(base: str, checkpoint: str, data: Path, artifacts: Sequence[Path]) -> str:
    """A Markdown table, a row for each artifact; intervals are 95 % bootstrap intervals over prompts and rounds."""
    said = [item.utterance for item in read_dialogues(data) if item.split == "test"][:PROMPTS]
    tuned = open_runtime(checkpoint)
    texts: list[Text] = []
    for text in said:
        ids = tuned.encode(messages_for(text))
        texts.append((ids, tuned.reply(ids, max_new_tokens=RESPONSE_TOKENS).token_ids))
    exact = [_log_probs(tuned, text) for text in texts]
    tuned.close()
    before = _of(base, texts)
    positions = sum(map(len, exact))
    lines = [
        f"| {len(texts)} prompts, {positions} response tokens | MB | mean KL from the fine-tuned [95 %] | p99 | top-1 "
        f"| mean KL from the base | decode, × {artifacts[0].name} [95 %] |",
        "|---|---|---|---|---|---|---|",
        f"| the base itself | | {_interval(_divergence(exact, before))} | | {_agreement(exact, before):.1%} | 0 | |",
        f"| the fine-tuned itself | | 0 | | 100 % | {np.concatenate(_divergence(before, exact)).mean():.3f} | |",
    ]
    with progress() as bar:
        task = bar.add_task("frontier", total=len(artifacts), note="")
        for folder in artifacts:
            bar.update(task, note=folder.name)
            found = _of(str(folder), texts)
            kl = _divergence(exact, found)
            size = read_json(folder / "manifest.json")["artifact"]["size_mb"]
            lines.append(
                f"| {folder.name} | {size:.0f} | {_interval(kl)} | {np.percentile(np.concatenate(kl), 99):.2f} "
                f"| {_agreement(exact, found):.1%} | {np.concatenate(_divergence(before, found)).mean():.3f} "
                f"| {_speed(folder, artifacts[0])} |"
            )
            bar.advance(task)
    return "\n".join(lines)


def _of(model: str, texts: list[Text]) -> list[np.ndarray]:
    runtime = open_runtime(model, context=1024, all_logits=True)
    found = [_log_probs(runtime, text) for text in texts]
    runtime.close()
    gc.collect()
    return found


def _log_probs(runtime: Runtime, text: Text) -> np.ndarray:
    """Of each next token over the response, float32 [len(response) + 1, vocabulary]."""
    prompt, response = text
    logits = runtime.logits([*prompt, *response])[len(prompt) - 1 :].astype(np.float64)
    logits -= logits.max(-1, keepdims=True)
    return (logits - np.log(np.exp(logits).sum(-1, keepdims=True))).astype(np.float32)


def _divergence(wanted: list[np.ndarray], found: list[np.ndarray]) -> list[np.ndarray]:
    """KL(wanted ‖ found) in nats for each token of each response."""
    return [(np.exp(a) * (a - b)).sum(-1) for a, b in zip(wanted, found, strict=True)]


def _agreement(wanted: list[np.ndarray], found: list[np.ndarray]) -> float:
    return float(
        np.concatenate([a.argmax(-1) == b.argmax(-1) for a, b in zip(wanted, found, strict=True)]).mean()
    )


def _interval(kl: list[np.ndarray]) -> str:
    """The mean over tokens, and the interval of the mean over prompts."""
    interval = bootstrap_mean([float(part.mean()) for part in kl], 2000, 0)
    return f"{np.concatenate(kl).mean():.4f} [{interval['low']:.4f}, {interval['high']:.4f}]"


def _speed(folder: Path, reference: Path) -> str:
    """Decode speed against the reference's, in alternating rounds."""
    if folder == reference:
        return "1"
    pair = [open_runtime(item, context=256) for item in (folder, reference)]
    ratios = []
    for turn in range(ROUNDS + 1):
        speeds = {runtime: _decode(runtime) for runtime in (pair if turn % 2 else pair[::-1])}
        if turn:  # the first round warms up
            ratios.append(speeds[pair[0]] / speeds[pair[1]])
    for runtime in pair:
        runtime.close()
    ratio = bootstrap_mean(ratios, 2000, 0)
    return f"{ratio['mean']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]"


def _decode(runtime: Runtime) -> float:
    runtime.forget()
    reply = runtime.reply(
        list(range(1000, 1000 + PROMPT_TOKENS)), max_new_tokens=DECODE_TOKENS, ignore_stop=True
    )
    assert isinstance(reply, Reply) and reply.decode_tps is not None
    return reply.decode_tps


if __name__ == "__main__":
    print(table(sys.argv[1], sys.argv[2], Path(sys.argv[3]), [Path(item) for item in sys.argv[4:]]))
