"""An artifact's replies to the prompts of a baseline, and how far its next tokens are from the model's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from empathy_edge.bench.check.baseline import Baseline, PromptRecord, read_baseline
from empathy_edge.console import progress, say
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.formats.json_lines import line_of, read_jsonl, read_unfinished_jsonl
from empathy_edge.runtimes import Runtime, open_runtime
from empathy_edge.runtimes.base import Sampling
from empathy_edge.runtimes.distributions import kl_divergence, log_softmax

CONTEXT = 2048
BLOCK = 32
"""Prompts that are answered before their replies are kept."""

BASELINE = "baseline.json.gz"


class Answer(BaseModel):
    """What an artifact makes of one prompt.

    Attributes:
        prompt: its id.
        text: a reply that was drawn from the artifact.
        kl: KL(reference ‖ artifact) at temperature 1, nats, summed over the tokens of the reference's first
            reply to the prompt.
        same_top: how many of these tokens have the same likeliest token in both.
        tokens: how many they are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: str
    text: str
    kl: FiniteFloat
    same_top: int = Field(ge=0)
    tokens: int = Field(gt=0)


def draw(folder: Path, reference: Path, baseline_file: Path, artifacts: Sequence[Path]) -> None:
    """Have each artifact answer all prompts of a baseline; what the folder has already is not made again.

    Args:
        folder: gets the baseline, and a file for each artifact.
        reference: the full-precision model, as any runtime here loads it.
        baseline_file: of it.
        artifacts: folders or files; their last names are their labels.

    Raises:
        EmpathyEdgeError: the folder is of another baseline, or a model has other token ids.
    """
    baseline = read_baseline(baseline_file)
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / BASELINE
    if not kept.exists():
        kept.write_bytes(baseline_file.read_bytes())
    elif kept.read_bytes() != baseline_file.read_bytes():
        raise EmpathyEdgeError(f"{folder} is of another baseline; take another folder.")
    runtime = open_runtime(reference, context=CONTEXT)
    with progress() as bar:
        for artifact in artifacts:
            task = bar.add_task(artifact.name, total=len(baseline.prompts))
            for done in _answer(baseline, runtime, artifact, folder / f"{artifact.name}.jsonl"):
                bar.update(task, completed=done)
            bar.update(task, completed=len(baseline.prompts))
            say(f"  {artifact.name}: {len(baseline.prompts)} prompts")
    runtime.close()


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


def _answer(baseline: Baseline, reference: Runtime, artifact: Path, file: Path) -> Iterator[int]:
    """Append to the file what is missing in it; yields how many prompts are done."""
    kept = read_unfinished_jsonl(file)
    if len(kept) == len(baseline.prompts):
        return
    done = len(kept) // BLOCK * BLOCK
    file.write_text("".join(map(line_of, kept[:done])), encoding="utf-8")
    runtime = open_runtime(artifact, context=CONTEXT)
    with file.open("a", encoding="utf-8") as handle:
        for start in range(done, len(baseline.prompts), BLOCK):
            for answer in _answer_block(baseline, start, reference, runtime):
                handle.write(line_of(answer.model_dump()))
            handle.flush()
            yield min(start + BLOCK, len(baseline.prompts))
    runtime.close()


def _answer_block(baseline: Baseline, start: int, reference: Runtime, runtime: Runtime) -> list[Answer]:
    records = baseline.prompts[start : start + BLOCK]
    for record in records:
        for model in (reference, runtime):
            if model.encode(list(record.messages)) != list(record.token_ids):
                raise EmpathyEdgeError(f"{record.id}: a model has other token ids than the baseline.")
    settings = baseline.settings
    seed = (settings.seed + 1) * 1_000_003 + start
    sampling = Sampling(settings.temperature, seed, settings.max_new_tokens, ignore_stop=False)
    drawn = runtime.draw([record.token_ids for record in records], 1, sampling)
    return [
        _answer_of(record, runtime.text_of(reply), reference, runtime)
        for record, reply in zip(records, drawn, strict=True)
    ]


def _answer_of(record: PromptRecord, text: str, reference: Runtime, runtime: Runtime) -> Answer:
    tokens = record.replies[0].token_ids
    log_p, log_q = (
        log_softmax(model.reply_logits(record.token_ids, tokens)) for model in (reference, runtime)
    )
    return Answer(
        prompt=record.id,
        text=text,
        kl=float(kl_divergence(log_p, log_q).sum()),
        same_top=int((log_p.argmax(axis=-1) == log_q.argmax(axis=-1)).sum()),
        tokens=len(tokens),
    )
