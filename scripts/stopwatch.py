"""Times and rows of a benchmark on one device: medians after a warm-up, the device idle whenever a clock is read."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
import transformers
from torch import nn


@dataclass(slots=True)
class Stopwatch:
    """Measures on `device`, each thing `repeat` times, and keeps the rows found so far."""

    device: torch.device
    repeat: int
    rows: list[dict[str, Any]] = field(default_factory=list)

    def seconds(self, run: Callable[[], object]) -> float:
        """Median seconds of `run`, its first time left out."""
        times = []
        for _ in range(self.repeat + 1):
            self.wait()
            start = time.perf_counter()
            run()
            self.wait()
            times.append(time.perf_counter() - start)
        return median(times[1:])

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def peak_bytes(self, run: Callable[[], object]) -> int | None:
        """Most GPU memory while `run` runs; None on CPU, where the allocator does not count."""
        if self.device.type != "cuda":
            return None
        self.wait()
        torch.cuda.reset_peak_memory_stats(self.device)
        run()
        self.wait()
        return int(torch.cuda.max_memory_allocated(self.device))

    def first_and_rate(self, lm_head: nn.Module, run: Callable[[], object]) -> tuple[float, float]:
        """Median seconds to the first token's logits, and tokens a second after it, of a `run` that generates."""
        steps: list[float] = []

        def stepped(*_: object) -> None:
            self.wait()
            steps.append(time.perf_counter())

        firsts, rates = [], []
        hook = lm_head.register_forward_hook(stepped)
        for _ in range(self.repeat + 1):
            steps.clear()
            self.wait()
            start = time.perf_counter()
            run()
            firsts.append(steps[0] - start)
            rates.append((len(steps) - 1) / (steps[-1] - steps[0]))
        hook.remove()
        return median(firsts[1:]), median(rates[1:])

    def row(
        self, part: str, what: str, value: float | None, unit: str, *, of: Mapping[str, float | None] | None = None
    ) -> None:
        """Keep and print one number, and its ratio to each number of `of`."""
        ratios = {name: value / other for name, other in (of or {}).items() if value is not None and other is not None}
        self.rows.append({"part": part, "what": what, "value": value, "unit": unit, "ratios": ratios})
        shown = "not measured" if value is None else f"{value:,.4g} {unit}"
        against = ", ".join(f"{ratio:.3g} x {name}" for name, ratio in ratios.items())
        print(f"{part:<9}{what:<56}{shown:>16}  {against}".rstrip(), flush=True)


def machine(device: torch.device) -> dict[str, str]:
    """What the numbers hold for."""
    name = platform.processor() or platform.machine()
    if device.type == "cuda":
        facts = torch.cuda.get_device_properties(device)
        name = f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"
    return {
        "command": " ".join([os.path.basename(sys.executable), *sys.argv]),
        "device": name,
        "cores": str(len(os.sched_getaffinity(0))),
        "threads": str(torch.get_num_threads()),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
