"""`pytest -n`: which tests conftest.py keeps on one worker."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.order import rank
from tests.paths import ROOT

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
    options = ("--no-loadscope-reorder", "--rootdir", tmp_path, "-p", "no:cacheprovider")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "2", tmp_path, *options],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
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


def test_files_that_take_long_are_first() -> None:
    imported = {"test_a": "json", "test_ray_b": "", "test_c": "subprocess", "test_d": "torch", "test_e": "command"}
    modules = {stem: SimpleNamespace(**{name: None}) for stem, name in imported.items()}
    assert {stem: rank(stem, module) for stem, module in modules.items()} == {
        "test_a": 3,
        "test_ray_b": 0,
        "test_c": 1,
        "test_d": 2,
        "test_e": 1,
    }
    assert rank("test_text", None) == 3
