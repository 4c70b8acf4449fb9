"""Batches on a Ray cluster of three nodes on this machine, in a process of its own: Ray warns and forks as it likes.

Prints as JSON what the tests check.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from m3video.config import Settings
from m3video.distributed.batch import run_batch
from m3video.distributed.counts import BatchCounts
from m3video.distributed.identity import config_of
from m3video.distributed.items import BatchQuestions
from m3video.distributed.ledger import Ledger
from m3video.distributed.messages import Task
from m3video.distributed.ray_pool import RayPool
from m3video.distributed.sources import Folder
from tests.distributed.driver import below, is_alive
from tests.distributed.faults import Faulty
from tests.distributed.slow_plan import SlowPlan

ACTOR_SECONDS = 5.0
"""Longest wait for all actors at once: the driver must go on, or an actor that has died is not started again."""


class Watching(BatchCounts):
    """Notes the least of what the nodes have left over, and gives actors the time to start, however short the batch is.

    Actors start by themselves; one that is never asked for leaves its resources over.
    """

    left: dict[str, float] = {"CPU": 99.0, "GPU": 99.0}  # noqa: RUF012

    def show(self, *, running: int) -> None:
        import ray

        end = time.monotonic() + ACTOR_SECONDS
        while any(self.left.values()) and time.monotonic() < end:
            there = ray.available_resources()
            self.left.update({name: min(self.left[name], there.get(name, 0.0)) for name in self.left})
            time.sleep(0.1)


def run(
    task: Task, address: str, folder: Path, out: Path, counts: BatchCounts, *, workers: int | None = None
) -> dict[str, Any]:
    pool = RayPool(task, address=address, workers=workers, deadline=2)
    with Ledger(out) as ledger:
        run_batch(Folder(folder), BatchQuestions(), task, ledger, pool, counts=counts)
    return {"done": counts.done, "failed": counts.failed}


def kill_a_driver(address: str, folder: Path) -> dict[str, Any]:
    """A driver on the cluster is killed in the middle, and started again."""
    out, log = folder / "killed", folder / "killed.log"
    command = [sys.executable, "-m", "tests.distributed.driver", folder / "slow", out, log, address]
    results = out / "results.jsonl"
    driver = subprocess.Popen(command)
    while not (results.exists() and results.read_bytes().count(b"\n") >= 3):
        assert driver.poll() is None, "it was done before it could be killed"
        time.sleep(0.02)
    decoders = [
        pid for pid in below(os.getpid()) if b"worker_process import serve" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    driver.kill()
    driver.wait()
    finished = [json.loads(line)["video"] for line in results.read_text().splitlines() if line.endswith("}")]
    end = time.monotonic() + 60
    while any(map(is_alive, decoders)) and time.monotonic() < end:
        time.sleep(0.1)
    return {
        "decoders": len(decoders),
        "orphans": sum(map(is_alive, decoders)),
        "finished": finished,
        "again": subprocess.run(command, check=False).returncode,
    }


def main(folder: Path) -> None:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    # The GPUs are only declared, which is enough for scheduling.
    small = {"num_cpus": 1, "object_store_memory": 100 << 20}
    cluster = Cluster(initialize_head=True, head_node_args={**small, "num_gpus": 1})
    leaving = cluster.add_node(**small)
    cluster.add_node(**small, num_gpus=1)
    cluster.wait_for_nodes()
    found: dict[str, Any] = {}
    task = Faulty(str(folder / "faults.log"), needs_model=True)
    found["faults"] = run(task, cluster.address, folder / "faulty", folder / "faults", Watching())
    found["left"] = Watching.left
    found["killed"] = kill_a_driver(cluster.address, folder)

    class Leaving(BatchCounts):
        removed = False

        def show(self, *, running: int) -> None:
            if self.done >= 2 and not self.removed:
                cluster.remove_node(leaving, allow_graceful=False)
                type(self).removed = True

    settings = Settings(model="rendered")
    plan = SlowPlan(settings, config_of("plan", settings))
    found["leaving"] = run(plan, cluster.address, folder / "clips", folder / "plans", Leaving(), workers=3)
    found["removed"] = Leaving.removed
    print(json.dumps(found))
    cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
