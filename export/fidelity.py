"""How near an artifact's answers are to its checkpoint's: distributions of tokens, and one whole reply."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from empathy_edge.errors import EmpathyEdgeError
from empathy_edge.export.fidelity_bounds import Bounds
from empathy_edge.export.verify_reference import ReferenceReply
from empathy_edge.runtimes import Runtime
from empathy_edge.runtimes.distributions import kl_divergence, log_softmax

STOP = -1
"""Stands for every token that ends a response."""

CLEAR_NATS = 3.0
"""A reply that is made token by token may take another token than the logits of the whole reply say, if the
two are nearly as likely; runtimes that round activations do. From here on, its prompt cache is wrong."""

STANDARD_ERRORS = 3
"""By so many standard errors disagreements may exceed their bound: a short look has few positions."""


@dataclass(frozen=True)
class Fidelity:
    """How near an artifact's responses are to the checkpoint's.

    Attributes:
        greedy_same: to how many prompts its greedy response is the same.
        top1_agreement: the share of response tokens at which the likeliest token is the same.
        mean_kl: mean KL divergence from the checkpoint in nats a token.
        p99_kl: its 99th percentile.
        positions: how many response tokens were compared.
        own_reply: what is wrong with a reply that the artifact made itself; empty if nothing is.
    """

    greedy_same: int
    top1_agreement: float
    mean_kl: float
    p99_kl: float
    positions: int
    own_reply: str

    def broken(self, bounds: Bounds) -> list[str]:
        """The bounds that an artifact does not keep, in words."""
        found = [self.own_reply] if self.own_reply else []
        if not self.mean_kl <= bounds.mean_kl:  # a figure that is no number keeps no bound
            found.append(f"mean KL above {bounds.mean_kl}")
        disagreements = round((1 - self.top1_agreement) * self.positions)
        share = 1 - bounds.top1_agreement
        by_chance = STANDARD_ERRORS * math.sqrt(share * (1 - share) * self.positions)
        # One position may be a tie of the checkpoint's two best tokens, which rounding decides.
        if disagreements > max(1, share * self.positions + by_chance):
            found.append(f"top-1 agreement below {bounds.top1_agreement:.0%}")
        return found


def fidelity_of(runtime: Runtime, replies: Sequence[ReferenceReply]) -> Fidelity:
    """Compare an artifact with the checkpoint's responses; the first prompt it also answers by itself.

    Raises:
        EmpathyEdgeError: its vocabulary has another size.
    """
    divergences: list[float] = []
    agreements: list[bool] = []
    greedy_same = 0
    for reply in replies:
        found = log_softmax(runtime.reply_logits(reply.prompt_ids, reply.token_ids))
        expected = log_softmax(reply.log_probs)
        if found.shape != expected.shape:
            raise EmpathyEdgeError(
                f"its vocabulary has {found.shape[1]} tokens, the checkpoint's {expected.shape[1]}"
            )
        divergences += kl_divergence(expected, found).tolist()
        own = found.argmax(-1).tolist()
        agreements += [token == other for token, other in zip(own, reply.token_ids, strict=True)]
        greedy_same += _ends_as_stop(own, runtime) == _ends_as_stop(reply.token_ids, runtime)
    return Fidelity(
        greedy_same=greedy_same,
        top1_agreement=round(float(np.mean(agreements)), 4),
        mean_kl=round(float(np.mean(divergences)), 5),
        p99_kl=round(float(np.percentile(divergences, 99)), 4),
        positions=len(divergences),
        own_reply=_check_own_reply(runtime, replies[0]),
    )


UNREADABLE = "\N{REPLACEMENT CHARACTER}".encode()
"""What a runtime that gives texts, as LiteRT-LM, shows of bytes that are no UTF-8: which tokens they were
cannot be told. A model that was never trained says such tokens."""


def _ends_as_stop(ids: Sequence[int], runtime: Runtime) -> list[int]:
    return [STOP if token in runtime.stop_ids else token for token in ids]


def _check_own_reply(runtime: Runtime, reference: ReferenceReply) -> str:
    """Whether what the artifact says, token by token, is what its logits of the whole reply say.

    Returns:
        What is wrong, in words; empty if nothing is.
    """
    runtime.forget()
    reply = runtime.reply(reference.prompt_ids, max_new_tokens=len(reference.token_ids))
    said = [*reply.token_ids, *([min(runtime.stop_ids)] if reply.finish_reason == "stop" else [])]
    log_probs = log_softmax(runtime.reply_logits(reference.prompt_ids, said))
    for token, found in zip(said, log_probs, strict=True):
        if UNREADABLE in runtime.token_bytes(token):
            return ""
        same = sorted(runtime.stop_ids) if token in runtime.stop_ids else [token]
        if found.max() - found[same].max() > CLEAR_NATS:
            return "its own reply is not what its logits say (look at its prompt cache)"
    return ""
