"""Clips, functions for workers, and comparisons that the tests of this package share."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from m3video.distributed.mapping import ItemResult, Mapper
from m3video.errors import VideoError
from m3video.planning.analyze import COLUMNS
from m3video.types import FrameStats
from m3video.video.picture import PictureMaker
from tests.video.clips import Clip, write

RAY_WARNINGS = (
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore::DeprecationWarning:ray",
)
"""Ray leaves files and child processes to its own shutdown; whether Python notices depends on when it collects."""


def long_clip(path: Path, *, num_frames: int = 600, gop: int = 20, **how: Any) -> Path:
    """A painted clip with a keyframe every `gop` frames; 25 frames per second."""
    return write(path, Clip(numbers=[i % 512 for i in range(num_frames)], gop=gop, **how))


def assert_same(found: FrameStats, expected: FrameStats) -> None:
    """Bit for bit, every column."""
    for name in (*COLUMNS, "edge_2HW"):
        one, other = getattr(found, name), getattr(expected, name)
        assert one.dtype == other.dtype
        assert np.array_equal(one, other), name
    assert (found.time_base, found.mode) == (expected.time_base, expected.mode)


def square(shared: int, item: int) -> int:
    return shared + item * item


def refuse(shared: Path, item: int) -> int:
    """Bad input at item 1; each try leaves a mark."""
    with (shared / str(item)).open("a") as marks:
        marks.write("x")
    if item == 1:
        raise VideoError("one.mp4: bad input")
    return item


def fail(shared: None, item: int) -> int:
    raise KeyError("a bug")


def die(shared: tuple[Path, int, str], item: int) -> int:
    """Item 2 ends its process the first few times, in one of `ENDS`."""
    folder, num_deaths, how = shared
    if item == 2:
        with (folder / "deaths").open("a") as deaths:
            deaths.write("x")
        if (folder / "deaths").stat().st_size <= num_deaths:
            ENDS[how]()
    with (folder / f"runs-{item}").open("a") as runs:
        runs.write("x")
    return item


def hang_with_pid(shared: Path, item: int) -> int:
    """Write the id of this process, then hang where no Python signal handler runs."""
    (shared / f"{os.getpid()}.pid").touch()
    _hang()
    return item


def with_deaths(
    mapper: Mapper[Any], folder: Path, indices: Sequence[int], *, times: int = 1, how: str = "kill"
) -> Mapper[Any]:
    """`mapper`, with workers that end as `how` says the first `times` they are given an item at one of `indices`."""

    def run(function: Any, shared: Any, items: Sequence[Any]) -> Generator[ItemResult[Any], None, None]:
        pairs = [(times if index in indices else 0, folder / f"died-{index}", item) for index, item in enumerate(items)]
        return mapper(_work_or_die, (function, shared, how), pairs)

    return run


def _work_or_die(shared: Any, deadly: Any) -> Any:
    function, common, how = shared
    times, mark, item = deadly
    if times:
        with mark.open("a") as deaths:
            deaths.write("x")
        if mark.stat().st_size <= times:
            ENDS[how]()
    return function(common, item)


def slowly(mapper: Mapper[Any]) -> Mapper[Any]:
    """`mapper`, with frames that take 20 ms longer each."""

    def run(function: Any, shared: Any, items: Sequence[Any]) -> Generator[ItemResult[Any], None, None]:
        return mapper(_work_slowly, (function, shared), items)

    return run


def _work_slowly(shared: Any, item: Any) -> Any:
    function, common = shared
    usual = PictureMaker.scan

    def slow(self: PictureMaker, frame: Any) -> Any:
        time.sleep(0.02)
        return usual(self, frame)

    PictureMaker.scan = slow  # type: ignore[method-assign]
    try:
        return function(common, item)
    finally:
        PictureMaker.scan = usual  # type: ignore[method-assign]


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _kill_parent() -> None:
    """On Ray, the worker of Ray."""
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)


def _crash() -> None:
    ctypes.string_at(0)


def _exit() -> None:
    os._exit(7)


def _hang() -> None:
    ctypes.PyDLL(None).sleep(600)  # PyDLL holds the GIL, as a decoder that hangs may


def _memory() -> None:
    raise MemoryError


ENDS = {"kill": _kill, "parent": _kill_parent, "native": _crash, "exit": _exit, "hang": _hang, "memory": _memory}


def on_two_nodes(shared: Any, item: Any) -> Any:
    """Work that hangs on the node that will be removed, and elsewhere waits until it does."""
    function, common, mark, leaving = shared
    worker = Path(f"/proc/{os.getppid()}/stat").read_text()  # of Ray; its parent is the raylet of the node
    if int(worker.rpartition(")")[2].split()[1]) == leaving:
        mark.touch()
        time.sleep(600)
    end = time.monotonic() + 300
    while not mark.exists():
        if time.monotonic() > end:
            raise TimeoutError("no task came to the leaving node")
        time.sleep(0.05)
    return function(common, item)
