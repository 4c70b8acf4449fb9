"""The benchmark of first answers: what counts as found, what is refused, and both parts on a small file."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.paths import SCRIPTS


@pytest.fixture(scope="module")
def bench() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        yield importlib.import_module("bench_first_answer")


@pytest.fixture(scope="module")
def film(bench: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    films = importlib.import_module("long_films")
    path = tmp_path_factory.mktemp("film") / "talk.mp4"
    return films.render_unit(path, "talk", seconds=12, size=(160, 90), fps=10, per_minute={"slide": 5.0})


def test_an_event_is_found_by_a_frame_from_its_first_to_before_its_end(bench: Any, film: Any) -> None:
    event = film.events[0]
    for row, found in ((event.first - 1, 0.0), (event.first, 1.0), (event.until - 1, 1.0), (event.until, 0.0)):
        assert bench.hits([event], [0, row]) == [found]
    assert bench.hits([event, event], []) == [0.0, 0.0]


def test_even_frames_are_the_middles_of_equal_parts(bench: Any) -> None:
    assert bench.uniform(100, [4, 2]).rows_of == {4: [12, 37, 62, 87], 2: [25, 75]}


def test_recall_of_a_small_film(bench: Any, film: Any) -> None:
    said: list[str] = []
    rows = bench.recall([film], modes=["full", "keyframes"], counts=[8], say=said.append)
    assert [row["way"] for row in rows] == ["uniform", "full", "keyframes"]
    full = rows[1]
    assert full["frames"] == film.frames
    assert full["chosen"] == 8
    assert full["found"]["slide"]["value"] == 1.0
    assert full["of_full"]["slide"]["value"] == 1.0
    assert "at most 8 candidates" in "\n".join(said)


def test_a_command_that_fails_or_takes_too_long_is_no_figure(bench: Any) -> None:
    fine = bench.run([sys.executable, "-c", "print(1)"], limit=60)
    assert fine.refusal is None
    fails = bench.run([sys.executable, "-c", "import sys; sys.exit('no such mode')"], limit=60)
    assert fails.refusal == "no such mode"
    late = bench.run([sys.executable, "-c", "import time; time.sleep(60)"], limit=1)
    assert late.refusal == "not done in 1 s"
