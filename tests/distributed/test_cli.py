"""`m3video analyze --workers N` as a user meets it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from m3video.cli.app import _with_ray_address
from tests import command
from tests.distributed import made
from tests.paths import ROOT

COMMAND = [sys.executable, "-m", "m3video.cli", "analyze"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return command.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=120, env=ENVIRONMENT)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 frames in ten minutes: seven segments."""
    path = tmp_path_factory.mktemp("clip") / "a.mp4"
    return made.long_clip(path, num_frames=300, times=[i * 50 for i in range(300)])


def test_workers_write_the_same_bytes(video: Path, tmp_path: Path) -> None:
    one, other = tmp_path / "one.parquet", tmp_path / "other.parquet"
    plain = run(video, "-o", one)
    shared = run(video, "-o", other, "--workers", 2)
    assert (shared.returncode, shared.stderr) == (0, "")
    assert shared.stdout == plain.stdout
    assert other.read_bytes() == one.read_bytes()


def test_the_note_about_one_piece_needs_workers(tmp_path: Path) -> None:
    path = made.long_clip(tmp_path / "a.ts", num_frames=60, times=[i * 250 for i in range(60)])
    assert run(path).stderr == ""
    note = run(path, "--workers", 2).stderr
    assert note.startswith("m3video: note: read in one piece, because its container (mpegts)")
    assert run(path, "--workers", 2, "--quiet").stderr == ""


def test_wrong_number_of_workers_is_a_usage_error(video: Path) -> None:
    done = run(video, "--workers", 0)
    assert done.returncode == 2
    assert "--workers" in done.stderr


def test_interrupt_stops_workers(tmp_path: Path) -> None:
    video = made.long_clip(tmp_path / "a.mp4", num_frames=3000, times=[i * 50 for i in range(3000)])
    output = tmp_path / "stats.parquet"
    # A group of its own, as a shell makes one.
    driver = subprocess.Popen(
        [*COMMAND, video, "--workers", "2", "-o", output],
        env=ENVIRONMENT,
        text=True,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        end = time.monotonic() + 60
        while len(workers_of(driver.pid)) < 2:
            assert driver.poll() is None, "it was done before it could be interrupted"
            assert time.monotonic() < end
            time.sleep(0.02)
        pids = workers_of(driver.pid)
        os.killpg(driver.pid, signal.SIGINT)
        out, err = driver.communicate(timeout=30)
        assert driver.returncode == 130
        assert (out, err) == ("", "m3video: interrupted\n")
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
        assert list(tmp_path.iterdir()) == [video]
    finally:
        driver.kill()
        driver.wait()


def workers_of(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("analyze a.mp4 --ray", "analyze a.mp4 --ray local"),
        ("analyze --ray a.mp4", "analyze --ray local a.mp4"),
        ("analyze a.mp4 --ray -o b", "analyze a.mp4 --ray local -o b"),
        ("analyze a.mp4 --ray auto", "analyze a.mp4 --ray auto"),
        ("analyze a.mp4 --ray 10.0.0.7:6379 -q", "analyze a.mp4 --ray 10.0.0.7:6379 -q"),
        ("analyze a.mp4 --ray ray://head.example:10001", "analyze a.mp4 --ray ray://head.example:10001"),
        ("analyze a.mp4 --ray=auto", "analyze a.mp4 --ray=auto"),
        ("analyze -- --ray", "analyze -- --ray"),
    ],
)
def test_an_address_may_be_left_out(given: str, meant: str) -> None:
    assert " ".join(_with_ray_address(given.split())) == meant
