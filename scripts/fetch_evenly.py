"""What others do before a first answer: frames spread evenly over a video, each one exact, in full size and RGB.

    python scripts/fetch_evenly.py film.mp4 --by pyav --count 64 --threads 1

A process of its own for `bench_first_answer.py`, so nothing is imported but what is measured. PyAV seeks to the
keyframe before each frame and decodes up to it; decord is asked for all of them in one batch.
"""

from __future__ import annotations

import argparse
import sys


def by_pyav(path: str, count: int, threads: int) -> int:
    """Fetch with PyAV on so many threads; 0 leaves them to PyAV."""
    import av

    with av.open(path) as container:
        stream = container.streams.video[0]
        if threads:
            stream.thread_type, stream.codec_context.thread_count = "AUTO" if threads > 1 else "NONE", threads
        assert stream.time_base is not None
        length = stream.duration or int((container.duration or 0) / av.time_base / stream.time_base)
        fetched = 0
        for number in range(count):
            wanted = int((number + 0.5) * length / count) + (stream.start_time or 0)
            container.seek(wanted, stream=stream)
            for frame in container.decode(stream):
                if frame.pts is not None and frame.pts + (frame.duration or 1) > wanted:
                    fetched += len(frame.to_ndarray(format="rgb24")) > 0
                    break
    return fetched


def by_decord(path: str, count: int, threads: int) -> int:
    """Fetch with decord; 0 threads leaves them to decord."""
    import decord

    video = decord.VideoReader(path, ctx=decord.cpu(0), num_threads=threads)
    rows = [int((number + 0.5) * len(video) / count) for number in range(count)]
    return len(video.get_batch(rows).asnumpy())


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("path")
    parser.add_argument("--by", choices=("pyav", "decord"), default="pyav")
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--threads", type=int, default=0, help="0: as the library comes")
    asked = parser.parse_args()
    fetched = (by_pyav if asked.by == "pyav" else by_decord)(asked.path, asked.count, asked.threads)
    print(fetched)
    return 0 if fetched == asked.count else 1


if __name__ == "__main__":
    sys.exit(main())
