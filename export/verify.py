"""Does an artifact say what its checkpoint says? Token ids, greedy text, top-1 agreement and KL divergence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from empathy_edge.chat_format import GOLDEN_CONVERSATION, messages_for
from empathy_edge.console import out as stdout
from empathy_edge.console import progress, table
from empathy_edge.data import sample_dialogues
from empathy_edge.dialogue import read_dialogues
from empathy_edge.errors import VerdictFailed
from empathy_edge.run import open_stage, read_json, write_json
from empathy_edge.runtimes import Runtime, default_threads, open_runtime

BOUNDS = {
    # quantization: (largest mean KL in nats, smallest top-1 agreement)
    "f16": (0.001, 0.99),
    "f32": (0.001, 0.99),
    "bf16": (0.02, 0.95),
    "q8_0": (0.03, 0.93),
    "lora": (0.03, 0.93),
}
FOUR_BIT_BOUND = (1.5, 0.4)
"""Four bits only have to make sense here; whether they kept the empathy is the gate's question."""

RESPONSE_TOKENS = 48


def run(*, checkpoint: Path, artifacts: list[Path], out: Path, prompts: int, update: bool = False) -> dict[str, Any]:
    """Compare each artifact with the checkpoint on torch; writes `verify.json`.

    Args:
        checkpoint: the merged checkpoint folder.
        artifacts: artifact folders.
        out: the stage's folder.
        prompts: how many prompts of the shipped test split are used.
        update: do it again where inputs changed.

    Raises:
        VerdictFailed: an artifact is beyond its bounds; all figures are in `verify.json`.
    """
    stage = open_stage(
        out,
        "verify",
        settings={"prompts": prompts, "response_tokens": RESPONSE_TOKENS},
        inputs={"checkpoint": checkpoint, **{folder.name: folder for folder in artifacts}},
        update=update,
    )
    if not stage.done:
        rows = _compare(checkpoint, artifacts, prompts)
        write_json(out / "verify.json", rows)
        stage.finish(artifacts=rows)
    rows = stage.manifest["results"]["artifacts"]
    stdout.print(
        table(
            f"Verified against the merged checkpoint (torch, fp32), {prompts} prompts",
            ["artifact", "token ids", "same greedy text", "top-1", "mean KL", "p99 KL", "verdict"],
            [
                [
                    row["artifact"],
                    "equal" if row["golden_ids_equal"] else "DIFFER",
                    f"{row['greedy_same']}/{prompts}",
                    f"{row['top1_agreement']:.1%}",
                    f"{row['mean_kl']:.4f}",
                    f"{row['p99_kl']:.3f}",
                    row["verdict"],
                ]
                for row in rows
            ],
        )
    )
    failed = [row["artifact"] for row in rows if row["verdict"] == "FAIL"]
    if failed:
        raise VerdictFailed(f"{', '.join(failed)}: not the model that was exported; see {out / 'verify.json'}.")
    return stage.manifest


def _compare(checkpoint: Path, artifacts: list[Path], prompts: int) -> list[dict[str, Any]]:
    dialogues = [item for item in read_dialogues(sample_dialogues()) if item.split == "test"][:prompts]
    conversations = [messages_for(item.utterance) for item in dialogues]
    reference = open_runtime(checkpoint)
    golden = reference.encode(GOLDEN_CONVERSATION)
    replies, expected = [], []
    for messages in conversations:
        ids = reference.encode(messages)
        reply = reference.reply(messages, max_new_tokens=RESPONSE_TOKENS)
        replies.append((messages, ids, reply))
        expected.append(_response_log_probs(reference, ids, reply.token_ids))
    reference.close()
    rows = []
    with progress() as bar:
        task = bar.add_task("verify", total=len(artifacts), note="")
        for folder in artifacts:
            bar.update(task, note=folder.name)
            runtime = open_runtime(folder, threads=default_threads(), context=1024, all_logits=True)
            rows.append(_compare_one(folder, runtime, golden, replies, expected))
            runtime.close()
            bar.advance(task)
    return rows


def _compare_one(
    folder: Path, runtime: Runtime, golden: list[int], replies: list[Any], expected: list[np.ndarray]
) -> dict[str, Any]:
    kl: list[float] = []
    agree: list[bool] = []
    same = 0
    for (messages, ids, reply), wanted in zip(replies, expected, strict=True):
        found = _response_log_probs(runtime, ids, reply.token_ids)
        kl += (np.exp(wanted) * (wanted - found)).sum(-1).tolist()
        agree += (wanted.argmax(-1) == found.argmax(-1)).tolist()
        runtime.forget()
        same += runtime.reply(messages, max_new_tokens=RESPONSE_TOKENS).text == reply.text
    artifact = read_json(folder / "manifest.json")["artifact"]
    kind = "lora" if artifact.get("method") == "lora" else artifact["quantization"]
    most_kl, least_top1 = BOUNDS.get(kind, FOUR_BIT_BOUND)
    ids_equal = runtime.encode(GOLDEN_CONVERSATION) == golden
    mean_kl, top1 = float(np.mean(kl)), float(np.mean(agree))
    # One position may be a tie of the checkpoint's two best tokens, which rounding decides.
    good = ids_equal and mean_kl <= most_kl and agree.count(False) <= max(1, (1 - least_top1) * len(agree))
    return {
        "artifact": folder.name,
        "golden_ids_equal": ids_equal,
        "greedy_same": int(same),
        "top1_agreement": round(top1, 4),
        "mean_kl": round(mean_kl, 5),
        "p99_kl": round(float(np.percentile(kl, 99)), 4),
        "positions": len(kl),
        "bounds": {"mean_kl": most_kl, "top1_agreement": least_top1},
        "verdict": "PASS" if good else "FAIL",
    }


def _response_log_probs(runtime: Runtime, prompt: list[int], response: tuple[int, ...]) -> np.ndarray:
    """Log-probabilities of each next token over the response, float64 [len(response) + 1, vocabulary]."""
    logits = runtime.logits([*prompt, *response])[len(prompt) - 1 :].astype(np.float64)
    logits -= logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))
