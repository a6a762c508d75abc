"""The forward and backward pass of a LoRA layer in the precision of the base's weights.

y = x Wᵀ + s (x Aᵀ) Bᵀ (Hu et al., arXiv 2106.09685, section 4.1). PEFT holds the adapter in fp32, as this
does, but also converts every activation to fp32 for it; on a CPU that takes up to a sixth of a training step.
"""

from __future__ import annotations

import types
from typing import Any

import torch


class _LoraLinear(torch.autograd.Function):
    """From x [tokens, in], weight W [out, in], down A [rank, in] and up B [out, rank] to y [tokens, out].

    Gradients go to x, A and B.
    """

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
        down_cast = down.to(x.dtype)
        scaled_up = (up * scale).to(x.dtype)
        low = x @ down_cast.T  # [tokens, rank]
        y = torch.nn.functional.linear(x, weight, bias)
        y.addmm_(low, scaled_up.T)
        ctx.save_for_backward(x, low, weight, down_cast, scaled_up)
        ctx.scale = scale
        return y

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, low, weight, down, scaled_up = ctx.saved_tensors
        grad_low = grad @ scaled_up
        grad_x = grad @ weight
        grad_x.addmm_(grad_low, down)
        grad_down = (grad_low.T @ x).float()
        grad_up = (grad.T @ low).float() * ctx.scale
        return grad_x, None, None, grad_down, grad_up, None


def fuse_lora(model: Any) -> None:
    """Replace the forward pass of a PEFT model's plain LoRA layers; other kinds (NF4) keep theirs."""
    from peft.tuners.lora.layer import Linear

    for module in model.modules():
        if type(module) is Linear and type(module.base_layer) is torch.nn.Linear:
            module.forward = types.MethodType(_forward, module)


def _forward(layer: Any, x: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
    """The forward pass of a PEFT LoRA layer, for x [..., in]."""
    base = layer.base_layer
    if layer.disable_adapters:
        return base(x)
    name = layer.active_adapters[0]
    y = _LoraLinear.apply(
        x.reshape(-1, x.shape[-1]),
        base.weight,
        base.bias,
        layer.lora_A[name].weight,
        layer.lora_B[name].weight,
        layer.scaling[name],
    )
    return y.view(*x.shape[:-1], -1)
