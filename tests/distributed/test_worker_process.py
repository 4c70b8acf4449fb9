"""A worker process: what it returns, how it dies, and that a busy one is not taken for a silent one."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m3video.distributed import worker_process
from m3video.distributed.failures import FailedError, failure_of
from m3video.distributed.worker_process import WorkerProcess, heartbeat
from m3video.errors import OutOfMemoryError, PlanError, VideoError
from m3video.video import path_checks


def numbers(count: int) -> Iterator[int]:
    yield from range(count)


def arrays(count: int) -> Iterator[np.ndarray]:
    for number in range(count):
        yield np.full((300, 1000), number)


def busy(seconds: float) -> Iterator[str]:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        heartbeat()
        time.sleep(0.01)
    yield "done"


def chatty() -> Iterator[int]:
    os.write(2, b"output of the decoder\n")
    os.write(1, b"and on stdout\n")
    os._exit(7)
    yield 1


def wrong(which: str) -> Iterator[int]:
    if which == "video":
        raise VideoError("two\n lines")
    yield 1
    raise ValueError("late")


@pytest.fixture
def child() -> Iterator[WorkerProcess]:
    made = WorkerProcess(deadline=1)
    yield made
    made.kill()


def test_one_child_runs_one_function_after_the_other(child: WorkerProcess) -> None:
    assert list(child.run(numbers, 3)) == [0, 1, 2]
    assert [int(array[0, 0]) for array in child.run(arrays, 3)] == [0, 1, 2]
    with pytest.raises(FailedError) as caught:
        list(child.run(wrong, "video"))
    assert (caught.value.failure.kind, caught.value.failure.message) == ("input", "two lines")
    with pytest.raises(FailedError) as caught:
        list(child.run(wrong, "late"))
    assert caught.value.failure.kind == "bug"
    assert 'raise ValueError("late")' in caught.value.failure.detail
    assert list(child.run(numbers, 2)) == [0, 1]


def test_the_boot_program_imports_this_module() -> None:
    """It is text, which no import check reads."""
    assert f"\nfrom {WorkerProcess.__module__} import serve\nserve(" in worker_process._BOOT
    assert worker_process.serve.__module__ == WorkerProcess.__module__


def test_a_heartbeat_is_enough(child: WorkerProcess) -> None:
    assert list(child.run(busy, 2.0)) == ["done"]


def hang_or_not(hang: bool) -> Iterator[str]:
    heartbeat()
    if hang:
        time.sleep(60)
    yield "done"


def test_the_deadline_of_a_call_counts_from_its_start() -> None:
    """Also where its first heartbeat is not sent, since the call before sent one just now."""
    child = WorkerProcess(deadline=100)
    assert list(child.run(hang_or_not, False)) == ["done"]
    child.deadline = 0.5
    with pytest.raises(FailedError, match=r"gave no sign of life for 0\.5 s"):
        list(child.run(hang_or_not, True))


def test_a_child_that_starts_during_ctrl_c_is_killed_too(child: WorkerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    born: list[int] = []

    class Interrupted(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            born.append(self.pid)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        child.start(numbers, 3)
    child.kill()
    assert not Path(f"/proc/{born[0]}").exists()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def slow_disk(path: str) -> Iterator[str]:
    """The fingerprint of a file whose every megabyte takes a quarter of a second."""
    usual = path_checks.report_alive

    def waiting() -> None:
        time.sleep(0.25)
        usual()

    path_checks.report_alive = waiting  # type: ignore[attr-defined]
    yield path_checks.fingerprint(path_checks.check_file(path))


def test_hashing_a_huge_file_sends_heartbeats(child: WorkerProcess, tmp_path: Path) -> None:
    (tmp_path / "huge.mp4").write_bytes(bytes(8 << 20))
    assert list(child.run(slow_disk, str(tmp_path / "huge.mp4"))) == [
        path_checks.fingerprint(path_checks.check_file(tmp_path / "huge.mp4"))
    ]


def test_its_output_before_it_died_is_kept(child: WorkerProcess) -> None:
    with pytest.raises(FailedError) as caught:
        list(child.run(chatty))
    assert caught.value.failure.kind == "crash"
    assert "exit code 7" in caught.value.failure.message
    assert "output of the decoder" in caught.value.failure.detail


def test_a_full_disk_is_found_at_the_root() -> None:
    def hidden() -> None:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError:
            raise PlanError("plan.json cannot be written") from None

    with pytest.raises(PlanError) as caught:
        hidden()
    assert failure_of(caught.value).kind == "disk"
    assert failure_of(MemoryError()).kind == "memory"
    assert failure_of(OutOfMemoryError("a plan of 720 tokens does not fit")).kind == "memory"
    assert failure_of(OSError(errno.EACCES, "no")).kind == "bug"


def test_values_left_over_are_not_those_of_the_next_call() -> None:
    child = WorkerProcess(deadline=30)
    try:
        assert next(child.run(numbers, 3)) == 0
        assert list(child.run(numbers, 2)) == [0, 1]
    finally:
        child.kill()
