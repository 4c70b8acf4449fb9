"""Ray, for real: a local instance that all tests of this file share."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from m3video.config import Settings
from m3video.distributed.analysis import analyze_long
from m3video.distributed.mapping import MAX_RETRIES, ItemLostError, ItemResult
from m3video.distributed.ray_tasks import connected, ray_tasks
from m3video.errors import UsageError, VideoError, WorkerError
from m3video.inference.first_pass import analyze_video
from m3video.inference.pipeline import open_for
from tests.distributed import made

ray = pytest.importorskip("ray", reason='needs ray: pip install "m3video[ray]"')
pytestmark = pytest.mark.filterwarnings(*made.RAY_WARNINGS)

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
    assert found == [ItemResult(i, 100 + i * i) for i in range(20)]


@pytest.mark.parametrize("how", ["kill", "native", "parent", "hang"])
def test_a_death_costs_one_item(how: str, local_ray: None, tmp_path: Path) -> None:
    found = {done.number: done for done in ray_tasks(deadline=2)(made.die, (tmp_path, 1, how), range(5))}
    assert found == {i: ItemResult(i, i, num_crashes=int(i == 2)) for i in range(5)}
    assert [(tmp_path / f"runs-{i}").read_text() for i in range(5)] == ["x"] * 5  # nothing lost, nothing done twice


def test_deaths_are_bounded(local_ray: None, tmp_path: Path) -> None:
    with pytest.raises(ItemLostError, match=r"item 2 was tried 3 times: .* killed by SIGKILL") as caught:
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


def test_a_segment_that_always_hangs_is_named(clip: Path, local_ray: None, tmp_path: Path) -> None:
    mapper = made.with_deaths(ray_tasks(deadline=1), tmp_path, [1], times=99, how="hang")
    with pytest.raises(WorkerError, match=r"segment 0:.* was tried 3 times: gave no sign of life for 1 s and was"):
        analyze_long(clip, PLAIN, count=3, mapper=mapper)
    assert (tmp_path / "died-1").read_text() == "x" * (MAX_RETRIES + 1)


def test_another_cluster_is_not_taken_for_this_one(local_ray: None) -> None:
    with pytest.raises(UsageError, match=r"connected to .* already, not to 127.0.0.1:1: call"):
        list(ray_tasks("127.0.0.1:1")(made.square, 1, [1]))
