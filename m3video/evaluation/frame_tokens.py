"""A frame's tokens after the vision tower, and ways to make them fewer: nested pooling, and what other methods do.

All reductions are training-free. The rendered decoder was trained on nested pooling only, and LLaVA on full grids, so a
method that gives it another kind of token is measured outside its training; a report says so.

Shape legend: S = 576 tokens of a frame, K tokens that remain, D decoder width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from m3video.model.m3.checkpoint import LoadedModel
from m3video.model.m3.finite import check_features
from m3video.model.m3.images import pad_pixels
from m3video.model.m3.pooling import pool
from m3video.types import FULL_SCALE, FULL_SIDE

MERGE_STEP = 0.5
"""ToMe merges at most half of the tokens in one round: each token of one set with one of the other."""


class FrameTokens(NamedTuple):
    """A frame after tower and projector: `grid_SD` [576, D]; `saliency_S` [576], cosine of each patch to CLS.

    Convolutional towers have no CLS token: the mean of all patches stands for the whole there.
    """

    grid_SD: Tensor
    saliency_S: Tensor


@torch.inference_mode()
def encode_frames(
    loaded: LoadedModel, pictures: Sequence[NDArray[np.uint8]], *, vision_batch: int = 16
) -> list[FrameTokens]:
    """Run tower and projector over frames, with the likeness of each patch to the CLS token beside each grid.

    Raises:
        NotFiniteError: there is NaN or infinity in a grid.

    Source: the layer M3 reads; CLS similarity as in PruMerge (arXiv 2403.15388) section 3, on hidden states.
    """
    model = loaded.model
    layer = model.config.vision_feature_layer
    assert isinstance(layer, int)
    frames: list[FrameTokens] = []
    for start in range(0, len(pictures), vision_batch):
        pixels = pad_pixels(list(pictures[start : start + vision_batch]), model.config.pictures)
        pixels = pixels.to(model.device, model.dtype)
        out = model.get_image_features(pixel_values=pixels)
        hidden = out.hidden_states[layer]
        has_class = model.config.vision_feature_select_strategy == "default"
        patches, whole = (hidden[:, 1:], hidden[:, :1]) if has_class else (hidden, hidden.mean(1, keepdim=True))
        saliency = F.cosine_similarity(patches, whole, dim=-1)
        for grid in out.pooler_output:
            check_features(loaded, grid, pixels)
        frames += [FrameTokens(grid, near) for grid, near in zip(out.pooler_output, saliency, strict=True)]
    return frames


def pooled(frame: FrameTokens, tokens: int) -> Tensor:
    """Return the nested average pooling to one of the five scales."""
    return pool(frame.grid_SD[None], tokens)[0]


def resampled(frame: FrameTokens, tokens: int) -> Tensor:
    """Return the average pooling to any square number of tokens, as Qwen-VL-Chat's resampler has 256 (arXiv
    2308.12966)."""
    side = round(tokens**0.5)
    if side * side != tokens or not 1 <= side <= FULL_SIDE:
        raise ValueError(f"tokens ({tokens}) must be a square up to {FULL_SCALE}")
    square = frame.grid_SD.reshape(FULL_SIDE, FULL_SIDE, -1).permute(2, 0, 1)
    return F.adaptive_avg_pool2d(square, side).permute(1, 2, 0).reshape(tokens, -1)


def pruned(frame: FrameTokens, tokens: int) -> Tensor:
    """Keep the patches most like the CLS token, and average each other patch into the kept one it is most like.

    Source: PruMerge (arXiv 2403.15388), with the number kept given by the budget.
    """
    return _keep_and_merge(frame.grid_SD, frame.saliency_S.topk(tokens).indices)


def pruned_unusual(frame: FrameTokens, tokens: int) -> Tensor:
    """Prune as `pruned`, but keep the patches least like the frame's mean: for a tower whose CLS token was never
    trained."""
    grid = frame.grid_SD
    likeness = F.cosine_similarity(grid, grid.mean(0, keepdim=True), dim=-1)
    return _keep_and_merge(grid, (-likeness).topk(tokens).indices)


def _keep_and_merge(grid_SD: Tensor, kept_K: Tensor) -> Tensor:
    """Return the kept tokens in raster order, each averaged with the dropped tokens that are nearest to it."""
    kept = kept_K.sort().values
    unit = F.normalize(grid_SD, dim=-1)
    home = (unit @ unit[kept].T).argmax(-1)
    home[kept] = torch.arange(len(kept), device=home.device)
    total = torch.zeros(len(kept), grid_SD.shape[1], dtype=grid_SD.dtype, device=grid_SD.device)
    total.index_add_(0, home, grid_SD)
    count = torch.bincount(home, minlength=len(kept)).to(grid_SD.dtype)
    return total / count[:, None]


def merged(frame: FrameTokens, tokens: int) -> Tensor:
    """Merge the most similar pairs, round by round, until `tokens` are left; a token weighs as many as it holds.

    Source: ToMe (arXiv 2210.09461) section 3, bipartite soft matching, on the projected tokens.
    """
    grid = frame.grid_SD
    size = torch.ones(len(grid), dtype=grid.dtype, device=grid.device)
    while len(grid) > tokens:
        grid, size = _merge_round(grid, size, min(len(grid) - tokens, int(len(grid) * MERGE_STEP)))
    return grid


def _merge_round(grid_SD: Tensor, size_S: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """Merge `number` tokens of the even places into tokens of the odd places; order is kept."""
    unit = F.normalize(grid_SD, dim=-1)
    score, partner = (unit[0::2] @ unit[1::2].T).max(-1)
    gone = score.topk(number).indices
    source, target = gone * 2, partner[gone] * 2 + 1
    total = (grid_SD * size_S[:, None]).index_add(0, target, (grid_SD * size_S[:, None])[source])
    weight = size_S.index_add(0, target, size_S[source])
    keep = torch.ones(len(grid_SD), dtype=torch.bool, device=grid_SD.device)
    keep[source] = False
    return (total / weight[:, None])[keep], weight[keep]


REDUCTIONS: dict[str, Callable[[FrameTokens, int], Tensor]] = {
    "pool": pooled,
    "resample": resampled,
    "prune": pruned,
    "prune-unusual": pruned_unusual,
    "merge": merged,
}
"""How a frame's tokens become fewer: name -> function of the frame and the number wanted, to [K, D]."""
