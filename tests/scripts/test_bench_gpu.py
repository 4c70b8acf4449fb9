"""The GPU benchmark at its tiny size on CPU, on a machine that lacks what a GPU machine may lack."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from m3video.types import SCALES
from tests.paths import ROOT

SCRIPT = ROOT / "scripts" / "bench_gpu.py"
WITHOUT = ("av", "decord", "ray", "torchcodec", "torchvision")
RUN_WITHOUT = f"""
import runpy, sys
sys.modules.update(dict.fromkeys({WITHOUT!r}))  # None: the import fails
sys.argv = sys.argv[1:]
sys.path.insert(0, {str(SCRIPT.parent)!r})
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_it_runs_without_video_libraries(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN_WITHOUT, str(SCRIPT), "--tiny", "--json", str(tmp_path / "rows.json")],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "rows.json").read_text())
    assert found["shape"] == "tiny"
    rows = {(row["part"], row["what"]): row for row in found["rows"]}
    decoder = next(what for part, what in rows if part == "overlap" and what.startswith("decode alone"))
    assert "OpenCV" in decoder
    assert {part for part, _ in rows} >= {"vision", "overlap", "TTFT", "decode", "batch", "memory"}
    for budget in (180, 720, 2880):
        first = next(row for (part, what), row in rows.items() if part == "TTFT" and f" {budget} visual" in what)
        assert set(first["ratios"]) == {"plain, 6 frames", "plain, 8 frames"}
        assert all(ratio > 0 for ratio in first["ratios"].values())
    assert all(row["value"] is None or row["value"] > 0 for row in found["rows"])
    assert f"torch         {torch.__version__}" in done.stdout
    assert "--tiny" in done.stdout.splitlines()[0]


@pytest.fixture
def bench_gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    return importlib.import_module("bench_gpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_cuda_it_says_what_to_do(bench_gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["bench_gpu.py"])
    with pytest.raises(SystemExit, match="no CUDA device; --tiny shows on CPU"):
        bench_gpu.main()


@pytest.mark.parametrize("frames", [1, 5, 16, 64])
@pytest.mark.parametrize("budget", [180, 720, 2880])
def test_spread_spends_the_budget_over_two_adjacent_scales(bench_gpu: Any, budget: int, frames: int) -> None:
    scales = bench_gpu.spread(budget, frames)
    assert len(scales) == frames
    used = sorted(set(scales))
    assert len(used) == 1 or SCALES.index(used[1]) == SCALES.index(used[0]) + 1
    next_step = min((b - a for a, b in itertools.pairwise(SCALES) if a >= used[0]), default=0)
    assert budget - sum(scales) < max(next_step, 1) or used == [576]


def test_a_clip_is_decoded_with_what_is_there(bench_gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = list(bench_gpu.draw(5, 64, 48))
    for missing, name in (((), "PyAV"), (("av",), "OpenCV"), (("av", "cv2"), "frames are drawn")):
        for module in missing:
            monkeypatch.setitem(sys.modules, module, None)
        said, decode = bench_gpu.clip_decoder(pictures, tmp_path)
        assert name in said
        shown = list(decode())
        assert len(shown) == len(list(decode())) == 5
        assert all(frame.shape == (48, 64, 3) for frame in shown)
        assert abs(float(shown[0].mean()) - float(pictures[0].mean())) < 8


def test_half_precision_weights_keep_the_angles_in_single(bench_gpu: Any) -> None:
    before = torch.get_default_dtype()
    loaded = bench_gpu.random_model("tiny", device=torch.device("cpu"), dtype=torch.bfloat16)
    assert torch.get_default_dtype() == before
    assert loaded.model.dtype == torch.bfloat16
    angles = loaded.model.model.language_model.rotary_emb.inv_freq
    assert angles.dtype == torch.float32
    assert len(angles.unique()) == len(angles)
    assert loaded.codec.encode("a frame, twice") == loaded.codec.encode("a frame , twice")
