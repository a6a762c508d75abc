"""An artifact's replies to the prompts of a baseline, and how far its next tokens are from the model's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from empathy_edge.bench.check.baseline.record import Baseline, PromptRecord, read_baseline
from empathy_edge.bench.own_names import require_own_names
from empathy_edge.console import progress, say
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.json_lines import line_of, read_jsonl, read_unfinished_jsonl
from empathy_edge.runtimes import Runtime, open_runtime
from empathy_edge.runtimes.base import Sampling
from empathy_edge.runtimes.distributions import kl_divergence, log_softmax

CONTEXT = 2048
BLOCK = 32
"""Prompts that are answered before their replies are kept."""

KL_PROMPTS = 64
"""Prompts on whose replies the divergence is measured; all are answered."""

BASELINE = "baseline.json.gz"


class Answer(BaseModel):
    """What an artifact makes of one prompt.

    Attributes:
        prompt: its id.
        text: a reply that was drawn from the artifact.
        kl: KL(reference ‖ artifact) at temperature 1, nats, summed over the tokens of the reference's first
            reply to the prompt.
        same_top: how many of these tokens have the same likeliest token in both.
        tokens: how many they are; 0 after the first `KL_PROMPTS`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: str
    text: str
    kl: FiniteFloat = 0.0
    same_top: int = Field(default=0, ge=0)
    tokens: int = Field(default=0, ge=0)


def draw(folder: Path, reference: Path, baseline_file: Path, artifacts: Sequence[Path]) -> None:
    """Have each artifact answer all prompts of a baseline; whole blocks of an earlier run stay.

    Args:
        folder: gets the baseline, and a file for each artifact.
        reference: the full-precision model, as any runtime here loads it.
        baseline_file: of it.
        artifacts: folders or files; their last names are their labels.

    Raises:
        EmpathyEdgeError: two artifacts have the same last name, the folder is of another baseline, or a
            model has other token ids.
    """
    require_own_names(artifacts, "its replies are kept")
    baseline = read_baseline(baseline_file)
    folder.mkdir(parents=True, exist_ok=True)
    copy = folder / BASELINE
    if not copy.exists():
        copy.write_bytes(baseline_file.read_bytes())
    elif copy.read_bytes() != baseline_file.read_bytes():
        raise EmpathyEdgeError(f"{folder} is of another baseline; take another folder.")
    files = {artifact: folder / f"{artifact.name}.jsonl" for artifact in artifacts}
    kept = {artifact: _keep_whole_blocks(file, len(baseline.prompts)) for artifact, file in files.items()}
    done = min(kept.values())
    models = {artifact: open_runtime(artifact, context=CONTEXT) for artifact in artifacts}
    full = open_runtime(reference, context=CONTEXT)
    with progress() as bar:
        task = bar.add_task("prompts", total=len(baseline.prompts), completed=done)
        for start in range(done, len(baseline.prompts), BLOCK):
            records = baseline.prompts[start : start + BLOCK]
            missing = {artifact: model for artifact, model in models.items() if kept[artifact] <= start}
            texts = {artifact: _draw(baseline, start, model) for artifact, model in missing.items()}
            for number, record in enumerate(records):
                log_p = _log_probs(record, full) if start + number < KL_PROMPTS else None
                for artifact, model in missing.items():
                    answer = _answer(record, texts[artifact][number], log_p, model)
                    with files[artifact].open("a", encoding="utf-8") as handle:
                        handle.write(line_of(answer.model_dump()))
                bar.advance(task)
    for runtime in (full, *models.values()):
        runtime.close()
    say(f"{len(artifacts)} artifacts have answered {len(baseline.prompts)} prompts; they are in {folder}")


def read_answers(folder: Path) -> tuple[Baseline, dict[str, list[Answer]]]:
    """The baseline and the answers of each artifact, in the order of its prompts.

    Raises:
        EmpathyEdgeError: answers are missing: `draw` was cut off.
    """
    baseline = read_baseline(folder / BASELINE)
    ids = [record.id for record in baseline.prompts]
    found = {}
    for file in sorted(folder.glob("*.jsonl")):
        answers = [Answer.model_validate(row) for row in read_jsonl(file)]
        if [answer.prompt for answer in answers] != ids:
            raise EmpathyEdgeError(f"{file}: it has {len(answers)} of {len(ids)} prompts; run `draw` again.")
        found[file.stem] = answers
    return baseline, found


def _keep_whole_blocks(file: Path, prompts: int) -> int:
    """Cut off what an interrupted run left after its last whole block; returns how many prompts stay."""
    kept = read_unfinished_jsonl(file)
    whole = len(kept) if len(kept) == prompts else len(kept) // BLOCK * BLOCK
    file.write_text("".join(map(line_of, kept[:whole])), encoding="utf-8")
    return whole


def _draw(baseline: Baseline, start: int, runtime: Runtime) -> list[str]:
    """One sampled reply to each prompt of a block."""
    prompts = [record.token_ids for record in baseline.prompts[start : start + BLOCK]]
    settings = baseline.settings
    seed = (settings.seed + 1) * 1_000_003 + start
    sampling = Sampling(settings.temperature, seed, settings.max_new_tokens, ignore_stop=False)
    return [runtime.text_of(reply) for reply in runtime.draw(prompts, 1, sampling)]


def _log_probs(record: PromptRecord, runtime: Runtime) -> np.ndarray:
    """Of each next token of the reference's first reply, float32 [tokens, vocabulary].

    Raises:
        EmpathyEdgeError: the model has other token ids than the baseline.
    """
    if runtime.encode(list(record.messages)) != list(record.token_ids):
        raise EmpathyEdgeError(f"{record.id}: a model has other token ids than the baseline.")
    logits = runtime.reply_logits(record.token_ids, record.replies[0].token_ids)
    return log_softmax(logits).astype(np.float32)


def _answer(record: PromptRecord, text: str, log_p: np.ndarray | None, runtime: Runtime) -> Answer:
    if log_p is None:
        return Answer(prompt=record.id, text=text)
    log_q = _log_probs(record, runtime)
    return Answer(
        prompt=record.id,
        text=text,
        kl=float(kl_divergence(log_p, log_q).sum()),
        same_top=int((log_p.argmax(axis=-1) == log_q.argmax(axis=-1)).sum()),
        tokens=len(log_p),
    )
