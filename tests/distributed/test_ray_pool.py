"""A batch on a real cluster of three nodes: faults, a node that leaves, and the same results as on one machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from m3video.config import Settings
from m3video.distributed.batch import run_batch
from m3video.distributed.items import BatchQuestions
from m3video.distributed.ledger import Ledger
from m3video.distributed.sources import Folder
from m3video.distributed.tasks import make_task
from m3video.distributed.worker_pool import LocalPool
from tests.distributed.faults import write
from tests.paths import ROOT
from tests.video import clips

pytest.importorskip("ray", reason="Ray is an extra")

FAULTS = {
    "bad": ("input", 1),
    "abort": ("crash", 3),
    "hang": ("silent", 2),
    "unanswerable": ("input", 1),
    "deadly": ("crash", 3),
}
MENDED = ("abort-once", "kill_parent-once")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder of both batches, and what the driver printed."""
    folder = tmp_path_factory.mktemp("ray")
    words = {name: f"{name} x" for name in (*FAULTS, *MENDED)}
    words |= {"unanswerable": "good unanswerable", "deadly": "good deadly"}
    write(folder / "faulty", **words, **{f"good{n}": f"good {n}" for n in range(5)})
    write(folder / "slow", **{f"v{n:02d}": f"slow 20 {n}" for n in range(10)})
    (folder / "clips").mkdir()
    for n in range(8):
        clips.write(folder / "clips" / f"clip{n}.mp4", clips.Clip(numbers=range(n, n + 20)))
    done = subprocess.run(
        [sys.executable, "-m", "tests.distributed.ray_driver", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, json.loads(done.stdout.splitlines()[-1])


def test_faults_cost_a_line_each(cluster: tuple[Path, dict[str, Any]]) -> None:
    folder, printed = cluster
    assert printed["faults"] == {"done": 7, "failed": 5}
    with Ledger(folder / "faults") as ledger:
        assert Counter(Path(row["video"]).stem for row in ledger.results()) == Counter(
            [*MENDED, *(f"good{n}" for n in range(5))]
        )
        found = {Path(row["video"]).stem: (row["kind"], row["attempts"]) for row in ledger.errors()}
        assert found == FAULTS
        assert {row["said"]: row["replies"] for row in ledger.results()}["3"] == ["3"]


def test_a_model_for_each_gpu_and_a_decoder_for_each_cpu(cluster: tuple[Path, dict[str, Any]]) -> None:
    """Two GPUs and three CPUs, all of them in use; a model process sees the GPU of its actor, and no other."""
    folder, printed = cluster
    assert printed["left"] == {"CPU": 0.0, "GPU": 0.0}
    with Ledger(folder / "faults") as ledger:
        assert {row["gpu"] for row in ledger.results()} == {"0"}


def test_a_killed_driver_loses_and_doubles_nothing(cluster: tuple[Path, dict[str, Any]]) -> None:
    folder, printed = cluster
    killed = printed["killed"]
    assert len(killed["finished"]) >= 3
    assert (killed["decoders"], killed["orphans"], killed["again"]) == (2, 0, 0)
    with Ledger(folder / "killed") as ledger:
        found = Counter(row["video"] for row in ledger.results())
    assert found == Counter(str(folder / "slow" / f"v{n:02d}.mp4") for n in range(10))  # lost 0, done twice 0
    begun = Counter((folder / "killed.log").read_text().split())
    assert {begun[Path(video).name] for video in killed["finished"]} == {1}
    assert sum(begun.values()) <= 10 + 2


def test_a_node_that_leaves_changes_no_result(cluster: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, printed = cluster
    assert printed["removed"]
    assert printed["leaving"] == {"done": 8, "failed": 0}
    task = make_task("plan", Settings(model="rendered"))
    with Ledger(tmp_path / "alone") as ledger:
        run_batch(Folder(folder / "clips"), BatchQuestions(), task, ledger, LocalPool(task, workers=1))
    assert contents(folder / "plans") == contents(tmp_path / "alone")


def contents(out: Path) -> dict[str, Any]:
    """What was found out about each item, without what it took; once each."""
    found = {}
    with Ledger(out) as ledger:
        for row in ledger.results():
            assert row["item"] not in found
            plan = out / "items" / row["item"][:2] / row["item"] / "plan.json"
            took = ("n", "stage_seconds", "busy_seconds", "attempts", "finished_at")
            found[row["item"]] = ({key: row[key] for key in row if key not in took}, plan.read_text())
    assert len(found) == 8
    return found
