"""Does an artifact say what its checkpoint says? Token ids, greedy text, top-1 agreement and KL divergence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from empathy_edge.console import out as stdout
from empathy_edge.console import progress, say, table
from empathy_edge.data import sample_dialogues
from empathy_edge.errors import EmpathyEdgeError, VerdictFailed
from empathy_edge.formats.artifact_names import is_artifact
from empathy_edge.formats.chat_format import GOLDEN_CONVERSATION, messages_for, turn_end
from empathy_edge.formats.dialogue import read_dialogues
from empathy_edge.runs.recipe import GateSettings
from empathy_edge.runs.stage import open_stage
from empathy_edge.runtimes import Runtime, default_threads, open_runtime
from empathy_edge.runtimes.torch_runtime import TorchRuntime
from empathy_edge.system.files import MANIFEST, read_json, write_json

BOUNDS = {
    # quantization: (largest mean KL in nats, smallest top-1 agreement)
    "f16": (0.001, 0.99),
    "f32": (0.001, 0.99),
    "fp32": (0.001, 0.99),
    "bf16": (0.02, 0.95),
    "q8_0": (0.03, 0.93),
    "lora": (0.03, 0.93),
}
_BOUNDED = ("mean_kl", "top1_agreement")
FOUR_BIT_BOUND = (1.5, 0.4)
"""Four bits only have to make sense here; whether they kept the empathy is the gate's question."""

RESPONSE_TOKENS = 48


def run(
    *, checkpoint: Path, artifacts: list[Path], out: Path, prompts: int, update: bool = False
) -> dict[str, Any]:
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
        stage.finish(artifacts=rows, merge=_merge(checkpoint))
    rows = stage.manifest["results"]["artifacts"]
    stdout.print(
        table(
            f"Verified against the merged checkpoint (torch, fp32), {prompts} prompts",
            [
                "artifact",
                "MB",
                "token ids",
                "stop ids",
                "same greedy text",
                "top-1",
                "mean KL",
                "p99 KL",
                "verdict",
            ],
            [_line(row, prompts) for row in rows],
        )
    )
    for text in advice(rows):
        say(text)
    failed = [f"{row['artifact']} ({'; '.join(row['failed'])})" for row in rows if row["verdict"] == "FAIL"]
    if failed:
        raise VerdictFailed(
            f"{', '.join(failed)}: not the model that was exported; see {out / 'verify.json'}."
        )
    return stage.manifest


def _merge(checkpoint: Path) -> dict[str, Any] | None:
    """What the merge that made the checkpoint proved of itself; None for a checkpoint from elsewhere."""
    file = checkpoint / MANIFEST
    results = read_json(file).get("results", {}) if file.is_file() else {}
    kept = ("merge_max_abs_logit_difference", "merge_positions")
    return {key: results[key] for key in kept} if all(key in results for key in kept) else None


def advice(rows: list[dict[str, Any]]) -> list[str]:
    """For artifacts that rounding took far from the checkpoint, what loses less at the same size."""
    bound, found = GateSettings().max_mean_kl, []
    for row in rows:
        better = f"{row['artifact']}-gptq"
        if (
            row.get("mean_kl", 0) > bound
            and is_artifact(better)
            and better not in [item["artifact"] for item in rows]
        ):
            found.append(
                f"  {row['artifact']}: rounding alone took it to a mean KL of {row['mean_kl']:.2f} (look closer above {bound}); "
                f"--to {better} compensates the errors at about the same size."
            )
    return found


def _line(row: dict[str, Any], prompts: int) -> list[str]:
    if "golden_ids_equal" not in row:
        return [row["artifact"], f"{row['size_mb']:.0f}", *["–"] * 6, "FAIL: does not load"]
    return [
        row["artifact"],
        f"{row['size_mb']:.0f}",
        "equal" if row["golden_ids_equal"] else "DIFFER",
        "equal" if row["stop_ids_equal"] else "DIFFER",
        f"{row['greedy_same']}/{prompts}",
        f"{row['top1_agreement']:.1%}",
        f"{row['mean_kl']:.4f}",
        f"{row['p99_kl']:.3f}",
        row["verdict"],
    ]


def _compare(checkpoint: Path, artifacts: list[Path], prompts: int) -> list[dict[str, Any]]:
    dialogues = [item for item in read_dialogues(sample_dialogues()) if item.split == "test"][:prompts]
    conversations = [messages_for(item.utterance) for item in dialogues]
    reference = TorchRuntime(checkpoint, threads=default_threads())
    golden = reference.encode(GOLDEN_CONVERSATION)
    replies, expected = [], []
    made = reference.reply_batch(conversations, max_new_tokens=RESPONSE_TOKENS)
    for messages, reply in zip(conversations, made, strict=True):
        ids = reference.encode(messages)
        replies.append((messages, ids, reply))
        expected.append(_response_log_probs(reference, ids, reply.token_ids))
    stops = reference.stop_ids | reference.declared_stop_ids
    turn = reference.tokenize(turn_end(reference.template))[0]
    reference.close()
    rows = []
    with progress() as bar:
        task = bar.add_task("verify", total=len(artifacts), note="")
        for folder in artifacts:
            bar.update(task, note=folder.name)
            artifact = read_json(folder / "manifest.json")["artifact"]
            row = {"artifact": folder.name, "size_mb": artifact["size_mb"], "failed": []}
            try:
                runtime = open_runtime(folder, threads=default_threads(), context=1024, all_logits=True)
            except EmpathyEdgeError as error:
                rows.append({**row, "failed": [f"does not load: {error}"], "verdict": "FAIL"})
                continue
            row["golden_ids_equal"] = runtime.encode(GOLDEN_CONVERSATION) == golden
            row["stop_ids_equal"] = turn in runtime.declared_stop_ids and runtime.declared_stop_ids <= stops
            row |= _compare_one(runtime, replies, expected) | {
                "bounds": dict(zip(_BOUNDED, _bounds(artifact), strict=True))
            }
            row["failed"] = _failed(row)
            rows.append({**row, "verdict": "FAIL" if row["failed"] else "PASS"})
            runtime.close()
            bar.advance(task)
    return rows


def _bounds(artifact: dict[str, Any]) -> tuple[float, float]:
    kind = "lora" if artifact.get("method") == "lora" else artifact["quantization"]
    return BOUNDS.get(kind, FOUR_BIT_BOUND)


def _failed(row: dict[str, Any]) -> list[str]:
    """The checks that an artifact does not pass, in words."""
    bounds, positions = row["bounds"], row["positions"]
    # One position may be a tie of the checkpoint's two best tokens, which rounding decides.
    misses = round((1 - row["top1_agreement"]) * positions)
    return [
        words
        for words, good in (
            ("other token ids for the golden conversation", row["golden_ids_equal"]),
            ("other stop tokens", row["stop_ids_equal"]),
            (f"mean KL above {bounds['mean_kl']}", row["mean_kl"] <= bounds["mean_kl"]),
            (
                f"top-1 agreement below {bounds['top1_agreement']:.0%}",
                misses <= max(1, (1 - bounds["top1_agreement"]) * positions),
            ),
        )
        if not good
    ]


def _compare_one(runtime: Runtime, replies: list[Any], expected: list[np.ndarray]) -> dict[str, Any]:
    kl: list[float] = []
    agree: list[bool] = []
    same = 0
    for (messages, ids, reply), wanted in zip(replies, expected, strict=True):
        found = _response_log_probs(runtime, ids, reply.token_ids)
        kl += (np.exp(wanted) * (wanted - found)).sum(-1).tolist()
        agree += (wanted.argmax(-1) == found.argmax(-1)).tolist()
        runtime.forget()
        again = runtime.reply(messages, max_new_tokens=RESPONSE_TOKENS)
        same += (again.text, again.finish_reason) == (reply.text, reply.finish_reason)
    return {
        "greedy_same": int(same),
        "top1_agreement": round(float(np.mean(agree)), 4),
        "mean_kl": round(float(np.mean(kl)), 5),
        "p99_kl": round(float(np.percentile(kl, 99)), 4),
        "positions": len(kl),
    }


def _response_log_probs(runtime: Runtime, prompt: list[int], response: tuple[int, ...]) -> np.ndarray:
    """Log-probabilities of each next token over the response, float64 [len(response) + 1, vocabulary]."""
    logits = runtime.logits([*prompt, *response])[len(prompt) - 1 :].astype(np.float64)
    logits -= logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))
