"""Baselines with ratings that are drawn from normal distributions; no model is needed."""

import numpy as np

from empathy_edge.bench.check.baseline.record import (
    FORMAT,
    Baseline,
    JudgeRecord,
    PromptRecord,
    ReferenceRecord,
    ReferenceReply,
)
from empathy_edge.runs.settings import ReplySettings

SHIFT = 2.5
"""How far replies to other prompts are rated below others, in standard deviations."""

PEOPLE = "sheet:ratings.csv"


def rated_reply(text: str, rating: float) -> ReferenceReply:
    return ReferenceReply(token_ids=(1,), log_probs=(0.0,), text=text, stopped=True, rating=rating)


def rated_baseline(generator: np.random.Generator, prompts: int, shift: float = SHIFT) -> Baseline:
    """Four replies to each prompt and one to another, with normal ratings by a good judge."""
    records = []
    for number in range(prompts):
        replies = [rated_reply(f"reply {place}", generator.normal()) for place in range(4)]
        record = PromptRecord(
            id=str(number),
            messages=({"role": "user", "content": "I lost."},),
            token_ids=(1,),
            replies=tuple(replies),
            greedy=rated_reply("greedy", 0.0),
            misplaced_text="of another prompt",
            misplaced_rating=generator.normal() - shift,
        )
        records.append(record)
    judge = JudgeRecord(
        name=PEOPLE,
        identity="",
        agreement=0.84,
        agreement_low=0.75,
        agreement_high=0.92,
        pairs=300,
        doubts=(),
    )
    reference = ReferenceRecord(name="r", identity="", quantized=False, stop_ids=(1,), golden_ids=(1,))
    return Baseline(
        format=FORMAT,
        version="0",
        settings=ReplySettings(),
        reference=reference,
        judge=judge,
        prompts_sha256="",
        prompts=tuple(records),
    )
