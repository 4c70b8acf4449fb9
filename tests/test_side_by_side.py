"""`pytest -n`: which tests conftest.py keeps on one worker."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("xdist", reason='needs pytest-xdist: pip install "m3video[test]"')

TEST = """
import os, pathlib, pytest

@pytest.mark.parametrize("n", range(8))
def test(n):
    with (pathlib.Path(__file__).parent / "workers").open("a") as file:
        file.write(pathlib.Path(__file__).stem[5:] + " " + os.environ["PYTEST_XDIST_WORKER"] + chr(10))
"""


def test_files_and_clusters_stay_together(tmp_path: Path) -> None:
    """Else what a file's tests share is made twice, and two clusters run at a time and find each other."""
    (tmp_path / "conftest.py").write_text((Path(__file__).parent / "conftest.py").read_text())
    for name in ("a", "ray_b", "c", "ray_d", "e"):
        (tmp_path / f"test_{name}.py").write_text(TEST)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "2", tmp_path, "--rootdir", tmp_path, "-p", "no:cacheprovider"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "40 passed" in done.stdout, done.stdout
    workers: dict[str, set[str]] = {}
    for line in (tmp_path / "workers").read_text().splitlines():
        name, worker = line.split()
        workers.setdefault(name, set()).add(worker)
    assert all(len(found) == 1 for found in workers.values()), workers
    assert workers["ray_b"] == workers["ray_d"]
    assert len(set.union(*workers.values())) == 2
