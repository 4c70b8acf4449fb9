"""Time, through the whole planner on encoded clips: what stands still or pans slowly must not eat the budget, what is
seen for half a second must be shown."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from m3video.config import Settings
from m3video.inference.pipeline import plan_video
from m3video.training.footage import FootageClip, clip_frames, encode_h264
from m3video.training.scenes import Shot, sample_shot
from m3video.training.words import BACKGROUND_COLOURS, MANY
from m3video.types import TokenPlan

FPS, SIZE, BUDGET = 10, (320, 180), 720


def shot(seed: int, content: str, *, backdrop: str) -> Shot:
    """A shot that stands still, by day."""
    rng = random.Random(f"temporal {seed} {content}")
    made = sample_shot(rng, held_out=True, content=content)
    free = [colour for colour in BACKGROUND_COLOURS if colour not in {shape.colour for shape in made.shapes}]
    ground = MANY if backdrop == "photo" else rng.choice(free)
    return replace(made, size=SIZE, pan=(0.0, 0.0), noise=0.0, night=False, backdrop=backdrop, background=ground)


def planned(shots: Sequence[Shot], seconds: Sequence[float], path: Path, *, fades: bool = False) -> TokenPlan:
    clip = FootageClip(tuple(shots), tuple(seconds), tuple(fades for _ in shots))
    encode_h264((picture for _, picture in clip_frames(clip, fps=FPS)), path, fps=FPS, crf=24, preset="veryfast")
    return plan_video(path, Settings(budget=BUDGET, max_frames=32))


def tokens(plan: TokenPlan, start: float, end: float) -> list[int]:
    """Scales of the frames shown between two times."""
    return [frame.scale for frame in plan.frames if start <= plan.video.pts_seconds(frame.pts) < end]


def busy(seed: int) -> list[Shot]:
    """Eight different shots with something to read, more than the budget can show in full."""
    kinds = ("sign", "board", "table", "shapes") * 2
    return [shot(100 * seed + n, kind, backdrop="plain") for n, kind in enumerate(kinds)]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_frozen_footage_gets_one_good_frame_and_leaves_the_rest_to_others(seed: int, tmp_path: Path) -> None:
    """The still shot lasts two thirds of the clip and holds a picture full of detail."""
    others = busy(seed)
    plan = planned([shot(seed, "page", backdrop="photo"), *others], [32] + [2] * 8, tmp_path / "still.mp4")
    spent = tokens(plan, 0, 32)
    assert spent
    # One frame may be looked at closely; an even plan would spend 480 of the 720 here.
    assert sum(spent) - max(spent) <= 0.1 * BUDGET, spent
    assert min(max(tokens(plan, 32 + 2 * n, 34 + 2 * n)) for n in range(8)) >= 9, plan.frames


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_slow_pan_gets_less_than_its_share_of_time(seed: int, tmp_path: Path) -> None:
    moving = replace(shot(seed, "empty", backdrop="texture"), pan=(0.3, 0.1))
    plan = planned([moving, *busy(seed)], [32] + [2] * 8, tmp_path / "pan.mp4")
    assert sum(tokens(plan, 0, 32)) <= 0.35 * BUDGET, plan.frames  # it lasts two thirds of the time
    assert min(max(tokens(plan, 32 + 2 * n, 34 + 2 * n)) for n in range(8)) >= 9, plan.frames


@pytest.mark.parametrize("fades", [False, True])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_title_card_of_half_a_second_is_shown_and_can_be_read(seed: int, fades: bool, tmp_path: Path) -> None:
    card = shot(seed, "sign", backdrop="plain")
    before, after = (shot(seed + n, "shapes", backdrop="texture") for n in (20, 30))
    # A fade begins 0.4 s before its shot ends: the card stands alone for half a second.
    seconds = [20, 0.9 if fades else 0.5, 20]
    plan = planned([before, card, after], seconds, tmp_path / "card.mp4", fades=fades)
    shown = tokens(plan, 20, 20.5)
    assert shown, [plan.video.pts_seconds(frame.pts) for frame in plan.frames]
    assert max(shown) >= 36, plan.frames


def test_a_fade_gets_next_to_nothing(tmp_path: Path) -> None:
    shots = [shot(n, "board" if n % 2 else "shapes", backdrop="gradient") for n in range(40, 46)]
    plan = planned(shots, [3.0] * 6, tmp_path / "fades.mp4", fades=True)
    inside = [sum(tokens(plan, 3 * n - 0.35, 3 * n - 0.05)) for n in range(1, 6)]
    alone = [max(tokens(plan, 3 * n, 3 * n + 2.6)) for n in range(6)]
    assert sum(inside) <= 0.05 * BUDGET, plan.frames
    assert min(alone) >= 9, plan.frames
