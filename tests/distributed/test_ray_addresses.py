"""Addresses where no Ray cluster answers, and no Ray at all: one line, soon. Nothing here starts a cluster."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from m3video.distributed.ray_tasks import ray_tasks
from m3video.errors import UsageError, WorkerError
from tests.distributed import made
from tests.paths import ROOT

pytest.importorskip("ray", reason='needs ray: pip install "m3video[ray]"')
pytestmark = pytest.mark.filterwarnings(*made.RAY_WARNINGS)

SHORT_TIME_OUTS = {"RAY_py_gcs_connect_timeout_s": "1", "RAY_gcs_rpc_server_connect_timeout_s": "1"}
MOST_SECONDS = 30


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
    """Where nothing runs, and where a part of a dead cluster still runs and is found by Ray."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    patience = time.monotonic() + 20  # a cluster of an earlier test may take a while to end
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
    """There is one try, and it ends by Ray's own time-outs: 40 s by default, here 3 s, which a process reads once."""
    program = "import sys; from m3video.distributed.ray_tasks import connected\nwith connected(sys.argv[1]): pass"
    with socket.create_server(("", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        done = subprocess.run(
            [sys.executable, "-c", program, address],
            capture_output=True,
            text=True,
            timeout=MOST_SECONDS,  # Ray's own loop takes 80 s with these time-outs
            env={**os.environ, **SHORT_TIME_OUTS, "PYTHONPATH": str(ROOT)},
        )
    line = done.stderr.splitlines()[-1]
    assert re.fullmatch(
        rf"m3video\.errors\.WorkerError: no Ray cluster at {address} \(Timed out .*; see `ray status`", line
    )


def no_cluster(address: str) -> str:
    """Return the one line, which comes within seconds; Ray's own patience is 14 minutes."""
    start = time.monotonic()
    with pytest.raises(WorkerError, match=f"^no Ray cluster at {address} .*; see `ray status`$") as raised:
        list(ray_tasks(address)(made.square, 1, [1]))
    assert time.monotonic() - start < MOST_SECONDS
    return str(raised.value)


def is_a_cluster_here() -> bool:
    """Whether Ray's control process runs on this machine."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            if b"gcs_server" in path.read_bytes().partition(b"\0")[0]:
                return True
    return False


def test_missing_ray_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r'pip install "m3video\[ray\]"'):
        list(ray_tasks()(made.square, 1, [1]))
