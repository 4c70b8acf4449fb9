"""From a conversation to what one training step needs: its pictures' pixels, and a pass for each choice of scales.

A picture is shown at each of the five scales. A video is shown at each scale with as many frames as fit, and once more
as the planner shows it: its own frames, each at its own scale, within a budget drawn anew every time.
"""

from __future__ import annotations

import math
import random
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from torch import Tensor

from m3video.config import Settings
from m3video.errors import UsageError, VideoError
from m3video.inference.pipeline import analyze_video, open_for, plan_details
from m3video.model.m3.checkpoint import LoadedModel
from m3video.model.m3.images import anyres_pixels, pad_pixels
from m3video.model.m3.inputs import image_tokens
from m3video.planning.sample import sample
from m3video.planning.stats_file import load_stats, save_stats
from m3video.training.conversations import Labelled, Row, Skipped, label
from m3video.training.finetune_recipe import FineTune
from m3video.types import SCALES, FrameStats
from m3video.video.reader import VideoReader

TEXT, MIXED = "text", "mixed"
SMALLEST_BUDGET = 36
"""Mixed passes spend between this and `visual_tokens`, evenly on a logarithmic axis."""

_BROKEN_PICTURE = (OSError, ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError)


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """[P, 3, 336, 336] pixels: one padded square, or anyres tiles of a picture of `tiled_wh` pixels."""

    pixels_P3HW: Tensor
    tiled_wh: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Pass:
    """One way to show an example: which pictures, at which scales, and the conversation around them.

    `name` is the scale that all have, "mixed", or "text" where there are no pictures.
    """

    name: str
    shown: tuple[int, ...]
    scales: tuple[int, ...]
    told: Labelled


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """A conversation ready to be trained on; `note` says what was wrong with a video that is used all the same."""

    name: str
    pictures: tuple[Picture, ...]
    passes: tuple[Pass, ...]
    note: str | None = None

    @property
    def kind(self) -> int:
        """How many passes: 1 for text, 5 for a picture, 6 for several and for a video. Only examples of one kind share
        a micro-batch."""
        return len(self.passes)

    @property
    def length(self) -> int:
        """Of the words; what examples of one kind are sorted by."""
        return len(self.passes[0].told.ids)


class Loader:
    """Turns rows into examples. It may be called from several threads."""

    def __init__(self, loaded: LoadedModel, recipe: FineTune, stats_folder: Path) -> None:
        self.loaded, self.recipe, self.stats_folder = loaded, recipe, stats_folder
        self.style = loaded.config.prompt_style
        self.longest = min(loaded.context, recipe.max_length or loaded.context)
        self.ends = int(loaded.config.use_image_newline)
        self.locks: dict[str, threading.Lock] = {}
        stats_folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, row: Row, step: int) -> Example | Skipped:
        """The example of a row.

        Args:
            row: a conversation.
            step: of the training run: together with the row and the seed it decides everything that is drawn.

        Returns:
            The example, or why there is none: a picture or video that cannot be read, or a conversation that is longer
            than the context. Nothing is ever cut off.
        """
        rng = random.Random(f"{self.recipe.seed} {row.name} {step}")
        if row.video is not None:
            try:
                return self._video(row, row.video, rng)
            except VideoError as error:
                return Skipped(row.name, "broken video", str(error))
        told = label(self.loaded.codec, self.style, row, num_frames=len(row.images))
        if isinstance(told, Skipped):
            return told
        pictures: list[Picture] = []
        for path in row.images:
            try:
                pictures.append(self._picture(path))
            except _BROKEN_PICTURE as error:
                return Skipped(row.name, "broken image", f"{path}: {' '.join(str(error).split())}")
        return self._still(row, pictures, told, rng)

    def _picture(self, path: Path) -> Picture:
        config = self.loaded.config
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
        if config.image_aspect_ratio == "anyres":
            return Picture(anyres_pixels(picture, config.image_grid_pinpoints or []), picture.size)
        return Picture(pad_pixels([picture]))

    def _cost(self, picture: Picture, scale: int) -> int:
        if picture.tiled_wh is None:
            return scale + self.ends
        return image_tokens(self.loaded, size_wh=picture.tiled_wh, scale=scale)

    def _still(self, row: Row, pictures: Sequence[Picture], told: Labelled, rng: random.Random) -> Example | Skipped:
        shown = tuple(range(len(pictures)))
        words = len(told.ids) - len(pictures)
        needed = words + sum(self._cost(picture, SCALES[-1]) for picture in pictures)
        if needed > self.longest:
            return self._too_long(row, needed)
        if not pictures:
            return Example(row.name, (), (Pass(TEXT, (), (), told),))
        passes = [Pass(str(scale), shown, (scale,) * len(shown), told) for scale in SCALES]
        if len(pictures) > 1:
            passes.append(Pass(MIXED, shown, tuple(rng.choices(SCALES, k=len(shown))), told))
        return Example(row.name, tuple(pictures), tuple(passes))

    def _too_long(self, row: Row, needed: int) -> Skipped:
        return Skipped(row.name, "too long", f"{needed} positions, {self.longest} are possible")

    def _video(self, row: Row, path: Path, rng: random.Random) -> Example | Skipped:
        settings = Settings(max_frames=self.recipe.max_frames, sampling=self.recipe.sampling)
        with open_for(path, settings) as reader:
            stats, note = self._stats(reader)
            chosen = sample(stats, max_frames=settings.max_frames, method=settings.sampling)
            pts = [int(value) for value in chosen.pts_N]
            times = [reader.info.pts_seconds(value) for value in pts]
            everything = self._told(row, times)
            if isinstance(everything, Skipped):
                return everything
            passes = []
            for scale in SCALES:
                made = self._uniform(row, times, scale)
                if isinstance(made, Skipped):
                    return made
                passes.append(made)
            room = self.longest - (len(everything.ids) - len(pts)) - self.ends * len(pts)
            most = min(self.recipe.visual_tokens, room)
            if most > 0:
                least = min(SMALLEST_BUDGET, most)
                budget = round(math.exp(rng.uniform(math.log(least), math.log(most))))
                plan = plan_details(reader.info, settings.model_copy(update={"budget": budget}), stats=stats).plan
                shown = tuple(pts.index(frame.pts) for frame in plan.frames)
                told = self._told(row, [times[k] for k in shown])
                if shown and not isinstance(told, Skipped):
                    passes.append(Pass(MIXED, shown, tuple(frame.scale for frame in plan.frames), told))
            return self._fetched(row, reader, pts, passes, note)

    def _fetched(
        self, row: Row, reader: VideoReader, pts: Sequence[int], passes: Sequence[Pass], note: str | None
    ) -> Example:
        """Read the frames that any pass shows, and number them anew."""
        used = sorted({k for one in passes for k in one.shown})
        frames = reader.fetch([pts[k] for k in used])
        renumbered = [Pass(one.name, tuple(used.index(k) for k in one.shown), one.scales, one.told) for one in passes]
        return Example(
            row.name, tuple(Picture(pad_pixels([frame.rgb_HW3])) for frame in frames), tuple(renumbered), note
        )

    def _stats(self, reader: VideoReader) -> tuple[FrameStats, str | None]:
        """The first pass over a video is run once and kept; the planner needs no more for any budget."""
        kept = self.stats_folder / f"{reader.info.fingerprint.replace(':', '-')}.parquet"
        # A video may be wanted by two threads at once: the second waits for the first one's result.
        with self.locks.setdefault(kept.name, threading.Lock()):
            if kept.exists():
                return load_stats(kept)[0], None
            stats = analyze_video(reader)
            try:
                save_stats(stats, {"path": reader.info.path}, kept)
            except VideoError as error:
                # No fault of the video: without this it would be left out for a full disk.
                raise UsageError(str(error)) from None
        return stats, reader.damage.message

    def _told(self, row: Row, times: Sequence[float]) -> Labelled | Skipped:
        return label(
            self.loaded.codec,
            self.style,
            row,
            num_frames=len(times),
            times_seconds=times if self.recipe.timestamps else None,
        )

    def _uniform(self, row: Row, times: Sequence[float], scale: int) -> Pass | Skipped:
        """As many frames, evenly spread, as fit at this scale."""
        needed = 0
        for number in range(max(1, min(len(times), self.recipe.visual_tokens // scale)), 0, -1):
            shown = tuple((2 * k + 1) * len(times) // (2 * number) for k in range(number))
            told = self._told(row, [times[k] for k in shown])
            if isinstance(told, Skipped):
                return told
            needed = len(told.ids) + number * (scale + self.ends - 1)
            if needed <= self.longest:
                return Pass(str(scale), shown, (scale,) * number, told)
        return self._too_long(row, needed)
