"""Ray, for real: a cluster of two nodes that loses one in the middle, and the command line."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest

from m3video.config import Settings
from m3video.distributed.analysis import analyze_long
from m3video.distributed.mapping import ItemResult
from m3video.distributed.ray_tasks import ray_tasks
from m3video.errors import UsageError, WorkerError
from m3video.inference.pipeline import analyze_video, open_for
from tests.distributed import made
from tests.paths import ROOT

ray = pytest.importorskip("ray", reason='needs ray: pip install "m3video[ray]"')
pytestmark = pytest.mark.filterwarnings(*made.RAY_WARNINGS)

PLAIN = Settings()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.long_clip(tmp_path_factory.mktemp("clip") / "a.mp4")


def test_cluster_that_loses_a_node(clip: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Workers run code that was shipped to them; what the lost node held is read again; stdout stays empty."""
    from ray.cluster_utils import Cluster

    with open_for(clip, PLAIN) as reader:
        expected = analyze_video(reader)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        leaving = cluster.add_node(num_cpus=1)
        capfd.readouterr()
        mark = tmp_path / "a task is on the leaving node"
        raylet = leaving.all_processes["raylet"][0].process.pid

        def mapper(function: Any, shared: Any, items: Sequence[Any]) -> Generator[ItemResult[Any], None, None]:
            yield from ray_tasks(cluster.address)(made.on_two_nodes, (function, shared, mark, raylet), items)

        def remove() -> None:
            while not mark.exists():
                time.sleep(0.05)
            cluster.remove_node(leaving, allow_graceful=False)

        remover = threading.Thread(target=remove, daemon=True)
        remover.start()
        found = analyze_long(clip, PLAIN, count=7, mapper=mapper)
        remover.join(30)
        made.assert_same(found.stats, expected)
        assert found.num_segments == 7
        assert len(found.notes) == 1
        assert "died once; the segment was read again" in found.notes[0]
        assert capfd.readouterr().out == ""
    finally:
        cluster.shutdown()


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


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("127.0.0.1:1", "Connection refused"),
        ("ray://127.0.0.1:1", "Connection refused"),
        ("host.invalid:6379", "at host.invalid:6379"),
        ("nonsense", "Invalid address format"),
    ],
)
def test_no_cluster_is_one_line(address: str, reason: str) -> None:
    assert reason in no_cluster(address).removeprefix(f"no Ray cluster at {address}")


def test_auto_without_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was there lives on for a minute in a part of it, which Ray finds: there must be an answer, and soon."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    patience = time.monotonic() + 20  # those of earlier tests may take a while to end
    while is_a_cluster_here() and time.monotonic() < patience:
        time.sleep(0.1)
    if is_a_cluster_here():
        pytest.skip("a Ray cluster runs on this machine, and auto finds it")
    no_cluster("auto")
    left = ["raylet", "-c", "import time; time.sleep(60)", "--gcs-address=127.0.0.1:1"]
    with subprocess.Popen(left, executable=sys.executable) as process:
        try:
            assert re.search(r"Connection refused at [0-9.]+:\d+", no_cluster("auto"))
        finally:
            process.kill()


def test_auto_asks_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "host.invalid:6379")
    assert "at host.invalid:6379" in no_cluster("auto")


def test_something_else_listens() -> None:
    with socket.create_server(("", 0)) as server:
        assert "Timed out" in no_cluster(f"127.0.0.1:{server.getsockname()[1]}")


def no_cluster(address: str) -> str:
    """The one line, said within a minute; Ray's own patience is 14."""
    start = time.monotonic()
    with pytest.raises(WorkerError, match=f"^no Ray cluster at {address} .*; see `ray status`$") as raised:
        list(ray_tasks(address)(made.square, 1, [1]))
    assert time.monotonic() - start < 60
    return str(raised.value)


def is_a_cluster_here() -> bool:
    """Whether anybody runs Ray's control process on this machine."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            if b"gcs_server" in path.read_bytes().partition(b"\0")[0]:
                return True
    return False


def test_missing_ray_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r'pip install "m3video\[ray\]"'):
        list(ray_tasks()(made.square, 1, [1]))


def run(*arguments: object, path: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "m3video.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": f"{path}:{ROOT}"},
    )
