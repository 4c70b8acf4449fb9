"""The recipe of a fine-tuning run: which checkpoint, which conversations, and how it is trained on them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from m3video.config import read_yaml
from m3video.model.m3.model_paths import find_model
from m3video.training.natural.recipe import is_small, load_small_recipe
from m3video.training.recipe import RecipePart, load_scratch_recipe, read_recipe

FINETUNE_KEY = "base"
"""A recipe with this key fine-tunes; one without trains from scratch."""


class ConversationFile(RecipePart):
    """A file of conversations, and the folder that its pictures and videos are in."""

    conversations: Path
    files: Path


class Lora(RecipePart):
    """Low-rank adapters on every matrix of the decoder's layers, trained instead of the decoder itself."""

    rank: int = Field(128, ge=1)
    alpha: float = Field(256, gt=0)
    dropout: float = Field(0.05, ge=0, lt=1)


class FinetuneRecipe(RecipePart):
    """How a checkpoint is fine-tuned; the defaults are those of the M3 paper for LLaVA-1.5-7B."""

    base: str = Field(description="'rendered', a checkpoint folder, or a hub name")
    vision_tower: str | None = Field(None, description="vision tower folder, when it is not in the checkpoint")
    data: tuple[ConversationFile, ...] = Field(min_length=1)
    seed: int = 42

    epochs: int = Field(1, ge=1)
    max_steps: int | None = Field(None, ge=1, description="stop the schedule here, before the epochs are over")
    batch: int = Field(128, ge=1, description="conversations of one optimizer step")
    micro_batch: int = Field(4, ge=1, description="conversations that are in memory at once")
    rate: float = Field(2e-5, gt=0, description="peak learning rate of the decoder, or of its LoRA")
    projector_rate: float = Field(2e-5, ge=0, description="of the projector; 0 freezes it")
    tower_rate: float = Field(2e-5, ge=0, description="of the vision tower; 0 freezes it")
    lora: Lora | None = None
    gradient_checkpointing: bool = True
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    save_every: int = Field(500, ge=1, description="steps between checkpoints")
    save_dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    workers: int = Field(4, ge=1, description="threads that read pictures and videos")

    max_length: int | None = Field(None, ge=64, description="most positions of a conversation; None: the context")
    max_frames: int = Field(16, ge=1, le=64, description="candidate frames of a video")
    visual_tokens: int = Field(1440, ge=576, description="most visual tokens of a video")
    sampling: Literal["shots", "uniform"] = Field("shots", description="how a video's candidates are chosen")
    timestamps: bool = Field(True, description="write each frame's time before it")


RESUMABLE_CHANGES = ("save_every", "workers")
"""What may differ when a run resumes: nothing that changes its numbers."""

FINETUNE_SMOKE = {"max_steps": 2, "batch": 2, "micro_batch": 1, "max_frames": 3, "workers": 1}


def is_finetune(path: Path) -> bool:
    """Return whether the recipe fine-tunes a checkpoint rather than training one from scratch."""
    return FINETUNE_KEY in read_yaml(path)


def check_recipe(path: Path, *, smoke: bool = False) -> None:
    """Check a recipe of any kind, and the model that it fine-tunes, without loading torch.

    Raises:
        UsageError: as for `read_recipe`.
        CheckpointError: the base cannot be loaded.
    """
    if is_finetune(path):
        recipe = load_finetune_recipe(path, smoke=smoke)
        find_model(recipe.base, vision_tower=recipe.vision_tower)
    elif is_small(path):
        load_small_recipe(path, smoke=smoke)
    else:
        load_scratch_recipe(path, smoke=smoke)


def load_finetune_recipe(path: Path, *, smoke: bool = False) -> FinetuneRecipe:
    """Read a recipe for fine-tuning; errors as for `read_recipe`."""
    return read_recipe(FinetuneRecipe, path, parts=(ConversationFile, Lora), changes=FINETUNE_SMOKE if smoke else {})
