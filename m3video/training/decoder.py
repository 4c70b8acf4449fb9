"""Stage "decoder": learn to find a frame and read it, symbolically, before any pixel is seen.

Retrieval ("in frame 5", "at 0:07") emerges after some hundred thousand answered questions; with symbols that takes
minutes. Frames stand at one token first, then at mixed scales, as a planner makes them.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from m3video.model.m3 import M3VideoForConditionalGeneration
from m3video.scales import SCALES
from m3video.training.build import autocast
from m3video.training.loop import run_stage
from m3video.training.questions import ask
from m3video.training.recipe import Recipe
from m3video.training.scenes import Facts, facts_at, sample_shot
from m3video.training.sequences import Binder, Clip, answer_loss, make_batch
from m3video.training.symbols import Symbols

LONGEST_PREFIX = 250
"""Visual tokens of one clip in this stage, at most: more would buy few questions for much time."""


def sample_times(rng: random.Random, number: int) -> tuple[float, ...]:
    """Increasing times of shown frames within ten minutes, at steps from half a second to half a minute."""
    step = min(0.5 * 60 ** rng.random(), 580 / (1.5 * number))
    time = rng.choice((0.0, rng.uniform(0, 10), rng.uniform(0, max(0.0, 590 - step * number * 1.5))))
    times = []
    for _ in range(number):
        times.append(time)
        time += step * rng.uniform(0.5, 1.5)
    return tuple(times)


def sample_scales(rng: random.Random, number: int, *, most: int, finest: int = 576) -> tuple[int, ...]:
    """A scale for each frame: all alike, or mixed as a planner mixes them; `most` tokens in all."""
    while True:
        if rng.random() < 0.4:
            scales = [rng.choice(SCALES)] * number
        else:
            weights = [rng.random() ** 2 for _ in SCALES]
            scales = rng.choices(SCALES, weights, k=number)
        scales = [min(scale, finest) for scale in scales]
        # Too much: lower the finest frames until it fits, as a smaller budget would.
        while sum(scales) > most and max(scales) > 1:
            worst = max(range(number), key=lambda n: (scales[n], rng.random()))
            scales[worst] = SCALES[SCALES.index(scales[worst]) - 1]
        if sum(scales) <= most:
            return tuple(scales)


def sample_facts(rng: random.Random, number: int) -> list[Facts]:
    """Frames of a clip: some shots last for several frames, others for one."""
    facts: list[Facts] = []
    while len(facts) < number:
        shot = sample_shot(rng)
        length = rng.choice((1, 1, 1, 2, 3))
        moments = sorted(rng.random() for _ in range(length))
        facts += [facts_at(shot, moment) for moment in moments]
    return facts[:number]


def sample_clip(rng: random.Random, recipe: Recipe, *, share: float, mixed: bool) -> tuple[Clip, Sequence[Facts]]:
    """One symbolic clip; `share` of the stage is over (short clips come first).

    Args:
        rng: source of all randomness.
        recipe: for the number of frames and questions.
        share: 0..1.
        mixed: frames at mixed scales instead of one token each.
    """
    longest = min(
        recipe.max_frames, 4 if share < 0.1 else 8 if share < 0.2 else 16 if share < 0.5 else recipe.max_frames
    )
    number = rng.randint(1, longest)
    facts, seconds = sample_facts(rng, number), sample_times(rng, number)
    scales = sample_scales(rng, number, most=LONGEST_PREFIX, finest=144) if mixed else (1,) * number
    # What a board's row says needs a token for each tile: ask only where the scale can tell.
    questions = [
        q
        for q in ask(facts, seconds, rng, number=recipe.questions)
        if not is_unreadable(q.family, facts, scales, q.frame)
    ]
    return Clip(seconds, scales, tuple(questions)), facts


def is_unreadable(family: str, facts: Sequence[Facts], scales: Sequence[int], frame: int) -> bool:
    """True for a board question whose frame has fewer tokens than the board has tiles."""
    board = facts[frame].board if family in ("row", "tile") else None
    return board is not None and scales[frame] < len(board) ** 2


class SymbolicReader(nn.Module):
    """What this stage trains: the decoder, its output head, and the vectors of facts."""

    def __init__(self, model: M3VideoForConditionalGeneration) -> None:
        super().__init__()
        self.decoder = model.model.language_model
        self.head = model.lm_head
        self.symbols = Symbols(model.config.text_config.hidden_size)
        self.binder = Binder(model.config.text_config.hidden_size)


def train_decoder(
    model: M3VideoForConditionalGeneration, recipe: Recipe, folder: Path, *, device: torch.device, resume: bool
) -> SymbolicReader:
    """Run the stage; the model's decoder is trained in place."""
    torch.manual_seed(recipe.seed + 1)
    reader = SymbolicReader(model).to(device)

    def step(number: int) -> tuple[Tensor, Mapping[str, tuple[float, float]]]:
        rng = random.Random(f"{recipe.seed} decoder {number}")
        share = number / recipe.decoder.steps
        mixed = share > 0.55 and rng.random() < 0.5
        clips = max(1, recipe.decoder.batch // (2 if mixed else 1))
        drawn = [sample_clip(rng, recipe, share=share, mixed=mixed) for _ in range(clips)]
        # Clips of like length together would be unfair to long ones; the batch is padded instead.
        batch = make_batch([clip for clip, _ in drawn], device)
        facts = [fact for _, frames in drawn for fact in frames]
        scales = [scale for clip, _ in drawn for scale in clip.scales]
        with autocast(device):
            return answer_loss(reader.decoder, reader.head, reader.binder, batch, reader.symbols.tokens(facts, scales))

    outdates = ("align.pt", "joint.pt")
    run_stage("decoder", recipe.decoder, reader, folder, resume=resume, step=step, outdates=outdates)
    return reader
