"""What the rendered model answers on clips it has never seen: own seeds, and fonts and pictures held out of training.

    python scripts/eval_rendered.py [--model FOLDER] [--seed 1] [--shots 160] [--clips 40] [--files 24]

Two tables: question family x scale, asked of frames as the tower sees them; and the coarse questions asked of real
H.264 files through the whole product (probe, analyze, plan, fetch, answer). Intervals are 95 % Wilson intervals.
Questions say which frame they are about, but for the rows "frame unnamed", where the model has to find it.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch

from m3video.config import Settings
from m3video.evaluation.footage_set import group_of
from m3video.inference.pipeline import plan_video
from m3video.inference.session import ask as ask_video
from m3video.model.m3 import checkpoint
from m3video.model.m3.pooling import pack
from m3video.training.decoder import can_tell, sample_scales, sample_times
from m3video.training.facts import local_facts
from m3video.training.footage import (
    FADE_SECONDS,
    FootageClip,
    clip_frames,
    encode_h264,
    normalise_squares,
    random_clip,
    shot_frames,
)
from m3video.training.questions import FAMILIES, draw_questions, plain_answer, refined
from m3video.training.sequences import TrainingClip, answers_right, make_batch
from m3video.training.symbols import SymbolicFrame
from m3video.training.vision import tower_features
from m3video.utils.clock import whole_clock

COARSE = ("background", "light", "shape colour")
CONDITIONS: tuple[tuple[str, int, int], ...] = (
    ("1 frame", 1, 1),
    ("1 frame", 1, 9),
    ("1 frame", 1, 36),
    ("1 frame", 1, 144),
    ("1 frame", 1, 576),
    ("8 frames", 8, 1),
    ("8 frames", 8, 9),
    ("8 frames", 8, 36),
    ("8 frames", 8, 144),
    ("16 frames", 16, 1),
    ("16 frames", 16, 9),
    ("16 frames", 16, 36),
    ("16 frames", 16, 0),
    ("32 frames", 32, 1),
    ("32 frames", 32, 9),
    ("32 frames", 32, 0),
)
"""(label, frames, scale of every frame; 0 = mixed scales of 720 tokens in all)."""

Tally = dict[str, list[int]]


def wilson(right: int, count: int) -> str:
    """A share in per cent with its 95 % interval."""
    if not count:
        return "-"
    z, p = 1.96, right / count
    middle, spread = p + z * z / (2 * count), z * ((p * (1 - p) + z * z / (4 * count)) / count) ** 0.5
    low, high = max(0.0, middle - spread) / (1 + z * z / count), (middle + spread) / (1 + z * z / count)
    return f"{100 * p:.0f} [{100 * low:.0f}-{100 * high:.0f}]"


@torch.inference_mode()
def make_pool(
    loaded: checkpoint.LoadedModel, rng: random.Random, shots: int
) -> tuple[torch.Tensor, list[SymbolicFrame]]:
    """Projected grids [M, 576, D] of two frames of each held-out shot, and what is true of them."""
    grids: list[torch.Tensor] = []
    frames: list[SymbolicFrame] = []
    for _ in range(shots):
        squares, labels, true = shot_frames(rng, num_frames=2, h264=True, held_out=True)
        features = tower_features(loaded.model, torch.from_numpy(normalise_squares(squares)))
        grids.append(loaded.model.model.multi_modal_projector(features))
        frames += [(facts, local_facts(cells)) for facts, cells in zip(true, labels, strict=True)]
    return torch.cat(grids), frames


@torch.inference_mode()
def table(
    loaded: checkpoint.LoadedModel,
    pool: torch.Tensor,
    known: Sequence[SymbolicFrame],
    rng: random.Random,
    clips: int,
    frames: int,
    scale: int,
) -> Tally:
    """Right answers and questions of each family, for clips of `frames` frames, and of each group of families where the
    frame that is asked about has tokens enough to tell."""
    tally: Tally = defaultdict(lambda: [0, 0])
    for _ in range(clips):
        rows = rng.sample(range(len(known)), frames)
        shown = [known[row][0] for row in rows]
        scales = (scale,) * frames if scale else sample_scales(rng, frames, most=720)
        seconds = sample_times(rng, frames)
        named = [
            q
            for name in FAMILIES
            for q in draw_questions(shown, seconds, rng, number=3, families=(name,), when_share=0.0, unnamed_share=0.0)
        ]
        overall = [
            q for q in draw_questions(shown, seconds, rng, number=3, when_share=1.0) if q.family in ("when", "first")
        ]
        # About one frame without saying which: the model has to find it.
        unnamed = draw_questions(shown, seconds, rng, number=6, when_share=0.0, unnamed_share=1.0) if frames > 1 else []
        asked = named + overall + unnamed
        batch = make_batch([TrainingClip(seconds, scales, tuple(asked))], torch.device("cpu"))
        model = loaded.model.model.language_model
        right = answers_right(model, loaded.model.lm_head, batch, pack(pool[rows], scales).tokens_TD)
        for place, (question, ok) in enumerate(zip(asked, right, strict=True)):
            name = refined(question.family, shown[question.frame])
            can_be_told = can_tell(question, [known[row] for row in rows], scales)
            if place >= len(named) + len(overall):
                names = [f"= {group_of(name)}, frame unnamed"] if can_be_told else []
            else:
                names = [name] + [f"= {group_of(name)}"] * can_be_told
            for counted in names:
                tally[counted][0] += ok
                tally[counted][1] += 1
    return tally


def files(loaded: checkpoint.LoadedModel, rng: random.Random, number: int) -> Tally:
    """The coarse questions about planned frames of real H.264 files, through the product."""
    tally: Tally = defaultdict(lambda: [0, 0])
    with tempfile.TemporaryDirectory() as folder:
        for index in range(number):
            clip = random_clip(rng, num_shots=rng.randint(1, 4), held_out=True)
            path = Path(folder) / f"{index}.mp4"
            pictures = (picture for _, picture in clip_frames(clip, fps=12))
            encode_h264(pictures, path, fps=12, crf=rng.randint(20, 30))
            settings = Settings(budget=rng.choice((180, 720)), max_frames=rng.choice((8, 16)))
            plan = plan_video(path, settings)
            times = [plan.video.pts_seconds(frame.pts) for frame in plan.frames]
            clear = [n for n, t in enumerate(times) if not in_fade(clip, t)]
            named = [whole_clock(t) for t in times]
            for _ in range(9):
                n = rng.choice(clear)
                family = rng.choice(COARSE)
                found = FAMILIES[family](clip.facts(times[n]), rng)
                if found is None or (family == "shape colour" and len(clip.facts(times[n]).shapes) != 1):
                    continue
                by_time = named.count(named[n]) == 1 and rng.random() < 0.5
                question = f"{found.question} {f'at {named[n]}' if by_time else f'in frame {n + 1}'}?"
                said = ask_video(path, question, settings, plan=plan, loaded=loaded).text
                tally[family][0] += said == plain_answer(found.answer)
                tally[family][1] += 1
    return tally


def in_fade(clip: FootageClip, time: float) -> bool:
    """True where two shots are mixed: nothing is certain there."""
    number, _ = clip.where(time)
    return clip.fades[number] and sum(clip.seconds[: number + 1]) - time < FADE_SECONDS + 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="rendered")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shots", type=int, default=160)
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--files", type=int, default=24)
    args = parser.parse_args()
    loaded = checkpoint.load(args.model, device="cpu")
    rng = random.Random(f"held out {args.seed}")
    pool, known = make_pool(loaded, rng, args.shots)
    print(f"{args.shots} held-out shots, {args.clips} clips a column, per cent right [95 % interval], seed {args.seed}")
    total: dict[str, Tally] = {}
    for label, frames, scale in CONDITIONS:
        name = f"{label} at {scale or 'mixed'}"
        total[name] = table(loaded, pool, known, rng, args.clips * (4 if frames == 1 else 1), frames, scale)
        print(f"measured: {name}", file=sys.stderr, flush=True)
    families = sorted({family for tally in total.values() for family in tally})
    print("| family | " + " | ".join(total) + " |")
    print("|---" * (len(total) + 1) + "|")
    for family in families:
        print(f"| {family} | " + " | ".join(wilson(*tally.get(family, [0, 0])) for tally in total.values()) + " |")
    if args.files:
        through = files(loaded, rng, args.files)
        print(f"\nthrough the product, {args.files} H.264 files, budgets 180 and 720, 8 or 16 frames")
        for family, (right, count) in sorted(through.items()):
            print(f"{family:<14}{wilson(right, count)}  ({right} of {count})")


if __name__ == "__main__":
    main()
