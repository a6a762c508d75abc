"""Log-probabilities of given tokens under a frozen output layer, a few tokens at a time.

If the output layer W [vocabulary, size] is not trained, the backward pass needs no logits. With the hidden
state h, the token y and the probabilities p, d log p_y / d h = W_y − E, where E = Σ_v p_v W_v. E is computed
in the forward pass, where the probabilities are known: no logits are kept, and none are computed twice.
"""

from __future__ import annotations

from typing import Any

import torch

TILE = 160
"""Tokens at a time. 160 × 49152 fp32 logits are 31.5 MB: glibc keeps blocks below 32 MiB for reuse."""


class TokenLogProbs(torch.autograd.Function):
    """From hidden states to figures of given tokens.

    Inputs: hidden [tokens, size], weight [vocabulary, size], labels [tokens].
    Results, [tokens] each: the label's log-probability (nats), the entropy (nats), the mean logit, and
    whether the label is the likeliest token. Only the log-probability has a gradient, for `hidden` only.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        tokens = hidden.shape[0]
        log_probs = hidden.new_empty(tokens, dtype=torch.float32)
        entropy = hidden.new_empty(tokens, dtype=torch.float32)
        is_top1 = torch.empty(tokens, dtype=torch.bool)
        expected = torch.empty_like(hidden)  # E of each token
        for start in range(0, tokens, TILE):
            part = slice(start, min(start + TILE, tokens))
            logits = hidden[part] @ weight.T
            max_logit, top1 = logits.max(dim=-1)
            probabilities = torch.softmax(logits, dim=-1, dtype=torch.float32)
            # log Σ exp(logits), from the likeliest token: log p = logit - log_sum.
            log_sum = max_logit.float() - probabilities.gather(1, top1[:, None])[:, 0].log()
            log_probs[part] = logits.gather(1, labels[part, None])[:, 0].float() - log_sum
            expected[part] = probabilities.to(weight.dtype) @ weight
            # The mean of the logits under p is E · h.
            entropy[part] = log_sum - (expected[part].float() * hidden[part].float()).sum(-1)
            is_top1[part] = top1 == labels[part]
        mean_logits = hidden.float() @ weight.mean(dim=0, dtype=torch.float32)
        ctx.save_for_backward(weight[labels] - expected)
        ctx.mark_non_differentiable(entropy, mean_logits, is_top1)
        return log_probs, entropy, mean_logits, is_top1

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (direction,) = ctx.saved_tensors
        return grads[0][:, None].to(direction.dtype) * direction, None, None
