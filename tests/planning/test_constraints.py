"""Pinned frames, a frame of every shot, no long gap: met where the budget allows, and noted where it does not."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m3video.errors import UsageError
from m3video.planning.allocate import allocate
from m3video.planning.analyze import analyze
from m3video.planning.constraints import Constraints, candidate_constraints, candidates
from m3video.planning.sample import sample
from m3video.planning.utility import utility
from m3video.types import Allocation, FrameStats, Selection
from tests.planning.frames import noise, plain, scan_frame, stats_of, video


def shot(number: int) -> np.ndarray:
    """Dark and bright by turns."""
    return noise(number, base=60 if number % 2 else 190, spread=20)


# Ten seconds, ten frames a second, a new shot each second.
FILM = stats_of([shot(i // 10) for i in range(100)])
START = 5000  # the clock of the other one starts at 5 s
LATE = stats_of([shot(i // 10) for i in range(100)], start=START)


def planned(
    stats: FrameStats, constraints: Constraints, *, budget: int, max_frames: int = 40, **how: Any
) -> tuple[Selection, Allocation, tuple[str, ...]]:
    """What the pipeline does between stats and plan."""
    selection, pinned = candidates(stats, constraints, max_frames=max_frames, **how)
    utilities = utility(stats, selection)
    span = {name: how[name] for name in ("start_seconds", "end_seconds") if name in how}
    made = candidate_constraints(stats, selection, utilities, constraints, budget=budget, pinned=pinned, **span)
    found = allocate(utilities, budget=budget, max_scale=made.max_scale, fixed=made.fixed, cover_M2=made.cover_M2)
    assert found.total_tokens <= budget
    assert len(selection) <= max_frames
    return selection, found, (*selection.notes, *made.notes)


def gaps(selection: Selection, found: Allocation, first: int, last: int) -> list[int]:
    """Milliseconds between frames shown, and from and to the ends."""
    shown = [first, *selection.pts_N[found.scale_N > 0].tolist(), last]
    return [b - a for a, b in itertools.pairwise(shown)]


def test_without_constraints_nothing_changes() -> None:
    selection, found, notes = planned(FILM, Constraints(), budget=200, max_frames=16)
    plain_choice = sample(FILM, max_frames=16)
    assert selection.pts_N.tolist() == plain_choice.pts_N.tolist()
    assert found.scale_N.tolist() == allocate(utility(FILM, plain_choice), budget=200).scale_N.tolist()
    assert notes == ()


@pytest.mark.parametrize(("stats", "start"), [(FILM, 0), (LATE, START)], ids=["from 0", "from 5 s"])
def test_pinned_frames_are_always_shown(stats: FrameStats, start: int) -> None:
    """Also where they show nothing new, and at the scale named; times are the container's."""
    pins = ((start / 1000 + 0.55, None), (start / 1000 + 2.31, 144), (start / 1000 + 9.99, 9))
    selection, found, notes = planned(stats, Constraints(pins), budget=200, max_frames=12)
    scale_at = dict(zip(selection.pts_N.tolist(), found.scale_N.tolist(), strict=True))
    reasons = dict(zip(selection.pts_N.tolist(), selection.reason_N, strict=True))
    assert scale_at[start + 500] >= 1
    assert (scale_at[start + 2300], scale_at[start + 9900]) == (144, 9)
    assert [pts - start for pts, reason in reasons.items() if reason == "pinned"] == [500, 2300, 9900]
    assert len(selection) == 12
    assert notes == ()


def test_a_pinned_frame_may_exceed_the_detail() -> None:
    selection, found, _ = planned(FILM, Constraints(((2.3, 576),), max_scale=36), budget=5000)
    pinned = selection.pts_N == 2300
    assert found.scale_N[pinned].tolist() == [576]
    assert set(found.scale_N[~pinned].tolist()) <= {0, 1, 9, 36}


@pytest.mark.parametrize(
    ("pins", "how", "message"),
    [
        (((10.2, None),), {}, r"--at \(0:10.20\) is outside the range, 0:00 to before 0:10:"),
        (((-1.0, None),), {}, r"--at \(-0:01\) is outside"),
        (((1.0, None),), {"start_seconds": 2.0}, r"--at \(0:01\) is outside the range, 0:02 to before 0:10:"),
        (((5.0, None),), {"end_seconds": 5.0}, r"--at \(0:05\) is outside the range, 0:00 to before 0:05:"),
        (((1.0, 9), (1.05, 36)), {}, r"two scales \(9, 36\) for the frame at 0:01.05"),
        (((1.0, 576), (2.0, 144)), {}, r"--budget \(700\) is below the 720 tokens"),
        (((1.0, None), (2.0, None), (3.0, None)), {"max_frames": 2}, r"names 3 frames, more than --max-frames \(2\)"),
    ],
)
def test_impossible_pins_are_refused(
    pins: tuple[tuple[float, int | None], ...], how: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        planned(FILM, Constraints(pins), budget=700, **how)


def test_two_times_of_one_frame_are_one_pin() -> None:
    selection, found, _ = planned(FILM, Constraints(((1.0, None), (1.05, 36))), budget=700)
    assert found.scale_N[selection.pts_N == 1000].tolist() == [36]


def test_as_many_pins_as_candidates() -> None:
    selection, found, _ = planned(FILM, Constraints(((1.0, None), (2.0, 9))), budget=100, max_frames=2)
    assert selection.pts_N.tolist() == [1000, 2000]
    assert (found.scale_N > 0).all()


def test_a_pin_on_a_corrupt_frame_pins_the_one_before() -> None:
    frames = list(video([noise(i) for i in range(20)]))
    frames[7] = type(frames[7])(frames[7].pts, frames[7].luma_HW, frames[7].chroma_2HW, is_corrupt=True)
    selection, found, notes = planned(analyze(iter(frames), time_base=(1, 1000)), Constraints(((0.7, 36),)), budget=90)
    assert found.scale_N[selection.pts_N == 600].tolist() == [36]
    assert notes == ("the frame at 0:00.70 is corrupt: the one at 0:00.60 is pinned",)


def test_every_shot_is_shown_while_the_budget_allows() -> None:
    selection, found, notes = planned(FILM, Constraints(every_shot=True), budget=145)
    assert set(selection.shot_N[found.scale_N > 0].tolist()) == set(range(10))
    assert notes == ()


@pytest.mark.parametrize("budget", [1, 4, 9])
def test_fewer_tokens_than_shots_show_the_best_of_them(budget: int) -> None:
    selection, found, notes = planned(FILM, Constraints(every_shot=True), budget=budget)
    shown = selection.shot_N[found.scale_N > 0].tolist()
    assert len(shown) == len(set(shown)) == budget
    assert notes == (f"every_shot: a budget of {budget} tokens shows {budget} of 10 shots",)
    best = sorted((utility(FILM, selection)[selection.shot_N == shot, 0].max() for shot in range(10)), reverse=True)
    assert found.utility == pytest.approx(sum(best[:budget]))


def test_a_pin_covers_its_shot() -> None:
    selection, found, notes = planned(FILM, Constraints(((2.5, 9),), every_shot=True), budget=9 + 9)
    assert sorted(selection.shot_N[found.scale_N > 0].tolist()) == list(range(10))
    assert notes == ()


def test_shots_without_a_candidate_are_noted() -> None:
    _, _, notes = planned(FILM, Constraints(every_shot=True), budget=100, num_frames=4)
    assert notes == ("6 of 10 shots have none of the 4 candidates",)


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 60), st.integers(1, 400), st.integers(3, 60), st.booleans(), st.booleans())
def test_no_gap_is_longer_than_required_or_noted(
    tenths: int, budget: int, max_frames: int, every_shot: bool, is_late: bool
) -> None:
    """The gap holds to the tick, or the note names the gap that does."""
    stats, start = (LATE, START) if is_late else (FILM, 0)
    wish = tenths / 10
    selection, found, notes = planned(
        stats, Constraints(every_shot=every_shot, max_gap_seconds=wish), budget=budget, max_frames=max_frames
    )
    longest = max(gaps(selection, found, start, start + 9900))
    told = [note for note in notes if note.startswith("max_gap")]
    if not told:
        assert longest <= tenths * 100
    kept = [float(note.rsplit("; ", 1)[1].split(" s is kept")[0]) for note in told if note.endswith("is kept")]
    if kept:
        assert longest <= kept[0] * 1000
        # Not one frame more could have been paid.
        assert (found.scale_N > 0).sum() == budget or every_shot
    if max_frames >= 100 // tenths + 12 and budget >= 100 // tenths + 12:
        assert told == []


def test_gap_frames_are_added_to_the_candidates() -> None:
    still = stats_of([plain(100)] * 100)
    selection, found, notes = planned(still, Constraints(max_gap_seconds=1.0), budget=200, max_frames=16)
    assert len(selection) <= 16
    assert max(gaps(selection, found, 0, 9900)) <= 1000
    assert notes == ()


def test_too_few_candidates_for_the_gap_are_spread_evenly_and_noted() -> None:
    selection, found, notes = planned(FILM, Constraints(max_gap_seconds=0.5), budget=400, max_frames=8)
    assert notes == (
        "max_gap (0.5 s) needs 19 candidates, above max_frames (8): candidates are spread evenly",
        "max_gap (0.5 s): candidates stand up to 1.30 s apart",
    )
    assert max(gaps(selection, found, 0, 9900)) <= 1300


def test_a_stretch_without_frames_has_frames_at_both_ends() -> None:
    """Frames at 0 to 1 s and from 8 s on: the hole cannot be closed, and stays as short as possible."""
    first = list(video([noise(i) for i in range(11)]))
    second = list(video([noise(i + 50) for i in range(11)], start=8000))
    stats = analyze(iter([*first, *second]), time_base=(1, 1000))
    selection, found, notes = planned(stats, Constraints(max_gap_seconds=0.5), budget=100)
    shown = selection.pts_N[found.scale_N > 0].tolist()
    assert {1000, 8000} <= set(shown)
    assert sorted(gaps(selection, found, 0, 9000))[-2] <= 500
    assert notes == ("max_gap (0.5 s): candidates stand up to 7.00 s apart",)


def test_shots_served_by_gap_frames_are_not_noted_as_missing() -> None:
    """Half of the candidates close gaps: together with them every shot has one."""
    selection, _, notes = planned(FILM, Constraints(max_gap_seconds=0.8), budget=20, max_frames=12)
    assert set(selection.shot_N.tolist()) == set(range(10))
    assert not [note for note in notes if "shots" in note]


def test_constraints_leave_fewer_candidates_to_num_frames_or_fps() -> None:
    _, _, notes = planned(FILM, Constraints(((2.5, None),)), budget=100, max_frames=12, num_frames=12)
    assert notes == (
        "num_frames (12) is above the 11 that pins and gaps leave of max_frames (12): 11 candidates are taken",
    )


def test_a_gap_longer_than_any_video_changes_nothing() -> None:
    selection, found, notes = planned(FILM, Constraints(max_gap_seconds=1e300), budget=200, max_frames=16)
    assert found.scale_N.tolist() == allocate(utility(FILM, selection), budget=200).scale_N.tolist()
    assert notes == ()


def test_a_noted_gap_is_rounded_up() -> None:
    """Frames a third of a second apart: 1.34 s holds, 1.33 s would not."""
    thirds = analyze(video([noise(i) for i in range(31)], ms=1), time_base=(1, 3))
    selection, found, notes = planned(thirds, Constraints(max_gap_seconds=0.5), budget=7)
    assert notes == ("max_gap (0.5 s): a budget of 7 tokens cannot show frames that densely; 1.34 s is kept",)
    assert max(gaps(selection, found, 0, 30)) == 4


def test_pins_serve_their_shots_among_the_candidates() -> None:
    """As many candidates as shots, one of them pinned: each shot still has one."""
    selection, found, notes = planned(FILM, Constraints(((2.5, None),), every_shot=True), budget=50, max_frames=10)
    assert selection.shot_N.tolist() == list(range(10))
    assert (found.scale_N > 0).all()
    assert notes == ()
    black = stats_of([np.zeros_like(shot(0))] * 30)
    selection = planned(black, Constraints(((1.0, None),)), budget=50, max_frames=5)[0]
    assert selection.pts_N.tolist() == [1000]


def slides(origin: tuple[int, int]) -> FrameStats:
    """One picture from 0 to 60 s, another until 61 s, and the last until 100 s."""
    pictures = [scan_frame(pts, noise(i)) for i, pts in enumerate([0, 60_000, 61_000])]
    return analyze(iter(pictures), time_base=(1, 1000), origin=origin, until_pts=100_000)


@pytest.mark.parametrize("origin", [(0, 1), (-5, 1)], ids=["from 0", "sound first"])
def test_constraints_within_long_frames(origin: tuple[int, int]) -> None:
    """A pin names the frame on screen, also the last; a gap is counted from where the range begins."""
    late = origin[0] / origin[1]
    stats = slides(origin)
    for at, pts in ((30, 0), (59.999, 0), (60, 60_000), (99, 61_000), (100, 61_000)):
        selection, found, _ = planned(stats, Constraints(((at - late, 36),)), budget=100, max_frames=1)
        assert selection.pts_N[found.scale_N == 36].tolist() == [pts]
    span = {"start_seconds": 50 - late, "end_seconds": 80 - late}
    selection, found, notes = planned(stats, Constraints(((55 - late, 36),), max_gap_seconds=11), budget=100, **span)
    assert notes == ()  # 50 to 60 s is no longer than 11 s, though the first frame began 60 s before the second
    assert [pts for pts, reason in zip(selection.pts_N, selection.reason_N, strict=True) if reason == "pinned"] == [0]
    for at in (49.9 - late, 80.1 - late):
        with pytest.raises(UsageError, match=r"is outside the range, 0:5[05] to before 1:2[05]"):
            planned(stats, Constraints(((at, None),)), budget=100, **span)


def test_all_constraints_at_once_within_a_range() -> None:
    constraints = Constraints(((4.2, 144), (6.6, None)), every_shot=True, max_gap_seconds=0.8, max_scale=36)
    selection, found, notes = planned(FILM, constraints, budget=300, start_seconds=3.0, end_seconds=8.0)
    assert notes == ()
    assert (selection.pts_N >= 3000).all()
    assert (selection.pts_N < 8000).all()
    assert max(gaps(selection, found, 3000, 7900)) <= 800
    assert set(selection.shot_N[found.scale_N > 0].tolist()) == set(range(5))
    scale_at = dict(zip(selection.pts_N.tolist(), found.scale_N.tolist(), strict=True))
    assert scale_at.pop(4200) == 144
    assert scale_at[6600] >= 1
    assert max(scale_at.values()) <= 36
