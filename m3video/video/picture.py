"""Conversion of decoded frames to upright pictures: full-size RGB, or the small pictures of the first pass.

Shape legend: H W height and width of a picture, 3 RGB, 2 the chroma planes Cb and Cr.
All scan pictures are full range (0-255, chroma centred on 128) whatever the file uses, so that statistics mean the
same for every pixel format.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av.error
import cv2
import numpy as np
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, VideoReformatter
from numpy.typing import NDArray

from m3video.errors import VideoError
from m3video.types import SCAN_SIDE

MAX_ASPECT = 16
"""Sample aspect ratios beyond 16:1 or 1:16 are taken as a damaged header and not applied."""

MAX_LINEAR_RATIO = 1.25
"""Bilinear interpolation to a size up to this many times smaller still reads every pixel, with nearly equal weights."""

LINES, LUMA_LINES, CHROMA_LINES = 8, 2, 4
"""Where each line of a scan picture averages `LINES` lines or more, only every second line of luma and every fourth of
chroma is read. Of chroma only means over 6 x 6 scan pixels and more are used."""

cv2.setNumThreads(1)  # a scan uses one thread; many videos or segments are read side by side, not one picture by many

_PLANAR_8BIT = frozenset(
    {
        "yuv420p",
        "yuv422p",
        "yuv444p",
        "yuv440p",
        "yuv411p",
        "yuv410p",
        "yuva420p",
        "yuva422p",
        "yuva444p",
        "yuvj420p",
        "yuvj422p",
        "yuvj444p",
        "yuvj440p",
        "yuvj411p",
    }
)
_LIMITED_LUMA = np.clip(np.round((np.arange(256) - 16) * (255 / 219)), 0, 255).astype(np.uint8)
_LIMITED_CHROMA = np.clip(np.round((np.arange(256) - 128) * (255 / 224) + 128), 0, 255).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class Orientation:
    """How stored pictures become upright: scale by the sample aspect, flip, then rotate clockwise.

    `rotation` is in degrees clockwise, one of 0, 90, 180, 270; `mirrored` flips left and right first; `aspect` is
    the width of a sample over its height.
    """

    rotation: int = 0
    mirrored: bool = False
    aspect: Fraction = Fraction(1)
    notes: tuple[str, ...] = ()

    def display_size(self, width: int, height: int) -> tuple[int, int]:
        """Return (width, height) of an upright picture stored as `width` x `height`."""
        wide, high = self.stretched(width, height)
        return (high, wide) if self.rotation % 180 else (wide, high)

    def stretched(self, width: int, height: int) -> tuple[int, int]:
        """Return (width, height) with square samples, before rotation."""
        return max(1, round(width * self.aspect)), height

    def turn(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return `picture` [H, W, ...] flipped and rotated upright."""
        if self.mirrored:
            picture = picture[:, ::-1]
        if self.rotation:
            picture = np.rot90(picture, k=-(self.rotation // 90))
        return np.ascontiguousarray(picture)


def orientation_of(frame: VideoFrame, *, aspect: Fraction | None, max_pixels: int) -> Orientation:
    """Read rotation, mirroring and sample aspect from the first frame of a video.

    Args:
        frame: the first decoded frame.
        aspect: sample aspect ratio by container or codec, None where neither stores it.
        max_pixels: most pixels of a stretched picture.

    Returns:
        The orientation, with a note for each thing that was not applied.
    """
    notes: list[str] = []
    ratio = Fraction(aspect) if aspect and aspect > 0 else Fraction(1)
    fits = frame.width * ratio * frame.height <= max_pixels
    if not (Fraction(1, MAX_ASPECT) <= ratio <= MAX_ASPECT and fits):
        notes.append(f"sample aspect ratio {ratio.numerator}:{ratio.denominator} is implausible and was not applied")
        ratio = Fraction(1)
    rotation, mirrored, note = _from_matrix(frame)
    if note:
        notes.append(note)
    return Orientation(rotation=rotation, mirrored=mirrored, aspect=ratio, notes=tuple(notes))


def _from_matrix(frame: VideoFrame) -> tuple[int, bool, str | None]:
    """Return clockwise degrees, whether to mirror first, and a note.

    Source: libavutil/display.h, ISO 14496-12 tkhd matrix.
    """
    side_data: Any = frame.side_data  # a mapping by `Type`; PyAV's stub says by str
    data = side_data.get(Type.DISPLAYMATRIX)
    if data is None:
        return 0, False, None
    a, b, _, c, d = struct.unpack_from("=5i", bytes(data))
    # A picture column (x, y) goes to (a*x + c*y, b*x + d*y), with y pointing down.
    mirrored = a * d - b * c < 0
    if mirrored:
        a, b = -a, -b
    if abs(b) < abs(a) / 64 and abs(c) < abs(d) / 64:
        return (0 if a > 0 else 180), mirrored, None
    if abs(a) < abs(b) / 64 and abs(d) < abs(c) / 64:
        return (90 if b > 0 else 270), mirrored, None
    return 0, False, "the display matrix is no multiple of 90 degrees and was not applied"


class PictureMaker:
    """A converter of decoded frames into RGB and into scan pictures, all upright.

    All scan pictures have the size that follows from the first frame of the video, also after a resolution change.
    """

    def __init__(self, orientation: Orientation, *, width: int, height: int) -> None:
        self.orientation = orientation
        self._reformat = VideoReformatter().reformat
        self._reformat_small = VideoReformatter().reformat
        self._small = _scan_size(*orientation.stretched(width, height))

    def rgb(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """Return RGB uint8 [H, W, 3], upright, with square samples, full range."""
        width, height = self.orientation.stretched(frame.width, frame.height)
        picture = _convert(
            self._reformat, frame, width=width, height=height, format="rgb24", interpolation="BICUBIC"
        ).to_ndarray()
        return self.orientation.turn(picture)  # type: ignore[arg-type]

    def scan(self, frame: VideoFrame) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return luma uint8 [h, w] and chroma uint8 [2, ceil(h/2), ceil(w/2)], upright."""
        name, planes = frame.format.name, frame.planes
        if name in _PLANAR_8BIT and all(plane.line_size > 0 for plane in planes[:3]):
            luma, chroma = self._shrunk([_plane(plane) for plane in planes[:3]])
            if not (name.startswith("yuvj") or frame.color_range == ColorRange.JPEG.value):
                luma, chroma = cv2.LUT(luma, _LIMITED_LUMA), cv2.LUT(chroma, _LIMITED_CHROMA)
        else:
            luma, chroma = self._shrunk(self._converted(frame))
        if self.orientation.rotation or self.orientation.mirrored:
            luma, chroma = self.orientation.turn(luma), self.orientation.turn(chroma)
        return np.asarray(luma, np.uint8), np.asarray(chroma, np.uint8).transpose(2, 0, 1)

    def scan_rgb(self, rgb_HW3: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return the same as `scan`, from an upright RGB picture: for backends that return RGB only."""
        width, height = self.orientation.display_size(*self._small)
        small = cv2.resize(rgb_HW3, (width, height), interpolation=cv2.INTER_AREA)
        luma, cr, cb = (np.asarray(plane, np.uint8) for plane in cv2.split(cv2.cvtColor(small, cv2.COLOR_RGB2YCrCb)))
        half = (-(-width // 2), -(-height // 2))
        chroma = [cv2.resize(plane, half, interpolation=cv2.INTER_AREA) for plane in (cb, cr)]
        return luma, np.asarray(chroma, np.uint8)

    def _shrunk(self, planes: list[NDArray[np.uint8]]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return luma [h, w] and chroma [ceil(h/2), ceil(w/2), 2]."""
        width, height = self._small
        luma, cb, cr = planes
        return (
            shrink(luma, width=width, height=height, every=LUMA_LINES),
            shrink(cb, cr, width=(width + 1) // 2, height=(height + 1) // 2, every=CHROMA_LINES),
        )

    def _converted(self, frame: VideoFrame) -> list[NDArray[np.uint8]]:
        width, height = self._small
        small = _convert(
            self._reformat_small,
            frame,
            width=width,
            height=height,
            format="yuv444p",
            interpolation="AREA",
            dst_color_range=ColorRange.JPEG,
        )
        return [_plane(plane) for plane in small.planes]


def has_known_colours(frame: VideoFrame) -> bool:
    """Return whether the colour matrix of `frame` can be converted; if not, BT.601 is assumed."""
    try:
        VideoReformatter().reformat(frame, width=16, height=16, format="rgb24", threads=1)
    except (av.error.FFmpegError, OSError):
        return False
    return True


def _convert(reformat: Callable[..., VideoFrame], frame: VideoFrame, **how: Any) -> VideoFrame:
    try:
        return reformat(frame, threads=1, **how)
    except (av.error.FFmpegError, OSError):
        pass  # the header names a colour matrix that does not exist; `has_known_colours` lets the notes say so
    try:
        return reformat(frame, threads=1, src_colorspace="ITU601", dst_colorspace="ITU601", **how)
    except (av.error.FFmpegError, OSError) as error:
        raise VideoError(f"pictures of format {frame.format.name} cannot be converted to RGB ({error})") from None


def shrink(*planes: NDArray[np.uint8], width: int, height: int, every: int = 1) -> NDArray[np.uint8]:
    """Average planes down to `width` x `height`, with the fast operations of OpenCV: halving, bilinear interpolation.

    Each axis is halved while a factor of 2 or more remains, and the rest is interpolated: where it is more than
    `MAX_LINEAR_RATIO`, to twice the size wanted, which is then halved. No step skips pixels, so that fine stripes turn
    into their mean and not into other stripes. Area averaging by a fraction takes many times as long.

    Args:
        planes: each uint8 [H, W].
        width: pixels of the result.
        height: lines of the result.
        every: read only one of this many lines, where there are `LINES` or more for each line of the result. A plane
            fresh from the decoder is not in the CPU cache, and loading its lines is most of the cost of shrinking.

    Returns:
        uint8 [height, width] for one plane, [height, width, P] for several.
    """
    if every > 1 and planes[0].shape[0] >= LINES * height:
        planes = tuple(plane[every // 2 :: every] for plane in planes)
    small = [_halved(plane, width, height) for plane in planes]
    together = small[0] if len(small) == 1 else cv2.merge(small)  # fewer calls; each costs as much as its pixels
    while together is not (smaller := _halved(together, width, height)):
        together = smaller
    high, wide = together.shape[:2]
    together = _linear(together, _doubled(wide, width), _doubled(high, height))
    return _linear(together, width, height)


def _halved(picture: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Return `picture` with each side halved that is at least twice as long as wanted; the same object if none is."""
    high, wide = picture.shape[:2]
    down, right = (2 if have >= 2 * wanted else 1 for have, wanted in ((high, height), (wide, width)))
    lines, columns = high // down, wide // right
    # An odd last line or column is left out, which stretches the picture by less than a pixel of the result. To exactly
    # half the size, interpolation is the mean of two neighbours.
    return _linear(picture[: lines * down, : columns * right], columns, lines) if down * right > 1 else picture


def _doubled(size: int, wanted: int) -> int:
    return 2 * wanted if size > MAX_LINEAR_RATIO * wanted else wanted


def _linear(picture: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    if picture.shape[:2] == (height, width):
        return picture
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def _scan_size(width: int, height: int) -> tuple[int, int]:
    longest = max(width, height)
    if longest <= SCAN_SIDE:
        return width, height
    return max(1, round(width * SCAN_SIDE / longest)), max(1, round(height * SCAN_SIDE / longest))


def _plane(plane: Any) -> NDArray[np.uint8]:
    """Return a view of a plane (a buffer) without the padding at the end of its lines; no copy."""
    return np.ndarray((plane.height, plane.width), np.uint8, buffer=plane, strides=(plane.line_size, 1))
