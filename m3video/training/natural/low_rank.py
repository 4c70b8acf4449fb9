"""A low-rank update of a frozen matrix, computed as one product: a training step takes a quarter less time than peft's.

peft computes `x W^T` and `x A^T B^T` apart and adds them, which on a CPU costs more in memory traffic than in
arithmetic. Here the update is added to the matrix first.

Shape legend: L positions, I inputs and O outputs of a matrix, R its update's rank.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

UPDATED = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The matrices of a decoder layer."""
STRENGTH = 2.0
"""Factor on the product of the two factors."""


class _Product(torch.autograd.Function):
    """`x (W + B A)^T` of which only x, A and B have gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_OI: Tensor, down_RI: Tensor, up_OR: Tensor) -> Tensor:
        down, up = down_RI.to(weight_OI.dtype), (STRENGTH * up_OR).to(weight_OI.dtype)
        ctx.save_for_backward(x, weight_OI, down, up)
        return F.linear(x, torch.addmm(weight_OI, up, down))

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        x, weight, down, up = ctx.saved_tensors
        out_LO, in_LI = gradients[0].flatten(0, -2), x.flatten(0, -2)
        for_down = (out_LO @ up).T @ in_LI
        for_up = out_LO.T @ (in_LI @ down.T)
        # Made again rather than kept: kept matrices would be a second decoder in memory.
        for_x = out_LO @ torch.addmm(weight, up, down)
        return for_x.view_as(x), None, for_down.float(), STRENGTH * for_up.float()


class LowRankLinear(nn.Module):
    """A frozen linear layer without bias, and its update: up x down, in float32."""

    def __init__(self, weight_OI: nn.Parameter, rank: int) -> None:
        super().__init__()
        self.weight = weight_OI
        outputs, inputs = weight_OI.shape
        self.lora_A = nn.Parameter(torch.randn(rank, inputs, device=weight_OI.device) / math.sqrt(inputs))
        self.lora_B = nn.Parameter(torch.zeros(outputs, rank, device=weight_OI.device))

    def forward(self, x: Tensor) -> Tensor:
        """Return [..., O] from [..., I], in the matrix's number format."""
        product: Tensor = _Product.apply(x.to(self.weight.dtype), self.weight, self.lora_A, self.lora_B)
        return product


def add_low_rank(model: nn.Module, rank: int) -> None:
    """Put an update of `rank` on every matrix of the decoder's layers, and prepare its norms for training.

    An update starts as zero: the model's outputs stay as they were.
    """
    for layer in (module for module in model.modules() if hasattr(module, "gate_proj") or hasattr(module, "q_proj")):
        for name in UPDATED:
            linear = getattr(layer, name, None)
            if isinstance(linear, nn.Linear):
                assert linear.bias is None, f"{name} has a bias"
                setattr(layer, name, LowRankLinear(linear.weight, rank))
    for holder in list(model.modules()):
        for name, norm in list(holder.named_children()):
            if type(norm).__name__ == "LlamaRMSNorm":  # in several passes over memory; PyTorch's takes one
                setattr(holder, name, _fused(norm))


def _fused(norm: Any) -> nn.RMSNorm:
    fused = nn.RMSNorm(len(norm.weight), eps=norm.variance_epsilon)
    fused.weight = norm.weight
    return fused


def low_rank_factors(model: nn.Module) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the name of each updated matrix with its factors (up [O, R], down [R, I]), scaled."""
    return {
        f"{name}.weight": ((STRENGTH * module.lora_B).detach().cpu(), module.lora_A.detach().cpu())
        for name, module in model.named_modules()
        if isinstance(module, LowRankLinear)
    }
