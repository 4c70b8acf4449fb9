"""A local Ray that a batch started ends with the batch, also when that is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.distributed.driver import below, is_alive
from tests.distributed.faults import write
from tests.paths import ROOT

pytest.importorskip("ray", reason="Ray is an extra")


def test_ray_that_was_started_for_a_driver_ends_with_it(tmp_path: Path) -> None:
    """All but Ray's own agents, which wait for it for another minute."""
    folder, out = write(tmp_path / "v", **{f"v{n}": f"slow 500 {n}" for n in range(2)}), tmp_path / "out"
    driver = subprocess.Popen(
        [sys.executable, "-m", "tests.distributed.driver", folder, out, tmp_path / "log", "local"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        end = time.monotonic() + 120
        while not (tmp_path / "log").exists():
            assert driver.poll() is None
            assert time.monotonic() < end
            time.sleep(0.1)
        pids = [pid for pid in below(driver.pid) if b"Agent" not in Path(f"/proc/{pid}/cmdline").read_bytes()]
        assert len(pids) >= 6  # two services, two actors, two decoders
    finally:
        driver.kill()
        driver.wait()
    end = time.monotonic() + 30
    while any(map(is_alive, pids)):
        assert time.monotonic() < end, [Path(f"/proc/{pid}/cmdline").read_text() for pid in pids if is_alive(pid)]
        time.sleep(0.1)
