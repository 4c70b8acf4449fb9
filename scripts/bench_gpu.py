"""What a machine does with M3 at its real size, each number beside the plain way: random weights, no download.

    python scripts/bench_gpu.py                              # LLaVA-1.5-7B shapes, bf16, on the first CUDA device
    python scripts/bench_gpu.py --shape llava-next-7b --compile
    python scripts/bench_gpu.py --tiny                       # the same at a tiny size, on CPU: shows that it runs

Every time is the median of `--repeat` runs after one that is not counted, the device idle before and after. TTFT begins
with decoded frames in memory and ends with the first token's logits: preprocessing, vision tower, pooling and prefill.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from drawn_clip import Picture, clip_decoder, draw
from PIL import Image
from random_model import CONTEXT, SHAPES, random_model
from stopwatch import Stopwatch, machine
from transformers import GenerationConfig, LlavaForConditionalGeneration

from m3video.inference.memory.model import DeviceSpec, Shape, estimate_memory, grid_bytes, tower_bytes, weight_bytes
from m3video.model.m3 import inputs
from m3video.model.m3.answer import FramesQuestion, GeneratedAnswer, answer_batch
from m3video.model.m3.checkpoint import LoadedModel
from m3video.model.m3.encoding import encode, encode_pooled
from m3video.model.m3.images import normalise, to_pixels
from m3video.model.m3.pooling import VisualTokens
from m3video.model.m3.prefix import Prefix
from m3video.model.m3.size import read_size
from m3video.model.m3.square import as_square
from m3video.model.tokenizer import IMAGE_ID, prompt_ids
from m3video.types import FULL_SCALE, SCALES
from m3video.utils.units import MIB

QUESTION = "What happens in this video, and in which order does it happen?"
BUDGETS = (180, 720, 2880)


@dataclass(frozen=True, slots=True)
class Bench:
    """What is measured, and with what."""

    loaded: LoadedModel
    pictures: list[Picture]
    vision_batch: int
    answer_tokens: int
    watch: Stopwatch

    def first_and_rate(self, run: Callable[[], object]) -> tuple[float, float]:
        return self.watch.first_and_rate(self.loaded.model.lm_head, run)


def spread(budget: int, frames: int) -> list[int]:
    """Scales of `frames` frames that spend at most `budget`: two adjacent scales, the finer ones evenly spread."""
    fitting = [scale for scale in (0, *SCALES) if frames * scale <= budget]
    scales = [fitting[-1]] * frames
    if fitting[-1] < FULL_SCALE:
        finer = SCALES[len(fitting) - 1]
        count = (budget - frames * fitting[-1]) // (finer - fitting[-1])
        for n in range(count):
            scales[int((n + 0.5) * frames / count)] = finer
    return scales


def bench_vision(bench: Bench, *, compiled: bool) -> None:
    """Frames a second: the bare tower on ready pixels, and every step that the product adds to it."""
    model, pictures, size = bench.loaded.model, bench.pictures, bench.vision_batch
    form = model.config.pictures
    squares = torch.from_numpy(np.stack([as_square(picture, form) for picture in pictures[:size]]))
    pixels = normalise(squares.to(bench.watch.device), form).to(model.dtype)
    count, batches = len(pictures) // size * size, len(pictures) // size

    @torch.inference_mode()
    def tower(run: Callable[[torch.Tensor], object]) -> None:
        for _ in range(batches):
            run(pixels)

    bare = count / bench.watch.seconds(lambda: tower(lambda batch: model.model.vision_tower(pixel_values=batch)))
    beside = {"the bare ViT": bare}
    bench.watch.row("vision", f"bare ViT forward, ready pixels, batch {size}", bare, "frames/s")
    if compiled:
        static = torch.compile(model.model.vision_tower, dynamic=False)
        rate = count / bench.watch.seconds(lambda: tower(lambda batch: static(pixel_values=batch)))
        bench.watch.row("vision", "the same, torch.compile, static shape", rate, "frames/s", of=beside)
    rate = count / bench.watch.seconds(lambda: tower(lambda batch: model.visual_grids(batch, batch_size=size)))
    bench.watch.row("vision", "ViT and projector, ready pixels", rate, "frames/s", of=beside)
    scales = spread(36 * count, count)
    shape = "x".join(map(str, pictures[0].shape[1::-1]))
    rate = count / bench.watch.seconds(lambda: encode_pooled(bench.loaded, pictures[:count], scales, vision_batch=size))
    bench.watch.row("vision", f"encode path: {shape} frames to pooled tokens", rate, "frames/s", of=beside)
    ready = [as_square(picture, form) for picture in pictures[:count]]
    rate = count / bench.watch.seconds(lambda: encode_pooled(bench.loaded, ready, scales, vision_batch=size))
    bench.watch.row(
        "vision", f"encode path: {form.side}x{form.side} frames to pooled tokens", rate, "frames/s", of=beside
    )


def bench_overlap(bench: Bench) -> None:
    """Whether frames are decoded while the device works on those before."""
    with tempfile.TemporaryDirectory() as folder:
        decoder, decode = clip_decoder(bench.pictures, Path(folder))
        scales = spread(36 * len(bench.pictures), len(bench.pictures))

        def pooled(pictures: Iterator[Picture]) -> None:
            encode_pooled(bench.loaded, pictures, scales, vision_batch=bench.vision_batch)

        held = list(decode())
        decoding = bench.watch.seconds(lambda: sum(1 for _ in decode()))
        encoding = bench.watch.seconds(lambda: pooled(iter(held)))
        both = bench.watch.seconds(lambda: pooled(decode()))
    count = len(held)
    alone = {"decode": count / decoding, "encode": count / encoding}
    bench.watch.row("overlap", f"decode alone ({decoder})", alone["decode"], "frames/s")
    bench.watch.row("overlap", "encode alone, frames in memory", alone["encode"], "frames/s")
    slower = min(alone, key=lambda name: alone[name])
    bench.watch.row(
        "overlap",
        "decode and encode together",
        count / both,
        "frames/s",
        of={"one after the other": count / (decoding + encoding), f"{slower} alone (1: all hidden)": alone[slower]},
    )


def plain_model(loaded: LoadedModel) -> Any:
    """transformers' own LLaVA over the same parameters."""
    plain = copy.copy(loaded.model)
    plain.__class__ = LlavaForConditionalGeneration
    return plain


def plain_answer(bench: Bench, plain: Any, pictures: Sequence[Picture], new_tokens: int) -> torch.Tensor:
    """Frames at 576 tokens each through transformers' processor and `generate`, with the same prompt."""
    loaded, image = bench.loaded, bench.loaded.config.image_token_index
    times = [float(n) for n in range(len(pictures))]
    prompt = inputs.frames_prompt(loaded, QUESTION, num_frames=len(pictures), times_seconds=times)
    ids: list[int] = []
    for token in prompt_ids(loaded.codec, prompt):
        ids += [image] * FULL_SCALE if token == IMAGE_ID else [token]
    pixels = to_pixels([Image.fromarray(picture) for picture in pictures], loaded.config.pictures)
    asked = torch.tensor([ids], device=bench.watch.device)
    settings = GenerationConfig(
        do_sample=False, max_new_tokens=new_tokens, eos_token_id=loaded.codec.eos_id, pad_token_id=0
    )
    with torch.inference_mode():
        return plain.generate(
            input_ids=asked,
            attention_mask=torch.ones_like(asked),
            generation_config=settings,
            pixel_values=pixels.to(bench.watch.device, loaded.model.dtype),
        )


def our_answer(bench: Bench, visual: VisualTokens, new_tokens: int) -> GeneratedAnswer:
    return prefix_of(bench, visual).answer(QUESTION, max_new_tokens=new_tokens)


def prefix_of(bench: Bench, visual: VisualTokens) -> Prefix:
    """Frames that the decoder has not read yet."""
    return Prefix(bench.loaded, visual, times_seconds=[float(n) for n in range(len(visual))])


def bench_answers(bench: Bench, *, frames: int) -> None:
    """TTFT and tokens a second at each budget, beside the plain path at 576 tokens a frame."""
    shown, plain, new = bench.pictures[:frames], plain_model(bench.loaded), bench.answer_tokens
    text = inputs.text_tokens(bench.loaded, QUESTION, num_frames=frames)
    fitting = min(frames, (CONTEXT - text - new) // FULL_SCALE)
    first, rate = {}, {}
    for count in sorted({fitting, frames}):
        name, how = f"plain, {count} frames", "" if count == fitting else f" (beyond its context of {CONTEXT})"
        first[name], rate[name] = bench.first_and_rate(
            lambda count=count: plain_answer(bench, plain, shown[:count], new)
        )
        label = f"plain LLaVA, {count} frames x 576{how}"
        bench.watch.row("TTFT", label, 1000 * first[name], "ms")
        bench.watch.row("decode", label, rate[name], "tokens/s")
    for budget in BUDGETS:
        scales = spread(budget, frames)

        def pooled(scales: list[int] = scales) -> VisualTokens:
            return encode_pooled(bench.loaded, shown, scales, vision_batch=bench.vision_batch)

        visual = pooled()
        label = f"m3video, {frames} frames, {sum(scales)} visual tokens"
        ours, ours_rate = bench.first_and_rate(lambda: our_answer(bench, pooled(), new))
        prefill, _ = bench.first_and_rate(lambda visual=visual: our_answer(bench, visual, new))
        bench.watch.row("TTFT", label, 1000 * ours, "ms", of={name: 1000 * value for name, value in first.items()})
        bench.watch.row("TTFT", "  of it prefill", 1000 * prefill, "ms")
        prefix = prefix_of(bench, visual)
        prefix.answer(QUESTION, max_new_tokens=1)
        asked = itertools.count()
        following, _ = bench.first_and_rate(
            lambda prefix=prefix, asked=asked: prefix.answer(f"And what stands at {next(asked)}?", max_new_tokens=new)
        )
        bench.watch.row(
            "TTFT",
            "  of a follow-up question, prefix reused",
            1000 * following,
            "ms",
            of={"the first question": 1000 * ours, **{name: 1000 * value for name, value in first.items()}},
        )
        bench.watch.row("decode", label, ours_rate, "tokens/s", of=rate)


def bench_batch(bench: Bench, *, frames: int) -> None:
    """Answers a second of several prompts in one run of the decoder."""
    scales = spread(BUDGETS[1], frames)
    visual = encode_pooled(bench.loaded, bench.pictures[:frames], scales, vision_batch=bench.vision_batch)
    asked = [FramesQuestion(visual, f"{QUESTION} {n}", [float(n) for n in range(frames)]) for n in range(8)]
    alone = 0.0
    for count in (1, 2, 4, 8):
        took = bench.watch.seconds(
            lambda count=count: answer_batch(bench.loaded, asked[:count], max_new_tokens=bench.answer_tokens)
        )
        alone = alone or count / took
        bench.watch.row(
            "batch",
            f"prompts of {sum(scales)} visual tokens, {count} together",
            count / took,
            "answers/s",
            of={"one at a time": alone},
        )


def bench_memory(bench: Bench, *, frames: int) -> None:
    """Peak memory of each phase at each budget, beside what `m3video plan --memory` predicts for it."""
    loaded, watch = bench.loaded, bench.watch
    with tempfile.TemporaryDirectory() as folder:
        loaded.config.save_pretrained(folder)
        size = read_size(folder)
    place = DeviceSpec(0, on_gpu=watch.device.type == "cuda", dtype=str(loaded.model.dtype).removeprefix("torch."))
    held = sum(p.numel() * p.element_size() for p in loaded.model.parameters())
    watch.row("memory", "weights", held / MIB, "MiB", of={"predicted": weight_bytes(size, place) / MIB})
    for budget in BUDGETS:
        scales = spread(budget, frames)
        visual = encode_pooled(loaded, bench.pictures[:frames], scales, vision_batch=bench.vision_batch)
        text = inputs.text_tokens(loaded, QUESTION, num_frames=frames) + bench.answer_tokens
        found = estimate_memory(size, place, Shape(frames, sum(scales), text, bench.vision_batch))
        _peak(
            bench,
            f"answer from {sum(scales)} tokens",
            found.weights + found.answer,
            lambda visual=visual: our_answer(bench, visual, bench.answer_tokens),
        )
    many = bench.pictures
    scales = spread(BUDGETS[1], len(many))
    tower = held + tower_bytes(size, place, bench.vision_batch)
    pooled = tower + sum(scales) * size.width * place.item
    kept = tower + len(many) * grid_bytes(size, place)
    _peak(
        bench,
        f"{len(many)} frames pooled in their micro-batch",
        pooled,
        lambda: encode_pooled(loaded, many, scales, vision_batch=bench.vision_batch),
    )
    _peak(
        bench,
        f"{len(many)} frames, all grids kept",
        kept,
        lambda: encode(loaded, many, vision_batch=bench.vision_batch),
    )


def _peak(bench: Bench, what: str, predicted: int, run: Callable[[], object]) -> None:
    """On CPU only the prediction: scripts/bench_memory.py measures there, each row in a process of its own."""
    peak = bench.watch.peak_bytes(run)
    label = f"{what}, predicted {predicted / MIB:,.0f} MiB"
    bench.watch.row("memory", label, peak and peak / MIB, "MiB", of={"predicted": predicted / MIB})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=[name for name in SHAPES if name != "tiny"], default="llava-1.5-7b")
    parser.add_argument("--tiny", action="store_true", help="a tiny model and few frames, on CPU, float32")
    parser.add_argument("--device", help="cuda, cuda:N or cpu (default cuda; cpu with --tiny)")
    parser.add_argument("--frames", type=int, default=64, help="for the vision tower and memory (default 64)")
    parser.add_argument("--shown", type=int, default=16, help="frames shown to the decoder (default 16)")
    parser.add_argument("--size", default="1280x720", help="of the frames (default 1280x720)")
    parser.add_argument("--vision-batch", type=int, default=16)
    parser.add_argument("--answer-tokens", type=int, default=64)
    parser.add_argument("--repeat", type=int, default=5, help="runs that are timed (default 5)")
    parser.add_argument("--compile", action="store_true", help="also the tower through torch.compile")
    parser.add_argument("--json", type=Path, help="write machine and rows here too")
    args = parser.parse_args()
    if args.tiny:
        args.shape, args.frames, args.shown, args.vision_batch, args.size = "tiny", 8, 8, 4, "320x180"
        args.answer_tokens, args.repeat = 4, 1
    device = torch.device(args.device or ("cpu" if args.tiny else "cuda"))
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("bench_gpu: no CUDA device; --tiny shows on CPU that all of it runs")
    width, height = map(int, args.size.split("x"))
    facts = machine(device)
    print("\n".join(f"{name:<14}{value}" for name, value in facts.items()))
    dtype = torch.float32 if args.tiny else torch.bfloat16
    loaded = random_model(args.shape, device=device, dtype=dtype)
    count = sum(p.numel() for p in loaded.model.parameters())
    print(f"{'model':<14}{args.shape}, {count / 1e9:.3g} billion random weights, {dtype}, sdpa\n", flush=True)
    bench = Bench(
        loaded,
        list(draw(args.frames, width, height)),
        args.vision_batch,
        args.answer_tokens,
        Stopwatch(device, args.repeat),
    )
    bench_vision(bench, compiled=args.compile)
    bench_overlap(bench)
    bench_answers(bench, frames=args.shown)
    bench_batch(bench, frames=args.shown)
    bench_memory(bench, frames=args.shown)
    if args.json is not None:
        args.json.write_text(json.dumps({**facts, "shape": args.shape, "rows": bench.watch.rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
