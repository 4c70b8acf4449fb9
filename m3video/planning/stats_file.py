"""`FrameStats` as a parquet file: one row per frame, everything else in the file's own metadata.

Shape legend: N frames, S scales, K signature bytes.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np

from m3video.errors import VideoError
from m3video.types import SCALES, FrameStats
from m3video.utils.clock import FROM_ZERO
from m3video.utils.files import replacing

SCHEMA = "m3video.stats/2"
_KEY = b"m3video"
_SCALARS = ("change_N", "sharpness_N", "luma_N", "flags_N", "skipped_N")
_BYTES = ("signature_NK", "strokes_NC", "pattern_NC")


def save_stats(stats: FrameStats, info: dict[str, Any], path: str | Path) -> None:
    """Write `stats` and the video's metadata, atomically.

    Args:
        stats: what `analyze` returned.
        info: metadata of the video as JSON values, stored beside the table.
        path: a `.parquet` file; an existing one is replaced.

    Raises:
        VideoError: the folder cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path)
    columns: dict[str, Any] = {"pts": stats.pts_N}
    for number, scale in enumerate(SCALES):
        columns[f"loss_{scale}"] = stats.loss_NS[:, number]
        columns[f"peak_{scale}"] = stats.peak_NS[:, number]
    columns |= {name.removesuffix("_N"): getattr(stats, name) for name in _SCALARS}
    for name in _BYTES:
        table = np.ascontiguousarray(getattr(stats, name))
        columns[name.partition("_")[0]] = pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(table.shape[1]), len(stats), [None, pa.py_buffer(table)]
        )
    edge = stats.edge_2HW
    extra = {
        "schema": SCHEMA,
        "time_base": list(stats.time_base),
        "origin": list(stats.origin),
        "until_pts": stats.until_pts,
        "mode": stats.mode,
        "video": info,
        "edge": {"shape": list(edge.shape), "bytes": base64.b64encode(edge.tobytes()).decode("ascii")},
    }
    table = pa.table(columns).replace_schema_metadata({_KEY: json.dumps(extra).encode()})
    try:
        # We open the file: an error of pyarrow would name the temporary one.
        with replacing(path) as part, part.open("wb") as file:
            pq.write_table(table, file, compression="zstd")
    except BrokenPipeError:
        raise  # stdout without a reader is no error
    except OSError as error:
        raise VideoError(f"stats file {path} cannot be written: {error.strerror or error}") from None


def load_stats(path: str | Path) -> tuple[FrameStats, dict[str, Any]]:
    """Read what `save_stats` wrote, bit for bit.

    Returns:
        The stats and the video's metadata.

    Raises:
        VideoError: no such file, or one that `save_stats` did not write.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise VideoError(f"stats file {path} cannot be read: {str(error).splitlines()[0]}") from None
    extra = json.loads((table.schema.metadata or {}).get(_KEY, b"{}"))
    if extra.get("schema") != SCHEMA:
        raise VideoError(f"stats file {path} was not written by m3video analyze (no {SCHEMA} in it)")
    packed = {name: name.partition("_")[0] for name in _BYTES}
    named = {name: table.column(name).to_numpy() for name in table.column_names if name not in packed.values()}
    unpacked = {
        name: np.frombuffer(b"".join(table.column(column).to_pylist()), np.uint8).reshape(
            -1, table.schema.field(column).type.byte_width
        )
        for name, column in packed.items()
    }
    stats = FrameStats(
        pts_N=named["pts"],
        loss_NS=np.stack([named[f"loss_{scale}"] for scale in SCALES], axis=1),
        peak_NS=np.stack([named[f"peak_{scale}"] for scale in SCALES], axis=1),
        change_N=named["change"],
        sharpness_N=named["sharpness"],
        luma_N=named["luma"],
        **unpacked,
        flags_N=named["flags"],
        edge_2HW=np.frombuffer(base64.b64decode(extra["edge"]["bytes"]), np.uint8).reshape(extra["edge"]["shape"]),
        time_base=(extra["time_base"][0], extra["time_base"][1]),
        mode=extra["mode"],
        # Files from before these were written count from pts 0.
        origin=tuple(extra.get("origin", FROM_ZERO)),
        until_pts=extra.get("until_pts"),
        skipped_N=named.get("skipped", np.zeros(0)),  # older files do not tell
    )
    return stats, extra["video"]
