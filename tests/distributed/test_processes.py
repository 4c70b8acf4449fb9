"""Local worker processes: same bits, a death costs one item, bad input is not tried again, nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from m3video.config import Settings
from m3video.distributed.analysis import analyze_long
from m3video.distributed.mapping import MAX_RETRIES, ItemLostError, ItemResult
from m3video.distributed.processes import processes
from m3video.distributed.segments import cut
from m3video.errors import VideoError, WorkerError
from m3video.inference.first_pass import analyze_video
from m3video.inference.pipeline import open_for
from m3video.video.segments import inspect_video
from tests.distributed import made
from tests.distributed.driver import is_alive
from tests.paths import ROOT

PLAIN = Settings()
DEADLINE = 2.0
HANG_DEADLINE = 1.0


def wait_until(condition: object, *, seconds: float = 30) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def deadline_of(how: str) -> float:
    """A short one where nothing but the deadline ends the worker."""
    return HANG_DEADLINE if how == "hang" else DEADLINE


def pids(folder: Path) -> list[int]:
    return [int(path.stem) for path in folder.glob("*.pid")]


def test_every_item_once_in_any_order() -> None:
    found = sorted(processes(2)(made.square, 100, range(20)), key=lambda done: done.number)
    assert found == [ItemResult(i, 100 + i * i) for i in range(20)]
    assert list(processes(3)(made.square, 1, [])) == []


@pytest.mark.parametrize("how", ["kill", "native", "exit", "hang", "memory"])
def test_a_death_costs_one_item(how: str, tmp_path: Path) -> None:
    found = {
        done.number: done for done in processes(2, deadline=deadline_of(how))(made.die, (tmp_path, 1, how), range(5))
    }
    assert found == {i: ItemResult(i, i, num_crashes=int(i == 2)) for i in range(5)}
    assert [(tmp_path / f"runs-{i}").read_text() for i in range(5)] == ["x"] * 5  # nothing lost, nothing done twice


def test_deaths_are_bounded(tmp_path: Path) -> None:
    with pytest.raises(ItemLostError, match=r"item 2 was tried 3 times: .* killed by SIGKILL$") as caught:
        list(processes(2)(made.die, (tmp_path, 99, "kill"), range(5)))
    assert caught.value.number == 2
    assert (tmp_path / "deaths").read_text() == "x" * (MAX_RETRIES + 1)


def test_bad_input_is_not_tried_again(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"^one.mp4: bad input$"):
        list(processes(1)(made.refuse, tmp_path, range(4)))
    assert (tmp_path / "1").read_text() == "x"
    assert not (tmp_path / "2").exists()


def test_a_bug_shows_the_traceback_of_its_worker() -> None:
    with pytest.raises(KeyError, match="a bug") as caught:
        list(processes(1)(made.fail, None, [1]))
    assert "in fail" in caught.value.__notes__[0]


def test_closing_kills_workers_that_cannot_react(tmp_path: Path) -> None:
    """Also one that hangs in native code and holds the GIL."""
    script = (
        "import sys; from pathlib import Path; from m3video.distributed.processes import processes\n"
        "from tests.distributed import made\n"
        "if __name__ == '__main__': list(processes(2)(made.hang_with_pid, Path(sys.argv[1]), range(4)))\n"
    )
    main = tmp_path / "main.py"
    main.write_text(script)
    for sent in (signal.SIGINT, signal.SIGKILL):
        folder = tmp_path / sent.name
        folder.mkdir()
        driver = subprocess.Popen(
            [sys.executable, main, folder], env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL
        )
        try:
            wait_until(lambda: len(pids(folder)) == 2)  # noqa: B023
            driver.send_signal(sent)
            driver.wait(20)
            wait_until(lambda: not any(map(is_alive, pids(folder))), seconds=10)  # noqa: B023
        finally:
            driver.kill()
            driver.wait()


def test_stats_are_bit_identical_and_survive_a_killed_worker(tmp_path: Path) -> None:
    path = made.long_clip(tmp_path / "a.mp4")
    with open_for(path, PLAIN) as reader:
        expected = analyze_video(reader)
    found = analyze_long(path, PLAIN, count=7, mapper=made.with_deaths(processes(2), tmp_path, [2, 5]))
    made.assert_same(found.stats, expected)
    assert found.num_segments == 7
    segments = cut(inspect_video(path, max_pixels=PLAIN.max_pixels).metadata.index, 7)
    assert set(found.notes) == {
        f"the worker of segment {segments[index].printable} died once; the segment was read again" for index in (2, 5)
    }


@pytest.mark.parametrize(
    ("how", "words"), [("kill", "was killed by SIGKILL"), ("hang", "gave no sign of life for 1 s and was killed")]
)
def test_a_segment_that_always_fails_is_named(how: str, words: str, tmp_path: Path) -> None:
    path = made.long_clip(tmp_path / "a.mp4", num_frames=100)
    mapper = made.with_deaths(processes(1, deadline=deadline_of(how)), tmp_path, [1], times=99, how=how)
    with pytest.raises(WorkerError, match=rf"a.mp4: segment 0:01.60 - 0:03.96 was tried 3 times: .*{words}"):
        analyze_long(path, PLAIN, count=2, mapper=mapper)
    assert (tmp_path / "died-1").read_text() == "x" * (MAX_RETRIES + 1)


def test_a_segment_that_takes_longer_than_the_deadline_is_alive(tmp_path: Path) -> None:
    path = made.long_clip(tmp_path / "a.mp4", num_frames=100)
    found = analyze_long(path, PLAIN, count=2, mapper=made.slowly(processes(2, deadline=0.7)))
    assert (found.num_segments, found.notes) == (2, ())
