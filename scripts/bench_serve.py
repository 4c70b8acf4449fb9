"""How a server fares under load, and what a follow-up costs through HTTP; prints one table.

    python scripts/bench_serve.py [--clients 64] [--seconds 120]

Starts `m3video serve` with the model `rendered` over a folder of eight clips. First one client asks each clip two
questions, the second as a follow-up: the clock of a row starts when the request is sent and stops at the first token of
the stream (TTFT). Then many clients ask at once, each about a clip by chance, obey Retry-After, and give up on an
answer after a minute. An answer is right where it equals that of `m3video ask`. Uses a cache folder of its own.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

COLOURS = {
    "red": (220, 40, 40),
    "green": (50, 160, 70),
    "blue": (50, 80, 200),
    "yellow": (230, 210, 60),
    "purple": (130, 60, 160),
    "orange": (240, 140, 40),
    "white": (240, 240, 240),
    "black": (20, 20, 20),
}
QUESTIONS = ("What colour is the background at 0:01?", "is it day or night in frame 2")
LONGEST_ANSWER = 60.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=120.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["M3VIDEO_CACHE_DIR"] = str(Path(folder) / "cache")
        films = Path(folder).resolve() / "films"
        films.mkdir()
        clips = [render(films / f"{colour}.mp4", rgb) for colour, rgb in COLOURS.items()]
        known = {clip: ask(clip) for clip in clips}
        # Those answers have filled the cache, which a first question to the server is not to find.
        os.environ["M3VIDEO_CACHE_DIR"] = str(Path(folder) / "cache of the server")
        with serving(films) as (url, pid):
            follow_ups(url, clips)
            load(url, pid, known, clients=given.clients, seconds=given.seconds)


def render(path: Path, rgb: tuple[int, int, int]) -> Path:
    """A clip of eight seconds, 640x360: one colour, and a bar that moves."""
    import av
    import numpy as np

    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=15)
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        for number in range(120):
            picture = np.full((360, 640, 3), rgb, np.uint8)
            picture[160:200, number * 5 : number * 5 + 30] = 128
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode())
    return path


def ask(clip: Path) -> list[str]:
    """What `m3video ask` answers to each question."""
    import m3video

    return [m3video.ask(clip, question, model="rendered").text for question in QUESTIONS]


class serving:
    """The server as a child process, with its address and its number."""

    def __init__(self, films: Path) -> None:
        self._films = films

    def __enter__(self) -> tuple[str, int]:
        command = [sys.executable, "-m", "m3video.cli", "serve", str(self._films), "--port", "0", "--model", "rendered"]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        for line in self._process.stderr:  # the page's address comes first
            if found := re.search(r"http://\S+/v1", line):
                return found[0], self._process.pid
        raise AssertionError(f"the server does not start: it ended with {self._process.wait()}")

    def __exit__(self, *_: object) -> None:
        start = time.perf_counter()
        self._process.terminate()
        code = self._process.wait(60)
        print(f"SIGTERM: ended with {code} after {time.perf_counter() - start:.1f} s")


def body(clip: Path, question: str, **more: Any) -> dict[str, Any]:
    """A request about one clip."""
    content = [
        {"type": "video_url", "video_url": {"url": clip.as_uri()}},
        {"type": "text", "text": question},
    ]
    return {"model": "rendered", "messages": [{"role": "user", "content": content}], **more}


def first_token(url: str, clip: Path, question: str) -> float:
    """Seconds from the request to the first token of its stream."""
    import httpx

    start = time.perf_counter()
    with httpx.stream("POST", f"{url}/chat/completions", json=body(clip, question, stream=True), timeout=300) as answer:
        assert answer.status_code == 200, answer.read()
        for line in answer.iter_lines():
            if '"content": "' in line and '"content": ""' not in line:
                return time.perf_counter() - start
    raise AssertionError("no token")


def follow_ups(url: str, clips: list[Path]) -> None:
    """Print what the first question about a clip and the next one take."""
    first = [first_token(url, clip, QUESTIONS[0]) for clip in clips]
    following = [first_token(url, clip, QUESTIONS[1]) for clip in clips]
    ratio = statistics.median(following) / statistics.median(first)
    print(
        f"TTFT of a first question {statistics.median(first):.3f} s, "
        f"of a follow-up {statistics.median(following):.3f} s"
    )
    print(f"  the follow-up takes {ratio:.3f} of the first (medians of {len(clips)} clips)")


def load(url: str, pid: int, known: dict[Path, list[str]], *, clients: int, seconds: float) -> None:
    """Have many clients ask at once, and print how they fared."""
    import httpx

    counts: Counter[str] = Counter()
    waits: list[float] = []
    most_memory = 0
    end = time.monotonic() + seconds
    lock = threading.Lock()

    def one(number: int) -> None:
        rng = random.Random(number)
        with httpx.Client(timeout=LONGEST_ANSWER) as client:
            while time.monotonic() < end:
                clip, which = rng.choice(list(known)), rng.randrange(len(QUESTIONS))
                start = time.monotonic()
                outcome = answer(client, clip, which, start)
                with lock:
                    counts[outcome] += 1
                    waits.append(time.monotonic() - start)

    def answer(client: httpx.Client, clip: Path, which: int, start: float) -> str:
        while time.monotonic() - start < LONGEST_ANSWER:
            try:
                got = client.post(f"{url}/chat/completions", json=body(clip, QUESTIONS[which]))
            except httpx.TimeoutException:
                break
            if got.status_code == 200:
                said = got.json()["choices"][0]["message"]["content"]
                return "right" if said == known[clip][which] else "wrong"
            if got.status_code != 429:
                return f"status {got.status_code}"
            with lock:
                counts["refused with 429"] += 1
            time.sleep(int(got.headers["Retry-After"]))
        return "given up"

    threads = [threading.Thread(target=one, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    memory_before = tree_bytes(pid)
    while any(thread.is_alive() for thread in threads):
        most_memory = max(most_memory, tree_bytes(pid))
        time.sleep(0.5)
    refused = counts.pop("refused with 429", 0)
    asked = sum(counts.values())
    print(f"{clients} clients for {seconds:g} s: {asked} questions, {asked / seconds:.1f} a second; {dict(counts)}")
    print(
        f"  refused with 429 on the way: {refused}; "
        f"median wait {statistics.median(waits):.2f} s, most {max(waits):.2f} s"
    )
    print(f"  memory of all processes: {memory_before / 2**20:.0f} MiB at first, at most {most_memory / 2**20:.0f} MiB")


def tree_bytes(pid: int) -> int:
    """Resident memory of a process and its children."""
    total = 0
    for process in (pid, *(int(child) for child in children(pid))):
        try:
            total += int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (FileNotFoundError, ProcessLookupError):
            continue
    return total


def children(pid: int) -> list[str]:
    """The children of all threads of a process."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            found += (task / "children").read_text().split()
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


if __name__ == "__main__":
    main()
