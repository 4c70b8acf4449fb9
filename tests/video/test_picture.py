"""Scan pictures mean the same for every pixel format, range and size; full pictures keep every pixel."""

from __future__ import annotations

import itertools
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m3video.video.picture import Orientation, PictureMaker, shrink
from tests.video.clips import paint, read

FORMATS = (
    "yuv420p",
    "yuvj420p",
    "yuv422p",
    "yuv444p",
    "yuv410p",
    "yuva420p",
    "nv12",
    "yuv420p10le",
    "p010le",
    "gbrp",
    "gray",
    "gray10le",
    "rgb24",
    "bgra",
    "rgb565le",
    "uyvy422",
)


def ramp(width: int = 256, height: int = 64) -> np.ndarray:
    return np.repeat(np.tile(np.arange(width) * 255 // (width - 1), (height, 1))[:, :, None], 3, 2).astype(np.uint8)


@pytest.mark.parametrize("name", FORMATS)
def test_luma_is_full_range_and_chroma_neutral_in_every_format(name: str) -> None:
    picture = ramp()
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=name)
    maker = PictureMaker(Orientation(), width=256, height=64)
    luma, chroma = maker.scan(frame)
    expected, _ = maker.scan_rgb(picture)
    assert luma.shape == expected.shape == (36, 144)
    assert chroma.shape == (2, 18, 72)
    assert np.abs(luma.astype(int) - expected).max() <= 5
    assert np.abs(chroma.astype(int) - 128).max() <= 4


@pytest.mark.parametrize("name", ["yuv420p", "yuv444p", "yuv420p10le", "bgra"])
def test_chroma_is_cb_then_cr(name: str) -> None:
    for colour, cb_high, cr_high in (((0, 0, 255), True, False), ((255, 0, 0), False, True)):
        picture = np.broadcast_to(np.array(colour, np.uint8), (64, 64, 3)).copy()
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=name)
        _, chroma = PictureMaker(Orientation(), width=64, height=64).scan(frame)
        assert (chroma[0].mean() > 140, chroma[1].mean() > 140) == (cb_high, cr_high)


@pytest.mark.parametrize(("rotation", "mirrored"), list(itertools.product((0, 90, 180, 270), (False, True))))
def test_orientation_undoes_what_the_camera_did(rotation: int, mirrored: bool) -> None:
    upright = paint(300, 128, 96)
    stored = np.rot90(upright, k=rotation // 90)
    stored = np.ascontiguousarray(stored[:, ::-1] if mirrored else stored)
    frame = av.VideoFrame.from_ndarray(stored, format="rgb24")
    maker = PictureMaker(Orientation(rotation, mirrored), width=frame.width, height=frame.height)
    assert np.array_equal(maker.rgb(frame), upright)
    assert read(maker.scan(frame)[0]) == 300


@pytest.mark.parametrize("aspect", [Fraction(4, 3), Fraction(1, 2), Fraction(2)])
def test_sample_aspect_stretches_the_width(aspect: Fraction) -> None:
    frame = av.VideoFrame.from_ndarray(paint(77, 120, 80), format="rgb24")
    maker = PictureMaker(Orientation(aspect=aspect), width=120, height=80)
    picture = maker.rgb(frame)
    assert picture.shape == (80, round(120 * aspect), 3)
    assert read(picture) == 77


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 700), st.integers(1, 700), st.integers(0, 255))
def test_shrinking_keeps_a_flat_picture_flat(width: int, height: int, value: int) -> None:
    small = shrink(np.full((height, width), value, np.uint8), width=max(1, width // 5), height=max(1, height // 5))
    assert small.shape == (max(1, height // 5), max(1, width // 5))
    assert (small == value).all()


def test_shrinking_averages_like_one_exact_average() -> None:
    plane = np.add.outer(np.arange(720) / 720, np.arange(1280) / 1280) * 127
    plane = (plane + 20 * np.sin(np.arange(1280) / 9)).astype(np.uint8)
    small = shrink(plane, width=160, height=90)
    exact = plane.reshape(90, 8, 160, 8).mean(axis=(1, 3))
    assert np.abs(small - exact).max() < 1.6


@pytest.mark.parametrize("period", range(2, 9))
@pytest.mark.parametrize(("width", "height"), [(1280, 720), (1920, 1080), (640, 360), (960, 540), (720, 1280)])
@pytest.mark.parametrize("every", [1, 2, 4])
def test_fine_stripes_become_their_mean_and_not_other_stripes(period: int, width: int, height: int, every: int) -> None:
    stripes = np.where(np.arange(width) % period < period / 2, 200, 60).astype(np.uint8)
    plane = np.broadcast_to(stripes, (height, width)).copy()
    exact = cv2.resize(plane, (width // 8, height // 8), interpolation=cv2.INTER_AREA)
    ripple = [
        np.abs(small - stripes.mean()).max()
        for small in (shrink(plane, width=width // 8, height=height // 8, every=every), exact)
    ]
    assert ripple[0] <= ripple[1] + 1


@pytest.mark.parametrize(("width", "height", "finest"), [(1280, 720, 9), (1920, 1080, 9), (854, 480, 9), (640, 360, 5)])
@pytest.mark.parametrize("is_across", [True, False])
def test_fine_stripes_are_nearly_gone_at_the_size_of_a_scan(
    width: int, height: int, finest: int, is_across: bool
) -> None:
    """No power of two leads to it, so some of a stripe is left: at most 25 of its 70 grey levels."""
    for period in range(2, finest):
        line = np.where(np.arange(width if is_across else height) % period < period / 2, 200, 60).astype(np.uint8)
        plane = np.broadcast_to(line if is_across else line[:, None], (height, width)).copy()
        small = shrink(plane, width=144, height=81)[2:-2, 2:-2]
        assert np.abs(small - line.mean()).max() <= 25, period
