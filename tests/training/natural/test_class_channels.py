"""The tower's classes inside the projector: names that stay, and photographs changed to another class."""

from __future__ import annotations

import torch
from torch import nn

from m3video.training.natural.class_channels import LEFT, STRENGTH, THRESHOLD, changed, class_layer, keep_classes
from m3video.training.pretrained_tower import TowerHead

CLASSES, FREE = 6, 5


def test_a_changed_picture_shows_the_wanted_class_most_and_others_stay() -> None:
    torch.manual_seed(0)
    inner = torch.rand(1 + 9 + 9, CLASSES)
    for wanted in range(CLASSES):
        found = changed(inner, (1, 9, 9), (-1, wanted, -1))
        assert torch.equal(found[:1], inner[:1])
        assert torch.equal(found[10:], inner[10:])
        assert (found[1:10].argmax(1) == wanted).all()
        others = [number for number in range(CLASSES) if number != wanted]
        assert torch.allclose(found[1:10, others], LEFT * inner[1:10, others])
        assert torch.allclose(found[1:10, wanted], LEFT * inner[1:10, wanted] + STRENGTH)


def test_listed_classes_are_those_of_the_head_below_the_threshold() -> None:
    head = TowerHead(torch.randn(4, 3), torch.randn(4), torch.randn(5, 4), torch.randn(5))
    weight, bias = class_layer(head, [4, 1])
    assert torch.equal(weight, head.class_weight[[4, 1]])
    assert torch.equal(bias, head.class_bias[[4, 1]] - THRESHOLD)


class Projector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(3, CLASSES + FREE), nn.Linear(CLASSES + FREE, 2)


def test_training_changes_all_channels_but_the_classes() -> None:
    torch.manual_seed(0)
    projector = Projector()
    keep_classes(projector, CLASSES)
    before = {name: tensor.clone() for name, tensor in projector.state_dict().items()}
    optimizer = torch.optim.AdamW(projector.parameters(), lr=0.1, weight_decay=0.0)
    for _ in range(3):
        optimizer.zero_grad()
        projector.linear_2(projector.linear_1(torch.randn(8, 3))).square().mean().backward()
        optimizer.step()
    same = {name: tensor == before[name] for name, tensor in projector.state_dict().items()}
    assert same["linear_1.weight"][:CLASSES].all()
    assert same["linear_1.bias"][:CLASSES].all()
    assert same["linear_2.weight"][:, :CLASSES].all()
    assert not same["linear_1.weight"][CLASSES:].any()
    assert not same["linear_1.bias"][CLASSES:].any()
    assert not same["linear_2.weight"][:, CLASSES:].any()
