"""The control of rounding: what the reference replies as a Q2_K of its own weights.

That is two to three bits, and more where rows do not come in blocks of 256.

A judge that clearly prefers those replies to the reference's judges something else than quality.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.markup import escape

from empathy_edge.bench.check.baseline.drawing import BLOCK, CONTEXT
from empathy_edge.bench.check.baseline.record import PromptRecord
from empathy_edge.bench.check.beforehand import number_of
from empathy_edge.console import progress, say
from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.models.find import ModelRef, find_model, gguf_of
from empathy_edge.runs.settings import ReplySettings
from empathy_edge.runtimes import open_runtime
from empathy_edge.runtimes.base import Sampling
from empathy_edge.system.files import read_json, write_json
from empathy_edge.system.machine import require_space

Q2_K_PROMPTS = 128
"""The first ones get a reply of the Q2_K form."""

SHARE_OF_F16 = 0.5
"""At most so large is the Q2_K file, where llama.cpp gives matrices other types, too."""

WriteQ2K = Callable[[Path, Path], None]
"""Quantizes a GGUF of full precision into another file."""


def with_q2_k(
    records: Sequence[PromptRecord],
    source: ModelRef | Path | None,
    settings: ReplySettings,
    write_q2_k: WriteQ2K | None,
    kept: Path,
) -> list[PromptRecord]:
    """The same with a reply of the Q2_K form beside each of the first prompts, or without and a line why.

    Args:
        records: in the order in which checks use them.
        source: the reference's GGUF; None where a checkpoint has none.
        settings: how replies are made.
        write_q2_k: None: no such control is wanted.
        kept: a file for the replies; an earlier run's are used.
    """
    if write_q2_k is None:
        return list(records)
    first = records[:Q2_K_PROMPTS]
    texts = _kept_texts(kept, len(first))
    if not texts:
        try:
            texts = _drawn_texts(first, _full_precision(source), settings, write_q2_k, kept.parent)
            write_json(kept, {"texts": texts})
            count = number_of(len(texts), "reply", "replies")
            say(f"  control: {count} of the reference's own Q2_K form")
        except (EmpathyEdgeError, OSError, RuntimeError) as error:
            why = escape((str(error).splitlines() or ["?"])[0])
            say(f"  The control by the reference's own Q2_K form is left out: {why}")
            return list(records)
    found = [record.model_copy(update={"q2_k_text": text}) for record, text in zip(first, texts, strict=True)]
    return [*found, *records[Q2_K_PROMPTS:]]


def _kept_texts(kept: Path, count: int) -> list[str]:
    """An earlier run's replies; none where they are not there, or not of so many prompts."""
    try:
        texts = read_json(kept)["texts"]
    except (OSError, ValueError, KeyError, TypeError, EmpathyEdgeError):
        return []
    is_right = (
        isinstance(texts, list) and len(texts) == count and all(isinstance(text, str) for text in texts)
    )
    return texts if is_right else []


def _full_precision(source: ModelRef | Path | None) -> Path:
    """The GGUF file that is quantized.

    Raises:
        EmpathyEdgeError: there is none with the reference's own weights and template.
    """
    if source is None:
        raise EmpathyEdgeError("it has no GGUF.")
    try:
        return gguf_of(find_model(str(source)) if isinstance(source, Path) else source)
    except EmpathyEdgeError:
        raise EmpathyEdgeError("it has no GGUF file with its weights and template.") from None


def _drawn_texts(
    records: Sequence[PromptRecord],
    source: Path,
    settings: ReplySettings,
    write_q2_k: WriteQ2K,
    folder: Path,
) -> list[str]:
    """One sampled reply of the Q2_K form to each prompt; the file is deleted again."""
    folder.mkdir(parents=True, exist_ok=True)
    require_space(folder, source.stat().st_size / 1e6 * SHARE_OF_F16, "the reference's Q2_K form")
    texts = []
    with tempfile.TemporaryDirectory(prefix=".q2_k-", dir=folder) as scratch, progress() as bar:
        file = Path(scratch) / "model.gguf"
        write_q2_k(source, file)
        runtime = open_runtime(file, context=CONTEXT)
        task = bar.add_task("replies of the Q2_K form", total=len(records))
        try:
            for start in range(0, len(records), BLOCK):
                # Random numbers that neither the reference's replies nor an artifact's have.
                seed = (settings.seed + 2) * 1_000_003 + start
                sampling = Sampling(settings.temperature, seed, settings.max_new_tokens, ignore_stop=False)
                prompts = [record.token_ids for record in records[start : start + BLOCK]]
                drawn = runtime.draw(prompts, 1, sampling, lambda: bar.advance(task))
                texts += [runtime.text_of(reply) for reply in drawn]
        finally:
            runtime.close()
    return texts
