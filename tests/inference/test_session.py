"""One video, many questions: equal to asking each alone, and nothing is done twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from m3video.config import Settings
from m3video.errors import PlanError, UsageError
from m3video.inference.first_pass import analyze_video
from m3video.inference.pipeline import open_for
from m3video.inference.session import VideoSession, ask
from m3video.model.m3 import checkpoint, encoding
from m3video.model.m3.grid_cache import Grids, grid_weights, grids_key
from m3video.model.m3.pooling import pool
from m3video.planning.scan_cache import load_scan, save_scan
from m3video.types import Answer
from m3video.utils.cache import Cache
from m3video.video.reader import DamageReport
from tests.model.tiny import load_tiny
from tests.paths import SAMPLE

QUESTIONS = ("What colour is the background at 0:03?", "is it day or night in frame 2", "what is there in frame 1")
SETTINGS = Settings(num_frames=6, budget=300)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("M3VIDEO_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Count frames through the vision tower, and passes over a video."""
    from m3video.inference import first_pass

    seen = {"encoded": 0, "scans": 0}
    encode, scan = encoding.encode, first_pass.analyze_video

    def counting_encode(model: Any, pictures: Any, **more: Any) -> torch.Tensor:
        seen["encoded"] += len(pictures)
        return encode(model, pictures, **more)

    def counting_scan(*args: Any, **more: Any) -> Any:
        seen["scans"] += 1
        return scan(*args, **more)

    monkeypatch.setattr(encoding, "encode", counting_encode)
    monkeypatch.setattr(first_pass, "analyze_video", counting_scan)
    return seen


def said(answer: Answer) -> tuple[Any, ...]:
    """What is the same for the same question: not what it took."""
    assert answer.evidence is not None
    return (
        answer.text,
        answer.answer_tokens,
        answer.prompt_tokens,
        answer.visual_tokens,
        replace(answer.evidence, seconds=0.0),
        answer.plan.frames,
    )


def test_follow_ups_are_as_alone_and_cost_only_their_words(
    loaded: checkpoint.LoadedModel, counted: dict[str, int]
) -> None:
    alone = [ask(SAMPLE, q, replaced(cache=False), loaded=loaded) for q in QUESTIONS]
    counted["encoded"] = counted["scans"] = 0
    with VideoSession(SAMPLE, SETTINGS, loaded=loaded) as session:
        together = [session.ask(question) for question in QUESTIONS]
    assert [said(answer) for answer in together] == [said(answer) for answer in alone]
    assert counted == {"encoded": 6, "scans": 1}
    assert [answer.cached_frames for answer in together] == [0, 6, 6]
    assert [answer.is_scan_cached for answer in together] == [False, True, True]
    assert together[0].reused_tokens == 0
    assert all(answer.reused_tokens > answer.visual_tokens for answer in together[1:])
    assert "vision tower" not in together[1].stage_seconds


def replaced(**changes: Any) -> Settings:
    return SETTINGS.model_copy(update=changes)


def test_a_second_process_decodes_nothing(loaded: checkpoint.LoadedModel, counted: dict[str, int]) -> None:
    first, second = (ask(SAMPLE, QUESTIONS[0], SETTINGS, loaded=loaded) for _ in range(2))
    assert counted == {"encoded": 6, "scans": 1}
    assert said(first) == said(second)
    assert (second.cached_frames, second.is_scan_cached) == (6, True)
    without = ask(SAMPLE, QUESTIONS[0], replaced(cache=False), loaded=loaded)
    assert counted == {"encoded": 12, "scans": 2}
    assert said(without) == said(second)
    assert without.cached_frames == 0


def test_another_budget_needs_neither_decoder_nor_tower(
    loaded: checkpoint.LoadedModel, counted: dict[str, int]
) -> None:
    for cache in (True, False):
        counted["encoded"] = 0
        with VideoSession(SAMPLE, replaced(budget=2000, cache=cache), loaded=loaded) as session:
            session.ask(QUESTIONS[0])
            small = session.plan(budget=100)
            again = session.ask(QUESTIONS[0], plan=small)
        assert counted["encoded"] == 6
        assert again.plan.total_tokens <= 100
        assert said(again) == said(ask(SAMPLE, QUESTIONS[0], replaced(budget=100, cache=False), loaded=loaded))
        assert not any("made before" in warning for warning in again.warnings)


def test_scales_of_the_callers_choice(loaded: checkpoint.LoadedModel) -> None:
    with VideoSession(SAMPLE, SETTINGS, loaded=loaded) as session:
        details = session.plan_details()
        grids = list(session.grids(details.selection.pts_N))
        plan = session.plan_with(details, [0, 576, 1, 0, 9, 36])
        visual, cached = session.tokens(plan)
        answer = session.ask(QUESTIONS[0], plan=plan)
    assert all(grid.shape == (576, 192) for grid in grids)
    assert cached == 4
    assert torch.equal(visual.frame(3), pool(grids[5][None], 36)[0])
    assert answer.visual_tokens == 622
    with pytest.raises(ValueError, match="may differ in"):
        session.plan_details(scan="keyframes")


def test_a_damaged_cache_entry_is_made_again_with_a_note(
    loaded: checkpoint.LoadedModel, counted: dict[str, int], own_cache: Path
) -> None:
    first = ask(SAMPLE, QUESTIONS[0], SETTINGS, loaded=loaded)
    for kind in ("grids", "scans"):
        path = sorted((own_cache / kind).rglob("*.safetensors"))[0]
        path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    again = ask(SAMPLE, QUESTIONS[0], SETTINGS, loaded=loaded)
    assert said(again) == said(first)
    assert sum("is damaged: removed and made again" in warning for warning in again.warnings) == 2
    assert counted == {"encoded": 7, "scans": 2}


def test_a_changed_video_or_other_weights_share_nothing(
    loaded: checkpoint.LoadedModel, counted: dict[str, int], tmp_path: Path
) -> None:
    ask(SAMPLE, QUESTIONS[0], SETTINGS, loaded=loaded)
    copy, other = tmp_path / "copy.mp4", tmp_path / "other.mp4"
    copy.write_bytes(SAMPLE.read_bytes())
    other.write_bytes(SAMPLE.read_bytes() + b"\0")
    assert ask(copy, QUESTIONS[0], SETTINGS, loaded=loaded).cached_frames == 6
    assert ask(other, QUESTIONS[0], SETTINGS, loaded=loaded).cached_frames == 0
    changed = checkpoint.load("rendered", device="cpu")
    with torch.no_grad():
        next(changed.model.model.multi_modal_projector.parameters()).view(-1)[0] += 1e-3
    assert ask(SAMPLE, QUESTIONS[0], SETTINGS, loaded=changed).cached_frames == 0
    assert counted["scans"] == 2


def test_the_key_names_the_numbers_that_make_a_grid(loaded: checkpoint.LoadedModel) -> None:
    told = grid_weights(loaded)
    other = checkpoint.load("rendered", device="cpu")
    assert grid_weights(other) == told
    with torch.no_grad():
        other.model.lm_head.weight += 1  # the language model makes no grid
    assert grid_weights(other) == told
    half = checkpoint.load("rendered", device="cpu", dtype="bfloat16")
    assert grid_weights(half) != told
    one, two = (grids_key(loaded, fingerprint="f", backend=backend) for backend in ("pyav", "decord"))
    assert one != two


def test_half_precision_grids_are_restored_bit_for_bit(tmp_path: Path) -> None:
    half = load_tiny(tmp_path / "m")
    grid = torch.randn(576, 16).to(torch.bfloat16)
    key = grids_key(half, fingerprint="f", backend="pyav")
    assert key is not None
    Grids(Cache(tmp_path / "c", 1 << 20), key, about={}).keep(5, grid)
    found = Grids(Cache(tmp_path / "c", 1 << 20), key, about={}).find(5)
    assert found is not None
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, grid)


def test_memory_is_bounded() -> None:
    held = Grids(None, {}, about={}, most_bytes=3 * 576 * 4)
    for pts in range(5):
        held.keep(pts, torch.full((576, 1), float(pts)))
    assert [held.find(pts) is not None for pts in range(5)] == [False, False, True, True, True]


def test_stats_are_restored_bit_for_bit(tmp_path: Path) -> None:
    with open_for(SAMPLE, Settings()) as reader:
        stats = analyze_video(reader)
        save_scan(Cache(tmp_path, 1 << 30), reader.info, stats)
        found = load_scan(Cache(tmp_path, 1 << 30), reader.info, mode="full")
        assert load_scan(Cache(tmp_path, 1 << 30), reader.info, mode="keyframes") is None
    assert found is not None
    for name in stats.__dataclass_fields__:
        one, two = getattr(stats, name), getattr(found, name)
        assert np.array_equal(one, two)
        assert getattr(one, "dtype", None) == getattr(two, "dtype", None)


def test_damaged_files_are_never_cached(
    loaded: checkpoint.LoadedModel, counted: dict[str, int], own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = type(open_for(SAMPLE, Settings()))
    monkeypatch.setattr(kind, "damage", property(lambda self: DamageReport(num_damaged_packets=2)))
    for _ in range(2):
        answer = ask(SAMPLE, QUESTIONS[0], SETTINGS, loaded=loaded)
        assert any("2 damaged packets" in warning for warning in answer.warnings)
    assert counted == {"encoded": 12, "scans": 2}
    assert not list(own_cache.rglob("*.safetensors"))


def test_the_cache_keeps_its_limit(loaded: checkpoint.LoadedModel, own_cache: Path) -> None:
    ask(SAMPLE, QUESTIONS[0], replaced(cache_gib=1e6 / 2**30), loaded=loaded)
    assert 0 < sum(path.stat().st_size for path in own_cache.rglob("*.safetensors")) <= 1e6


@pytest.mark.parametrize("stage", ["fetch", "vision tower", "answer"])
def test_an_interrupted_question_spoils_nothing(
    loaded: checkpoint.LoadedModel, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    expected = ask(SAMPLE, QUESTIONS[1], replaced(cache=False), loaded=loaded)
    with VideoSession(SAMPLE, replaced(cache=False), loaded=loaded) as session:
        real = session._meter.stage

        def interrupting(name: str) -> Any:
            if name == stage:
                raise KeyboardInterrupt
            return real(name)

        monkeypatch.setattr(type(session._meter), "stage", lambda self, name: interrupting(name))
        with pytest.raises(KeyboardInterrupt):
            session.ask(QUESTIONS[0])
        monkeypatch.undo()
        assert said(session.ask(QUESTIONS[1])) == said(expected)


def test_wrong_questions_and_plans_leave_the_session_usable(loaded: checkpoint.LoadedModel) -> None:
    with VideoSession(SAMPLE, SETTINGS, loaded=loaded) as session:
        with pytest.raises(UsageError, match="empty"):
            session.ask(" ")
        with pytest.raises(UsageError, match="<image>"):
            session.ask("what <image>")
        plan = session.plan()
        with pytest.raises(PlanError):
            session.ask("what", plan=replace(plan, video=replace(plan.video, fingerprint="blake2b:0")))
        with pytest.raises(PlanError, match="shows no frame"):
            session.ask("what", plan=replace(plan, frames=()))
        assert session.ask(QUESTIONS[0]).text
