"""Classes without photographs: a picture's channels changed to another class, and names from a head's logits."""

from __future__ import annotations

import pytest
import torch

from m3video.training.natural.class_vectors import SILENT, ClassVectors, from_channels_to_names
from m3video.training.pretrained_tower import TowerHead

CLASSES, HEAD, FREE = 6, 40, 5


@pytest.fixture
def head() -> TowerHead:
    torch.manual_seed(0)
    return TowerHead(torch.randn(HEAD, 3), torch.randn(HEAD), 2 * torch.randn(CLASSES, HEAD), torch.zeros(CLASSES))


def logits(vectors: ClassVectors, tokens: torch.Tensor) -> torch.Tensor:
    return tokens[:, :HEAD].mean(0) @ vectors.vectors_KH.T + vectors.bias_K


def test_a_changed_picture_is_of_the_wanted_class_and_others_stay(head: TowerHead) -> None:
    vectors = ClassVectors.of(head, range(CLASSES), torch.device("cpu"))
    inner = torch.rand(1 + 9 + 9, HEAD + FREE)
    for wanted in range(CLASSES):
        changed = vectors.changed(inner, (0, 1, 10, 19), (-1, wanted, -1))
        assert torch.equal(changed[:1], inner[:1])
        assert torch.equal(changed[10:], inner[10:])
        assert torch.equal(changed[1:10, HEAD:], inner[1:10, HEAD:])
        assert logits(vectors, changed[1:10]).argmax() == wanted
        assert changed.min() >= SILENT


def test_listed_classes_are_numbered_by_their_place(head: TowerHead) -> None:
    vectors = ClassVectors.of(head, [4, 1], torch.device("cpu"))
    assert torch.equal(vectors.vectors_KH, head.class_weight[[4, 1]])


def test_tokens_lie_in_the_direction_of_the_class_that_the_head_names(head: TowerHead) -> None:
    vectors = ClassVectors.of(head, range(CLASSES), torch.device("cpu"))
    directions = torch.nn.functional.normalize(torch.randn(CLASSES, 16), dim=1)
    weight, bias = from_channels_to_names(vectors, directions)
    pictures = torch.rand(200, HEAD)
    expected = pictures @ vectors.vectors_KH.T + vectors.bias_K
    assert torch.equal(((pictures @ weight.T + bias) @ directions.T).argmax(1), expected.argmax(1))
