"""A task whose videos are small text files that say what shall happen to the process that works on them."""

from __future__ import annotations

import errno
import os
import re
import resource
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m3video.distributed.items import digest
from m3video.distributed.messages import JobRequest, ModelRequest, Outcome, PartialRecord, VideoJob
from m3video.distributed.tasks import Analyze
from m3video.distributed.worker_process import heartbeat
from m3video.errors import ChangedFileError, VideoError
from m3video.video.picture import PictureMaker


@dataclass(frozen=True, slots=True)
class Faulty:
    """`log` gets one line for each time that work on a file begins."""

    log: str
    name: str = "faulty"
    needs_model: bool = False
    wants_gpu: bool = True
    config: str = "faulty"

    def identify(self, video: str) -> Iterator[str]:
        path = Path(video)
        if not path.exists():
            raise VideoError(f"{video}: no such file")
        yield digest(path.read_text())

    def work(self, job: VideoJob) -> Iterator[ModelRequest | PartialRecord]:
        path = Path(job.video)
        with open(self.log, "a", encoding="ascii") as log:
            log.write(f"{path.name}\n")
        words = path.read_text().split()
        tries = Path(self.log).read_text(encoding="ascii").split().count(path.name)
        if words[0] not in ("good", "slow", "growing") and not (words[0].endswith("-once") and tries > 1):
            happen(words[0].removesuffix("-once"))
        if words[0] == "slow":
            for _ in range(int(words[1])):
                time.sleep(0.02)
                heartbeat()
        if words[0] == "growing":  # as a download does
            path.write_text(f"good {words[-1]}")
        if self.needs_model:
            yield ModelRequest(words[-1])
        yield PartialRecord({"said": words[-1], "video_seconds": 1.0, "fingerprint": digest(path.read_text())})

    def load(self) -> Any:
        return os.environ.get("CUDA_VISIBLE_DEVICES", "")

    def answer(self, loaded: Any, requests: Sequence[JobRequest]) -> list[Any]:
        return [answer_one(content) for _, content in requests]

    def finish(self, loaded: Any, job: VideoJob, partial_record: Any, replies: Sequence[Any]) -> list[Outcome]:
        return [{**partial_record, "replies": list(replies), "gpu": loaded} for _ in job.questions]


@dataclass(frozen=True, slots=True)
class AnalyzeGrowing(Analyze):
    """Another program writes the rest of a file, kept beside it as .rest, when the first pass has begun."""

    def work(self, job: VideoJob) -> Iterator[ModelRequest | PartialRecord]:
        rest, real = Path(job.video).with_suffix(".rest"), PictureMaker.scan

        def scan(maker: PictureMaker, frame: Any) -> Any:
            if rest.exists():
                with open(job.video, "ab") as file:
                    file.write(rest.read_bytes())
                rest.unlink()
            return real(maker, frame)

        PictureMaker.scan = scan  # type: ignore[method-assign]
        try:
            yield from Analyze.work(self, job)
        finally:
            PictureMaker.scan = real  # type: ignore[method-assign]


REQUEST_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Large:
    """Videos of many large model requests, and a model slower than the workers; replies are the memory used."""

    num_requests: int
    name: str = "large"
    needs_model: bool = True
    wants_gpu: bool = False
    config: str = "large"

    def identify(self, video: str) -> Iterator[str]:
        yield digest(video)

    def work(self, job: VideoJob) -> Iterator[ModelRequest | PartialRecord]:
        for _ in range(self.num_requests):
            yield ModelRequest((os.urandom(16) * (REQUEST_BYTES // 16), memory_mb()))
        yield PartialRecord({})

    def load(self) -> Any:
        return "model"

    def answer(self, loaded: Any, requests: Sequence[JobRequest]) -> list[Any]:
        time.sleep(0.01 * len(requests))
        return [(len(requests), worker_mb, memory_mb()) for _, (_, worker_mb) in requests]

    def finish(self, loaded: Any, job: VideoJob, partial_record: Any, replies: Sequence[Any]) -> list[Outcome]:
        names = ("together", "worker_mb", "mb")
        return [dict(zip(names, map(list, zip(*replies, strict=True)), strict=True))]


def memory_mb() -> float:
    found = re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text(encoding="ascii"))
    assert found is not None
    return int(found[1]) / 1024


_broken_gpu: list[str] = []


def answer_one(content: str) -> str:
    if content == "assertion":
        _broken_gpu.append(content)
    if _broken_gpu:  # as CUDA does it: after an assertion in a kernel nothing goes any more
        raise RuntimeError("CUDA error: device-side assert triggered\nCompile with `TORCH_USE_CUDA_DSA`")
    if content == "unanswerable":
        raise VideoError("the model cannot answer this")
    if content == "deadly":  # for the process that holds the model
        os.kill(os.getpid(), signal.SIGKILL)
    return content.upper()


def happen(what: str) -> None:
    """The fault called `what`."""
    if what == "bad":
        raise VideoError("this is no video")
    if what == "changed":
        raise ChangedFileError("this is still growing")
    if what == "bug":
        raise ZeroDivisionError("our own mistake")
    if what == "full":
        raise OSError(errno.ENOSPC, "No space left on device")
    if what == "abort":
        os.abort()
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "kill_parent":  # on Ray that is an actor; elsewhere it would be the batch itself
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(10)
    if what == "memory":
        limits = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (2 << 30, limits[1]))
        bytearray(4 << 30)
    if what == "hang":
        # A loop in native code that holds the GIL: nothing but a kill ends it.
        re.match(r"(a+)+$", "a" * 60 + "b")
    raise AssertionError(f"{what} did not happen")


def write(folder: Path, **files: str) -> Path:
    """`name="what to do"` as `name.mp4`."""
    folder.mkdir(exist_ok=True)
    for name, words in files.items():
        (folder / f"{name}.mp4").write_text(words)
    return folder
