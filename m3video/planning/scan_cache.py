"""Cache of first passes: a video that was scanned is not scanned again for another question, budget or model.

The stats of a pass depend on the bytes of the video, on which frames were read, on the decoder, on this package's code
that decodes and measures, and on the libraries under it; all of that is in the key. Passes over damaged files are not
cached: their result includes what was skipped, and later reads of such a file depend on it.
"""

from __future__ import annotations

import numpy as np

from m3video.planning.analyze import COLUMNS
from m3video.types import FrameStats, VideoInfo
from m3video.utils.cache import DECODERS, Cache, Key, code_digest, versions

_ARRAYS = (*COLUMNS, "edge_2HW")
_NAME = "scan"


def load_scan(cache: Cache, info: VideoInfo, *, mode: str, wish: tuple[float | None, ...] = ()) -> FrameStats | None:
    """Return the stats of an earlier pass, bit for bit; None where there is none."""
    stored = cache.load("scans", scan_key(info, mode=mode, wish=wish), _NAME)
    if stored is None:
        return None
    return FrameStats(
        **{name: stored[name] for name in _ARRAYS},
        time_base=info.time_base,
        mode=mode,
        origin=info.origin,
        until_pts=info.until_pts,
    )


def save_scan(cache: Cache, info: VideoInfo, stats: FrameStats, *, wish: tuple[float | None, ...] = ()) -> None:
    """Cache the stats of a pass that found no damage."""
    arrays = {name: np.asarray(getattr(stats, name)) for name in _ARRAYS}
    key = scan_key(info, mode=stats.mode, wish=wish)
    cache.save("scans", key, _NAME, arrays, about={"video": info.path, "scan": stats.mode})


def scan_key(info: VideoInfo, *, mode: str, wish: tuple[float | None, ...] = ()) -> Key:
    """Return everything that the stats depend on; `wish` is what the pass was asked to see."""
    return {
        "video": info.fingerprint,
        "backend": info.backend,
        "mode": mode,
        "wish": wish,
        "code": code_digest(
            "video/*.py",
            "types/*.py",
            "inference/first_pass.py",
            *(f"planning/{name}.py" for name in ("analyze", "complexity", "look", "novelty")),
        ),
        "libraries": versions(*DECODERS, "numpy", "scipy"),
    }
