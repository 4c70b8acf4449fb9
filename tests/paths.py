"""Where the tests find what they use: the checkout, the sample clip, and data that only some machines have."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "m3video" / "assets" / "sample.mp4"
CONFIGS = ROOT / "configs"
SCRIPTS = ROOT / "scripts"

_SHARED = ROOT.parent / "shared"
VIDEOS = Path(os.environ.get("M3VIDEO_VIDEOS_DIR") or _SHARED / "videos")
ANNOTATIONS = Path(os.environ.get("M3VIDEO_ANNOTATIONS_DIR") or _SHARED / "annotations")
PHOTOS = Path(os.environ.get("M3VIDEO_PHOTOS_DIR") or _SHARED / "photos")
PARITY = Path(os.environ.get("M3VIDEO_PARITY_DIR") or _SHARED / "m3-parity")
