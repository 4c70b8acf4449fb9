"""The recipe of a small M3 trained from nothing: what is built, and how long each stage runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from m3video.config import read_yaml
from m3video.errors import UsageError
from m3video.utils.text import nearest


class RecipePart(BaseModel):
    """Frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Sizes(RecipePart):
    """Widths and depths. The vision tower's last layer is built but never used: M3 reads the one before it."""

    vision_width: int = 192
    vision_layers: int = 5
    vision_heads: int = 3
    vision_mlp: int = 576
    decoder_width: int = 192
    decoder_layers: int = 4
    decoder_heads: int = 3
    decoder_mlp: int = 512
    max_context: int = 8192


class Stage(RecipePart):
    """One stage: `steps` optimizer steps at a peak learning rate, warmed up, then decayed to a twentieth by cosine."""

    steps: int = Field(ge=1)
    batch: int = Field(ge=1)
    rate: float = Field(gt=0)
    save_every: int = Field(default=200, ge=1)


class Recipe(RecipePart):
    """All stages, in the order they run. `vision` and `decoder` do not need each other and may run side by side."""

    seed: int = 11
    sizes: Sizes = Sizes()
    vision: Stage = Stage(steps=20000, batch=6, rate=1.0e-3)
    decoder: Stage = Stage(steps=4000, batch=32, rate=2.0e-3)
    joint: Stage = Stage(steps=6000, batch=4, rate=2.5e-4)
    align_steps: int = Field(3000, ge=1)
    cached_shots: int = Field(5000, ge=8, description="rendered shots whose vision features the last stages read")
    frames_per_shot: int = Field(2, ge=1)
    questions: int = Field(24, ge=1, description="questions on each clip")
    max_frames: int = Field(32, ge=1, le=64)

    def with_lengths_of(self, other: Recipe) -> Recipe:
        """This recipe with the other's numbers of steps and checkpoints."""
        stages = {
            name: getattr(self, name).model_copy(
                update={"steps": getattr(other, name).steps, "save_every": getattr(other, name).save_every}
            )
            for name in ("vision", "decoder", "joint")
        }
        return self.model_copy(update={**stages, "align_steps": other.align_steps})


SMOKE = {
    "vision": {"steps": 2, "batch": 2, "rate": 1e-3, "save_every": 1},
    "decoder": {"steps": 2, "batch": 4, "rate": 1e-3, "save_every": 1},
    "joint": {"steps": 2, "batch": 2, "rate": 1e-3, "save_every": 1},
    "align_steps": 2,
    "cached_shots": 8,
    "frames_per_shot": 2,
    "questions": 4,
}
"""Every stage for two steps: shows that the whole chain runs, and learns nothing."""


Some = TypeVar("Some", bound=RecipePart)


def read_recipe(kind: type[Some], path: Path, *, parts: Sequence[type[RecipePart]], changes: Mapping[str, Any]) -> Some:
    """Read a YAML recipe of one kind.

    Args:
        kind: what it is a recipe of.
        path: the file.
        parts: the models inside `kind`, whose keys are known too.
        changes: values that replace those of the file.

    Raises:
        UsageError: unreadable file, an unknown key (the nearest one is named) or a wrong value.
    """
    values = read_yaml(path)
    try:
        return kind(**{**values, **changes})
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            known: list[type[RecipePart]] = [kind, *parts]
            near = nearest(str(problem["loc"][-1]), {key for part in known for key in part.model_fields})
            raise UsageError(f"{path}: unknown key '{where}'" + (f"; did you mean {near}?" if near else "")) from None
        given = "" if problem["type"] == "missing" else f" ({problem['input']})"
        raise UsageError(f"{path}: {where}{given}: {problem['msg']}") from None


def load_recipe(path: Path, *, smoke: bool = False) -> Recipe:
    """Read a recipe that trains from nothing; errors as for `read_recipe`."""
    return read_recipe(Recipe, path, parts=(Sizes, Stage), changes=SMOKE if smoke else {})
