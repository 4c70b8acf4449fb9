"""What a first pass decodes: keyframes, and stretches whose packets hold more than what is usual around them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3video.planning import look
from m3video.planning.look import KEY_COST, Packets, close_looks, is_read_whole, keyframes_seen
from m3video.types import Stretch

NOTHING = np.zeros(0, np.int64)


def packets(length: int, gop: int, *, large: dict[int, int] | None = None, marks: bool = False) -> Packets:
    """25 frames a second; keyframes of 40,000 bytes, others of about 1,000, and some that are larger."""
    rng = np.random.default_rng(0)
    is_key = np.arange(length) % gop == 0
    size = np.where(is_key, 40_000, rng.integers(900, 1_100, length))
    for row, bytes_ in (large or {}).items():
        size[row] = bytes_
    return Packets(np.arange(length) / 25, is_key, size, marks)


def looked(of: Packets, named: list[int] | None = None, unlike: float = 0.0) -> list[Stretch]:
    rows = range(len(of))
    keys = keyframes_seen(of, rows)
    rows_named = np.array(named or [], np.int64)
    return close_looks(of, rows, keys=keys, unlike=np.full(len(keys) - 1, unlike), named=rows_named)


@given(length=st.integers(1, 3000), gop=st.integers(1, 400))
def test_the_work_is_that_of_fetching_frames_spread_evenly(length: int, gop: int) -> None:
    wanted = {int((i + 0.5) * length // 64) for i in range(64)}
    deepest: dict[int, int] = {}
    for row in wanted:
        deepest[row // gop] = max(deepest.get(row // gop, 0), row % gop + 1)
    assert packets(length, gop).work(range(length)) == sum(deepest.values())


def test_a_video_is_read_whole_where_that_costs_no_more() -> None:
    assert is_read_whole(packets(3600, 250), range(3600))
    assert not is_read_whole(packets(3601, 250), range(3601))
    # One keyframe: fetching 64 frames decodes nearly everything anyway, but the last of them is not the last frame.
    assert not is_read_whole(packets(36_000, 1), range(36_000))
    assert is_read_whole(packets(36_000, 250), range(0, 3500))


def test_keyframes_take_half_the_work_and_are_thinned_evenly() -> None:
    many = packets(50_000, 10)
    keys = keyframes_seen(many, range(50_000))
    assert len(keys) * KEY_COST <= many.work(range(50_000)) / 2
    assert (keys % 10 == 0).all()
    gaps = np.diff(keys)
    assert gaps.max() - gaps.min() <= 10
    few = packets(50_000, 250)
    assert keyframes_seen(few, range(50_000)).tolist() == list(range(0, 50_000, 250))
    assert keyframes_seen(few, range(1000, 2000)).tolist() == [1000, 1250, 1500, 1750]


def test_only_keyframes_are_there_to_see_in_a_file_of_keyframes() -> None:
    intra = packets(36_000, 1)
    assert len(keyframes_seen(intra, range(36_000))) == 64
    assert looked(intra) == []


def test_a_packet_of_unusual_size_is_looked_at_until_it_has_settled() -> None:
    """A caption in the middle of a group: read from the keyframe before it to a second and a half after it."""
    quiet = packets(20_000, 250, large={7_600: 6_000})
    assert looked(quiet) == [Stretch(7_500, 7_600 + 38)]
    assert looked(packets(20_000, 250, large={7_600: 6_000}, marks=True)) == [Stretch(7_500, 7_638, every=False)]


def test_noise_keyframes_and_the_frames_right_after_them_are_nothing_unusual() -> None:
    assert looked(packets(20_000, 250)) == []
    ramp = {row + i: 9_000 - 1_000 * i for row in range(0, 20_000, 250) for i in range(1, 9)}
    assert looked(packets(20_000, 250, large=ramp)) == []


def test_what_is_nearer_to_a_keyframe_comes_first_and_the_work_is_kept() -> None:
    events = {row + 60 + 2 * (row // 250): 8_000 for row in range(0, 20_000, 250)}
    found = looked(packets(20_000, 250, large=events))
    of = packets(20_000, 250, large=events)
    spent = sum(one.num_frames for one in found) + KEY_COST * 80
    assert spent <= of.work(range(20_000))
    # The events lie ever further from their keyframes.
    assert [one.start for one in found] == [250 * i for i in range(len(found))]
    assert 10 < len(found) < 80


def test_unlike_keyframes_come_after_unforeseen_content() -> None:
    of = packets(20_000, 250, large={7_600: 6_000})
    found = looked(of, unlike=60.0)
    assert Stretch(7_500, 7_638) in found
    assert len(found) > 1
    assert all(one.num_frames == 250 for one in found if one.start != 7_500)
    assert looked(of, unlike=look.UNLIKE - 1) == [Stretch(7_500, 7_638)]


def test_a_keyframe_before_its_time_is_a_cut_and_hides_nothing() -> None:
    is_key = np.zeros(20_000, bool)
    is_key[::200] = True
    is_key[50::4000] = True  # groups of 50 and of 150 frames among those of 200
    of = Packets(np.arange(20_000) / 25, is_key, np.where(is_key, 40_000, 1_000))
    assert not {4_000, 4_050} & {one.start for one in looked(of, unlike=60.0)}


def test_named_rows_are_seen_among_their_neighbours_whatever_that_costs() -> None:
    of = packets(20_000, 250)
    named = list(range(100, 20_000, 250))
    assert looked(of, named) == [Stretch(row, row + 250) for row in range(0, 20_000, 250)]
    assert looked(packets(20_000, 250, marks=True), [5_100]) == [Stretch(5_000, 5_250, every=True)]


@pytest.mark.parametrize("seed", range(20))
def test_looks_are_in_order_apart_and_begin_at_keyframes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    is_key = rng.random(9_000) < rng.choice([0.005, 0.02, 0.2])
    is_key[0] = True
    of = Packets(np.arange(9_000) / 25, is_key, rng.integers(1, 9_000, 9_000) * (1 + 9 * is_key))
    keys = keyframes_seen(of, range(9_000))
    unlike = rng.integers(0, 90, len(keys) - 1).astype(np.float64)
    found = close_looks(of, range(9_000), keys=keys, unlike=unlike, named=NOTHING)
    assert found == sorted(found)
    assert all(a.stop <= b.start for a, b in itertools.pairwise(found))
    assert all(is_key[one.start] and one.num_frames > 0 for one in found)
    again = close_looks(of, range(9_000), keys=keys, unlike=unlike, named=NOTHING)
    assert again == found
