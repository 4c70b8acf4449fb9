"""What reading a video costs, as ratios measured side by side; `bench_planner.py` prints this.

Time is the process's own time on one thread. Each way to read is tried right after the decoder alone, again and again,
and the median of these ratios counts: machines have slow and quick seconds, which fall on both alike.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter
from long_films import render_unit
from numpy.typing import NDArray

from m3video.config import Settings
from m3video.inference.pipeline import plan_details
from m3video.planning.analyze import analyze
from m3video.types import FLAG_KEY, SCANS, FrameStats, VideoInfo
from m3video.video._avstream import AvStream
from m3video.video.path_checks import check_file
from m3video.video.reader import open_video

Bytes = NDArray[np.uint8]
SIZE, FPS = (1280, 720), 30
SHOT_SECONDS = 7.0


def pictures(seconds: float, *, grain: bool) -> Iterator[Bytes]:
    """A rendered film: shots that pan over textures, with a moving disc and words; noise as of a camera, or none."""
    rng = np.random.default_rng(0)
    width, height = SIZE
    noise = rng.integers(0, 9, (4, height, width, 3), dtype=np.uint8)
    per_shot = round(SHOT_SECONDS * FPS)
    wide: Bytes = np.zeros((0, 0, 3), np.uint8)
    for i in range(round(seconds * FPS)):
        shot, moment = divmod(i, per_shot)
        if moment == 0:
            coarse = rng.integers(20, 220, (9, 24, 3), dtype=np.uint8)
            wide = cv2.resize(coarse, (width * 2, height), interpolation=cv2.INTER_CUBIC)
        speed = (0, 1, 4)[shot % 3]
        picture = wide[:, moment * speed : moment * speed + width].copy()
        if shot % 2:
            cv2.circle(picture, (100 + 4 * moment, 250 + int(99 * np.sin(moment / 20))), 70, (230, 60, 60), -1)
        cv2.putText(picture, f"shot {shot}", (90, 640), cv2.FONT_HERSHEY_SIMPLEX, 2.5, (255, 255, 255), 6)
        yield cv2.add(picture, noise[i % 4]) if grain else picture


def render(path: Path, seconds: float, *, grain: bool) -> Path:
    """Write `pictures` as H.264 with the encoder's usual GOPs of up to 250 frames and B-frames."""
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "crf": "23"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        stream.codec_context.thread_count = 1
        for picture in pictures(seconds, grain=grain):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))
    return path


def looped(path: Path, source: Path, times: int) -> Path:
    """`source` `times` after each other, packets copied."""
    with av.open(str(source)) as read, av.open(str(path), "w") as out:
        stream = read.streams.video[0]
        copy: Any = out.add_stream_from_template(stream)
        packets = [packet for packet in read.demux(stream) if packet.size]
        length = max(p.pts + p.duration for p in packets) - min(p.pts for p in packets)
        for round_ in range(times):
            read.seek(0)
            for packet in read.demux(stream):
                if packet.size:
                    packet.pts += round_ * length
                    packet.dts += round_ * length
                    packet.stream = copy
                    out.mux(packet)
    return path


def bare(path: Path) -> int:
    """The decoder alone."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = "NONE", 1
        return sum(1 for _ in container.decode(stream))


def analyzed(mode: str) -> Callable[[Path], int]:
    """Our first pass with all its signals."""

    def run(path: Path) -> int:
        with open_video(path) as reader:
            return len(analyze(reader.scan(mode=mode), time_base=reader.info.time_base, mode=mode))

    return run


def by_decord(path: Path) -> int:
    """All frames at the size of our small pictures, and nothing measured."""
    from m3video.video._decord import load

    decord = load()
    video = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1, width=144, height=81)
    batches = (range(at, min(at + 64, len(video))) for at in range(0, len(video), 64))
    return sum(len(video.get_batch(list(rows)).asnumpy()) for rows in batches)


def by_opencv(path: Path) -> int:
    """All frames made small, and nothing measured."""
    video = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    count = 0
    while True:
        is_there, picture = video.read()
        if not is_there:
            return count
        cv2.resize(picture, (144, 81), interpolation=cv2.INTER_AREA)
        count += 1


def by_scenedetect(path: Path) -> int:
    """PySceneDetect's content detector as it comes, over PyAV on one thread."""
    from scenedetect import ContentDetector, SceneManager
    from scenedetect.backends.pyav import VideoStreamAv

    video, manager = VideoStreamAv(str(path), threading_mode="NONE"), SceneManager()
    manager.add_detector(ContentDetector())
    return int(manager.detect_scenes(video))


def ways() -> dict[str, Callable[[Path], int]]:
    """Every way to read that is installed, by name."""
    found: dict[str, Callable[[Path], int]] = {"bare decode": bare}
    found |= {f"analyze --scan {mode}": analyzed(mode) for mode in SCANS if mode != "auto"}
    if importlib.util.find_spec("decord"):
        found["decord, small frames"] = by_decord
    found["OpenCV, small frames"] = by_opencv
    if importlib.util.find_spec("scenedetect"):
        found["PySceneDetect content"] = by_scenedetect
    return found


def compare(path: Path, rounds: int) -> dict[str, dict[str, float]]:
    """For every way over one file, the frames it saw, and its speed against the decoder alone."""
    open_video(path).close()  # the index is made once and remembered, as for a plan and its fetch
    ratios: dict[str, list[float]] = {name: [] for name in ways()}
    seen: dict[str, int] = {}
    for _ in range(rounds):
        for name, run in ways().items():
            start = time.process_time()
            bare(path)
            middle = time.process_time()
            seen[name] = run(path)
            ratios[name].append((middle - start) / (time.process_time() - middle))
    return {name: {"frames": seen[name], "speed": float(np.median(ratios[name]))} for name in ratios}


def profile(path: Path, rounds: int) -> dict[str, float]:
    """Where the time of a full first pass goes: each part's, as a share of the decoder alone; medians.

    `decoding` leaves out the deblocking that small pictures do not need; `small pictures` shrinks the planes that come
    from the decoder, and takes the order of frames from the index; `signals` is all that is measured on them.
    """
    shares: dict[str, list[float]] = {"decoding": [], "small pictures": [], "signals": [], "in all": []}
    for _ in range(rounds):
        moments = [time.process_time()]
        bare(path)
        moments.append(time.process_time())
        with AvStream(check_file(path), max_pixels=Settings().max_pixels, scan="full") as source:
            for _frame in source.frames():
                pass
        moments.append(time.process_time())
        with open_video(path) as reader:
            small = list(reader.scan())
            moments.append(time.process_time())
            analyze(small, time_base=reader.info.time_base)
        moments.append(time.process_time())
        bare_, decoding, both, signals = np.diff(moments)
        parts = (decoding, both - decoding, signals, both + signals)
        for name, part in zip(shares, parts, strict=True):
            shares[name].append(float(part / bare_))
    return {name: float(np.median(each)) for name, each in shares.items()}


def without_keys(stats: FrameStats) -> FrameStats:
    """Stats of a planner that does not know what decoding costs."""
    return replace(stats, flags_N=stats.flags_N & ~np.uint8(FLAG_KEY))


def independent(path: Path, pts: list[int]) -> list[Bytes]:
    """Each frame by a seek of its own to the keyframe before it, decoding up to it."""
    found = []
    convert = VideoReformatter().reformat
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = "NONE", 1
        for wanted in pts:
            container.seek(wanted, stream=stream)
            frame = next(frame for frame in container.decode(stream) if frame.pts == wanted)
            found.append(convert(frame, format="rgb24", interpolation="BICUBIC", threads=1).to_ndarray())
    return found


def fetched(path: Path, pts: list[int]) -> list[Bytes]:
    """The same by our reader."""
    with open_video(path) as reader:
        frames = reader.fetch(pts)
    assert [frame.pts for frame in frames] == pts
    return [frame.rgb_HW3 for frame in frames]


def fetch_ratios(path: Path, info: VideoInfo, stats: FrameStats, max_frames: int, budget: int) -> dict[str, Any]:
    """Fetching our plan against independent seeks to the plan of one who does not know what decoding costs."""
    settings = Settings(max_frames=max_frames, budget=budget)
    ours, blind = (plan_details(info, settings, stats=each).plan for each in (stats, without_keys(stats)))
    pts = {name: [frame.pts for frame in plan.frames] for name, plan in (("our", ours), ("blind", blind))}
    spent: dict[str, float] = {}
    for _, (how, run), name in (
        (i, way, name) for i in range(2) for way in (("seeks", independent), ("fetch", fetched)) for name in pts
    ):
        start = time.process_time()
        run(path, pts[name])
        key = f"{how}, {name} plan"
        spent[key] = min(spent.get(key, float("inf")), time.process_time() - start)
    pairs = zip(fetched(path, pts["blind"]), independent(path, pts["blind"]), strict=True)
    return {
        "frames": len(pts["our"]),
        "candidates": max_frames,
        "keyframes": info.num_keyframes,
        "minutes": info.duration_seconds / 60,
        "seconds": spent,
        "utility_lost": 1 - ours.utility / blind.utility,
        "ratios": {name: value / spent["seeks, blind plan"] for name, value in spent.items()},
        "same_pictures": all(np.array_equal(one, other) for one, other in pairs),
    }


def resident_bytes(field: str = "VmHWM") -> int:
    """The process's greatest resident memory, or with "VmRSS" the present one. Linux; `getrusage` would also tell that
    of the process this one was started from."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(field)).split()[1])


def memory(path: Path) -> dict[str, float]:
    """MiB that a whole first pass adds at its peak to what the process held after a hundred frames; call it in a
    process of its own."""
    at_start = 0
    with open_video(path) as reader:

        def watch(done: int) -> None:
            nonlocal at_start
            if done == 100:
                at_start = resident_bytes("VmRSS")

        stats = analyze(reader.scan(), time_base=reader.info.time_base, on_frame=watch)
        hours = reader.info.duration_seconds / 3600
    added = resident_bytes() - at_start
    return {"hours": hours, "frames": len(stats), "start_mib": at_start / 2**20, "added_mib": added / 2**20}


def memory_apart(path: Path) -> dict[str, float]:
    """`memory` in a process of its own."""
    done = subprocess.run([sys.executable, __file__, str(path)], capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def report(folder: Path, *, quick: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Render, measure and tell; about ten minutes of processor time, one when `quick`."""
    seconds, rounds = (20, 3) if quick else (42, 9)
    found: dict[str, Any] = {"speed": {}, "profile": {}}
    clips = {name: render(folder / f"{name}.mp4", seconds, grain=name == "grainy") for name in ("smooth", "grainy")}
    clips["camera-like"] = render_unit(folder / "camera.mp4", "film", seconds=seconds).path
    for name, path in clips.items():
        found["speed"][name] = compare(path, rounds)
        say(f"\nreading {name} 720p H.264, {seconds} s of it; 1.00 is PyAV decoding alone on one thread")
        for way, row in found["speed"][name].items():
            say(f"  {way:<26}{row['speed']:8.2f} times as quick{row['frames']:8.0f} frames or shots seen")
        found["profile"][name] = profile(path, rounds)
        parts = ", ".join(f"{part} {share:.2f}" for part, share in found["profile"][name].items())
        say(f"  time of a full pass, where the decoder alone takes 1.00: {parts}")
    half_hour = looped(folder / "half_hour.mp4", clips["smooth"], round((60 if quick else 1800) / seconds))
    with open_video(half_hour) as reader:
        stats, info = analyze(reader.scan(), time_base=reader.info.time_base), reader.info
    found["fetch"] = [fetch_ratios(half_hour, info, stats, count, 144 * count) for count in (16, 64, 256)]
    for row in found["fetch"]:
        say(
            f"\nfetching the {row['frames']} frames planned of {row['candidates']} candidates in {row['minutes']:.0f} "
            "minutes; 1.00 is a seek of its own for each"
        )
        say("\n".join(f"  {way:<26}{ratio:8.2f}" for way, ratio in row["ratios"].items()))
        say(f"  same pictures: {row['same_pictures']}; utility lost by cheaper frames: {row['utility_lost']:.2%}")
    long = half_hour if quick else looped(folder / "two_hours.mp4", half_hour, 4)
    found["memory"] = row = memory_apart(long)
    say(
        f"\nmemory of a first pass over {row['hours']:.2f} hours: {row['start_mib']:.0f} MiB after 100 frames, then "
        f"{row['added_mib']:.0f} MiB more"
    )
    return found


if __name__ == "__main__":
    print(json.dumps(memory(Path(sys.argv[1]))))
