"""What would decide an artifact that is undecided: a judge and its cost, or how many prompts."""

from __future__ import annotations

from math import ceil, log

import numpy as np

from empathy_edge.bench.check.baseline.q2_k import Q2_K_PROMPTS
from empathy_edge.bench.check.baseline.record import Baseline
from empathy_edge.bench.check.certificate import CERTIFICATE_PAIRS
from empathy_edge.bench.check.check_judge import CheckJudge
from empathy_edge.bench.check.next_commands import LARGE_MODEL, PEOPLE
from empathy_edge.bench.check.prompts import FEWEST
from empathy_edge.bench.check.steps.controls import Controls
from empathy_edge.bench.check.steps.win_rate import ENOUGH, MONEY, Evidence

INSTRUCTION_TOKENS = 240
"""Of prompts/rate.yaml and the answer, about."""

BOTH_ORDERS = 2


def what_would_decide(
    baseline: Baseline,
    controls: Controls | None,
    judge: CheckJudge,
    evidence: Evidence,
    used: int,
    min_win_rate: float,
) -> str:
    """The first thing that is missing, in words.

    Args:
        baseline: what was compared with.
        controls: of it.
        judge: of it.
        evidence: so far.
        used: prompts.
        min_win_rate: the bound.
    """
    total = len(baseline.prompts)
    if total < FEWEST:
        return f"at least {FEWEST} prompts (there are {total})"
    if prompts := prompts_without_a_judge(evidence, min_win_rate):
        return f"about {prompts} prompts like these ({total} were there), without any judge"
    if baseline.judge.doubts:
        calls, tokens = cost_of_a_judge(baseline)
        return (
            f"a certified judge: people (--judge {PEOPLE}), or a large model (--judge {LARGE_MODEL}; once "
            f"{calls} calls with about {tokens / 1e6:.1f} million tokens)"
        )
    if controls and controls.doubts:
        return f"controls in order ({controls.doubts[0]})"
    if not judge.may_be_opened:
        return f"the judge: add --judge {judge.spec}, the baseline's"
    needed = []
    for logs in (evidence.log_against_at_most(min_win_rate), evidence.log_against_at_least(min_win_rate)):
        for step in ("likelihood", "judge"):
            per_prompt = logs[step] / max(1, used)
            if per_prompt > 0:
                needed.append((ENOUGH - log(MONEY[step])) / per_prompt)
    if not needed:
        return "a better judge, or many more prompts: the win rate is too near the bound"
    return f"about {round(min(needed), -1):.0f} prompts like these ({used} were used), or a better judge"


def prompts_without_a_judge(evidence: Evidence, min_win_rate: float) -> int | None:
    """With how many prompts like these the bound for every judge would PASS; None if it never would."""
    found = evidence.log_against_at_most(min_win_rate)["any-judge"]
    if found <= 0:
        return None
    return ceil((ENOUGH - log(MONEY["any-judge"])) / found * len(evidence.any_judge))


def cost_of_a_judge(baseline: Baseline) -> tuple[int, int]:
    """Calls, and tokens in all (about), with which a large model is certified and rates a baseline."""
    prompt = np.mean([len(record.token_ids) for record in baseline.prompts])
    reply = np.mean([len(reply.token_ids) for record in baseline.prompts for reply in record.replies])
    rated = prompt + (len(baseline.prompts[0].replies) + 1) * reply + INSTRUCTION_TOKENS
    certified = prompt + 2 * reply + INSTRUCTION_TOKENS
    total = len(baseline.prompts)
    of_q2_k = min(total, Q2_K_PROMPTS) * reply
    tokens = total * rated + of_q2_k + CERTIFICATE_PAIRS * certified
    return BOTH_ORDERS * (total + CERTIFICATE_PAIRS), int(BOTH_ORDERS * tokens)
