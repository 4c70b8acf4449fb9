"""The ink of single letters and digits, in many fonts that every installation has."""

from __future__ import annotations

import functools

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from m3video.training.scenes import Font

Ink = NDArray[np.uint8]

HERSHEY = {
    "simplex": cv2.FONT_HERSHEY_SIMPLEX,
    "duplex": cv2.FONT_HERSHEY_DUPLEX,
    "script": cv2.FONT_HERSHEY_TRIPLEX,
    "complex": cv2.FONT_HERSHEY_COMPLEX,
    "plain": cv2.FONT_HERSHEY_PLAIN,
}


@functools.lru_cache(maxsize=16384)
def glyph_mask(glyph: str, font: Font, pixels: int) -> Ink:
    """The ink of one glyph, uint8 [h, w] with h = about `pixels`."""
    ink = _sans(glyph, font, pixels) if font.name.startswith("sans") else _hershey(glyph, font, pixels)
    lean = font.slant * ink.shape[0]
    if font.stretch != 1 or lean:
        change = np.array([[font.stretch, -font.slant, max(0.0, lean)], [0, 1, 0]], np.float32)
        ink = cv2.warpAffine(ink, change, (int(ink.shape[1] * font.stretch + abs(lean)), ink.shape[0])).astype(np.uint8)
    return np.ascontiguousarray(ink, np.uint8)


def _sans(glyph: str, font: Font, pixels: int) -> Ink:
    face = ImageFont.load_default(pixels)
    stroke = max(1, round(pixels / 16 * font.weight)) if font.name.endswith("bold") else 0
    left, _, right, _ = face.getbbox(glyph, stroke_width=stroke)
    image = Image.new("L", (max(2, int(right - left) + 2), int(pixels * 1.2)))
    ImageDraw.Draw(image).text((1 - left, -pixels * 0.12), glyph, font=face, fill=255, stroke_width=stroke)
    return np.asarray(image)


def _hershey(glyph: str, font: Font, pixels: int) -> Ink:
    scale = pixels / (15 if font.name == "plain" else 30)
    thick = max(1, round(pixels // 14 * font.weight))
    (width, height), _ = cv2.getTextSize(glyph, HERSHEY[font.name], scale, thick)
    sheet = np.zeros((int(height * 1.35) + 4, width + 4), np.uint8)
    cv2.putText(sheet, glyph, (2, int(height * 1.1) + 1), HERSHEY[font.name], scale, (255,), thick, cv2.LINE_AA)
    return sheet
