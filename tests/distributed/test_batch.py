"""The loop of a batch: whatever fails, nothing is lost and nothing is done twice."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from m3video.config import Settings
from m3video.distributed.batch import ATTEMPTS, SomeFailedError, check_all_done, run_batch
from m3video.distributed.counts import BatchCounts
from m3video.distributed.items import BatchQuestion, BatchQuestions
from m3video.distributed.ledger import DiskFullError, Ledger
from m3video.distributed.sources import Folder
from m3video.distributed.worker_pool import LocalPool
from m3video.errors import UsageError
from m3video.video.path_checks import check_file, fingerprint
from tests.distributed.driver import below, is_alive
from tests.distributed.faults import REQUEST_BYTES, AnalyzeGrowing, Faulty, Large, memory_mb, write
from tests.paths import ROOT
from tests.video.clips import Clip
from tests.video.clips import write as clip

DEADLINE, HANG_DEADLINE = 2.0, 1.0


def batch(
    folder: Path, out: Path, *, workers: int = 2, deadline: float = 30, model: bool = False, **how: Any
) -> BatchCounts:
    task = Faulty(str(out.with_suffix(".log")), needs_model=model)
    pool = LocalPool(task, workers=workers, deadline=deadline)
    with Ledger(out) as ledger:
        return run_batch(Folder(folder), how.pop("questions", BatchQuestions()), task, ledger, pool, **how)


def done(out: Path) -> Counter[str]:
    """How often each video is in results.jsonl."""
    with Ledger(out) as ledger:
        return Counter(Path(row["video"]).stem for row in ledger.results())


def failed(out: Path) -> dict[str, dict[str, Any]]:
    with Ledger(out) as ledger:
        return {Path(row["video"]).stem: row for row in ledger.errors()}


def begun(out: Path) -> Counter[str]:
    return Counter(line.removesuffix(".mp4") for line in out.with_suffix(".log").read_text().split())


GOOD = {f"good{n}": f"good {n}" for n in range(4)}


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        ("bad", "input", "this is no video"),
        ("changed", "changed", "this is still growing"),
        ("bug", "bug", "ZeroDivisionError: our own mistake"),
        ("abort", "crash", "killed by SIGABRT"),
        ("kill", "crash", "killed by SIGKILL"),
        ("memory", "memory", ""),
        ("hang", "silent", "no sign of life for 1 s"),
    ],
)
def test_a_fault_costs_one_line(tmp_path: Path, fault: str, kind: str, words: str) -> None:
    folder, out = write(tmp_path / "v", **GOOD, evil=f"{fault} x"), tmp_path / "out"
    counts = batch(folder, out, deadline=HANG_DEADLINE if fault.startswith("hang") else DEADLINE)
    assert done(out) == Counter(GOOD.keys())  # lost 0, done twice 0
    assert (counts.done, counts.failed) == (4, 1)
    error = failed(out)["evil"]
    assert (error["kind"], error["attempts"]) == (kind, ATTEMPTS[kind])
    assert words in error["error"]
    assert "\n" not in error["error"]
    assert begun(out) == Counter(GOOD.keys()) + Counter({"evil": ATTEMPTS[kind]})
    with Ledger(out) as ledger, pytest.raises(SomeFailedError, match="1 of 5 items failed"):
        check_all_done(counts, ledger)


@pytest.mark.parametrize("fault", ["abort-once", "kill-once", "memory-once", "hang-once"])
def test_a_passing_fault_is_mended_by_another_try(tmp_path: Path, fault: str) -> None:
    folder, out = write(tmp_path / "v", **GOOD, shaky=f"{fault} x"), tmp_path / "out"
    batch(folder, out, deadline=HANG_DEADLINE if fault.startswith("hang") else DEADLINE)
    assert done(out) == Counter([*GOOD, "shaky"])
    assert failed(out) == {}


def test_a_killed_worker_costs_no_item(tmp_path: Path) -> None:
    folder, out = write(tmp_path / "v", **{f"slow{n}": f"slow 20 {n}" for n in range(6)}), tmp_path / "out"
    task = Faulty(str(out.with_suffix(".log")))
    pool = LocalPool(task, workers=2)
    killed: list[int] = []

    class Killing(BatchCounts):
        def show(self, *, running: int) -> None:
            if len(killed) < 2 and self.done >= len(killed):
                child = next(iter(pool._runs.values())).child._process
                if child is not None:
                    os.kill(child.pid, signal.SIGKILL)
                    killed.append(child.pid)

    with Ledger(out) as ledger:
        run_batch(Folder(folder), BatchQuestions(), task, ledger, pool, counts=Killing())
    assert len(killed) == 2
    assert done(out) == Counter(f"slow{n}" for n in range(6))
    assert failed(out) == {}


def test_finished_items_are_not_touched_again_and_failures_only_when_asked(tmp_path: Path) -> None:
    folder, out = write(tmp_path / "v", **GOOD, evil="bad x"), tmp_path / "out"
    batch(folder, out)
    first = begun(out)
    counts = batch(folder, out)
    assert (counts.done_before, counts.failed_before, counts.done, counts.failed) == (4, 1, 0, 0)
    assert begun(out) == first
    counts = batch(folder, out, retry_failed=True)
    assert (counts.done_before, counts.failed_before, counts.failed) == (4, 0, 1)
    assert begun(out) == first + Counter(["evil"])
    write(folder, evil="good now")  # a changed file is another item
    counts = batch(folder, out)
    assert (counts.done, counts.failed_before) == (1, 0)
    assert failed(out) == {}
    assert (out / "errors.jsonl").read_text() == ""


def test_errors_are_those_of_the_last_settings(tmp_path: Path) -> None:
    folder, out = write(tmp_path / "v", **GOOD, shaky="bad-once x"), tmp_path / "out"

    def run(config: str) -> BatchCounts:
        task = Faulty(str(out.with_suffix(".log")), config=config)
        with Ledger(out) as ledger:
            return run_batch(Folder(folder), BatchQuestions(), task, ledger, LocalPool(task, workers=2))

    assert run("one").failed == 1
    assert set(failed(out)) == {"shaky"}
    assert run("two").done == 5
    assert failed(out) == {}
    assert run("one").done == 1  # what failed is tried again, because errors.jsonl does not say any more that it did
    write(folder, shaky="bad y")
    (out.with_suffix(".log")).write_text("")
    assert (run("one").failed, run("two").failed) == (1, 1)
    assert [row["n"] for row in failed(out).values()] == [13]


def test_the_same_content_is_worked_on_once(tmp_path: Path) -> None:
    folder, out = write(tmp_path / "v", a="slow 10 x", b="slow 10 x", c="slow 10 x"), tmp_path / "out"
    counts = batch(folder, out, workers=3)
    assert (counts.done, counts.copies, sum(begun(out).values())) == (1, 2, 1)
    (folder / "a.mp4").rename(folder / "moved.mp4")
    counts = batch(folder, out)
    assert (counts.done, counts.copies, counts.done_before) == (0, 1, 2)
    write(folder, d="abort x", e="abort x")
    counts = batch(folder, out, workers=2)
    assert counts.failed == 2
    assert set(failed(out)) == {"d", "e"}


def test_a_full_disk_stops_the_batch_and_blames_no_item(tmp_path: Path) -> None:
    folder, out = write(tmp_path / "v", a="good x", b="full-once y", c="good z"), tmp_path / "out"
    with pytest.raises(DiskFullError, match=r"full \(.*No space left.*run the same command again"):
        batch(folder, out, workers=1)
    assert failed(out) == {}
    batch(folder, out)
    assert done(out) == Counter("abc")


def test_limit_bounds_what_is_begun(tmp_path: Path) -> None:
    folder, out = write(tmp_path / "v", **GOOD), tmp_path / "out"
    assert batch(folder, out, limit=3).done == 3
    assert batch(folder, out, limit=3).done == 1
    assert done(out) == Counter(GOOD.keys())


def test_limit_counts_questions_of_one_video(tmp_path: Path) -> None:
    folder, out = write(tmp_path / "v", a="good x", b="good y"), tmp_path / "out"
    asked = BatchQuestions((BatchQuestion("what?"), BatchQuestion("when?")))
    assert [batch(folder, out, questions=asked, limit=3).done for _ in range(2)] == [3, 1]
    assert done(out) == Counter({"a": 2, "b": 2})


def test_nothing_to_do_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    with pytest.raises(UsageError, match="nothing to do: no video was found"):
        batch(tmp_path / "v", tmp_path / "out")
    write(tmp_path / "v", a="good x")
    with pytest.raises(UsageError, match="no question is about one"):
        batch(
            tmp_path / "v", tmp_path / "out", questions=BatchQuestions((), {"/no/such.mp4": (BatchQuestion("what?"),)})
        )


def test_a_file_that_changes_meanwhile_has_no_result(tmp_path: Path) -> None:
    """Two files of one content that grow while they are read: each is read itself, and again when it is whole."""
    folder, out = write(tmp_path / "v", a="growing x", b="growing x"), tmp_path / "out"
    assert batch(folder, out).done == 0
    assert {name: row["error"].partition(":")[0] for name, row in failed(out).items()} == dict.fromkeys(
        "ab", "the file changed while it was read"
    )
    counts = batch(folder, out)
    assert (counts.done, counts.copies, counts.failed) == (1, 1, 0)
    assert not failed(out)


def test_the_same_command_tries_again_what_was_being_written(tmp_path: Path) -> None:
    """Also where the file looks as before, and a copy is not blamed for what happened to the other file."""
    folder, out = write(tmp_path / "v", a="changed-once x", b="changed-once x", c="good y"), tmp_path / "out"
    counts = batch(folder, out)
    assert (counts.done, counts.failed, counts.changed) == (1, 2, 2)
    assert begun(out) == Counter("abc")
    with Ledger(out) as ledger, pytest.raises(SomeFailedError, match=r"2 of 3 items failed \(2 still being written: "):
        check_all_done(counts, ledger)
    counts = batch(folder, out)
    assert (counts.done, counts.copies, counts.failed, counts.failed_before) == (1, 1, 0, 0)
    assert not failed(out)


@pytest.mark.parametrize("name", ["a.ts", "a.mkv", "a.mp4"])
def test_a_half_read_file_is_not_done(name: str, tmp_path: Path) -> None:
    """A recording of which a half was there when it was opened, beside a copy of that half that stays as it is."""
    folder, out = tmp_path / "v", tmp_path / "out"
    folder.mkdir()
    path = clip(folder / name, Clip(format_options={"movflags": "frag_keyframe+empty_moov"} if name == "a.mp4" else {}))
    whole = path.read_bytes()
    half = len(whole) // 2
    for copy in (path, path.with_stem("half")):
        copy.write_bytes(whole[:half])
    path.with_suffix(".rest").write_bytes(whole[half:])
    task = AnalyzeGrowing(Settings(), "c")

    def run() -> tuple[BatchCounts, list[dict[str, Any]]]:
        with Ledger(out) as ledger:
            counts = run_batch(Folder(folder), BatchQuestions(), task, ledger, LocalPool(task, workers=1))
            return counts, list(ledger.results())

    counts, rows = run()
    assert (counts.done, counts.failed, counts.changed) == (1, 1, 1)
    assert [Path(row["video"]).stem for row in rows] == ["half"]
    assert "is still growing" in failed(out)["a"]["error"]
    counts, rows = run()
    assert (counts.done, counts.done_before, counts.failed) == (1, 1, 0)
    assert [(Path(row["video"]).stem, row["frames"]) for row in rows][1] == ("a", 60)
    assert rows[1]["fingerprint"] == fingerprint(check_file(path))
    assert rows[1]["partial"] is False
    assert not failed(out)


def test_every_question_is_an_item(tmp_path: Path) -> None:
    folder, out = write(tmp_path / "v", a="good x", b="good y"), tmp_path / "out"
    only_b = {os.path.abspath(folder / "b.mp4"): (BatchQuestion("and this?"),)}
    asked = BatchQuestions((BatchQuestion("what?"), BatchQuestion("when?", "q2")), only_b)
    assert batch(folder, out, questions=asked).done == 5
    assert done(out) == Counter({"a": 2, "b": 3})
    assert sum(begun(out).values()) == 2  # one pass over each video
    asked = BatchQuestions((*asked.of_all, BatchQuestion("new?")), only_b)
    counts = batch(folder, out, questions=asked)
    assert (counts.done_before, counts.done) == (5, 2)


def test_the_model_gets_every_request_and_a_refusal_fails_one_item(tmp_path: Path) -> None:
    folder, out = write(tmp_path / "v", a="good x", b="good unanswerable", c="good z"), tmp_path / "out"
    assert batch(folder, out, workers=3, model=True).failed == 1
    with Ledger(out) as ledger:
        assert {row["said"]: row["replies"] for row in ledger.results()} == {"x": ["X"], "z": ["Z"]}
        assert [row["error"] for row in ledger.errors()] == ["the model cannot answer this"]


@pytest.mark.parametrize(("words", "how"), [("assertion", "CUDA error: device-side assert"), ("deadly", "SIGKILL")])
def test_a_model_that_dies_costs_the_item_that_killed_it(tmp_path: Path, words: str, how: str) -> None:
    """Three workers, so that others are answered together with it; the process of the model is started again."""
    videos = {**GOOD, "evil": f"good {words}", "last": "good z"}
    folder, out = write(tmp_path / "v", **videos), tmp_path / "out"
    counts = batch(folder, out, workers=3, model=True)
    assert (counts.done, counts.failed) == (5, 1)
    assert done(out) == Counter([*GOOD, "last"])  # lost 0, done twice 0
    error = failed(out)["evil"]
    assert (error["kind"], error["attempts"]) == ("crash", ATTEMPTS["crash"])
    assert how in error["error"]
    assert begun(out) == Counter([*GOOD, "last", *["evil"] * 3])


def test_model_requests_wait_in_their_worker_not_in_memory(tmp_path: Path) -> None:
    """Three videos with 100 MB of model requests each: no process has more than a few of them in memory."""
    folder, out, task = write(tmp_path / "v", a="x", b="y", c="z"), tmp_path / "out", Large(24)
    before, used = memory_mb(), [0.0]

    class Watching(BatchCounts):
        def show(self, *, running: int) -> None:
            used.append(memory_mb())

    with Ledger(out) as ledger:
        run_batch(Folder(folder), BatchQuestions(), task, ledger, LocalPool(task, workers=3), counts=Watching())
        rows = list(ledger.results())
    assert [len(row["mb"]) for row in rows] == [24, 24, 24]
    request_mb = REQUEST_BYTES / 2**20
    assert max(used) - before < 10 * request_mb
    assert max(max(row["mb"]) for row in rows) - min(min(row["mb"]) for row in rows) < 15 * request_mb
    assert max(max(row["together"]) for row in rows) > 1  # the model gets those of several videos at once
    assert all(max(row["worker_mb"]) - row["worker_mb"][0] < 5 * request_mb for row in rows)


def test_no_child_outlives_the_batch(tmp_path: Path) -> None:
    folder, out = write(tmp_path / "v", **GOOD), tmp_path / "out"
    task = Faulty(str(out.with_suffix(".log")))
    pool = LocalPool(task, workers=2)
    pids: set[int] = set()

    class Watching(BatchCounts):
        def show(self, *, running: int) -> None:
            pids.update(run.child._process.pid for run in pool._runs.values() if run.child._process)

    with Ledger(out) as ledger:
        run_batch(tuple(Folder(folder)), BatchQuestions(), task, ledger, pool, counts=Watching())
    assert pids
    assert not [pid for pid in pids if is_alive(pid)]


# --- the process of the batch itself ----------------------------------------------------------------------------------
def start_driver(folder: Path, out: Path, *, scheme: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.distributed.driver", folder, f"{scheme}{out}", out.with_suffix(".log")],
        cwd=ROOT,
        text=True,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )


def wait_for_results(out: Path, count: int) -> None:
    for _ in range(1500):
        if len(list(out.glob("journal/*"))) >= count or (
            (out / "results.jsonl").exists() and (out / "results.jsonl").read_bytes().count(b"\n") >= count
        ):
            return
        time.sleep(0.01)
    raise AssertionError(f"no {count} results within 15 s")


@pytest.mark.parametrize("scheme", ["", "local://"])
def test_a_killed_driver_loses_and_doubles_nothing(tmp_path: Path, scheme: str) -> None:
    """To a folder, and to a URL, where nothing can be appended to."""
    folder = write(tmp_path / "v", **{f"v{n:02d}": f"slow {3 + n % 3} {n}" for n in range(24)}, evil="bad x")
    out = tmp_path / "out"
    for count in (1, 8, 16):
        driver = start_driver(folder, out, scheme=scheme)
        wait_for_results(out, count)
        children = below(driver.pid)
        driver.kill()
        driver.communicate()
        assert driver.returncode == -signal.SIGKILL
        end = time.monotonic() + 1  # on a busy machine; the death of one that hangs is tested with the processes
        while any(map(is_alive, children)):
            assert time.monotonic() < end, "a worker outlived its driver"
            time.sleep(0.02)
    driver = start_driver(folder, out, scheme=scheme)
    _, stderr = driver.communicate(timeout=60)
    assert driver.returncode == 3, stderr
    found = [json.loads(line)["video"] for line in (out / "results.jsonl").read_text().splitlines()]
    assert Counter(Path(video).stem for video in found) == Counter(f"v{n:02d}" for n in range(24))  # lost 0, twice 0
    assert [json.loads(line)["video"] for line in (out / "errors.jsonl").read_text().splitlines()] == [
        str(folder / "evil.mp4")
    ]
    again = begun(out)
    assert all(again[name] <= 1 + 3 for name in again)
    # What was in the results when it was killed was not begun again.
    assert sum(again.values()) <= 25 + 3 * 2 + 1


def test_ctrl_c_keeps_what_is_finished(tmp_path: Path) -> None:
    folder, out = write(tmp_path / "v", **{f"v{n:02d}": f"slow 5 {n}" for n in range(12)}), tmp_path / "out"
    driver = start_driver(folder, out)
    wait_for_results(out, 3)
    os.killpg(driver.pid, signal.SIGINT)  # as a terminal does it
    _, stderr = driver.communicate(timeout=30)
    assert driver.returncode == 130, stderr
    found = re.search(r"interrupted: (\d+) items were done", stderr)
    assert found is not None
    assert "Traceback" not in stderr
    assert sum(done(out).values()) == int(found[1]) >= 3
    driver = start_driver(folder, out)
    driver.communicate(timeout=60)
    assert driver.returncode == 0
    assert done(out) == Counter(f"v{n:02d}" for n in range(12))
