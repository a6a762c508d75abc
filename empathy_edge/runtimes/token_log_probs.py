"""Log-probabilities of given tokens under a frozen output layer, a few tokens at a time.

Where the output layer is not trained, all that the backward pass needs of the 49152 logits of a token is the expected
output row E = Σ_v p_v W_v: d log p_y / d h = W_y − E. It is taken in the forward pass while the probabilities are at hand,
so that no logits are kept and none are computed twice.
"""

from __future__ import annotations

from typing import Any

import torch

TILE = 160
"""Tokens at a time: 160 × 49152 fp32 logits are 31.5 MB, below what the allocator gives back (decision 004)."""


class TokenLogProbs(torch.autograd.Function):
    """hidden [tokens, size], weight [vocabulary, size], labels [tokens] → log p, entropy, mean logit, is top-1: [tokens].

    Gradients go to `hidden` alone, and only from the first result.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        tokens = hidden.shape[0]
        log_probs, entropy = (
            hidden.new_empty(tokens, dtype=torch.float32),
            hidden.new_empty(tokens, dtype=torch.float32),
        )
        is_top = torch.empty(tokens, dtype=torch.bool)
        expected = torch.empty_like(hidden)
        for start in range(0, tokens, TILE):
            part = slice(start, min(start + TILE, tokens))
            logits = hidden[part] @ weight.T
            highest, place = logits.max(dim=-1)
            probabilities = torch.softmax(logits, dim=-1, dtype=torch.float32)
            log_sum = highest.float() - probabilities.gather(1, place[:, None])[:, 0].log()
            log_probs[part] = logits.gather(1, labels[part, None])[:, 0].float() - log_sum
            expected[part] = probabilities.to(weight.dtype) @ weight
            entropy[part] = log_sum - (expected[part].float() * hidden[part].float()).sum(-1)
            is_top[part] = place == labels[part]
        mean_logits = hidden.float() @ weight.mean(dim=0, dtype=torch.float32)
        ctx.save_for_backward(weight[labels] - expected)
        ctx.mark_non_differentiable(entropy, mean_logits, is_top)
        return log_probs, entropy, mean_logits, is_top

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (direction,) = ctx.saved_tensors
        return grads[0][:, None].to(direction.dtype) * direction, None, None
