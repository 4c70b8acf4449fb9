"""Ray, for real: a local instance, and a cluster of two nodes that loses one in the middle."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import types
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from m3video.config import Settings
from m3video.distributed.analysis import analyze_long
from m3video.distributed.mapping import MAX_RETRIES, Done, ItemLostError
from m3video.distributed.ray_tasks import connected, ray_tasks
from m3video.errors import UsageError, VideoError, WorkerError
from m3video.pipeline import analyze_video, open_for
from tests.distributed import made

ray = pytest.importorskip("ray", reason='needs ray: pip install "m3video[ray]"')
# Ray leaves files and child processes to its own shutdown; whether Python notices depends on when it collects.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::DeprecationWarning:ray"
)

ROOT = Path(__file__).parents[2]
PLAIN = Settings()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.long_clip(tmp_path_factory.mktemp("clip") / "a.mp4")


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    """One instance for several tests: a mapper uses the connection that is there."""
    with connected("local", num_cpus=2):
        yield


def test_every_item_once(local_ray: None) -> None:
    found = sorted(ray_tasks(num_workers=2)(made.square, 100, range(20)), key=lambda done: done.number)
    assert found == [Done(i, 100 + i * i) for i in range(20)]


@pytest.mark.parametrize("how", ["kill", "native"])
def test_a_death_costs_one_item(how: str, local_ray: None, tmp_path: Path) -> None:
    found = {done.number: done for done in ray_tasks()(made.die, (tmp_path, 1, how), range(5))}
    assert found == {i: Done(i, i, num_crashes=int(i == 2)) for i in range(5)}
    assert [(tmp_path / f"runs-{i}").read_text() for i in range(5)] == ["x"] * 5  # nothing lost, nothing done twice


def test_deaths_are_bounded(local_ray: None, tmp_path: Path) -> None:
    with pytest.raises(ItemLostError, match="item 2: its worker died 3 times") as caught:
        list(ray_tasks(num_workers=1)(made.die, (tmp_path, 99, "kill"), range(5)))
    assert caught.value.number == 2
    assert (tmp_path / "deaths").read_text() == "x" * (MAX_RETRIES + 1)


def test_bad_input_is_not_tried_again(local_ray: None, tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"^one.mp4: bad input$"):
        list(ray_tasks(num_workers=1)(made.refuse, tmp_path, range(4)))
    assert (tmp_path / "1").read_text() == "x"
    assert not (tmp_path / "2").exists()


def test_a_bug_shows_the_traceback_of_its_worker(local_ray: None) -> None:
    with pytest.raises(KeyError, match="a bug") as caught:
        list(ray_tasks()(made.fail, None, [1]))
    assert "in fail" in caught.value.__notes__[0]


def test_a_node_that_lacks_a_package_is_one_line(local_ray: None, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("only_here")
    exec("def work(shared, item): return item", module.__dict__)
    monkeypatch.setitem(sys.modules, "only_here", module)
    with pytest.raises(WorkerError, match=r"cannot run m3video .*No module named 'only_here'.*on every node"):
        list(ray_tasks()(module.work, None, [1]))


def test_stats_are_bit_identical_and_survive_a_killed_worker(clip: Path, local_ray: None, tmp_path: Path) -> None:
    with open_for(clip, PLAIN) as reader:
        expected = analyze_video(reader)
    for count in (2, 7, 50):
        found = analyze_long(clip, PLAIN, count=count, mapper=ray_tasks())
        assert found.num_segments == min(count, found.info.num_keyframes)
        made.assert_same(found.stats, expected)
    found = analyze_long(clip, PLAIN, count=7, mapper=made.with_deaths(ray_tasks(), tmp_path, [3]))
    made.assert_same(found.stats, expected)
    assert len(found.notes) == 1


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

        def mapper(work: Any, shared: Any, items: Sequence[Any]) -> Generator[Done[Any], None, None]:
            yield from ray_tasks(cluster.address)(made.on_two_nodes, (work, shared, mark, leaving.node_id), items)

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


def test_short_videos_do_not_start_ray() -> None:
    start = time.monotonic()
    done = run("analyze", ROOT / "m3video" / "assets" / "sample.mp4", "--ray")
    assert done.returncode == 0
    assert done.stderr.splitlines()[-1].startswith("m3video: note: read in one piece, because it is short")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert time.monotonic() - start < 20


@pytest.mark.parametrize("address", ["auto", "127.0.0.1:1", "ray://127.0.0.1:1", "host.invalid:6379"])
def test_no_cluster_is_one_line(address: str) -> None:
    start = time.monotonic()
    with pytest.raises(WorkerError, match=f"^no Ray cluster at {address} .*; see `ray status`$"):
        list(ray_tasks(address)(made.square, 1, [1]))
    assert time.monotonic() - start < 15


def test_missing_ray_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r'pip install "m3video\[ray\]"'):
        list(ray_tasks()(made.square, 1, [1]))


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "m3video.cli", *map(str, arguments)], capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
