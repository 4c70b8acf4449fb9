"""What a follow-up question costs against the first one; prints one table for each model.

    python scripts/bench_session.py [--frames 32] [--budget 2880] [--no-larger]

The clock of every row starts when the question is asked and stops at the first token of the answer (TTFT). Rows: the
first question in a fresh process, with and without opening the video and loading the model; the next question in the
same session; the first question of a second process that finds scan and grids on disk. All in one run, so that the
ratios compare like with like. The rendered model, and a larger one with random weights (0.1 B), whose answers mean
nothing but whose sums are real. Uses a cache folder of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

QUESTIONS = ("what colour is the background in frame 1", "is it day or night in frame 3", "what is there in frame 5")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--budget", type=int, default=2880)
    parser.add_argument("--larger", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--child", nargs=2, metavar=("VIDEO", "MODEL"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(measure(*given.child, frames=given.frames, budget=given.budget)))
        return
    with tempfile.TemporaryDirectory() as folder:
        video = render(Path(folder) / "clip.mp4")
        models = ["rendered", *([str(save_larger(Path(folder) / "larger"))] if given.larger else [])]
        os.environ["M3VIDEO_CACHE_DIR"] = str(Path(folder) / "cache")
        for model in models:
            told = [child(video, model, given.frames, given.budget) for _ in range(2)]
            table(model, given.frames, *told)


def measure(video: str, model: str, *, frames: int, budget: int) -> dict[str, float]:
    """Seconds to the first token of three questions in one process, and what the first of them did before."""
    from m3video.config import Settings
    from m3video.inference.session import VideoSession

    settings = Settings(model=model, num_frames=frames, max_frames=frames, budget=budget, max_new_tokens=1)
    start = time.perf_counter()
    with VideoSession(video, settings) as session:
        _ = session.loaded
        loading = time.perf_counter() - start
        seconds, answers = [], []
        for question in QUESTIONS:
            begun = time.perf_counter()
            answers.append(session.ask(question))
            seconds.append(time.perf_counter() - begun)
    first = answers[0]
    return {
        "loading": loading,
        "first": seconds[0],
        "next": sum(seconds[1:]) / len(seconds[1:]),
        "cached": first.cached_frames,
        "frames": len(first.plan.frames),
        "visual": first.visual_tokens,
        "reused": answers[1].reused_tokens,
        "prompt": answers[1].prompt_tokens,
    }


def child(video: Path, model: str, frames: int, budget: int) -> dict[str, float]:
    """`measure` in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--frames", str(frames), "--budget", str(budget), "--child", str(video), model],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    told: dict[str, float] = json.loads(done.stdout)
    return told


def table(model: str, frames: int, cold: dict[str, float], warm: dict[str, float]) -> None:
    """Rows with their ratio to the first question of a fresh process."""
    name = model if model == "rendered" else "larger, random weights"
    print(
        f"{name}: {cold['frames']:.0f} of {frames} frames, {cold['visual']:.0f} visual tokens; "
        f"follow-ups reuse {cold['reused']:.0f} of {cold['prompt']:.0f} prompt tokens"
    )
    rows = (
        ("first question, with opening and model load", cold["loading"] + cold["first"]),
        ("first question (scan, decode, tower, prompt)", cold["first"]),
        ("next question, same session", cold["next"]),
        ("second process, with opening and model load", warm["loading"] + warm["first"]),
        (f"second process ({warm['cached']:.0f} frames from disk)", warm["first"]),
    )
    for label, seconds in rows:
        print(f"  {label:<46}{seconds:>8.3f} s{seconds / cold['first']:>8.3f} of the first")


def render(path: Path) -> Path:
    """A clip of 32 shots of a second each; only its size matters."""
    import av
    import numpy as np

    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=15)
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        rng = np.random.default_rng(0)
        for _ in range(32):
            shot = np.kron(rng.integers(0, 255, (9, 16, 3)), np.ones((40, 40, 1))).astype(np.uint8)
            for _ in range(15):
                for packet in stream.encode(av.VideoFrame.from_ndarray(shot, format="rgb24")):
                    file.mux(packet)
        for packet in stream.encode():
            file.mux(packet)
    return path


def save_larger(folder: Path) -> Path:
    """A model of the rendered one's kind with random weights: 12 layers of width 768, a tower of 12 layers."""
    import shutil

    import torch

    from m3video.model.m3.model_paths import RENDERED_FOLDER
    from m3video.model.m3.modeling import M3VideoConfig, M3VideoForConditionalGeneration

    config = M3VideoConfig.from_pretrained(RENDERED_FOLDER)
    for part in (config.text_config, config.vision_config):
        part.num_hidden_layers, part.num_attention_heads = 12, 12
    config.text_config.update({"hidden_size": 768, "intermediate_size": 2048, "num_key_value_heads": 12})
    config.vision_config.update({"hidden_size": 384, "intermediate_size": 1536, "num_attention_heads": 6})
    torch.manual_seed(0)
    M3VideoForConditionalGeneration(config).save_pretrained(folder)
    for file in RENDERED_FOLDER.glob("*token*.json"):
        shutil.copy(file, folder)
    return folder


if __name__ == "__main__":
    main()
