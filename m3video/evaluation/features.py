"""Frames through the vision tower and the projector, once for all methods.

Shape legend: S = 576 tokens of a frame, D decoder width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from m3video.model.m3.checkpoint import LoadedModel
from m3video.model.m3.finite import check_features
from m3video.model.m3.images import pad_pixels


class FrameTokens(NamedTuple):
    """A frame after tower and projector: `grid_SD` [576, D]; `saliency_S` [576], cosine of each patch to CLS."""

    grid_SD: Tensor
    saliency_S: Tensor


@torch.inference_mode()
def encode_frames(
    loaded: LoadedModel, pictures: Sequence[NDArray[np.uint8]], *, vision_batch: int = 16
) -> list[FrameTokens]:
    """Tower and projector over frames, keeping beside each grid how much each patch resembles the CLS token.

    Raises:
        NotFiniteError: there is NaN or infinity in a grid.

    Source: the layer M3 reads; CLS similarity as in PruMerge (arXiv 2403.15388) section 3, on hidden states.
    """
    model = loaded.model
    layer = model.config.vision_feature_layer
    assert isinstance(layer, int)
    frames: list[FrameTokens] = []
    for start in range(0, len(pictures), vision_batch):
        pixels = pad_pixels(list(pictures[start : start + vision_batch])).to(model.device, model.dtype)
        out = model.get_image_features(pixel_values=pixels)
        hidden = out.hidden_states[layer]
        saliency = F.cosine_similarity(hidden[:, 1:], hidden[:, :1], dim=-1)
        for grid in out.pooler_output:
            check_features(loaded, grid, pixels)
        frames += [FrameTokens(grid, near) for grid, near in zip(out.pooler_output, saliency, strict=True)]
    return frames
