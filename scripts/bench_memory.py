"""Predicted against measured peak memory, a table for several budgets, number formats and vision batches.

Each row runs in a process of its own, with random weights unless the model is the rendered one. Without CUDA: the
rendered model and a 0.5 B one on the CPU (5 GiB are enough). With CUDA: LLaVA-1.5-7B's shape as well (24 GiB).

    python scripts/bench_memory.py [--quick] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from random_model import MOST_POSITIONS, random_model, write_config

from m3video.config import Settings
from m3video.inference.memory.fit import find_device_spec
from m3video.inference.memory.model import LIBRARIES_BYTES, Shape, estimate_memory
from m3video.inference.memory.trial import peak_of
from m3video.model.m3.checkpoint import DTYPES, load_for
from m3video.model.m3.size import read_size
from m3video.utils.units import MIB

TEXT = 300
WANTED = 0.10


def rows(*, has_cuda: bool, quick: bool) -> list[tuple[str, str, str, str, Shape]]:
    """Model, device, number format, quantization and shape of each row."""
    shapes = [
        Shape(16, 720, TEXT, 8),
        Shape(16, 2880, TEXT, 8),
        Shape(64, 2880, TEXT, 8),
        Shape(16, 720, TEXT, 2),
        Shape(16, 6000, TEXT, 1),
    ]
    shapes = shapes[:2] if quick else shapes
    places = [
        ("rendered", "cpu", "float32"),
        ("rendered", "cpu", "bfloat16"),
        ("0.5b", "cpu", "float32"),
        ("0.5b", "cpu", "bfloat16"),
    ]
    if has_cuda:
        places = [
            ("0.5b", "cuda", "bfloat16"),
            ("llava-1.5-7b", "cuda", "bfloat16"),
            ("llava-1.5-7b", "cuda", "float16"),
        ]
    made = [(name, device, dtype, "none", shape) for name, device, dtype in places for shape in shapes]
    return [*made, ("rendered", "cuda" if has_cuda else "cpu", "bfloat16", "int8", shapes[1])]


def child(order: dict[str, Any]) -> None:
    """One row, measured here."""
    settings = Settings(**order["settings"])
    place = find_device_spec(settings, read_size(settings.model))

    def make() -> Any:
        if settings.model == "rendered":
            return load_for(settings)
        return random_model(
            Path(settings.model).name,
            device=torch.device(settings.device),
            dtype=DTYPES[place.dtype],
            context=MOST_POSITIONS,
        )

    print(json.dumps(peak_of(make, Shape(**order["shape"]))))


def measure(model: str, device: str, dtype: str, quantize: str, shape: Shape) -> dict[str, Any]:
    """A row: megabytes beyond what stood before the model was loaded, predicted and measured."""
    settings = Settings(model=model, device=device, dtype=dtype, quantize=quantize, memory="1TiB")
    size = read_size(model)
    found = estimate_memory(size, find_device_spec(settings, size), shape)
    order = json.dumps({"settings": settings.model_dump(exclude_unset=True), "shape": asdict(shape)})
    done = subprocess.run(
        [sys.executable, __file__, "--child"], input=order, capture_output=True, text=True, env=os.environ
    )
    if done.returncode:
        raise SystemExit(f"{model} {dtype} {shape}: {done.stderr.strip()[-2000:]}")
    peak, before = json.loads(done.stdout.strip().splitlines()[-1])
    predicted = (found.total - (found.runtime if device == "cuda" else LIBRARIES_BYTES)) / MIB
    measured = (peak - before) / MIB
    return {
        "dtype": dtype + ("" if quantize == "none" else f" {quantize}"),
        "device": device,
        "frames": shape.frames,
        "tokens": shape.visual,
        "batch": shape.vision_batch,
        "weights": round(found.weights / MIB),
        "predicted": round(predicted),
        "measured": round(measured),
        "off": round(predicted / measured - 1, 4),
        "off_total": round(found.total / peak - 1, 4),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two shapes of each model")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(json.loads(sys.stdin.read()))
        return 0
    found = []
    if not options.json:
        print("MiB beyond what Python and its libraries (on a GPU: the context) take; total: with them\n")
        print(
            f"{'model':<14}{'device':<8}{'format':<15}{'frames':>7}{'tokens':>8}{'batch':>7}{'weights':>9}"
            f"{'predicted':>11}{'measured':>10}{'off':>8}{'total':>8}"
        )
    with tempfile.TemporaryDirectory() as folder:
        for name, *place, shape in rows(has_cuda=torch.cuda.is_available(), quick=options.quick):
            model = name if name == "rendered" else str(write_config(name, Path(folder) / name))
            row = {"model": name, **measure(model, *place, shape)}
            found.append(row)
            if not options.json:
                print(
                    f"{name:<14}{row['device']:<8}{row['dtype']:<15}{row['frames']:>7}{row['tokens']:>8}"
                    f"{row['batch']:>7}{row['weights']:>9}{row['predicted']:>11}{row['measured']:>10}"
                    f"{row['off']:>+8.1%}{row['off_total']:>+8.1%}",
                    flush=True,
                )
    if options.json:
        print(json.dumps(found, indent=1))
    return int(any(abs(row["off"]) > WANTED for row in found))


if __name__ == "__main__":
    sys.exit(main())
