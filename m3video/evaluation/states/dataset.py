"""The set of lasting states: clips rendered from a seed, and how much of what they show a plan shows.

The same seed gives the same pictures and truth. Clips and truths are kept in a folder, under a name made of all that
decides them, the code that draws them too.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path

import av
import cv2
import numpy as np
import PIL

from m3video.config import Settings
from m3video.evaluation.methods import MIX_FRAMES, even_scales
from m3video.evaluation.states import decks, draw, kinds, moving, scenes, truth
from m3video.evaluation.states.draw import Picture
from m3video.evaluation.states.kinds import draw_clip
from m3video.evaluation.states.truth import Score, Truth, score, truth_from
from m3video.evaluation.view import ClipView
from m3video.inference.pipeline import analyze_video, open_for
from m3video.types import VideoInfo
from m3video.utils.files import replacing
from m3video.utils.progress import Progress, silent

ADAPTIVE = "adaptive"

AMPLE = 20_000
"""Tokens that pay for everything in any of these clips."""

PRICES: dict[str, float] = {"1x": 1.0, "1.5x": 1.5, "2x": 2.0}
"""Budgets, in tokens that the distinct states of a clip need together; "ample" is `AMPLE` tokens for each."""

BUDGETS: tuple[str, ...] = (*PRICES, "ample")


@dataclass(frozen=True, slots=True)
class StatesClip:
    """A rendered clip: its name within the set, file and truth."""

    name: str
    path: Path
    truth: Truth


def content_key(kind: str, *, seed: int, index: int) -> str:
    """A name for a clip's content: which one it is, the code that draws it, and the libraries that draw and encode."""
    parts = [kind, str(seed), str(index), av.__version__, cv2.__version__, PIL.__version__, version("scikit-image")]
    modules = (draw, truth, decks, scenes, moving, kinds)
    parts += [np.__version__, *(_code_of(Path(m.__file__ or "")) for m in modules)]
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=12).hexdigest()


def _code_of(module: Path) -> str:
    """A module's code, without comments and layout."""
    return ast.dump(ast.parse(module.read_text(encoding="utf-8")))


def render_clip(kind: str, *, seed: int, index: int, folder: Path) -> StatesClip:
    """The clip's file in `folder` with its truth beside it, rendered if they are not there; whole or not at all."""
    key = content_key(kind, seed=seed, index=index)
    path, beside = folder / f"{key}.mp4", folder / f"{key}.json"
    name = f"{kind} {seed}-{index}"
    if not (path.exists() and beside.exists()):
        folder.mkdir(parents=True, exist_ok=True)
        film, rng = draw_clip(kind, seed=seed, index=index), random.Random(f"codec {seed} {kind} {index}")
        with replacing(path) as part:
            # Keyframes every two seconds pump: the picture changes a little at each.
            gop = rng.choice((250, 2 * film.fps))
            encode(film.pictures(), part, fps=film.fps, crf=rng.randint(20, 30), gop=gop)
        with replacing(beside) as part:
            part.write_text(json.dumps({"name": name, **dataclasses.asdict(film.truth(kind))}), encoding="utf-8")
    return StatesClip(name, path, truth_from(json.loads(beside.read_text(encoding="utf-8"))))


def encode(pictures: Iterator[Picture], target: Path, *, fps: int, crf: int, gop: int) -> None:
    """Write pictures of one even size as H.264 yuv420p in mp4; what is one array again and again is converted once."""
    with av.open(str(target), "w", format="mp4") as container:
        # Nobody streams noise at the rate that it would take: codecs flicker where there is more than they may send.
        options = {"crf": str(crf), "preset": "superfast", "g": str(gop), "maxrate": "2M", "bufsize": "2M"}
        stream = container.add_stream("libx264", rate=fps, options=options)
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, fps)
        last: Picture | None = None
        for index, picture in enumerate(pictures):
            if index == 0:
                stream.height, stream.width = picture.shape[:2]
            if picture is not last:
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
                last = picture
            frame.pts, frame.time_base = index, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def budgets_of(truth: Truth) -> dict[str, int]:
    """Tokens of each of `BUDGETS` for one clip."""
    return {**{name: round(truth.price * factor) for name, factor in PRICES.items()}, "ample": AMPLE}


def even_counts(max_frames: int) -> tuple[int, ...]:
    """Frames that uniform may choose between."""
    return tuple(sorted({min(frames, max_frames) for frames in (*MIX_FRAMES, max_frames)}))


def plans(view: ClipView, budget: int) -> dict[str, list[tuple[int, int]]]:
    """(pts, scale) of the frames that each method shows for a budget.

    "adaptive" is the product's planner, "uniform@n" n even frames at the two adjacent scales that spend the budget.
    """
    found = {ADAPTIVE: [(frame.pts, frame.scale) for frame in view.planned(budget).frames]}
    for frames in even_counts(view.max_frames):
        pts = view.evenly(min(frames, budget))
        found[f"uniform@{frames}"] = list(zip(pts, even_scales(len(pts), budget), strict=True))
    return found


@dataclass(frozen=True, slots=True)
class Row:
    """What one method showed of one clip at one of `BUDGETS`; `budget` in tokens."""

    clip: str
    kind: str
    method: str
    price: str
    budget: int
    score: Score


def score_clip(clip: StatesClip, *, max_frames: int) -> list[Row]:
    """Analyze a clip, plan it at each budget with each method, and hold the plans against the truth."""
    with open_for(clip.path, Settings()) as reader:
        info, stats = reader.info, analyze_video(reader)
    view = ClipView(info, stats, max_frames=max_frames)
    rows = []
    for price, budget in budgets_of(clip.truth).items():
        for method, plan in plans(view, budget).items():
            found = score(clip.truth, [(_seconds(info, pts), scale) for pts, scale in plan])
            rows.append(Row(clip.name, clip.truth.kind, method, price, budget, found))
    return rows


def _seconds(info: VideoInfo, pts: int) -> float:
    return (pts - info.start_pts) * info.time_base[0] / info.time_base[1]


def run(
    kinds: Sequence[str], *, seed: int, clips: int, max_frames: int, folder: Path, progress: Progress = silent
) -> tuple[list[StatesClip], list[Row]]:
    """Render what is missing of `clips` clips of each kind, and score all methods on them."""
    jobs = [(kind, index) for kind in kinds for index in range(clips)]
    found, rows = [], []
    with progress("states", len(jobs)) as bar:
        for number, (kind, index) in enumerate(jobs):
            found.append(render_clip(kind, seed=seed, index=index, folder=folder))
            rows += score_clip(found[-1], max_frames=max_frames)
            bar(number + 1)
    return found, rows


def best_uniform(rows: Sequence[Row]) -> str:
    """The method of even frames that shows the most states in all `rows`; of equals the one that wastes the least."""
    totals: dict[str, tuple[int, int]] = {}
    for row in rows:
        if row.method != ADAPTIVE:
            shown, wasted = totals.get(row.method, (0, 0))
            totals[row.method] = shown + row.score.shown, wasted - row.score.wasted
    return max(totals, key=lambda method: totals[method])
