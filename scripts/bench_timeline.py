"""Measure the script milliseconds of a frame while the timeline of a long video is panned, from Chromium's trace.

Example: python scripts/bench_timeline.py film.mp4

The video is looked at, shown at 1366x768, zoomed in by each factor of `ZOOMS`, and panned by the wheel. For each zoom
it prints the median, the 95th percentile and the most script milliseconds between two frames of the screen.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the tests' browser

from tests.serve.browser import chromium, planned, served

ZOOMS = (1, 4, 32, 512)
FRAMES = 150
SCRIPT = frozenset({"FireAnimationFrame", "EventDispatch", "FunctionCall", "TimerFire", "RunMicrotasks"})
"""Trace events that run scripts; those within others are counted once."""


def script_milliseconds(events: list[dict[str, Any]]) -> list[float]:
    """Return the script time of each frame of the renderer's main thread, in which the timeline was drawn."""
    by_thread: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        if event.get("ph") == "X" and event["name"] in SCRIPT:
            by_thread[event["pid"], event["tid"]].append(event)
    main = max(by_thread.values(), key=lambda of: sum(one["name"] == "FireAnimationFrame" for one in of))
    main.sort(key=lambda one: (one["ts"], -one.get("dur", 0)))
    frames, spent, until = [], 0.0, 0.0
    for one in main:
        if one["ts"] < until:
            continue  # within another
        until = one["ts"] + one.get("dur", 0)
        spent += one.get("dur", 0) / 1000
        if one["name"] == "FireAnimationFrame":
            frames.append(spent)
            spent = 0.0
    return frames


def pan(page: Any, zoom: int, folder: Path) -> list[float]:
    """Pan at a zoom while a trace is written; return its script milliseconds."""
    page.evaluate(
        "(zoom) => { const { view } = m3video.timeline; view.whole(); view.zoom(zoom, view.width / 3);"
        " m3video.timeline.draw(); }",
        zoom,
    )
    page.wait_for_timeout(1500)  # thumbnails come
    box = page.locator("#timeline").bounding_box()
    page.mouse.move(box["x"] + 300, box["y"] + 100)
    path = folder / f"trace-{zoom}.json"
    page.context.browser.start_tracing(page=page, path=str(path), categories=["devtools.timeline"])
    for i in range(FRAMES):
        page.mouse.wheel(24 if i < FRAMES / 2 else -24, 0)
        page.wait_for_timeout(12)
    page.context.browser.stop_tracing()
    return script_milliseconds(json.loads(path.read_text(encoding="utf-8"))["traceEvents"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("video", type=Path)
    video = parser.parse_args().video.resolve()
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        shutil.copy(video, folder / video.name)  # a link that leads out of the folder is not served
        with served(folder) as address, chromium() as browser:
            page = browser.new_page(viewport={"width": 1366, "height": 768})
            page.goto(f"{address}#{video.name}")
            planned(page)
            print(f"{'zoom':>5}{'frames':>8}{'median ms':>11}{'95 %':>7}{'most':>7}")
            for zoom in ZOOMS:
                found = pan(page, zoom, folder)
                middle, high = np.quantile(found, [0.5, 0.95])
                print(f"{zoom:>5}{len(found):>8}{middle:>11.2f}{high:>7.2f}{max(found):>7.2f}")


if __name__ == "__main__":
    main()
