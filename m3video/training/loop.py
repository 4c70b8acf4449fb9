"""A resumable training loop: schedule, checkpoints by atomic rename, one JSON line per report, time left on screen."""

from __future__ import annotations

import json
import math
import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from m3video.errors import NotFiniteError
from m3video.training.recipe import Stage
from m3video.utils.files import replacing

REPORT_EVERY = 20
WARM_UP = 0.03
FLOOR = 0.05
MUON_RATE = 3.0
"""Muon's learning rate as a multiple of the stage's. Side by side for 400 steps of the vision stage, recall of glyphs
was 0.04 with it at 1 and 0.02 with AdamW alone; at 10 it was worse than at 3 (0.10 against 0.18)."""


def training_rate(step: int, stage: Stage) -> float:
    """Return the learning rate before `step` (0-based): linear warm-up, then cosine down to a twentieth."""
    warm = max(1, round(stage.steps * WARM_UP))
    if step < warm:
        return stage.rate * (step + 1) / warm
    share = (step - warm) / max(1, stage.steps - warm)
    return stage.rate * (FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * share)))


def make_optimizers(module: nn.Module) -> list[torch.optim.Optimizer]:
    """Return Muon for the matrices inside transformer layers (where there are any), AdamW for everything else."""
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    inner = [p for name, p in named if ".layers." in name and p.ndim == 2]
    other = [p for name, p in named if not (".layers." in name and p.ndim == 2)]
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(other, betas=(0.9, 0.98), weight_decay=0.01)]
    if inner:
        optimizers.append(torch.optim.Muon(inner, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"))
    return optimizers


def autocast(device: torch.device) -> torch.autocast:
    """Return bfloat16 autocast; disabled on CPUs with no more than AVX2, where a joint step's forward pass takes 3.2
    times as long in it as in float32."""
    is_slow = device.type == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX2"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=not is_slow)


class Reporter:
    """Means of the metrics since the last report, to `metrics.jsonl` and to stderr."""

    def __init__(self, name: str, stage: Stage, folder: Path, *, start: int) -> None:
        self.name, self.stage, self.path, self.start = name, stage, folder / "metrics.jsonl", start
        self.sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self.began = time.monotonic()

    def add(self, metrics: Mapping[str, tuple[float, float]]) -> None:
        for key, (total, count) in metrics.items():
            self.sums[key][0] += total
            self.sums[key][1] += count

    def report(self, step: int) -> None:
        means = {key: round(total / count, 4) for key, (total, count) in self.sums.items() if count}
        elapsed = time.monotonic() - self.began
        left = elapsed / max(1, step - self.start) * (self.stage.steps - step)
        record = {"stage": self.name, "step": step, "seconds": round(elapsed, 1), **means}
        with self.path.open("a", encoding="utf-8") as log:
            log.write(json.dumps(record) + "\n")
        shown = "  ".join(f"{key} {value:.3g}" for key, value in means.items())
        print(f"{self.name} {step}/{self.stage.steps}  {left / 60:.1f} min left  {shown}", file=sys.stderr, flush=True)
        self.sums.clear()


def run_stage(
    name: str,
    stage: Stage,
    module: nn.Module,
    folder: Path,
    *,
    resume: bool,
    step: Callable[[int], tuple[Tensor, Mapping[str, tuple[float, float]]]],
    make: Callable[[nn.Module], list[torch.optim.Optimizer]] = make_optimizers,
    rate: Callable[[int, Stage], float] = training_rate,
    outdates: Sequence[str] = (),
) -> None:
    """Optimize `module`'s trainable parameters for `stage.steps` steps.

    Args:
        name: of the checkpoint file and of the log lines.
        stage: length, learning rate, how often to save.
        module: holds all that is trained; its state is what the checkpoint stores.
        folder: run folder with `NAME.pt` and `metrics.jsonl`.
        resume: go on from `NAME.pt` when it is there.
        step: from a step number to (loss, {metric: (sum, count)}). All randomness must come from the number, so
            that a resumed run sees what an unbroken one would. A loss without a graph means that `step` has run
            backward itself.
        make: the optimizers; a parameter group's "share" multiplies the rate it gets.
        rate: the learning rate before a step.
        outdates: files and folders in `folder` that are made from this stage's weights. They are removed before the
            first step, so that a killed run never resumes from them.

    Raises:
        NotFiniteError: a loss or a gradient is; the step is not taken, and `NAME.pt` stays that of an earlier one.
    """
    checkpoint = folder / f"{name}.pt"
    trained = [p for p in module.parameters() if p.requires_grad]
    optimizers = make(module)
    start = 0
    if resume and checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True, map_location="cpu")
        module.load_state_dict(state["module"])
        start = state["step"]
        if start < stage.steps:
            for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
    if start < stage.steps:
        _remove(folder, outdates)
    module.train()
    reporter = Reporter(name, stage, folder, start=start)
    for number in range(start, stage.steps):
        now = rate(number, stage)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = now * (MUON_RATE if isinstance(optimizer, torch.optim.Muon) else group.get("share", 1.0))
        module.zero_grad(set_to_none=True)
        loss, metrics = step(number)
        if loss.requires_grad:
            loss.backward()
        loss_value = float(loss.detach())
        _refuse_not_finite(f"{name}, step {number + 1}", loss_value, nn.utils.clip_grad_norm_(trained, 1.0))
        for optimizer in optimizers:
            optimizer.step()
        reporter.add({"loss": (loss_value, 1.0), **metrics})
        done = number + 1
        if done % REPORT_EVERY == 0 or done == stage.steps:
            reporter.report(done)
        if done % stage.save_every == 0 or done == stage.steps:
            state = {"module": module.state_dict(), "optimizers": [o.state_dict() for o in optimizers], "step": done}
            with replacing(checkpoint) as part:
                torch.save(state, part)
    module.eval()


def _refuse_not_finite(where: str, loss: float, gradient: Tensor) -> None:
    """Raise NotFiniteError: one step with such a gradient would make every trained weight NaN."""
    for what, value in (("loss", loss), ("gradient", float(gradient))):
        if not math.isfinite(value):
            raise NotFiniteError(
                f"{where}: the {what} ({value}) is not finite; the checkpoint is of an earlier step: start over with a "
                "smaller rate (--fresh)"
            )


def _remove(folder: Path, names: Sequence[str]) -> None:
    for path in (folder / name for name in names):
        if not path.exists():
            continue
        say(f"{path} was made from older weights: removed, to be made again")
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def say(line: str) -> None:
    """Print one line of progress on stderr."""
    print(line, file=sys.stderr, flush=True)


def million_parameters(model: torch.nn.Module) -> float:
    """Return how many parameters a model has, in millions."""
    return sum(parameter.numel() for parameter in model.parameters()) / 1e6
