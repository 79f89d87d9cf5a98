"""A linear layer and its LoRA adapter as one step of the computation, for training on a CPU.

peft computes x W + scaling (x A) B in eight steps, which also cast the input to the adapter's fp32 and, under
autocast, back. On a CPU such copies of all activations cost more than the products of the adapter.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora import Linear


class _LoraLinear(torch.autograd.Function):
    """x W' + bias + scaling (x A') B', for x (rows, in), W (out, in), A (r, in), B (out, r).

    All are of one dtype. W and bias get no gradient.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        lora_a: torch.Tensor,
        lora_b: torch.Tensor,
        scaling: float,
    ) -> torch.Tensor:
        inner = (x @ lora_a.T).mul_(scaling)
        ctx.save_for_backward(x, weight, lora_a, lora_b, inner)
        ctx.scaling = scaling
        output = torch.nn.functional.linear(x, weight, bias)
        return output.addmm_(inner, lora_b.T)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,) = gradients
        x, weight, lora_a, lora_b, inner = ctx.saved_tensors
        of_inner = (gradient @ lora_b).mul_(ctx.scaling)
        of_x = (gradient @ weight).addmm_(of_inner, lora_a) if ctx.needs_input_grad[0] else None
        return of_x, None, None, of_inner.T @ x, gradient.T @ inner, None


def fuse(model: torch.nn.Module) -> None:
    """Let every LoRA layer of a peft model that is as setup.add_adapter makes them compute in one step."""
    for layer in model.modules():
        if type(layer) is Linear:
            layer.forward = _forward_of(layer)


def _forward_of(layer: Any) -> Any:
    usual = layer.forward

    def forward(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if layer.disable_adapters or layer.merged:
            return usual(x, *args, **kwargs)
        (name,) = layer.active_adapters
        base = layer.base_layer
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        rows, weight, lora_a, lora_b = (
            tensor.to(dtype)
            for tensor in (x, base.weight, layer.lora_A[name].weight, layer.lora_B[name].weight)
        )
        bias = None if base.bias is None else base.bias.to(dtype)
        with torch.autocast("cpu", enabled=False):
            output = _LoraLinear.apply(rows.flatten(0, -2), weight, bias, lora_a, lora_b, layer.scaling[name])
        return output.unflatten(0, x.shape[:-1])

    return forward
