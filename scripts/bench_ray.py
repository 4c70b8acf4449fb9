"""What workers and Ray cost beside the in-process run at equal work, how they scale, and how fast they recover.

    python scripts/bench_ray.py                        # a video of 15 minutes, rendered first; then batches
    python scripts/bench_ray.py --minutes 60 --check   # an hour; only compares 1, 2, 7 and 50 segments bit for bit
    python scripts/bench_ray.py --video film.mp4 --items 0
    python scripts/bench_ray.py --json

Every row runs in a process of its own, in turns, `--runs` times; the medians are shown. CPU is that of the process and
of everything below it, Ray's own services included; wall time means little while other programs want the same cores.
Start-up (worker processes' imports; Ray's services) is shown apart, because it does not grow with the video. Indexing
(a pass over the packets, and a hash of the file) is done once by each row and left out of all of them.

Then batches of `--items` simulated items with the real machinery (`bench_batch.py`): memory of the process that runs
them, time to resume, recovery after a kill.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import av
import numpy as np
from numpy.typing import NDArray

from m3video.config import Settings
from m3video.distributed.analysis import analyze_long
from m3video.distributed.mapping import ItemResult, Mapper, in_process
from m3video.distributed.processes import processes
from m3video.distributed.ray_tasks import connected, ray_tasks
from m3video.distributed.segments import num_segments
from m3video.video.segments import inspect_video

GOAL = 1.15
"""CPU of Ray, and of worker processes, over that of the in-process run: what the project asks of long videos."""

TICKS = os.sysconf("SC_CLK_TCK")
WIDTH, HEIGHT, RATE, GOP = 640, 360, 25, 50


def render(path: Path, *, minutes: float) -> None:
    """A video of moving textures, a new shot every seven seconds; H.264 with B-frames, a keyframe every two."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("libx264", rate=RATE, options={"preset": "veryfast", "bf": "2", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.gop_size = GOP
        for number, planes in enumerate(itertools.islice(pictures(rng), round(minutes * 60 * RATE))):
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def pictures(rng: np.random.Generator) -> Iterator[NDArray[np.uint8]]:
    """Planes [H * 3 / 2, W] of yuv420p, without end."""
    while True:
        coarse = rng.integers(30, 220, (HEIGHT // 12, WIDTH // 8), np.uint8)
        texture = np.kron(coarse, np.ones((24, 16), np.uint8)) + rng.integers(0, 20, (HEIGHT * 2, WIDTH * 2), np.uint8)
        chroma = np.full((HEIGHT // 2, WIDTH), rng.integers(60, 200), np.uint8)
        speed_x, speed_y = rng.integers(0, 4, 2).tolist()
        for step in range(7 * RATE):
            left, top = (step * speed_x) % WIDTH, (step * speed_y) % HEIGHT
            yield np.concatenate([texture[top : top + HEIGHT, left : left + WIDTH], chroma])


def tree_cpu_seconds() -> float:
    """CPU of this process, its descendants, and those of them that ended and were waited for."""
    below: dict[int, list[int]] = {}
    used: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        below.setdefault(int(fields[1]), []).append(int(entry.name))
        used[int(entry.name)] = sum(map(int, fields[11:15]))
    total, waiting = 0, [os.getpid()]
    while waiting:
        pid = waiting.pop()
        total += used.get(pid, 0)
        waiting += below.get(pid, [])
    return total / TICKS


def with_a_kill(mapper: Mapper[Any], folder: Path) -> Mapper[Any]:
    """`mapper`, with a worker that is killed when it begins with the second item; `folder` gets the times."""

    def run(function: Any, shared: Any, items: Sequence[Any]) -> Generator[ItemResult[Any], None, None]:
        return mapper(_work_or_die, (function, shared, folder), list(enumerate(items)))

    return run


def _work_or_die(shared: Any, item: Any) -> Any:
    function, common, folder = shared
    number, segment = item
    if number == 1:
        (folder / f"{time.time_ns()}").touch()
        if len(list(folder.iterdir())) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
    return function(common, segment)


BASE = "single pass"


def rows_for(cores: int) -> dict[str, tuple[str, int]]:
    """Who does the work, and how many; negative: one of them is killed."""
    rows = {BASE: ("none", 1), "segments, in process": ("none", 0)}
    for count in [1, *(2**power for power in range(1, 7) if 2**power <= cores)]:
        rows |= {f"{count} worker processes": ("processes", count), f"Ray, {count} at a time": ("ray", count)}
    return rows | {"2 processes, one killed": ("processes", -2), "Ray, 2, one killed": ("ray", -2)}


def measure(video: str, kind: str, num: int) -> dict[str, float]:
    """One run of one row, in this process."""
    settings = Settings()
    known = inspect_video(video, max_pixels=settings.max_pixels)
    count = 1 if (kind, num) == ("none", 1) else num_segments(known.metadata.index)
    mappers: dict[str, Callable[[], Mapper[Any]]] = {
        "none": lambda: in_process,
        "processes": lambda: processes(abs(num)),
        "ray": lambda: ray_tasks(num_workers=abs(num)),
    }
    mapper = mappers[kind]()
    begun = clocks()
    with connected("local", num_cpus=abs(num)) if kind == "ray" else nullcontext():
        list(mapper(_nothing, None, range(abs(num))))
        ready = clocks()
        with tempfile.TemporaryDirectory() as folder:
            running = with_a_kill(mapper, Path(folder)) if num < 0 else mapper
            found = analyze_long(video, settings, mapper=running, count=count)
            tries = sorted(int(path.name) for path in Path(folder).iterdir())
        done = clocks()
    start, work = ready - begun, done - ready
    if kind == "processes":
        work -= start  # these workers started for nothing, and others again for the work; Ray's stayed
    return {
        "start": start[0],
        "start_cpu": start[1],
        "wall": work[0],
        "cpu": work[1],
        "segments": found.num_segments,
        "frames": len(found.stats),
        **({"recovery": (tries[1] - tries[0]) / 1e9} if num < 0 else {}),
    }


def clocks() -> NDArray[np.float64]:
    """Wall and CPU seconds."""
    return np.array([time.perf_counter(), tree_cpu_seconds()])


def _nothing(shared: None, item: int) -> int:
    import m3video.distributed.analysis  # noqa: F401

    return item


def in_child(video: Path, kind: str, num: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--video", str(video), "--row", kind, str(num)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def check(video: Path) -> str:
    """1, 2, 7 and 50 segments, bit for bit."""
    known = analyze_long(video, Settings(), count=1)
    names = [name for name in known.stats.__slots__ if isinstance(getattr(known.stats, name), np.ndarray)]
    cut = []
    for count in (2, 7, 50):
        found = analyze_long(video, Settings(), count=count)
        for name in names:
            one, other = getattr(found.stats, name), getattr(known.stats, name)
            if one.tobytes() != other.tobytes():
                raise SystemExit(f"{video}: {name} differs between 1 and {found.num_segments} segments")
        cut.append(found.num_segments)
    return f"{video}: {len(known.stats)} frames, bit-identical over 1 and {', '.join(map(str, cut))} segments"


def batches(items: int) -> list[dict[str, Any]]:
    """What `bench_batch.py` says, of local processes, and of Ray for a tenth of the items."""
    script, said = str(Path(__file__).with_name("bench_batch.py")), []
    for more in ([f"{items}"], [f"{max(1, items // 10)}", "--ray", "local"]):
        done = subprocess.run([sys.executable, script, "--items", *more], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr)
        said.append(json.loads(done.stdout))
    return said


def line(name: str, row: dict[str, float], base: dict[str, float]) -> str:
    wall, cpu = row["wall"] / base["wall"], row["cpu"] / base["cpu"]
    whole = (row["cpu"] + row["start_cpu"]) / base["cpu"]
    again = f"{row['recovery']:>8.1f} s" if "recovery" in row else ""
    return (
        f"{name:<25}{row['segments']:>4.0f}{row['wall']:>9.1f}{wall:>7.2f}{row['cpu']:>9.1f}{cpu:>7.2f}"
        f"{row['start']:>9.1f}{row['start_cpu']:>7.1f}{whole:>8.2f}{again}"
    )


HEAD = (
    f"{'':<25}{'':>4}{'wall s':>9}{'ratio':>7}{'CPU s':>9}{'ratio':>7}{'start s':>9}{'CPU':>7}{'ratio':>8}\n"
    f"{'':<25}{'cut':>4}{'':>9}{'':>7}{'':>9}{'':>7}{'':>9}{'':>7}{'+ start':>8}  second try after"
)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=15, help="length of the rendered video")
    parser.add_argument("--video", type=Path, help="measure this video; it is rendered there when it is missing")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--check", action="store_true", help="only compare 1, 2, 7 and 50 segments bit for bit")
    parser.add_argument("--items", type=int, default=10_000, help="of the batch; 0 for none")
    parser.add_argument("--json", action="store_true", help="print data as JSON")
    parser.add_argument("--row", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.row:
        print(json.dumps(measure(str(asked.video), asked.row[0], int(asked.row[1]))))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        video = asked.video or Path(folder) / "long.mp4"
        if not video.exists():
            render(video, minutes=asked.minutes)
        if asked.check:
            print(check(video))
            return 0
        plan = rows_for(len(os.sched_getaffinity(0)))
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in plan}
        for _ in range(asked.runs):
            for name, (kind, num) in plan.items():
                runs[name].append(in_child(video, kind, num))
    rows = {
        name: {key: statistics.median(run[key] for run in found) for key in found[0]} for name, found in runs.items()
    }
    ratios = {name: rows[name]["cpu"] / rows[BASE]["cpu"] for name in rows}
    beyond = [name for name, ratio in ratios.items() if ratio > GOAL and "killed" not in name]
    many = batches(asked.items) if asked.items else []
    if asked.json:
        print(json.dumps({"rows": rows, "cpu_ratios": ratios, "beyond_the_goal": beyond, "batches": many}, indent=2))
        return 1 if beyond else 0
    print(f"{rows[BASE]['frames']:.0f} frames, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n{HEAD}")
    print("\n".join(line(name, row, rows[BASE]) for name, row in rows.items()))
    print(f"goal (CPU at most {GOAL} times that of a single pass): " + (", ".join(beyond) or "kept by all"))
    for said in many:
        print(json.dumps(said, indent=2))
    return 1 if beyond else 0


if __name__ == "__main__":
    # Workers import their work by its module's name, which must not be __main__.
    import bench_ray

    sys.exit(bench_ray.main())
