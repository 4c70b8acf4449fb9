"""`m3video convert`: a checkpoint of the original M3 layout as a folder for `from_pretrained`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from m3video.cli.options import Quiet, setting_option
from m3video.cli.outputs import refuse_stdout
from m3video.utils.text import check_text


def convert(
    source: Annotated[str, typer.Argument(help="original M3/LLaVA folder or hub name", show_default=False)],
    target: Annotated[Path, typer.Argument(help="new folder", show_default=False)],
    *,
    base: Annotated[str | None, typer.Option(help="model to merge a LoRA, mm_projector.bin or delta into")] = None,
    vision_tower: Annotated[str | None, setting_option("vision_tower")] = None,
    dtype: Annotated[Literal["float32", "bfloat16", "float16"] | None, typer.Option(help="cast the weights")] = None,
    quiet: Quiet = False,
) -> None:
    """Write an original checkpoint as a folder for from_pretrained.

    Example: m3video convert mucai/llava-v1.5-7b-m3 ./m3-7b --dtype bfloat16
    """
    check_text(source, "source")
    refuse_stdout("target", target)
    from m3video.model.m3.default_model import decide_model
    from m3video.model.m3.model_paths import find_source

    find_source(source, base, vision_tower=vision_tower)  # before torch is loaded, which takes seconds
    from m3video.cli.terminal import make_progress, print_notes
    from m3video.model.m3.convert import convert as convert_checkpoint

    print_notes([] if quiet else decide_model(source).notes)
    progress = make_progress(quiet=quiet)
    print(
        convert_checkpoint(
            source, target, dtype=dtype, vision_tower=vision_tower, base=base, stage=lambda name: progress(name, None)
        )
    )
