"""The recipe of `small`: where its pictures are, what is trained, and how long each stage runs."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from m3video.config import read_yaml
from m3video.training.recipe import RecipePart, Stage, read_recipe

PHOTOS_KEY = "photos"
"""A recipe with this key trains `small`."""


class SmallRecipe(RecipePart):
    """All stages in order. A stage's `batch` is the number of positions in its packed sequence, not of pictures, but
    in `reading_tower`, `words` and `letters`, where it is pictures."""

    photos: Path = Field(description="folder with flickr8k/, imagenet/ and others; see `photos`")
    seed: int = 17
    rank: int = Field(20, ge=1, description="of the low-rank update of every matrix in the decoder's layers")
    projector_width: int = Field(1792, ge=1)
    projector_rate: float = Field(4e-4, gt=0)
    reading_channels: int = Field(112, ge=1, description="of the tower's branch that reads, where it has one")
    reading_tower: Stage | None = Field(None, description="trains that branch; without it the tower has none")
    reading_width: int = Field(384, ge=1, description="of the projector's channels that see that branch alone")
    pages: int = Field(3000, ge=1, description="full of text, that are read where the tower has that branch")
    overlays: int = Field(3000, ge=1, description="photographs with a text drawn over them, likewise")
    letters: Stage = Stage(steps=400, batch=24, rate=2e-3, save_every=100)
    words: Stage = Stage(steps=400, batch=32, rate=5e-4, save_every=100)
    pictures: Stage = Stage(steps=1600, batch=1600, rate=6e-4, save_every=50)
    reels: Stage = Stage(steps=1600, batch=1600, rate=4e-4, save_every=50)
    pictures_among_reels: float = Field(0.5, ge=0, description="single pictures for each reel in the last stage")
    clips_among_reels: float = Field(0.5, ge=0, description="clips of one scene for each reel in the last stage")
    texts_among_reels: float = Field(1.0, ge=0, description="pictures with text for each reel in the last stage")
    most_scenes: int = Field(32, ge=2, le=64, description="of a reel")
    most_frames: int = Field(48, ge=2, le=128, description="of a reel")
    most_visual_tokens: int = Field(700, ge=64, description="of a reel")
    long_visual_tokens: int = Field(4500, ge=64, description="of one reel in 25")
    questions: int = Field(6, ge=1, description="on each picture and each reel")


SMALL_SMOKE = {
    "reading_channels": 8,
    "reading_width": 6,
    "pages": 4,
    "overlays": 4,
    "letters": {"steps": 2, "batch": 2, "rate": 1e-3, "save_every": 1},
    "reading_tower": {"steps": 2, "batch": 2, "rate": 1e-3, "save_every": 1},
    "words": {"steps": 2, "batch": 4, "rate": 1e-3, "save_every": 1},
    "pictures": {"steps": 2, "batch": 200, "rate": 1e-4, "save_every": 1},
    "reels": {"steps": 2, "batch": 200, "rate": 1e-4, "save_every": 1},
    "most_scenes": 3,
    "most_frames": 4,
    "most_visual_tokens": 64,
    "long_visual_tokens": 64,
    "questions": 2,
}
"""Every stage for two steps: shows that the whole chain runs, and learns nothing."""


def is_small(path: Path) -> bool:
    """Return whether the recipe trains `small`."""
    return PHOTOS_KEY in read_yaml(path)


def load_small_recipe(path: Path, *, smoke: bool = False) -> SmallRecipe:
    """Read a recipe of `small`; errors as for `read_recipe`."""
    return read_recipe(SmallRecipe, path, parts=(Stage,), changes=SMALL_SMOKE if smoke else {})
