"""`m3video train`: a training recipe, from its first stage or from the last checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from m3video.cli.outputs import refuse_stdout


def train(
    recipe: Annotated[Path, typer.Argument(help="YAML recipe, e.g. configs/rendered.yaml", show_default=False)],
    *,
    run_dir: Annotated[Path | None, typer.Option(help="checkpoints and logs (default runs/RECIPE)")] = None,
    out: Annotated[Path | None, typer.Option(help="where the finished model goes (default RUN_DIR/model)")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")] = "auto",
    smoke: Annotated[bool, typer.Option("--smoke", help="all stages in two minutes, to see that they run")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="do not go on from the checkpoints in RUN_DIR")] = False,
) -> None:
    """Train a small M3 on rendered clips, or fine-tune a checkpoint.

    A recipe with `base:` fine-tunes that checkpoint; without it, training starts from random weights.

    Example: m3video train configs/rendered.yaml --run-dir runs/rendered
    """
    refuse_stdout("--run-dir", run_dir)
    refuse_stdout("--out", out)
    from m3video.training.finetune_recipe import check_recipe

    check_recipe(recipe, smoke=smoke)  # before torch is loaded, which takes seconds
    from m3video.training.train import train as train_model

    if run_dir is None:
        run_dir = Path("runs") / (recipe.stem + ("-smoke" if smoke else ""))
    print(train_model(recipe, run_dir=run_dir, device=device, smoke=smoke, resume=not fresh, out=out))
