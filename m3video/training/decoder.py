"""Stage "decoder": learn to find a frame and read it, symbolically, before any pixel is seen.

Retrieval ("in frame 5", "at 0:07") emerges after some hundred thousand answered questions; with symbols that takes
minutes. Frames stand at one token first, then at mixed scales, as a planner makes them.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from m3video.model.m3.modeling import M3VideoForConditionalGeneration
from m3video.training.facts import is_clear, is_readable
from m3video.training.loop import autocast, run_stage
from m3video.training.questions import Question, draw_questions
from m3video.training.recipe import ScratchRecipe
from m3video.training.sequences import Binder, TrainingClip, clip_loss, make_batch
from m3video.training.symbols import FramePool, SymbolicFrame, Symbols, draw_frames
from m3video.types import SCALES

LONGEST_PREFIX = {"find": 64, "read": 300, "mix": 300, "wide": 1300}
"""Most visual tokens of one clip in this stage, by mode: more would take much time for few questions."""
CLIPS_SHARE = {"find": 1.0, "read": 0.5, "mix": 0.5, "wide": 0.125}
"""Clips in a step, as a share of the stage's batch: steps of long clips have few of them."""
FRAMES_PER_CACHED = 2
"""Frames drawn for this stage for each shot of the last stages."""
FINE = ("sign", "row", "tile", "entry")
"""Families that cannot be answered from too few tokens."""


def sample_times(rng: random.Random, number: int) -> tuple[float, ...]:
    """Draw increasing times of shown frames within ten minutes, at steps from half a second to half a minute."""
    step = min(0.5 * 60 ** rng.random(), 580 / (1.5 * number))
    time = rng.choice((0.0, rng.uniform(0, 10), rng.uniform(0, max(0.0, 590 - step * number * 1.5))))
    times = []
    for _ in range(number):
        times.append(time)
        time += step * rng.uniform(0.5, 1.5)
    return tuple(times)


def sample_scales(rng: random.Random, number: int, *, most: int, finest: int = 576) -> tuple[int, ...]:
    """Draw a scale for each frame: all alike, or mixed as a planner mixes them; `most` tokens in all."""
    while True:
        if rng.random() < 0.4:
            scales = [rng.choice(SCALES)] * number
        else:
            weights = [rng.random() ** 2 for _ in SCALES]
            scales = rng.choices(SCALES, weights, k=number)
        scales = [min(scale, finest) for scale in scales]
        scales = lowered(rng, scales, most=most)
        if sum(scales) <= most:
            return tuple(scales)


def lowered(rng: random.Random, scales: Sequence[int], *, most: int) -> list[int]:
    """Lower the finest scales until the total is `most` tokens, as a smaller budget would; more only where even one
    token for each frame exceeds it."""
    out = list(scales)
    while sum(out) > most and max(out) > 1:
        worst = max(range(len(out)), key=lambda n: (out[n], rng.random()))
        out[worst] = SCALES[SCALES.index(out[worst]) - 1]
    return out


Mode = Literal["find", "read", "mix", "wide"]


def sample_mode(rng: random.Random, share: float) -> Mode:
    """Draw what a step's clips teach when `share` (0..1) of the stage is over: to find frames of one token each, to
    read a few frames at the scales that they need, or both at once, as a planner makes clips, short and long. Finding
    comes first."""
    modes: tuple[Mode, ...] = ("find", "read", "mix", "wide")
    return rng.choices(modes, (1, 0, 0, 0) if share < 0.08 else (1, 1, 0, 0) if share < 0.5 else (2, 3, 2, 2))[0]


def symbolic_clip(
    rng: random.Random, drawn: FramePool, recipe: ScratchRecipe, *, share: float, mode: Mode
) -> tuple[TrainingClip, list[SymbolicFrame]]:
    """Draw a symbolic clip; `share` of the stage is over (short clips come first).

    Args:
        rng: source of all randomness.
        drawn: frames to choose from.
        recipe: for the number of frames and questions.
        share: 0..1.
        mode: see `sample_mode`.
    """
    longest = min(
        recipe.max_frames, 4 if share < 0.1 else 8 if share < 0.2 else 16 if share < 0.5 else recipe.max_frames
    )
    most = LONGEST_PREFIX[mode]
    if mode in ("read", "wide"):
        frames = drawn.sample(rng, rng.randint(1, 5 if mode == "read" else 12), fine=True)
        scales = needed_scales(rng, frames, most=most)
    else:
        frames = drawn.sample(rng, rng.randint(1, longest), fine=mode == "mix" and rng.random() < 0.5)
        mixed = sample_scales(rng, len(frames), most=most, finest=144)
        scales = mixed if mode == "mix" else (1,) * len(frames)
    return make_clip(rng, frames, scales, number=recipe.questions), frames


def make_clip(
    rng: random.Random, frames: Sequence[SymbolicFrame], scales: tuple[int, ...], *, number: int
) -> TrainingClip:
    """Make a clip with at most `number` questions, only ones that its tokens can answer."""
    seconds = sample_times(rng, len(frames))
    asked = draw_questions([facts for facts, _ in frames], seconds, rng, number=number)
    cells = tuple(cells_C for _, cells_C in frames)
    return TrainingClip(seconds, scales, tuple(q for q in asked if can_tell(q, frames, scales)), cells)


def can_tell(question: Question, frames: Sequence[SymbolicFrame], scales: Sequence[int]) -> bool:
    """Return False where the question is about a sign, a board or a table whose frame has too few tokens to show it."""
    if question.family not in FINE:
        return True
    return is_readable(question.looks, frames[question.frame][1], scales[question.frame])


def needed_scales(rng: random.Random, frames: Sequence[SymbolicFrame], *, most: int) -> tuple[int, ...]:
    """Return for each frame the smallest scale that shows its local facts, sometimes the next; `most` tokens in all."""
    scales = []
    for _, cells_C in frames:
        seen = np.unique(cells_C[cells_C >= 0])
        needed = next((n for n, s in enumerate(SCALES) if n and is_clear(seen, cells_C, s)), len(SCALES) - 1)
        level = min(needed + (rng.random() < 0.25), len(SCALES) - 1) if len(seen) else rng.randrange(2)
        scales.append(SCALES[level])
    return tuple(lowered(rng, scales, most=most))


class SymbolicReader(nn.Module):
    """The decoder and its output head, the binder, which is discarded, and the fixed symbols that they learn to
    read."""

    def __init__(self, model: M3VideoForConditionalGeneration) -> None:
        super().__init__()
        self.decoder = model.model.language_model
        self.head = model.lm_head
        self.symbols = Symbols(model.config.text_config.hidden_size)
        self.binder = Binder(model.config.text_config.hidden_size)


def train_decoder(
    model: M3VideoForConditionalGeneration, recipe: ScratchRecipe, folder: Path, *, device: torch.device, resume: bool
) -> SymbolicReader:
    """Run the stage; the model's decoder is trained in place."""
    torch.manual_seed(recipe.seed + 1)
    reader = SymbolicReader(model).to(device)
    drawn = draw_frames(str(recipe.seed), FRAMES_PER_CACHED * recipe.cached_shots)

    def step(number: int) -> tuple[Tensor, Mapping[str, tuple[float, float]]]:
        rng = random.Random(f"{recipe.seed} decoder {number}")
        share = number / recipe.decoder.steps
        mode = sample_mode(rng, share)
        clips = max(1, round(recipe.decoder.batch * CLIPS_SHARE[mode]))
        made = [symbolic_clip(rng, drawn, recipe, share=share, mode=mode) for _ in range(clips)]
        # Batches of equal lengths would show long clips too rarely; the batch is padded instead.
        batch = make_batch([clip for clip, _ in made], device)
        frames = [frame for _, clip_frames in made for frame in clip_frames]
        scales = [scale for clip, _ in made for scale in clip.scales]
        with autocast(device):
            return clip_loss(reader.decoder, reader.head, reader.binder, batch, reader.symbols.tokens(frames, scales))

    run_stage("decoder", recipe.decoder, reader, folder, resume=resume, step=step, outdates=("joint.pt",))
    return reader
