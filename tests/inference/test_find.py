"""Where something is seen: ranges that end where the answer changes, within the budget, by the model's own answers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from torch import Tensor

from m3video.config import Settings
from m3video.errors import UsageError
from m3video.inference.find import find, question_of
from m3video.inference.session import VideoSession
from m3video.model.m3 import yes_no
from m3video.model.m3.pooling import pack, pool
from m3video.model.m3.prefix import Prefix
from tests.cli.test_app import one_line_error, run
from tests.model.tiny import load_tiny
from tests.paths import SAMPLE

RATE = 10
BRIGHT = ((4.0, 9.3), (14.2, 18.0))
"""Seconds at which the clip of `moving` is bright."""


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One shot of 20 s: a slow pan whose light goes up and down at known times, too slowly for a cut."""
    path = tmp_path_factory.mktemp("find") / "moving.mp4"
    texture = np.random.default_rng(3).integers(0, 60, (96, 400, 3))
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=RATE, options={"crf": "12", "g": "10"})
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for number in range(20 * RATE):
            light = max(min(number / RATE - start, end - number / RATE) for start, end in BRIGHT)
            picture = texture[:, number : number + 128] + 100 + 20 * np.clip(light / 2, -1, 1)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture.astype(np.uint8), format="rgb24")):
                out.mux(packet)
        for packet in stream.encode():
            out.mux(packet)
    return path


@pytest.fixture
def seeing(monkeypatch: pytest.MonkeyPatch, moving: Path) -> list[int]:
    """Answer yes where a frame is bright; returns how many frames were asked about in each round."""
    rounds: list[int] = []
    with av.open(str(moving)) as file:
        light = {frame.pts: frame.to_ndarray(format="gray").mean() for frame in file.decode(video=0)}
    asked: list[int] = []
    grids = VideoSession.grids

    def remember(self: VideoSession, pts: Sequence[int]) -> Iterator[Tensor]:
        asked[:] = pts
        return grids(self, pts)

    def told(loaded: Any, blocks: Sequence[Tensor], question: str) -> list[float]:
        rounds.append(len(blocks))
        assert len(blocks) == len(asked)
        return [(light[pts] - 130) / 3 for pts in asked]

    monkeypatch.setattr(VideoSession, "grids", remember)
    monkeypatch.setattr(yes_no, "yes_nats", told)
    return rounds


def test_ranges_end_where_the_answer_changes(moving: Path, seeing: list[int], tmp_path: Path) -> None:
    settings = Settings(cache=False, budget=300, num_frames=8)
    with VideoSession(moving, settings, loaded=load_tiny(tmp_path), keeps_looking=False) as session:
        found = find(session, "light")
        assert found.question == "Is there light?"
        assert len(found.ranges) == 2
        for one, (start, end) in zip(sorted(found.ranges, key=lambda r: r.start_seconds), BRIGHT, strict=True):
            assert one.start_seconds == pytest.approx(start, abs=0.5)
            assert one.end_seconds == pytest.approx(end, abs=0.5)
            assert start <= one.best_seconds <= end
            assert 0.5 < one.score <= 1
        assert found.ranges[0].score >= found.ranges[1].score
        assert seeing[0] == 8
        assert len(seeing) > 2
        assert sum(seeing) == len(found.asked)
        assert found.visual_tokens == found.scale * len(found.asked) <= 300
        assert [frame.pts for frame in found.asked] == sorted({frame.pts for frame in found.asked})


def test_the_budget_is_kept_and_what_it_leaves_out_is_said(moving: Path, seeing: list[int], tmp_path: Path) -> None:
    settings = Settings(cache=False, num_frames=8)
    with VideoSession(moving, settings, loaded=load_tiny(tmp_path), keeps_looking=False) as session:
        for budget, frames, scale in ((8, 8, 1), (5, 5, 1), (97, 10, 9)):
            seeing.clear()
            found = find(session, "light", budget=budget)
            assert (len(found.asked), found.scale) == (frames, scale)
            assert found.visual_tokens <= budget
            missing = any("3 candidates were not looked at" in warning for warning in found.warnings)
            assert missing == (budget == 5)
        gaps = np.diff([0.0, *(frame.seconds for frame in found.asked), 20.0])
        assert found.widest_gap_seconds == pytest.approx(gaps.max())


def test_a_yes_is_the_greedy_yes(loaded: Any) -> None:
    """What single answers to the same prompt say, the odds say too: for several frames and scales in one run."""
    settings = Settings(model="rendered", num_frames=6, cache=False)
    with VideoSession(SAMPLE, settings, loaded=loaded, keeps_looking=False) as session:
        grids = torch.stack(list(session.grids([int(pts) for pts in session.plan_details().selection.pts_N])))
    said = set()
    for thing in ("sign", "board", "shape", "table"):
        question = f"is there a {thing}"
        blocks = [pool(grid[None], scale)[0] for scale in (36, 9) for grid in grids]
        nats = yes_no.yes_nats(loaded, blocks, question)
        for number, (block, value) in enumerate(zip(blocks, nats, strict=True)):
            visual = pack(grids[number % 6][None], [len(block)])
            answer = Prefix(loaded, visual, times_seconds=None).answer(question).text
            assert answer == ("yes" if value > 0 else "no")
            said.add(answer)
    assert said == {"yes", "no"}


def test_what_cannot_be_searched(tmp_path: Path) -> None:
    assert question_of(" a  red car. ") == "Is there a red car?"
    assert question_of("Does it rain?") == "Does it rain?"
    with pytest.raises(UsageError, match="the query is empty"):
        question_of(" ? ")
    with (
        VideoSession(SAMPLE, Settings(cache=False), loaded=load_tiny(tmp_path), keeps_looking=False) as session,
        pytest.raises(UsageError, match="has no word for yes"),
    ):
        find(session, "a car")


def test_the_command_prints_text_json_csv_and_subtitles(tmp_path: Path) -> None:
    arguments = ("find", SAMPLE, "a shape", "--model", "rendered", "--budget", 700)
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    assert '"Is there a shape?" of ' in done.stdout
    found = json.loads(run(*arguments, "--json").stdout)
    assert found["tokens"]["visual"] == found["tokens"]["scale"] * len(found["asked"]) <= 700
    assert found["ranges"]
    rows = run(*arguments, "--format", "csv", "--top", 1).stdout.splitlines()
    assert rows[0] == "video,query,start_seconds,end_seconds,score,best_seconds"
    assert len(rows) == 2
    assert float(rows[1].split(",")[2]) == found["ranges"][0]["start_seconds"]
    cues = run(*arguments, "--format", "srt").stdout
    assert cues.startswith("1\n00:00:0")
    assert "\na shape (" in cues
    unknown = run("find", SAMPLE, "a zebra", "--model", "rendered", "--budget", 18)
    assert "rendered does not know these words and read each as <unk>: zebra" in unknown.stderr
    assert "the query is empty" in one_line_error(run("find", SAMPLE, " "), 2)
    assert "contradict each other" in one_line_error(run(*arguments, "--json", "--format", "srt"), 2)
