"""What the machinery of `m3video batch` costs: simulated items, real ledger, real workers.

    python scripts/bench_batch.py [--items 10000] [--workers 2] [--ray ADDRESS]

Prints one JSON object: milliseconds per item, memory of the process that runs the batch by number of items, seconds
until a finished batch has seen that nothing is left, and seconds from the kill of a worker, or of the batch itself,
until work goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from m3video.distributed.batch import run_batch
from m3video.distributed.counts import BatchCounts
from m3video.distributed.items import BatchQuestions, digest
from m3video.distributed.ledger import Ledger
from m3video.distributed.messages import JobRequest, ModelRequest, Outcome, PartialRecord, VideoJob, WorkerPool
from m3video.distributed.sources import Folder
from m3video.distributed.worker_pool import LocalPool


@dataclass(frozen=True, slots=True)
class Simulated:
    """A task that takes `seconds` and gives a record as large as that of an answer."""

    seconds: float = 0.0
    name: str = "simulated"
    needs_model: bool = False
    wants_gpu: bool = False
    config: str = "simulated"

    def identify(self, video: str) -> Iterator[str]:
        yield digest(Path(video).read_text())

    def work(self, job: VideoJob) -> Iterator[ModelRequest | PartialRecord]:
        time.sleep(self.seconds)
        yield PartialRecord({"answer": "x" * 1500, "video_seconds": 60.0})

    def load(self) -> Any: ...

    def answer(self, loaded: Any, requests: Sequence[JobRequest]) -> list[Any]:
        return [None for _ in requests]

    def finish(self, loaded: Any, job: VideoJob, partial_record: Any, replies: Sequence[Any]) -> list[Outcome]:
        return [partial_record]


def make_videos(folder: Path, count: int) -> None:
    for number in range(count):
        place = folder / f"{number // 1000:03d}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"v{number:06d}.mp4").write_text(str(number))


def memory_mb() -> float:
    found = re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


@dataclass(slots=True)
class Watching(BatchCounts):
    """Notes memory every `count // 10` items."""

    every: int = 1000
    seen: dict[int, float] = field(default_factory=dict)

    def show(self, *, running: int) -> None:
        mark = self.done // self.every * self.every
        if mark not in self.seen:
            self.seen[mark] = round(memory_mb(), 1)


def pool_of(task: Simulated, workers: int, ray: str | None) -> WorkerPool:
    if ray is None:
        return LocalPool(task, workers=workers)
    from m3video.distributed.ray_pool import RayPool

    return RayPool(task, address=ray, workers=workers)


def run(folder: Path, out: Path, workers: int, ray: str | None, task: Simulated, counts: BatchCounts) -> float:
    """Seconds of the loop, without the start of the pool."""
    pool = pool_of(task, workers, ray)
    start = time.perf_counter()
    with Ledger(out) as ledger:
        run_batch(Folder(folder), BatchQuestions(), task, ledger, pool, counts=counts)
    return time.perf_counter() - start


def check(out: Path, count: int) -> dict[str, int]:
    with Ledger(out) as ledger:
        rows = [row["item"] for row in ledger.results()]
    return {"lost": count - len(set(rows)), "done_twice": len(rows) - len(set(rows))}


def bench_many(folder: Path, out: Path, args: argparse.Namespace) -> dict[str, Any]:
    counts = Watching(every=max(1, args.items // 10))
    seconds = run(folder, out, args.workers, args.ray, Simulated(), counts)
    start = time.perf_counter()
    again = Watching()
    with Ledger(out) as ledger:
        opened = time.perf_counter() - start
        # The pool gets nothing: all is done.
        run_batch(
            Folder(folder), BatchQuestions(), Simulated(), ledger, LocalPool(Simulated(), workers=1), counts=again
        )
    return {
        "items": args.items,
        "ms_per_item": round(1000 * seconds / args.items, 3),
        "driver_mb_by_items_done": counts.seen,
        "results_mb": round((out / "results.jsonl").stat().st_size / 2**20, 1),
        "manifest_mb": round((out / "manifest.jsonl").stat().st_size / 2**20, 1),
        "resume_with_nothing_left_s": round(time.perf_counter() - start, 3),
        "of_it_opening_s": round(opened, 3),
        **check(out, args.items),
    }


def bench_worker_kill(folder: Path, out: Path) -> dict[str, Any]:
    """Kill the only worker in the middle of an item: seconds until that item has a result, less what it takes."""
    task = Simulated(seconds=0.5)
    pool = LocalPool(task, workers=1)
    times: list[float] = []

    class Killing(BatchCounts):
        def show(self, *, running: int) -> None:
            run = next(iter(pool._runs.values()), None)
            if len(times) == 0 and self.done == 2 and run is not None and run.job is not None:
                process = run.child._process
                assert process is not None
                os.kill(process.pid, signal.SIGKILL)
                times.append(time.perf_counter())
            if len(times) == 1 and self.done == 3:
                times.append(time.perf_counter())

    with Ledger(out) as ledger:
        run_batch(Folder(folder), BatchQuestions(), task, ledger, pool, limit=6, counts=Killing())
    return {"recovery_after_worker_kill_s": round(times[1] - times[0] - task.seconds, 3)}


def bench_driver_kill(folder: Path, out: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Kill the batch itself at random times until it is through."""
    command = [sys.executable, __file__, "--drive", str(folder), str(out), "--workers", str(args.workers)]
    results, rng, kills, first = out / "results.jsonl", random.Random(5), 0, []
    while True:
        before = results.stat().st_size if results.exists() else 0
        start = time.perf_counter()
        driver = subprocess.Popen(command)
        until = start + rng.uniform(1.5, 3)
        while driver.poll() is None and time.perf_counter() < until:
            if len(first) == kills and results.exists() and results.stat().st_size > before:
                first.append(time.perf_counter() - start)
            time.sleep(0.01)
        if driver.poll() is not None:
            break
        driver.kill()
        driver.wait()
        kills += 1
    assert driver.returncode == 0
    return {"driver_kills": kills, "start_to_first_new_result_s": round(sorted(first)[len(first) // 2], 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--ray")
    parser.add_argument("--drive", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.drive:
        run(Path(args.drive[0]), Path(args.drive[1]), args.workers, None, Simulated(seconds=0.02), BatchCounts())
        return
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        make_videos(place / "many", args.items)
        make_videos(place / "few", 400)
        said = {"workers": args.workers, "ray": args.ray, **bench_many(place / "many", place / "out", args)}
        if args.ray is None:
            said |= bench_worker_kill(place / "few", place / "killed")
            said |= bench_driver_kill(place / "few", place / "driven", args)
            said["after_driver_kills"] = check(place / "driven", 400)
        print(json.dumps(said, indent=2))


if __name__ == "__main__":
    # Workers import the task by its module's name, which must not be __main__.
    import bench_batch

    bench_batch.main()
