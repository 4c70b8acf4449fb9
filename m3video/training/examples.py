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
from m3video.inference.first_pass import analyze_video
from m3video.inference.pipeline import open_for, plan_details
from m3video.model.m3.checkpoint import LoadedModel
from m3video.model.m3.images import anyres_pixels, pad_pixels
from m3video.model.m3.inputs import image_tokens
from m3video.planning.sample import sample
from m3video.planning.stats_file import load_stats, save_stats
from m3video.training.conversations import Conversation, Labelled, Skipped, label
from m3video.training.finetune_recipe import FinetuneRecipe
from m3video.types import SCALES, FrameStats
from m3video.video.reader import VideoReader

TEXT, MIXED = "text", "mixed"
SMALLEST_BUDGET = 36
"""Mixed passes spend between this and `visual_tokens`, evenly on a logarithmic axis."""

_BROKEN_PICTURE = (OSError, ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError)


@dataclass(frozen=True, slots=True, eq=False)
class ExamplePicture:
    """[P, 3, H, W] pixels: one padded square, or anyres tiles of a picture of `tiled_wh` pixels."""

    pixels_P3HW: Tensor
    tiled_wh: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Pass:
    """One way to show an example: which pictures, at which scales, and the labelled conversation around them.

    `name` is the scale that all have, "mixed", or "text" where there are no pictures.
    """

    name: str
    shown: tuple[int, ...]
    scales: tuple[int, ...]
    labelled: Labelled


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """A conversation ready to be trained on; `note` names the damage of a video that is used all the same."""

    name: str
    pictures: tuple[ExamplePicture, ...]
    passes: tuple[Pass, ...]
    note: str | None = None

    @property
    def kind(self) -> int:
        """Number of passes: 1 for text, 5 for a picture, 6 for several and for a video.

        Only examples of one kind share a micro-batch.
        """
        return len(self.passes)

    @property
    def length(self) -> int:
        """Prompt ids of the first pass; examples of one kind are sorted by it."""
        return len(self.passes[0].labelled.ids)


class ExampleLoader:
    """Turns conversations into examples; several threads may call it."""

    def __init__(self, loaded: LoadedModel, recipe: FinetuneRecipe, stats_folder: Path) -> None:
        self.loaded, self.recipe, self.stats_folder = loaded, recipe, stats_folder
        self.style = loaded.config.prompt_style
        self.longest = min(loaded.context, recipe.max_length or loaded.context)
        self.ends = int(loaded.config.use_image_newline)
        self.locks: dict[str, threading.Lock] = {}
        stats_folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, row: Conversation, step: int) -> Example | Skipped:
        """Return the example of a row.

        Args:
            row: a conversation.
            step: of the training run; with the row and the seed it decides everything that is random.

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
        labelled = label(self.loaded.codec, self.style, row, num_frames=len(row.images))
        if isinstance(labelled, Skipped):
            return labelled
        pictures: list[ExamplePicture] = []
        for path in row.images:
            try:
                pictures.append(self._picture(path))
            except _BROKEN_PICTURE as error:
                return Skipped(row.name, "broken image", f"{path}: {' '.join(str(error).split())}")
        return self._still(row, pictures, labelled, rng)

    def _picture(self, path: Path) -> ExamplePicture:
        config = self.loaded.config
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
        if config.image_aspect_ratio == "anyres":
            return ExamplePicture(anyres_pixels(picture, config.image_grid_pinpoints or []), picture.size)
        return ExamplePicture(pad_pixels([picture], config.pictures))

    def _cost(self, picture: ExamplePicture, scale: int) -> int:
        if picture.tiled_wh is None:
            return scale + self.ends
        return image_tokens(self.loaded, size_wh=picture.tiled_wh, scale=scale)

    def _still(
        self, row: Conversation, pictures: Sequence[ExamplePicture], labelled: Labelled, rng: random.Random
    ) -> Example | Skipped:
        shown = tuple(range(len(pictures)))
        words = len(labelled.ids) - len(pictures)
        needed = words + sum(self._cost(picture, SCALES[-1]) for picture in pictures)
        if needed > self.longest:
            return self._too_long(row, needed)
        if not pictures:
            return Example(row.name, (), (Pass(TEXT, (), (), labelled),))
        passes = [Pass(str(scale), shown, (scale,) * len(shown), labelled) for scale in SCALES]
        if len(pictures) > 1:
            passes.append(Pass(MIXED, shown, tuple(rng.choices(SCALES, k=len(shown))), labelled))
        return Example(row.name, tuple(pictures), tuple(passes))

    def _too_long(self, row: Conversation, needed: int) -> Skipped:
        return Skipped(row.name, "too long", f"{needed} positions, {self.longest} are possible")

    def _video(self, row: Conversation, path: Path, rng: random.Random) -> Example | Skipped:
        settings = Settings(max_frames=self.recipe.max_frames, sampling=self.recipe.sampling)
        with open_for(path, settings) as reader:
            stats, note = self._stats(reader)
            chosen = sample(stats, max_frames=self.recipe.max_frames, method=settings.sampling)
            pts = [int(value) for value in chosen.pts_N]
            times = [reader.info.pts_seconds(value) for value in pts]
            all_frames = self._labelled(row, times)
            if isinstance(all_frames, Skipped):
                return all_frames
            passes = []
            for scale in SCALES:
                made = self._uniform(row, times, scale)
                if isinstance(made, Skipped):
                    return made
                passes.append(made)
            room = self.longest - (len(all_frames.ids) - len(pts)) - self.ends * len(pts)
            most = min(self.recipe.visual_tokens, room)
            if most > 0:
                least = min(SMALLEST_BUDGET, most)
                budget = round(math.exp(rng.uniform(math.log(least), math.log(most))))
                plan = plan_details(reader.info, settings.model_copy(update={"budget": budget}), stats=stats).plan
                shown = tuple(pts.index(frame.pts) for frame in plan.frames)
                labelled = self._labelled(row, [times[k] for k in shown])
                if shown and not isinstance(labelled, Skipped):
                    passes.append(Pass(MIXED, shown, tuple(frame.scale for frame in plan.frames), labelled))
            return self._fetched(row, reader, pts, passes, note)

    def _fetched(
        self, row: Conversation, reader: VideoReader, pts: Sequence[int], passes: Sequence[Pass], note: str | None
    ) -> Example:
        """Fetch the frames that any pass shows, and renumber them."""
        used = sorted({k for one in passes for k in one.shown})
        frames = reader.fetch([pts[k] for k in used])
        renumbered = [
            Pass(one.name, tuple(used.index(k) for k in one.shown), one.scales, one.labelled) for one in passes
        ]
        form = self.loaded.config.pictures
        pictures = tuple(ExamplePicture(pad_pixels([frame.rgb_HW3], form)) for frame in frames)
        return Example(row.name, pictures, tuple(renumbered), note)

    def _stats(self, reader: VideoReader) -> tuple[FrameStats, str | None]:
        """Analyze a video once and cache its stats, which are all that the planner reads for any budget."""
        cached = self.stats_folder / f"{reader.info.fingerprint.replace(':', '-')}.parquet"
        # Two threads may want one video: the second waits for the first one's result.
        with self.locks.setdefault(cached.name, threading.Lock()):
            if cached.exists():
                return load_stats(cached)[0], None
            stats = analyze_video(reader)
            try:
                save_stats(stats, {"path": reader.info.path}, cached)
            except VideoError as error:
                # A full disk is no fault of the video, which would be skipped otherwise.
                raise UsageError(str(error)) from None
        return stats, reader.damage.message

    def _labelled(self, row: Conversation, times: Sequence[float]) -> Labelled | Skipped:
        return label(
            self.loaded.codec,
            self.style,
            row,
            num_frames=len(times),
            times_seconds=times if self.recipe.timestamps else None,
        )

    def _uniform(self, row: Conversation, times: Sequence[float], scale: int) -> Pass | Skipped:
        """Return a pass with as many evenly spread frames as fit at this scale."""
        needed = 0
        for number in range(max(1, min(len(times), self.recipe.visual_tokens // scale)), 0, -1):
            shown = tuple((2 * k + 1) * len(times) // (2 * number) for k in range(number))
            labelled = self._labelled(row, [times[k] for k in shown])
            if isinstance(labelled, Skipped):
                return labelled
            needed = len(labelled.ids) + number * (scale + self.ends - 1)
            if needed <= self.longest:
                return Pass(str(scale), shown, (scale,) * number, labelled)
        return self._too_long(row, needed)
