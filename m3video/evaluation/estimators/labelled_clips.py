"""Clips with everything the comparison of estimators reads: losses by every estimator, and the model's answers.

The expensive half (decode, vision tower, answers) is done once for a clip and leaves arrays; `spending` reads them.

Shape legend: N candidates, K shots, S the five scales, H W scan picture, T 576 tokens, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m3video.config import Settings
from m3video.evaluation.estimators.oracle import AskedFrame, ask_frame, questions_about
from m3video.evaluation.estimators.pixels import coded_bits, distortion, stroke_energy
from m3video.evaluation.footage_set import EDGE_SECONDS, FootageSpec, make_clip_recipe, render_footage_clip
from m3video.evaluation.frame_tokens import encode_frames
from m3video.evaluation.view import ClipView
from m3video.inference.pipeline import open_for
from m3video.model.m3.checkpoint import LoadedModel
from m3video.planning.analyze import analyze
from m3video.planning.complexity import cell_features, losses
from m3video.types import ScanFrame

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class LabelledClip:
    """One measured clip.

    Attributes:
        name: of its recipe.
        view: times and measurements, as methods see them.
        spans_K2: seconds in which each shot alone is seen.
        asked_K: the answers about one frame of each shot.
        row_K: the candidate that was asked about; -1 where the shot has none and another frame was asked about.
        tables: for each estimator the loss of every candidate at each scale, float32 [N, 5].
    """

    name: str
    view: ClipView
    spans_K2: NDArray[np.float64]
    asked_K: tuple[AskedFrame, ...]
    row_K: NDArray[np.int64]
    tables: dict[str, Floats]

    def shots_of(self, pts_N: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the shot that each frame shows alone, -1 in a cross-fade; int64 [N]."""
        seconds = np.array(self.view.seconds(pts_N)).reshape(-1, 1)
        inside = (seconds >= self.spans_K2[:, 0] - 1e-6) & (seconds < self.spans_K2[:, 1] - 1e-6)
        return np.where(inside.any(axis=1), inside.argmax(axis=1), -1)


def measure_clip(
    loaded: LoadedModel, spec: FootageSpec, index: int, *, folder: Path, max_frames: int, vision_batch: int = 16
) -> LabelledClip:
    """Render one clip, scan it, encode its candidates and ask about each shot.

    Args:
        loaded: the model that answers.
        spec: the set of clips.
        index: which of them.
        folder: cache of rendered clips.
        max_frames: most candidates.
        vision_batch: frames in one run of the vision tower.
    """
    recipe = make_clip_recipe(spec, index)
    questions = questions_about(recipe, seed=spec.seed)
    spans = np.array(list(questions), np.float64)
    with open_for(render_footage_clip(recipe, folder), Settings()) as reader:
        scans = list(reader.scan())
        info = reader.info
        stats = analyze(scans, time_base=info.time_base, origin=info.origin, until_pts=info.until_pts)
        view = ClipView(info, stats, max_frames=max_frames, model=loaded.name)
        pts_K = [_middle(view, start, end) for start, end in spans]
        pts_N = view.candidates.pts_N
        wanted = sorted({*pts_N.tolist(), *pts_K})
        pictures = [frame.rgb_HW3 for frame in reader.fetch(wanted)]
    grids = dict(zip(wanted, encode_frames(loaded, pictures, vision_batch=vision_batch), strict=True))
    asked = tuple(
        ask_frame(loaded, grids[pts].grid_SD, records, time_seconds=view.info.pts_seconds(pts))
        for pts, records in zip(pts_K, questions.values(), strict=True)
    )
    tables = pixel_tables([scans[row] for row in view.candidates.index_N])
    tokens = np.stack([grids[int(pts)].grid_SD.float().cpu().numpy() for pts in pts_N])
    tables["features"], tables["features, peak"] = distortion(tokens, np.ones(tokens.shape[1], np.float32))
    rows = {int(pts): row for row, pts in enumerate(pts_N)}
    return LabelledClip(recipe.name, view, spans, asked, np.array([rows.get(pts, -1) for pts in pts_K]), tables)


def _middle(view: ClipView, start: float, end: float) -> int:
    """Return the pts of the candidate nearest to the middle of a shot; of any frame where the shot has no candidate."""
    middle = (start + end) / 2
    for pts_N in (view.candidates.pts_N, view.stats.pts_N):
        seconds = np.array(view.seconds(pts_N))
        inside = pts_N[(seconds >= start + EDGE_SECONDS / 2) & (seconds <= end - EDGE_SECONDS / 2)]
        if len(inside):
            return view.nearest(middle, among=inside.tolist())
    return view.nearest(middle)


def pixel_tables(frames: list[ScanFrame]) -> dict[str, Floats]:
    """Return the loss at each scale by every estimator that reads pixels, float32 [N, 5] each."""
    features, area = cell_features(
        np.stack([frame.luma_HW for frame in frames]), np.stack([frame.chroma_2HW for frame in frames])
    )
    cells = features.reshape(len(features), 4, -1).transpose(0, 2, 1)
    weight = (area / area.max()).reshape(-1)
    mean, peak = distortion(cells[..., :3], weight)
    loss, worst = losses(features, area)
    return {
        "pixels": mean,
        "pixels, peak": peak,
        "bits": coded_bits(cells[..., :3], weight),
        "strokes": stroke_energy(cells[..., 3], weight),
        "pixels + strokes": loss,
        "pixels + strokes, peak": worst,
    }
