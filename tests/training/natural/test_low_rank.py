"""Low-rank updates of frozen matrices: as the two products apart, in values and in gradients."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from m3video.training.natural.low_rank import STRENGTH, LowRankLinear, add_low_rank, low_rank_factors


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q_proj = nn.Linear(8, 6, bias=False)
        self.norm = LlamaRMSNorm(8, eps=0.3)
        self.other = nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.other(self.q_proj(self.norm(x)))


def test_values_and_gradients_are_those_of_two_products() -> None:
    torch.manual_seed(0)
    layer = LowRankLinear(nn.Parameter(torch.randn(6, 8), requires_grad=False), 3)
    nn.init.normal_(layer.lora_B)
    x, wanted = torch.randn(2, 5, 8, requires_grad=True), torch.randn(2, 5, 6)
    (layer(x) * wanted).sum().backward()
    found = [x.grad, layer.lora_A.grad, layer.lora_B.grad]
    copies = [t.detach().clone().requires_grad_(True) for t in (x, layer.lora_A, layer.lora_B)]
    y = F.linear(copies[0], layer.weight) + STRENGTH * copies[0] @ copies[1].T @ copies[2].T
    (y * wanted).sum().backward()
    assert torch.allclose(layer(x), y, atol=1e-5)
    for grad, copy in zip(found, copies, strict=True):
        assert grad is not None
        assert copy.grad is not None
        assert torch.allclose(grad, copy.grad, atol=1e-4)
    assert layer.weight.grad is None


def test_a_model_with_fresh_updates_gives_what_it_gave() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(Layer(), nn.Linear(6, 8), Layer()).requires_grad_(False)
    nn.init.normal_(model[0].norm.weight)
    x = torch.randn(4, 8)
    before = model(x)
    add_low_rank(model, 2)
    assert torch.allclose(model(x), before, atol=1e-5)
    assert isinstance(model[0].q_proj, LowRankLinear)
    assert isinstance(model[0].other, nn.Linear)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {f"{n}.q_proj.lora_{side}" for n in (0, 2) for side in "AB"}


def test_factors_multiply_to_the_whole_update() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(Layer())
    add_low_rank(model, 2)
    updated = model[0].q_proj
    nn.init.normal_(updated.lora_B)
    ((name, (up, down)),) = low_rank_factors(model).items()
    assert name == "0.q_proj.weight"
    x = torch.randn(4, 8)
    assert torch.allclose(updated(x), F.linear(x, updated.weight + up @ down), atol=1e-5)
