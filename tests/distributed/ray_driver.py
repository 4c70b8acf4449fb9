"""Batches on a Ray cluster of three nodes on this machine, in a process of its own: Ray warns and forks as it likes.

Prints what the tests look at, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from m3video.config import Settings
from m3video.distributed.batch import run_batch
from m3video.distributed.crew_ray import RayCrew
from m3video.distributed.identity import config_of
from m3video.distributed.items import Folder, Questions
from m3video.distributed.ledger import Ledger
from m3video.distributed.progress import Report
from m3video.distributed.work import Task
from tests.distributed.faults import Faulty
from tests.distributed.slow_plan import SlowPlan


def run(task: Task, address: str, folder: Path, out: Path, report: Report, *, workers: int) -> dict[str, Any]:
    crew = RayCrew(task, address=address, workers=workers, deadline=8)
    with Ledger(out) as ledger:
        run_batch(Folder(folder), Questions(), task, ledger, crew, report=report)
    return {"done": report.done, "failed": report.failed}


def main(folder: Path) -> None:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    small = {"num_cpus": 1, "object_store_memory": 100 << 20}
    cluster = Cluster(initialize_head=True, head_node_args=small)
    leaving = cluster.add_node(**small)
    cluster.add_node(**small)
    cluster.wait_for_nodes()
    said = {}
    task = Faulty(str(folder / "faults.log"), needs_model=True)
    said["faults"] = run(task, cluster.address, folder / "faulty", folder / "faults", Report(), workers=2)

    class Leaving(Report):
        removed = False

        def show(self, *, running: int) -> None:
            if self.done >= 2 and not self.removed:
                cluster.remove_node(leaving, allow_graceful=False)
                type(self).removed = True

    settings = Settings()
    plan = SlowPlan(settings, config_of("plan", settings))
    said["leaving"] = run(plan, cluster.address, folder / "clips", folder / "plans", Leaving(), workers=3)
    said["removed"] = Leaving.removed
    print(json.dumps(said))
    cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
