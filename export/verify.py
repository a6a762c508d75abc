"""Does an artifact compute what its checkpoint computes? Token ids, greedy text, top-1, KL divergence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from empathy_edge.console import out as stdout
from empathy_edge.console import progress, say, table
from empathy_edge.data import sample_dialogues
from empathy_edge.errors import EmpathyEdgeError, VerdictFailed
from empathy_edge.export import merged
from empathy_edge.export.fidelity_bounds import NOTABLE_MEAN_KL, Bounds, bounds_of
from empathy_edge.export.record import read_manifest
from empathy_edge.formats.artifact_names import is_artifact
from empathy_edge.formats.chat_format import GOLDEN_CONVERSATION, Message, messages_for, turn_end
from empathy_edge.formats.dialogue import read_dialogues
from empathy_edge.runs.stage import Results, open_stage, results_of
from empathy_edge.runtimes import Reply, Runtime, default_threads, open_runtime
from empathy_edge.runtimes.distributions import kl_divergence, log_softmax
from empathy_edge.runtimes.torch_runtime import TorchRuntime
from empathy_edge.system.files import MANIFEST, read_json, write_json


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


RESPONSE_TOKENS = 48
CONTEXT = 1024
"""Tokens in the context window in which an artifact is opened."""


class CheckedArtifact(_Frozen):
    """An artifact beside its checkpoint.

    Attributes:
        artifact: its name.
        size_mb: of its model files.
        failed: the checks that it does not pass, in words.
        golden_ids_equal: whether the golden conversation has the same token ids.
        stop_ids_equal: whether its own files name the same end tokens.
        greedy_same: for how many prompts it gives the same greedy response.
        top1_agreement: the share of response tokens at which the likeliest token is the same.
        mean_kl: mean KL divergence from the checkpoint in nats a token.
        p99_kl: its 99th percentile.
        positions: how many response tokens were compared.
        bounds: that it must keep.
        verdict: PASS without failed checks.
    """

    artifact: str
    size_mb: float
    failed: list[str]
    golden_ids_equal: bool
    stop_ids_equal: bool
    greedy_same: int
    top1_agreement: float
    mean_kl: float
    p99_kl: float
    positions: int
    bounds: Bounds
    verdict: Literal["PASS", "FAIL"]


class UnloadableArtifact(_Frozen):
    """An artifact that its runtime cannot open; `failed` says why."""

    artifact: str
    size_mb: float
    failed: list[str]
    verdict: Literal["FAIL"]


class MergeFigures(_Frozen):
    """What the merge found that made the checkpoint, as in `MergeResults`."""

    merge_max_abs_logit_difference: float
    merge_positions: int


class VerifyResults(Results):
    """What verify found.

    Attributes:
        artifacts: one row each, in the order in which they were given.
        merge: None for a checkpoint that `export` did not merge.
    """

    artifacts: list[CheckedArtifact | UnloadableArtifact]
    merge: MergeFigures | None


def run(
    *, checkpoint: Path, artifacts: list[Path], out: Path, prompts: int, update: bool = False
) -> VerifyResults:
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
        files=("verify.json",),
        update=update,
    )
    if stage.done:
        results = stage.results(VerifyResults)
    else:
        rows = _compare(checkpoint, artifacts, prompts)
        write_json(out / "verify.json", [row.model_dump(mode="json") for row in rows])
        results = VerifyResults(artifacts=rows, merge=_merge_figures(checkpoint))
        stage.finish(results)
    _show(results, prompts)
    failed = [row for row in results.artifacts if row.verdict == "FAIL"]
    if failed:
        reasons = ", ".join(f"{row.artifact} ({'; '.join(row.failed)})" for row in failed)
        raise VerdictFailed(f"{reasons}: not the model that was exported; see {out / 'verify.json'}.")
    return results


@dataclass(frozen=True)
class _Response:
    """The checkpoint's greedy response to a prompt.

    Attributes:
        messages: the prompt.
        prompt_ids: its token ids.
        reply: the response.
        log_probs: of each next token over the response, float64 [tokens + 1, vocabulary].
    """

    messages: list[Message]
    prompt_ids: list[int]
    reply: Reply
    log_probs: np.ndarray


@dataclass(frozen=True)
class _Reference:
    """What the checkpoint on torch gives, with which each artifact is compared.

    Attributes:
        golden_ids: the token ids of the golden conversation.
        stop_ids: all tokens that end a response.
        end_of_turn: the one with which the template ends a turn.
        responses: to the prompts.
    """

    golden_ids: list[int]
    stop_ids: frozenset[int]
    end_of_turn: int
    responses: list[_Response]


def _compare(
    checkpoint: Path, artifacts: list[Path], prompts: int
) -> list[CheckedArtifact | UnloadableArtifact]:
    reference = _reference_of(checkpoint, prompts)
    rows: list[CheckedArtifact | UnloadableArtifact] = []
    with progress() as bar:
        task = bar.add_task("verify", total=len(artifacts))
        for folder in artifacts:
            bar.update(task, note=folder.name)
            rows.append(_check(folder, reference))
            bar.advance(task)
    return rows


def _reference_of(checkpoint: Path, prompts: int) -> _Reference:
    dialogues = [item for item in read_dialogues(sample_dialogues()) if item.split == "test"][:prompts]
    conversations = [messages_for(item.utterance) for item in dialogues]
    runtime = TorchRuntime(checkpoint, threads=default_threads())
    replies = runtime.reply_batch(conversations, max_new_tokens=RESPONSE_TOKENS)
    responses = []
    for messages, reply in zip(conversations, replies, strict=True):
        prompt_ids = runtime.encode(messages)
        log_probs = _response_log_probs(runtime, prompt_ids, reply)
        responses.append(_Response(messages, prompt_ids, reply, log_probs))
    reference = _Reference(
        golden_ids=runtime.encode(GOLDEN_CONVERSATION),
        stop_ids=runtime.stop_ids | runtime.declared_stop_ids,
        end_of_turn=runtime.tokenize(turn_end(runtime.template, runtime.eos))[0],
        responses=responses,
    )
    runtime.close()
    return reference


def _response_log_probs(runtime: Runtime, prompt_ids: list[int], reply: Reply) -> np.ndarray:
    """Log-probabilities of each next token over a response, float64 [tokens + 1, vocabulary]."""
    logits = runtime.logits([*prompt_ids, *reply.token_ids])
    return log_softmax(logits[len(prompt_ids) - 1 :])


def _check(folder: Path, reference: _Reference) -> CheckedArtifact | UnloadableArtifact:
    """Compare one artifact with the checkpoint."""
    record = read_manifest(folder).artifact
    try:
        runtime = open_runtime(folder, threads=default_threads(), context=CONTEXT, all_logits=True)
    except EmpathyEdgeError as error:
        reasons = [f"does not load: {error}"]
        return UnloadableArtifact(
            artifact=folder.name, size_mb=record.size_mb, failed=reasons, verdict="FAIL"
        )
    golden_ids_equal = runtime.encode(GOLDEN_CONVERSATION) == reference.golden_ids
    stops = runtime.declared_stop_ids
    stop_ids_equal = reference.end_of_turn in stops and stops <= reference.stop_ids
    fidelity = _fidelity_of(runtime, reference.responses)
    runtime.close()
    bounds = bounds_of(record)
    failed = []
    if not golden_ids_equal:
        failed.append("other token ids for the golden conversation")
    if not stop_ids_equal:
        failed.append("other stop tokens")
    failed += _broken_bounds(fidelity, bounds)
    return CheckedArtifact(
        artifact=folder.name,
        size_mb=record.size_mb,
        failed=failed,
        golden_ids_equal=golden_ids_equal,
        stop_ids_equal=stop_ids_equal,
        greedy_same=fidelity.greedy_same,
        top1_agreement=fidelity.top1_agreement,
        mean_kl=fidelity.mean_kl,
        p99_kl=fidelity.p99_kl,
        positions=fidelity.positions,
        bounds=bounds,
        verdict="FAIL" if failed else "PASS",
    )


@dataclass(frozen=True)
class _Fidelity:
    """How near an artifact's responses are to the checkpoint's; the fields are those of `CheckedArtifact`."""

    greedy_same: int
    top1_agreement: float
    mean_kl: float
    p99_kl: float
    positions: int


def _fidelity_of(runtime: Runtime, responses: Sequence[_Response]) -> _Fidelity:
    divergences: list[float] = []
    agreements: list[bool] = []
    greedy_same = 0
    for response in responses:
        found = _response_log_probs(runtime, response.prompt_ids, response.reply)
        expected = response.log_probs
        divergences += kl_divergence(expected, found).tolist()
        agreements += (expected.argmax(-1) == found.argmax(-1)).tolist()
        runtime.forget()
        again = runtime.reply(response.messages, max_new_tokens=RESPONSE_TOKENS)
        same_text = again.text == response.reply.text
        if same_text and again.finish_reason == response.reply.finish_reason:
            greedy_same += 1
    return _Fidelity(
        greedy_same=greedy_same,
        top1_agreement=round(float(np.mean(agreements)), 4),
        mean_kl=round(float(np.mean(divergences)), 5),
        p99_kl=round(float(np.percentile(divergences, 99)), 4),
        positions=len(divergences),
    )


def _broken_bounds(fidelity: _Fidelity, bounds: Bounds) -> list[str]:
    """The bounds that an artifact does not keep, in words."""
    broken = []
    if not fidelity.mean_kl <= bounds.mean_kl:  # a figure that is no number keeps no bound
        broken.append(f"mean KL above {bounds.mean_kl}")
    disagreements = round((1 - fidelity.top1_agreement) * fidelity.positions)
    allowed = (1 - bounds.top1_agreement) * fidelity.positions
    # One position may be a tie of the checkpoint's two best tokens, which rounding decides.
    if disagreements > max(1, allowed):
        broken.append(f"top-1 agreement below {bounds.top1_agreement:.0%}")
    return broken


def _merge_figures(checkpoint: Path) -> MergeFigures | None:
    """What the merge found that made the checkpoint; None for a checkpoint from elsewhere."""
    file = checkpoint / MANIFEST
    if not file.is_file() or read_json(file).get("stage") != merged.STAGE:
        return None
    results = results_of(checkpoint, merged.MergeResults)
    return MergeFigures(
        merge_max_abs_logit_difference=results.merge_max_abs_logit_difference,
        merge_positions=results.merge_positions,
    )


def _show(results: VerifyResults, prompts: int) -> None:
    """Print the table, and advice where there is some."""
    columns = (
        "artifact",
        "MB",
        "token ids",
        "stop ids",
        "same greedy text",
        "top-1",
        "mean KL",
        "p99 KL",
        "verdict",
    )
    title = f"Verified against the merged checkpoint (torch, fp32), {prompts} prompts"
    stdout.print(table(title, columns, [_cells(row, prompts) for row in results.artifacts]))
    mean_kls: dict[str, float | None] = {}
    for row in results.artifacts:
        mean_kls[row.artifact] = row.mean_kl if isinstance(row, CheckedArtifact) else None
    for line in advice(mean_kls):
        say(line)


def _cells(row: CheckedArtifact | UnloadableArtifact, prompts: int) -> list[str]:
    if isinstance(row, UnloadableArtifact):
        return [row.artifact, f"{row.size_mb:.0f}", *["–"] * 6, "FAIL: does not load"]
    return [
        row.artifact,
        f"{row.size_mb:.0f}",
        "equal" if row.golden_ids_equal else "DIFFER",
        "equal" if row.stop_ids_equal else "DIFFER",
        f"{row.greedy_same}/{prompts}",
        f"{row.top1_agreement:.1%}",
        f"{row.mean_kl:.4f}",
        f"{row.p99_kl:.3f}",
        row.verdict,
    ]


def advice(mean_kls: Mapping[str, float | None]) -> list[str]:
    """For artifacts that rounding took far from the checkpoint, what loses less at the same size.

    Args:
        mean_kls: artifact → its mean KL divergence in nats a token; None where it does not load.
    """
    bound = NOTABLE_MEAN_KL
    lines = []
    for name, mean_kl in mean_kls.items():
        better = f"{name}-gptq"
        if mean_kl is not None and mean_kl > bound and is_artifact(better) and better not in mean_kls:
            lines.append(
                f"  {name}: rounding alone took it to a mean KL of {mean_kl:.2f} (look closer above {bound});"
                f" --to {better} compensates the errors at about the same size."
            )
    return lines
