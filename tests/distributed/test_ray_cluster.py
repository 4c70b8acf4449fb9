"""Ray, for real: a cluster of two nodes that loses one in the middle."""

from __future__ import annotations

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
from m3video.inference.first_pass import analyze_video
from m3video.inference.pipeline import open_for
from tests.distributed import made

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
