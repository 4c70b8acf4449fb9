"""Stages "align" and "joint": the projector is fitted to the symbolic tokens, then all after the tower is trained on
the M3 objective: clips at each of the five scales, and clips of mixed scales as a planner makes them.

Shape legend: N frames, C 576 cells, V tower width, D decoder width.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from m3video.model.m3.modeling import M3VideoForConditionalGeneration
from m3video.model.m3.pooling import pack, pool
from m3video.training.decoder import make_clip, sample_scales
from m3video.training.features import Features
from m3video.training.loop import autocast, run_stage
from m3video.training.recipe import ScratchRecipe, Stage
from m3video.training.sequences import Binder, TrainingClip, clip_loss, make_batch
from m3video.training.symbols import Symbols
from m3video.types import SCALES

ALIGN_BATCH = 24
PREFIX_LENGTHS = ((200, 2.0), (720, 1.0), (1500, 0.5), (3000, 0.25), (5000, 0.25))
"""(visual tokens of a clip at most, share of `batch` clips in such a step): short steps hold many clips."""
PREFIX_LENGTH_SHARES = (14, 24, 24, 20, 18)


@torch.no_grad()
def start_projector(projector: Any, cache: Features) -> None:
    """Scale a fresh projector's weights to the tower's features, which grow large and skewed in training:
    weights of the default size would leave every GELU inactive."""
    rows = range(0, len(cache.features_MCV), max(1, len(cache.features_MCV) // 64))
    seen = cache.rows(list(rows), torch.device("cpu")).flatten(0, 1)
    first, second = projector.linear_1, projector.linear_2
    weight = torch.randn(first.weight.shape) / (seen.std(0) + 1e-3) / first.in_features**0.5
    first.weight.copy_(weight)
    first.bias.copy_(-weight @ seen.mean(0))
    nn.init.normal_(second.weight, std=second.in_features**-0.5)
    nn.init.zeros_(second.bias)


def train_projector(
    model: M3VideoForConditionalGeneration,
    symbols: Symbols,
    cache: Features,
    recipe: ScratchRecipe,
    folder: Path,
    *,
    device: torch.device,
    resume: bool,
) -> None:
    """Fit pooled projected features, at every scale, to the symbolic tokens that the decoder can read."""
    torch.manual_seed(recipe.seed + 4)
    projector = model.model.multi_modal_projector
    start_projector(projector, cache)
    projector.to(device)
    symbols = symbols.to(device)
    stage = Stage(steps=recipe.align_steps, batch=ALIGN_BATCH, rate=2e-3, save_every=max(1, recipe.align_steps // 4))

    def step(number: int) -> tuple[Tensor, Mapping[str, tuple[float, float]]]:
        rng = random.Random(f"{recipe.seed} align {number}")
        rows = cache.sample(rng, ALIGN_BATCH)
        with torch.no_grad():
            wholes_ND = symbols.whole([cache.facts_M[row] for row in rows])
            target_NCD = wholes_ND[:, None] + symbols.cells(cache.cells_MC[rows])
        with autocast(device):
            grid_NCD = projector(cache.rows(rows, device)).float()
        losses = [_miss(pool(grid_NCD, scale), pool(target_NCD, scale)) for scale in SCALES]
        metrics = {f"unsaid {scale}": (float(loss.detach()), 1.0) for scale, loss in zip(SCALES, losses, strict=True)}
        return torch.stack(losses).mean(), metrics

    run_stage("align", stage, projector, folder, resume=resume, step=step, outdates=("joint.pt",))


def _miss(predicted_NSD: Tensor, target_NSD: Tensor) -> Tensor:
    """Return the mean square error of each token relative to its target's square: the decoder normalizes tokens, so an
    error matters as much in a small one as in a large one."""
    return ((predicted_NSD - target_NSD).square().mean(-1) / target_NSD.square().mean(-1)).mean()


class AfterTower(nn.Module):
    """What the joint stage trains: projector, decoder, output head, and the binder, which is discarded."""

    def __init__(self, model: M3VideoForConditionalGeneration, binder: Binder) -> None:
        super().__init__()
        self.binder = binder
        self.projector = model.model.multi_modal_projector
        self.decoder = model.model.language_model
        self.head = model.lm_head


def cached_clip(
    rng: random.Random, cache: Features, recipe: ScratchRecipe, *, most: int
) -> tuple[TrainingClip, list[int]]:
    """Draw a clip of cached frames with at most `most` visual tokens: one scale for all frames, or mixed scales."""
    if rng.random() < 0.5:
        scale = rng.choice([s for s in SCALES if s <= most])
        number = rng.randint(1, min(recipe.max_frames, most // scale))
        scales: tuple[int, ...] = (scale,) * number
    else:
        number = rng.randint(1, recipe.max_frames)
        scales = sample_scales(rng, number, most=most)
    rows = cache.sample(rng, number, fine=rng.random() < 0.5)
    return make_clip(rng, cache.frames(rows), scales, number=recipe.questions), rows


def train_joint(
    model: M3VideoForConditionalGeneration,
    binder: Binder,
    cache: Features,
    recipe: ScratchRecipe,
    folder: Path,
    *,
    device: torch.device,
    resume: bool,
) -> None:
    """Run the M3 objective on real features; everything after the tower is trained in place."""
    torch.manual_seed(recipe.seed + 3)
    part = AfterTower(model, binder).to(device)

    def step(number: int) -> tuple[Tensor, Mapping[str, tuple[float, float]]]:
        rng = random.Random(f"{recipe.seed} joint {number}")
        most, share = rng.choices(PREFIX_LENGTHS, PREFIX_LENGTH_SHARES)[0]
        drawn = [cached_clip(rng, cache, recipe, most=most) for _ in range(max(1, round(recipe.joint.batch * share)))]
        batch = make_batch([clip for clip, _ in drawn], device)
        rows = [row for _, clip_rows in drawn for row in clip_rows]
        scales = [scale for clip, _ in drawn for scale in clip.scales]
        with autocast(device):
            visual = pack(part.projector(cache.rows(rows, device)), scales)
            return clip_loss(part.decoder, part.head, part.binder, batch, visual.tokens_TD)

    run_stage("joint", recipe.joint, part, folder, resume=resume, step=step)
