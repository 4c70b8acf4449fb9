"""Settings in Python: optional, and by keyword the same way for `ask`, `plan_video` and `VideoSession`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from m3video.config import Settings, changed_settings
from m3video.errors import UsageError
from m3video.inference.pipeline import plan_video
from m3video.inference.session import VideoSession, ask
from m3video.types import TokenPlan
from tests.paths import SAMPLE


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("M3VIDEO_CACHE_DIR", str(tmp_path / "cache"))


def plan_of_session(*args: Any, **more: Any) -> TokenPlan:
    with VideoSession(*args, **more) as session:
        return session.plan()


def plan_of_answer(path: Path, *args: Any, **more: Any) -> TokenPlan:
    return ask(path, "is it day or night", *args, **more).plan


CALLS: list[Callable[..., TokenPlan]] = [plan_video, plan_of_session, plan_of_answer]


@pytest.mark.parametrize("call", CALLS)
def test_settings_are_those_of_the_object_and_of_keywords_together(call: Callable[..., TokenPlan]) -> None:
    together = Settings(num_frames=4, budget=100)
    expected = call(SAMPLE, together)
    assert expected.config == {**together.model_dump(), "model": "rendered"}
    for plan in (
        call(SAMPLE, num_frames=4, budget=100),
        call(SAMPLE, Settings(num_frames=4), budget=100),
        call(SAMPLE, Settings(num_frames=4, budget=720), budget=100),
        call(SAMPLE, settings=together),
    ):
        assert (plan.frames, plan.config) == (expected.frames, expected.config)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"buget": 100}, "unknown setting 'buget'; did you mean budget"),
        ({"budget": 0}, r"budget \(0\): input should be greater than or equal to 1"),
        ({"detail": "highest"}, r"detail \(highest\): input should be 'low', 'medium' or 'high'"),
        ({"fps": 1.0, "num_frames": 4}, "contradict each other"),
    ],
)
def test_wrong_keywords_are_refused_in_one_line(
    call: Callable[..., TokenPlan], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        call(SAMPLE, **changes)
    assert "\n" not in str(caught.value)


def test_a_keyword_may_contradict_the_object() -> None:
    with pytest.raises(UsageError, match="contradict each other"):
        plan_video(SAMPLE, Settings(fps=1.0), num_frames=4)


def test_defaults() -> None:
    assert plan_video(SAMPLE).config == {**Settings().model_dump(), "model": "rendered"}
    given = Settings(budget=100)
    assert changed_settings(None, {}) == Settings()
    assert changed_settings(given, {}) is given


def test_set_fields_stay_set() -> None:
    assert changed_settings(Settings(budget=100), {"num_frames": 4}).model_fields_set == {"budget", "num_frames"}


def test_a_session_refuses_a_wrong_change_and_stays_usable() -> None:
    with VideoSession(SAMPLE, budget=100) as session:
        with pytest.raises(UsageError, match=r"budget \(0\)"):
            session.plan(budget=0)
        assert session.plan(budget=50).budget == 50
        assert session.plan().budget == 100
