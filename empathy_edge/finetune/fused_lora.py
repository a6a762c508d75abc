"""LoRA's forward and backward in the weights' own precision: two thin products more, no copy of the activations.

PEFT holds the adapter in fp32 (so does this) and widens every activation to fp32 for it; on a CPU that costs as much as a
sixth of a training step. y = x Wᵀ + s (x Aᵀ) Bᵀ (Hu et al., arXiv 2106.09685, section 4.1).
"""

from __future__ import annotations

import types
from typing import Any

import torch


class _LoraLinear(torch.autograd.Function):
    """x [tokens, in], weight [out, in], down A [rank, in], up B [out, rank] → [tokens, out]."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: Any,
        down: torch.Tensor,
        up: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        down_cast, up_cast = down.to(x.dtype), (up * scale).to(x.dtype)
        low = x @ down_cast.T
        out = torch.nn.functional.linear(x, weight, bias)
        out.addmm_(low, up_cast.T)
        ctx.save_for_backward(x, low, weight, down_cast, up_cast)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, low, weight, down, up = ctx.saved_tensors
        grad_low = grad @ up
        grad_x = grad @ weight
        grad_x.addmm_(grad_low, down)
        return grad_x, None, None, (grad_low.T @ x).float(), (grad.T @ low).float() * ctx.scale, None


def _forward(self: Any, x: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
    base = self.base_layer
    if self.disable_adapters:
        return base(x)
    name = self.active_adapters[0]
    out = _LoraLinear.apply(
        x.reshape(-1, x.shape[-1]),
        base.weight,
        base.bias,
        self.lora_A[name].weight,
        self.lora_B[name].weight,
        self.scaling[name],
    )
    return out.view(*x.shape[:-1], -1)


def fuse_lora(model: Any) -> None:
    """Give each plain LoRA layer of a PEFT model the forward above; layers of other kinds (NF4) keep theirs."""
    from peft.tuners.lora.layer import Linear

    for module in model.modules():
        if type(module) is Linear and type(module.base_layer) is torch.nn.Linear:
            module.forward = types.MethodType(_forward, module)
