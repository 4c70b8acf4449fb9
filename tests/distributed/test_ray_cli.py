"""`m3video analyze --ray` as a user meets it, on an instance of Ray that it starts itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.distributed import made
from tests.paths import ROOT

pytest.importorskip("ray", reason='needs ray: pip install "m3video[ray]"')


def test_cli_is_quiet_and_byte_identical(tmp_path: Path) -> None:
    video = made.long_clip(tmp_path / "a.mp4", num_frames=300, times=[i * 12 for i in range(300)])  # 144 s
    one, other = tmp_path / "one.parquet", tmp_path / "other.parquet"
    plain = run("analyze", video, "-o", one)
    on_ray = run("analyze", video, "-o", other, "--ray", "--workers", 2)
    assert (on_ray.returncode, on_ray.stderr) == (0, "")
    assert on_ray.stdout == plain.stdout
    assert other.read_bytes() == one.read_bytes()


def test_short_videos_do_not_even_import_ray(tmp_path: Path) -> None:
    (tmp_path / "ray.py").write_text("raise SystemExit('imported')")
    done = run("analyze", ROOT / "m3video" / "assets" / "sample.mp4", "--ray", path=tmp_path)
    assert done.returncode == 0
    assert done.stderr.startswith("m3video: note: read in one piece, because it is short")
    assert len(done.stderr.splitlines()) == 1, done.stderr


def run(*arguments: object, path: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "m3video.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": f"{path}:{ROOT}"},
    )
