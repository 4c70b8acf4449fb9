"""The newest checkpoint of a run in training as an ordinary folder, so that it is measured as what will be shipped."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from m3video.errors import CheckpointError, UsageError
from m3video.model.m3.small_base import BasePlace, base_of_hub, bases_here
from m3video.model.m3.small_part import as_folder, write_whole
from m3video.model.safetensors_headers import read_json
from m3video.training.finetune import TrainedParameters
from m3video.training.natural.low_rank import add_low_rank
from m3video.training.natural.reading_tower import CHECKPOINT as READING_TOWER
from m3video.training.natural.reading_tower import load_tower
from m3video.training.natural.start import build_small
from m3video.training.natural.train_small import export_small
from m3video.training.pretrained_tower import load_pretrained_tower, with_head

STAGES = ("pictures.pt", "reels.pt")


def newest_checkpoint(run_dir: Path) -> Path:
    """Return the checkpoint of a run that was written last; raise UsageError where there is none yet."""
    found = [run_dir / name for name in STAGES if (run_dir / name).is_file()]
    if not found:
        raise UsageError(f"{run_dir} holds no checkpoint to measure yet ({' or '.join(STAGES)})")
    return max(found, key=lambda path: path.stat().st_mtime)


def write_run(run_dir: Path, folder: Path, *, base: BasePlace | None = None) -> str:
    """Write the newest checkpoint of a run as a whole model.

    Args:
        run_dir: as `train` fills it; nothing in it is changed.
        folder: exists, empty.
        base: the language model; by default the one that training takes.

    Returns:
        What was written: the checkpoint's name and step.

    Raises:
        UsageError: there is no checkpoint yet, or no pretrained tower.
        CheckpointError: the checkpoint is damaged, or of another model.
    """
    checkpoint = newest_checkpoint(run_dir)
    recipe = read_json(run_dir / "recipe.json")
    place = base or next(bases_here(), None) or base_of_hub()
    tower, head = load_pretrained_tower()
    width = int(recipe["projector_width"])
    if recipe.get("reading_tower") is not None:
        tower, _ = load_tower(run_dir / f"{READING_TOWER}.pt", tower)
        width += int(recipe["reading_width"])
    with as_folder(place) as base_folder:
        model = build_small(base_folder, with_head(tower, head), projector_width=width)
    add_low_rank(model, int(recipe["rank"]))
    try:
        stored = torch.load(checkpoint, map_location="cpu", weights_only=True)
        TrainedParameters(model).load_state_dict(stored["module"])
    except (OSError, RuntimeError, KeyError) as error:
        raise CheckpointError(f"{checkpoint} holds no weights of this recipe: {str(error).splitlines()[0]}") from None
    with TemporaryDirectory(prefix="small-part-") as part:
        write_whole(export_small(model, Path(part)), place, folder)
    return f"{checkpoint.name}, step {stored['step']}"
