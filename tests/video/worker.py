"""Reads videos in a process of its own, one JSON line per path on stdin, so that a hang or crash can be survived."""

from __future__ import annotations

import json
import os
import re
import sys
from typing import Any

from m3video.errors import VideoError
from m3video.video.reader import open_video
from tests.video import clips

MAX_FETCHED = 12


def read_all(path: str, backend: str) -> dict[str, Any]:
    """Everything a test wants to know about one file."""
    with open_video(path, backend=backend) as reader:
        frames = [(f.pts, clips.read(f.rgb_HW3), f.rgb_HW3.shape[1::-1]) for f in reader.frames()]
        damage = reader.damage
        scan = [(s.pts, clips.read(s.luma_HW), s.luma_HW.shape, s.is_corrupt) for s in reader.scan()]
        whole = [f[:2] for f, s in zip(frames, scan, strict=True) if not s[3]]
        wanted = sorted(whole[:: max(1, len(whole) // MAX_FETCHED)], key=lambda f: hash((f[0], 7)))
        refused, wrong = 0, []
        for pts, number in wanted:
            try:
                fetched = clips.read(reader.fetch([pts])[0].rgb_HW3)
            except VideoError:
                refused += 1
                continue
            if fetched != number:
                wrong.append((pts, number, fetched))
        info = reader.info
        return {
            "index": reader.index.pts_N.tolist(),
            "regular": reader.index.is_regular,
            "notes": list(info.notes),
            "pts": [f[0] for f in frames],
            "numbers": [f[1] for f in frames],
            "sizes": [f[2] for f in frames],
            "info_size": (info.width, info.height),
            "damage": damage.message,
            "scan_pts": [s[0] for s in scan],
            "scan_numbers": [s[1] for s in scan],
            "scan_shapes": sorted({s[2] for s in scan}),
            "corrupt": [s[3] for s in scan],
            "fetch_wrong": wrong,
            "fetch_refused": refused,
            "message": "",
            "start": info.start_pts,
            "end": info.end_pts,
        }


def peak_mb() -> float:
    """This process's own high-water mark; `getrusage` would start from that of the process that started it."""
    with open("/proc/self/status", encoding="ascii") as status:
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read())
    assert found is not None
    return int(found[1]) / 1024


def main() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        if request["drop_root"] and os.geteuid() == 0:
            os.seteuid(65534)
        try:
            answer = read_all(request["path"], request["backend"])
        except VideoError as error:
            answer = {"refused": str(error), "kind": type(error).__name__}
        finally:
            if os.getuid() == 0:
                os.seteuid(0)
        answer["max_rss_mb"] = peak_mb()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
