"""Stage "vision": the tower learns from the rendering's own labels, cell by cell, and from the facts of whole frames.

Local labels alone make a tower forget where it is, so every cell also names its row and column. The facts of the whole
frame are read from pooled tokens at every scale, because pooled tokens are what the decoder will get.
Shape legend: N frames, C 576 cells, V tower width, D decoder width.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from m3video.model.m3.modeling import M3VideoForConditionalGeneration
from m3video.model.m3.pooling import pool
from m3video.training.facts import fact_ids, fact_list, local_facts
from m3video.training.footage import normalise_squares, shot_frames
from m3video.training.loop import autocast, run_stage
from m3video.training.recipe import ScratchRecipe
from m3video.training.render import PAD_CELL, CellLabels
from m3video.training.scenes import Facts
from m3video.training.symbols import Symbols
from m3video.training.words import COLOURS, GLYPHS, MOST_LETTERS, PLACES, SHAPES
from m3video.types import FULL_SCALE, FULL_SIDE, SCALES

HEADS = {
    "kind": 7,
    "colour": len(COLOURS) + 1,
    "shape": len(SHAPES) + 1,
    "glyph": len(GLYPHS) + 1,
    "tile": 145,
    "order": MOST_LETTERS + 1,
    "place": len(PLACES) + 1,
}
RARE_WEIGHT = 12.0
"""A cell with a glyph or a shape counts this much more than one without: most cells have none."""

FACTS_WEIGHT = 2.0
"""Ten drowned the cells: features told frames apart and no shapes."""
SILENCE = 0.16
"""A cell without a symbol is wrong by its mean square over this: the loudness of the quietest symbols."""
DENSE_SHARES = (0.67, 0.5)
"""Share of dense frames (text or shapes everywhere) in the first and in the second half of the stage: they teach glyphs
and shapes several times as fast per frame."""
DENSE = {"crowd": 4, "page": 3, "street": 4, "table": 2}
WHITE_FRAMES = 150
CODE, CODE_LOUDNESS, LOCAL_GAIN = 16, 4.0, 1.7
LOOKS = ((1.2, 0.0), (0.0, 1.2), (-1.2, 0.0), (0.0, -1.2), (0.0, 0.0), (2.5, 2.5), (-2.5, 2.5), (0.0, 0.0))
"""Cells across and down to which the heads of `start_local` look, layer by layer."""


def tower_features(model: M3VideoForConditionalGeneration, pixels_N3HW: Tensor) -> Tensor:
    """Return what the projector reads, [N, 576, V], without running the tower's unused last layer."""
    tower = model.model.vision_tower
    core = getattr(tower, "vision_model", tower)
    hidden = core.pre_layrnorm(core.embeddings(pixels_N3HW))
    for layer in core.encoder.layers[:-1]:
        out = layer(hidden, attention_mask=None)
        hidden = out[0] if isinstance(out, tuple) else out
    return hidden[:, 1:]


@torch.no_grad()
def start_local(tower: Any) -> None:
    """Give a fresh tower eyes for neighbourhoods: position codes in `CODE` channels of their own, and in each layer all
    heads but the last begin by looking a little way up, down, left or right (every weight stays free to change).

    Without this its attention stayed uniform over the whole picture for 38,000 frames: colours were learned, but no
    shape and no glyph, which need the cells around a cell.
    """
    core = getattr(tower, "vision_model", tower)
    own = slice(-CODE, None)
    steps = torch.arange(FULL_SCALE)
    rates = 2 * math.pi / torch.tensor([4.0, 8.0, 16.0, 32.0])
    angles = torch.cat([(steps % FULL_SIDE)[:, None] * rates, (steps // FULL_SIDE)[:, None] * rates], 1)
    embeddings = core.embeddings
    embeddings.patch_embedding.weight[own] = 0
    embeddings.class_embedding[own] = 0
    embeddings.position_embedding.weight[:, own] = 0
    embeddings.position_embedding.weight[1:, own] = CODE_LOUDNESS * torch.cat([angles.cos(), angles.sin()], 1)
    layers = core.encoder.layers
    for norm in (core.pre_layrnorm, *(layer.layer_norm1 for layer in layers)):
        norm.weight[own], norm.bias[own] = 1, 0
    for depth, layer in enumerate(layers):
        attention = layer.self_attn
        for writer in (attention.out_proj, layer.mlp.fc2):
            writer.weight[own], writer.bias[own] = 0, 0
        width, gain = attention.head_dim, LOCAL_GAIN * (1 + 0.25 * depth)
        for head in range(attention.num_heads - 1):
            across, down = LOOKS[(depth * (attention.num_heads - 1) + head) % len(LOOKS)]
            turn = torch.cat([across * rates, down * rates])
            cos, sin = torch.diag(turn.cos()), torch.diag(turn.sin())
            rows = slice(head * width, head * width + CODE)
            for projection in (attention.q_proj, attention.k_proj):
                projection.weight[head * width : (head + 1) * width, own] = 0
                projection.weight[rows] = 0
                projection.bias[rows] = 0
            attention.q_proj.weight[rows, own] = gain * torch.cat([torch.cat([cos, -sin], 1), torch.cat([sin, cos], 1)])
            attention.k_proj.weight[rows, own] = gain * torch.eye(CODE)


@torch.no_grad()
def start_white(tower: Any) -> None:
    """Let the patch embedding of a fresh tower begin by whitening: its filters are the principal components of rendered
    patches, each scaled to unit variance. Random filters see little but a patch's mean colour."""
    core = getattr(tower, "vision_model", tower)
    weight = core.embeddings.patch_embedding.weight
    filters, size = len(weight) - CODE, weight.shape[-1]
    patches = []
    for number in range(WHITE_FRAMES):
        rng = random.Random(f"whitening {number}")
        squares, _, _ = shot_frames(rng, num_frames=1, h264=False, content=(None, "crowd", "page")[number % 3])
        pixels = F.unfold(torch.from_numpy(normalise_squares(squares)), size, stride=size)[0].T
        patches.append(pixels[rng.sample(range(len(pixels)), 200)])
    stack = torch.cat(patches).double()
    values, vectors = torch.linalg.eigh(stack.T @ stack / len(stack))
    values, vectors = values.flip(0)[:filters], vectors.flip(1)[:, :filters]
    white = vectors.T / (values + 0.01).sqrt()[:, None]
    turn = torch.linalg.qr(torch.randn(filters, filters, dtype=torch.float64))[0]
    weight[:filters] = (turn @ white).float().view(filters, 3, size, size).to(weight.device)
    core.embeddings.position_embedding.weight[:, :filters] *= 0.1


class TowerReader(nn.Module):
    """The tower and the heads that read it; only the tower is used after the stage.

    The facts of the whole frame are read as the product reads: an MLP on each cell, then pooling, then a linear head.
    It is not the model's own projector: without a norm before it, that one died as the features grew louder.
    """

    def __init__(self, model: M3VideoForConditionalGeneration) -> None:
        super().__init__()
        width = model.config.vision_config.hidden_size
        self.tower = model.model.vision_tower
        self.digest = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        self.cells = nn.Linear(width, sum(HEADS.values()))
        self.where = nn.Linear(width, 2)
        self.facts = nn.Linear(width, len(fact_ids()))
        decoder_width = model.config.text_config.hidden_size
        self.say = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, decoder_width), nn.GELU(), nn.Linear(decoder_width, decoder_width)
        )
        self.symbols = Symbols(decoder_width)


def cell_targets(labels: Sequence[CellLabels]) -> dict[str, Tensor]:
    """Return the labels of all cells, int64 [N * 576] by head."""
    out = {}
    for head in HEADS:
        stacked = np.stack([getattr(label, f"{head}_GG") for label in labels]).reshape(-1).astype(np.int64)
        out[head] = torch.from_numpy(stacked + (head == "tile"))
    return out


def cell_losses(logits: Tensor, targets: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, tuple[float, float]]]:
    """Return the sum of the heads' losses, and each head's recall on the cells where its label is not empty."""
    total = logits.new_zeros(())
    metrics = {}
    inside = targets["kind"] != PAD_CELL
    for (head, size), part in zip(HEADS.items(), logits.split(list(HEADS.values()), -1), strict=True):
        target = targets[head].to(logits.device)
        weight = torch.ones(size, device=logits.device)
        if head in ("shape", "glyph", "order", "place"):
            weight[1:] = RARE_WEIGHT
        total = total + F.cross_entropy(part, target, weight)
        counted = inside.to(target.device) & ((target > 0) | (head == "kind"))
        metrics[head] = (float((part.argmax(-1) == target)[counted].sum()), float(counted.sum()))
    return total, metrics


def fact_targets(frames: Sequence[Facts]) -> Tensor:
    """Return the facts that hold in each frame, float32 [N, facts] of 0 and 1."""
    target = torch.zeros(len(frames), len(fact_ids()))
    for row, frame in enumerate(frames):
        target[row, fact_list(frame)] = 1.0
    return target


def fact_loss(
    reader: TowerReader, features_NCV: Tensor, frames: Sequence[Facts], rng: random.Random
) -> tuple[Tensor, dict[str, tuple[float, float]]]:
    """Return the loss of reading the facts of the whole frame from random pooled tokens, at a random scale for each
    frame."""
    grid = reader.digest(features_NCV)
    rows = []
    for n in range(len(grid)):
        pooled = pool(grid[n : n + 1], rng.choice(SCALES))[0]
        picked = [rng.randrange(len(pooled)) for _ in range(6)]
        rows.append(pooled[picked])
    logits = reader.facts(torch.stack(rows)).float()
    target = fact_targets(frames).to(logits.device)[:, None].expand_as(logits)
    loss = F.binary_cross_entropy_with_logits(logits, target, pos_weight=logits.new_tensor(4.0))
    true = target > 0
    return loss, {
        "facts": (float((logits[true] > 0).sum()), float(true.sum())),
        "false facts": (float((logits[~true] > 0).sum()), float(true.sum())),
    }


def say_loss(reader: TowerReader, features_NCV: Tensor, labels: Sequence[CellLabels]) -> Tensor:
    """Return how far each cell, through an MLP of the projector's form, is from its symbol, relative to the symbol's
    square."""
    with torch.no_grad():
        target = reader.symbols.cells(np.stack([local_facts(label) for label in labels]))
        loud = target.square().mean(-1)
    error = (reader.say(features_NCV).float() - target).square().mean(-1) / loud.clamp(min=SILENCE)
    full = loud > 0
    # A batch of pages has nothing to say.
    return error[full].sum() / full.sum().clamp(min=1) + error[~full].mean()


def draw_batch(
    rng: random.Random, batch: int, *, dense: int
) -> tuple[NDArray[np.uint8], list[CellLabels], list[Facts | None]]:
    """Draw frames uint8 [batch, 336, 336, 3], the labels of their cells, and the facts of each; None for the `dense`
    ones, which have no list of facts."""
    squares: list[NDArray[np.uint8]] = []
    labels: list[CellLabels] = []
    facts: list[Facts | None] = []
    for frame in range(batch):
        content = rng.choices(list(DENSE), list(DENSE.values()))[0] if frame < dense else None
        picture, cell_labels, true = shot_frames(rng, num_frames=1, h264=True, content=content)
        squares.append(picture)
        labels += cell_labels
        facts += [None] if content else true
    return np.concatenate(squares), labels, facts


_CENTRES = (torch.arange(FULL_SCALE) % FULL_SIDE, torch.arange(FULL_SCALE) // FULL_SIDE)


def train_vision(
    model: M3VideoForConditionalGeneration, recipe: ScratchRecipe, folder: Path, *, device: torch.device, resume: bool
) -> None:
    """Run the stage; the model's vision tower is trained in place."""
    torch.manual_seed(recipe.seed + 2)
    reader = TowerReader(model).to(device)
    start_local(reader.tower)
    start_white(reader.tower)
    if device.type == "cpu":
        # Measured: at 577 tokens and two heads plain attention trains 1.3 times as fast as the fused kernel here.
        model.model.vision_tower.set_attn_implementation("eager")
    place = (torch.stack(_CENTRES, -1).float() / (FULL_SIDE - 1) * 2 - 1).to(device)

    def step(number: int) -> tuple[Tensor, Mapping[str, tuple[float, float]]]:
        rng = random.Random(f"{recipe.seed} vision {number}")
        dense = round(recipe.vision.batch * DENSE_SHARES[2 * number >= recipe.vision.steps])
        squares, labels, facts = draw_batch(rng, recipe.vision.batch, dense=dense)
        with_facts = [n for n, frame in enumerate(facts) if frame is not None]
        pixels = torch.from_numpy(normalise_squares(squares)).to(device)
        with autocast(device):
            features = tower_features(model, pixels)
            logits, where = reader.cells(features), reader.where(features)
            by_facts, fact_metrics = fact_loss(reader, features[with_facts], [f for f in facts if f is not None], rng)
            by_saying = say_loss(reader, features, labels)
        by_cells, metrics = cell_losses(logits.float().flatten(0, 1), cell_targets(labels))
        by_where = F.mse_loss(where.float(), place.expand(len(where), -1, -1))
        return by_cells + 3 * by_where + FACTS_WEIGHT * by_facts + by_saying, {
            **metrics,
            **fact_metrics,
            "where": (float(by_where.detach()), 1.0),
            "unsaid": (float(by_saying.detach()), 1.0),
        }

    outdates = ("features", "align.pt", "joint.pt")
    run_stage("vision", recipe.vision, reader, folder, resume=resume, step=step, outdates=outdates)
    model.model.vision_tower.set_attn_implementation("sdpa")
