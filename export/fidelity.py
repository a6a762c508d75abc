"""How near an artifact's answers are to its checkpoint's: distributions of tokens, and one whole reply."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from empathy_edge.export.fidelity_bounds import Bounds
from empathy_edge.export.verify_reference import ReferenceReply
from empathy_edge.runtimes import Runtime
from empathy_edge.runtimes.distributions import kl_divergence, log_softmax

STOP = -1
"""Stands for every token that ends a response."""

CLEAR_NATS = 2.0
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
    """Compare an artifact with the checkpoint's responses; the first prompt it also answers by itself."""
    divergences: list[float] = []
    agreements: list[bool] = []
    greedy_same = 0
    own_reply = ""
    for reply in replies:
        found = log_softmax(runtime.reply_logits(reply.prompt_ids, reply.token_ids))
        expected = log_softmax(reply.log_probs)
        divergences += kl_divergence(expected, found).tolist()
        own = found.argmax(-1).tolist()
        agreements += [token == other for token, other in zip(own, reply.token_ids, strict=True)]
        greedy_same += _ends_as_stop(own, runtime) == _ends_as_stop(reply.token_ids, runtime)
        if reply is replies[0]:
            own_reply = _check_own_reply(runtime, reply, found)
    return Fidelity(
        greedy_same=greedy_same,
        top1_agreement=round(float(np.mean(agreements)), 4),
        mean_kl=round(float(np.mean(divergences)), 5),
        p99_kl=round(float(np.percentile(divergences, 99)), 4),
        positions=len(divergences),
        own_reply=own_reply,
    )


def _ends_as_stop(ids: Sequence[int], runtime: Runtime) -> list[int]:
    return [STOP if token in runtime.stop_ids else token for token in ids]


def _check_own_reply(runtime: Runtime, reference: ReferenceReply, found: np.ndarray) -> str:
    """Whether the artifact, token by token, says what its logits of the whole response say.

    They can be compared up to its first token that is not the reference's.

    Args:
        runtime: the artifact.
        reference: the checkpoint's response.
        found: the artifact's log-probabilities of that response, [tokens, vocabulary].
    """
    runtime.forget()
    reply = runtime.reply(reference.prompt_ids, max_new_tokens=len(reference.token_ids))
    said = [*reply.token_ids, *([STOP] if reply.finish_reason == "stop" else [])]
    expected = found.argmax(-1).tolist()
    likely = _ends_as_stop(expected, runtime)
    wanted = _ends_as_stop(reference.token_ids, runtime)
    for place, token in enumerate(likely):
        if place >= len(said):
            return "its own reply ends where its logits go on"
        if said[place] != token:
            taken = _log_prob_of(said[place], found[place], runtime.stop_ids)
            if found[place].max() - taken > CLEAR_NATS:
                return "its own reply is not what its logits say (look at its prompt cache)"
            return ""
        if token != wanted[place] or token == STOP:
            return ""
    return ""


def _log_prob_of(token: int, log_probs: np.ndarray, stop_ids: Collection[int]) -> float:
    places = sorted(stop_ids) if token == STOP else [token]
    return float(log_probs[places].max())
