"""The tower's own thousand classes in the projector: `small` says names of which it has seen no photograph.

The released network names a photograph by a layer over its head's channels. Here that layer is the beginning of the
projector's first one, cell by cell: a channel for each class, silent below a threshold. The second layer turns each
into the embedding of the class's name. Both stay as they are, so no name is forgotten. Without the threshold, names
drown: the sum of a thousand small evidences points .10 (cosine) to the right name, and to it alone for .64 of 250
photographs; with it .74 and .77, and a decoder can read it.

A photograph is changed to show another class by its class channels alone: so every name is practised.

Shape legend: T visual tokens, W channels inside the projector, K classes, F channels of the head, D decoder width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from m3video.model.tokenizer import TextCodec
from m3video.training.pretrained_tower import TowerHead

THRESHOLD = 9.0
"""Of a class's evidence in a cell. A class that is there has 25 at its best cell, as median; all others are within 1.5,
as deviation."""
LEFT = 0.15
"""Of a photograph's own classes, where it is changed to another."""
STRENGTH = 1.3
"""Of the class that is added: the median of what photographs of a class have of it."""


def class_layer(head: TowerHead, numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return weight [K, F] and bias [K] of the given classes' channels."""
    listed = torch.tensor(numbers)
    return head.class_weight[listed], head.class_bias[listed] - THRESHOLD


def keep_classes(projector: Any, count: int) -> None:
    """Let no gradient reach the first `count` channels inside a projector."""

    def rows(gradient: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(gradient[:count]), gradient[count:]])

    projector.linear_1.weight.register_hook(rows)
    projector.linear_1.bias.register_hook(rows)
    projector.linear_2.weight.register_hook(lambda gradient: rows(gradient.T).T)


def changed(named_TK: Tensor, scales: Sequence[int], classes: Sequence[int]) -> Tensor:
    """Return the pooled class channels of frames, some changed as if they showed another class.

    Args:
        named_TK: after the projector's activation and pooling.
        scales: of the frames.
        classes: for each frame the class it is to show, -1 for its own.
    """
    parts = []
    for part, wanted in zip(named_TK.split(list(scales)), classes, strict=True):
        if wanted >= 0:
            added = STRENGTH * F.one_hot(torch.tensor(wanted, device=part.device), part.shape[1])
            parts.append(LEFT * part + added.to(part.dtype))
        else:
            parts.append(part)
    return torch.cat(parts)


def name_directions(codec: TextCodec, embeddings_VD: Tensor, names: Sequence[str]) -> Tensor:
    """Return for each name the direction of its tokens' mean embedding from the mean over all names, [names, D]."""
    return directions(embeddings_VD, [codec.encode(f" {name}") for name in names])


def directions(embeddings_VD: Tensor, tokens: Sequence[Sequence[int]]) -> Tensor:
    """Return for each list of tokens the direction of their mean embedding from the mean over all lists, [lists, D]."""
    found = torch.stack([embeddings_VD[torch.tensor(ids)].mean(0) for ids in tokens])
    return F.normalize(found - found.mean(0), dim=1)
