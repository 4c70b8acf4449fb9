"""Run the largest question that fits once, in its own process, and compare its memory peak with the estimate."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

from m3video.config import Settings
from m3video.errors import DoesNotFitError, M3VideoError
from m3video.inference.memory.fit import FittedSettings
from m3video.inference.memory.measured import Measured
from m3video.inference.memory.model import FRAME_GROUP, Shape
from m3video.utils.system import reset_peak_memory, resident_bytes

if TYPE_CHECKING:
    from m3video.model.m3.checkpoint import LoadedModel


def measure(fitted: FittedSettings) -> Measured:
    """Run the largest question that fits once and return its memory peak.

    Raises:
        DoesNotFitError: it ran out of memory: the estimate was too low.
        M3VideoError: the model cannot be loaded.
    """
    shape = fitted.fit.shape
    order = {"settings": fitted.settings.model_dump(exclude_unset=True), "shape": asdict(shape)}
    command = [sys.executable, "-m", "m3video.inference.memory.trial"]
    done = subprocess.run(command, input=json.dumps(order), capture_output=True, text=True)
    if done.returncode not in (0, DoesNotFitError.exit_code, M3VideoError.exit_code):
        reason = f"stopped by signal {-done.returncode}" if done.returncode < 0 else done.stderr.strip()[-300:]
        raise DoesNotFitError(f"the trial with {shape.visual} tokens did not end well ({reason}); use less --memory")
    if done.returncode:
        kind = DoesNotFitError if done.returncode == DoesNotFitError.exit_code else M3VideoError
        raise kind(done.stderr.strip().splitlines()[-1])
    reported = json.loads(done.stdout)
    predicted = fitted.fit.estimate.total - fitted.device.correction
    return Measured(
        shape.frames, shape.visual, shape.text, shape.vision_batch, predicted, reported["peak"], reported["before"]
    )


def peak_of(make: Callable[[], LoadedModel], shape: Shape) -> tuple[int, int]:
    """Load a model and run a question of this shape; call it once, in a process that has done nothing else.

    Args:
        make: loads the model.
        shape: of the question; `streams` is not used.

    Returns:
        The peak in bytes, and the bytes in use before the model was loaded.

    Raises:
        M3VideoError: the kernel does not let a process reset its peak.
    """
    import torch
    import transformers.generation  # noqa: F401 - every question imports it: no part of the model

    from m3video.inference import session  # noqa: F401 - likewise
    from m3video.model.m3.dry_run import run_trial

    before = resident_bytes()
    if not reset_peak_memory():
        raise M3VideoError("this machine does not reset the memory peak of a process: measure on another one")
    loaded = make()
    step = max(1, FRAME_GROUP // shape.vision_batch) * shape.vision_batch
    run_trial(
        loaded,
        frames=shape.frames,
        visual=shape.visual,
        text=shape.text,
        vision_batch=shape.vision_batch,
        group=step,
    )
    if loaded.model.device.type != "cuda":
        return resident_bytes("VmHWM"), before
    # The driver counts the CUDA context and what torch has reserved.
    free, total = torch.cuda.mem_get_info(loaded.model.device)
    context = max(0, total - free - torch.cuda.memory_reserved(loaded.model.device))
    return torch.cuda.max_memory_reserved(loaded.model.device) + context, context


def _main() -> None:
    order = json.loads(sys.stdin.read())
    settings = Settings(**order["settings"])

    def make() -> LoadedModel:
        from m3video.model.m3 import checkpoint

        return checkpoint.load_for(settings)

    peak, before = peak_of(make, Shape(**order["shape"]))
    print(json.dumps({"peak": peak, "before": before}))


if __name__ == "__main__":
    try:
        _main()
    except M3VideoError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
