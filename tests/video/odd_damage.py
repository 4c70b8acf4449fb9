"""Damaged files: parts overwritten or cut off."""

from __future__ import annotations

import random
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from tests.video.clips import Clip, add_stream, paint
from tests.video.odd_kinds import N, OddInputs, Readable

DAMAGE = OddInputs()
odd = DAMAGE.odd


# --- damage -----------------------------------------------------------------------------------------------------------
def noisy(number: int) -> np.ndarray[Any, Any]:
    """A painted picture with noise, so that its packets are large enough to damage."""
    noise = np.random.default_rng(number).integers(-30, 30, (96, 128, 1))
    return np.clip(paint(number).astype(int) + noise, 0, 255).astype(np.uint8)


def write_noisy(path: Path, **options: str) -> Path:
    with av.open(f"file:{path}", "w", options=options) as out:
        stream = add_stream(out, Clip())
        for number in range(N):
            frame = av.VideoFrame.from_ndarray(noisy(number), format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            for packet in stream.encode(frame):
                out.mux(packet)
        for packet in stream.encode(None):
            out.mux(packet)
    return path


DAMAGED = Readable(range(N), partial=True, at_least=30)


@odd("damaged_middle.mp4", DAMAGED)
def damaged_middle(path: Path) -> None:
    data = bytearray(write_noisy(path, movflags="faststart").read_bytes())
    middle, rng = len(data) // 2, random.Random(0)
    data[middle : middle + 3000] = rng.randbytes(3000)
    path.write_bytes(data)


@odd("hole_of_zeros.mp4", replace(DAMAGED, at_least=20))
def hole_of_zeros(path: Path) -> None:
    data = bytearray(write_noisy(path, movflags="faststart").read_bytes())
    size = len(data) // 5
    data[2 * size : 3 * size] = bytes(size)
    path.write_bytes(data)


@odd("hole_of_zeros.ts", replace(DAMAGED, at_least=20))
def hole_in_transport_stream(path: Path) -> None:
    data = bytearray(write_noisy(path).read_bytes())
    size = len(data) // 5
    data[2 * size : 3 * size] = bytes(size)
    path.write_bytes(data)


@odd("tail_cut_off.mp4", replace(DAMAGED, at_least=25))
def tail_cut_off(path: Path) -> None:
    data = write_noisy(path, movflags="faststart").read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])


@odd("tail_cut_off.mkv", replace(DAMAGED, at_least=25, is_damage_seen=False, note="cut off, results are partial"))
def matroska_tail_cut_off(path: Path) -> None:
    data = write_noisy(path).read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])


@odd("tail_cut_off_fragmented.mp4", replace(DAMAGED, at_least=25))
def fragmented_tail_cut_off(path: Path) -> None:
    data = write_noisy(path, movflags="frag_keyframe+empty_moov").read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
