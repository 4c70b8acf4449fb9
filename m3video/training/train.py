"""Training by recipe: the rendered M3 from scratch, `small` from pretrained parts, or a checkpoint fine-tuned."""

from __future__ import annotations

from pathlib import Path

from m3video.training.finetune import finetune
from m3video.training.finetune_recipe import is_finetune
from m3video.training.natural.recipe import is_small
from m3video.training.rendered import train_rendered


def train(
    config_path: Path,
    *,
    run_dir: Path,
    device: str = "auto",
    smoke: bool = False,
    resume: bool = True,
    out: Path | None = None,
) -> Path:
    """Train a small M3 from scratch, or fine-tune a checkpoint, and write it as a folder that `--model` takes.

    Args:
        config_path: YAML recipe, e.g. `configs/rendered.yaml`; one with `base:` fine-tunes (see `finetune`).
        run_dir: checkpoints of every stage, `metrics.jsonl`, cached features. A killed run goes on from here.
        device: "auto", "cpu", "cuda" or "cuda:N".
        smoke: two steps of every stage, to see that the chain runs.
        resume: False starts over and removes what is in `run_dir`.
        out: the finished model's folder, default `run_dir/model`.

    Returns:
        The finished model's folder.

    Raises:
        UsageError: a recipe that cannot be read, a device that is not there, or a run folder of another recipe.
    """
    if is_small(config_path):
        # Its own imports are many: they are loaded only for it.
        from m3video.training.natural.train_small import train_small

        how = train_small
    else:
        how = finetune if is_finetune(config_path) else train_rendered
    return how(config_path, run_dir=run_dir, device=device, smoke=smoke, resume=resume, out=out)
