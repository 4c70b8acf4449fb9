"""Every odd input ends as it must, in a process of its own, within 20 seconds, with nothing on stderr."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.video.clips import Clip, write
from tests.video.isolation import Worker
from tests.video.odd_inputs import ODD_INPUTS, OUTCOMES, REPRESENTATIVES, OddInput, Readable, Refused

MAX_RSS_MB = 700


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    worker = Worker(tmp_path_factory.mktemp("worker") / "stderr.txt")
    yield worker
    worker.close()


@pytest.mark.parametrize("odd", ODD_INPUTS, ids=lambda odd: odd.name[:40].encode("unicode_escape").decode())
def test_odd_input_ends_as_it_must(odd: OddInput, worker: Worker, tmp_path: Path) -> None:
    answer = worker.read(odd.path(), drop_root=odd.drop_root)
    stderr = worker.log.read_text()
    assert stderr == ""
    assert answer["max_rss_mb"] < MAX_RSS_MB
    if isinstance(odd.outcome, Refused):
        check_refused(answer, odd.outcome)
    elif odd.outcome.partial:
        check_partial(answer, odd.outcome)
    else:
        check_readable(answer, odd.outcome)


def check_refused(answer: dict[str, Any], outcome: Refused) -> None:
    assert "refused" in answer, f"{len(answer.get('pts', []))} frames were read"
    assert outcome.message in answer["refused"]
    assert "\n" not in answer["refused"]


def check_readable(answer: dict[str, Any], outcome: Readable) -> None:
    assert "refused" not in answer, answer["refused"]
    assert len(answer["pts"]) == len(outcome.numbers)
    if outcome.is_painted:
        assert answer["numbers"] == list(outcome.numbers)
        if outcome.is_scan_painted:
            assert answer["scan_numbers"] == list(outcome.numbers)
    if outcome.pts is not None:
        assert answer["pts"] == list(outcome.pts)
    assert answer["index"] == answer["pts"] == answer["scan_pts"]
    assert answer["damage"] is None
    assert "results are partial" not in " / ".join(answer["notes"])
    assert (answer["fetch_wrong"], answer["fetch_refused"]) == ([], 0)
    assert len(answer["scan_shapes"]) == 1
    assert outcome.note in " / ".join(answer["notes"])
    if outcome.size is not None:
        assert tuple(answer["info_size"]) == outcome.size
        assert tuple(answer["sizes"][0]) == outcome.size


def check_partial(answer: dict[str, Any], outcome: Readable) -> None:
    assert "refused" not in answer, answer["refused"]
    assert outcome.at_least <= len(answer["pts"]) <= len(outcome.numbers)
    assert answer["scan_pts"] == answer["pts"]
    assert set(answer["pts"]) <= set(answer["index"])
    if outcome.is_damage_seen:
        assert "damaged" in answer["damage"]
    assert outcome.note in " / ".join(answer["notes"])
    # Frames before the damage are exact; after it, what was fetched must be what the sequential pass showed.
    assert answer["numbers"][:20] == list(outcome.numbers[:20])
    assert answer["fetch_wrong"] == []


def test_an_encoder_does_not_change_how_the_tests_are_scheduled(tmp_path: Path) -> None:
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    write(tmp_path / "av1.mp4", Clip(range(4), codec="libsvtav1"))
    assert (os.sched_getscheduler(0), os.sched_getparam(0)) == before


def test_there_are_enough_odd_inputs() -> None:
    assert len({odd.name for odd in ODD_INPUTS}) == len(ODD_INPUTS) >= 40
    assert len(REPRESENTATIVES) == sum(map(len, OUTCOMES.values())), "a representative has another name"


def test_a_resolution_change_keeps_each_frame_its_own_size(worker: Worker, tmp_path: Path) -> None:
    odd = next(odd for odd in ODD_INPUTS if odd.name == "resolution_change.ts")
    answer = worker.read(odd.path())
    assert {tuple(size) for size in answer["sizes"][:30]} == {(128, 96)}
    assert {tuple(size) for size in answer["sizes"][30:]} == {(192, 144)}
    assert answer["scan_shapes"] == [[96, 128]]
