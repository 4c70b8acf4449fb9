"""Frames as sums of facts: what a token carries, and the frames that the symbolic stage reads."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest
import torch

from m3video.model.m3.pooling import pool
from m3video.training.facts import FactKey, fact_ids, local_ids
from m3video.training.symbols import FOCUS, FramePool, Symbols, composed, draw_frames, fine_rows, focus
from m3video.types import SCALES
from tests.training.drawn import CONTENTS, frame_of, shot_of

WIDTH = 192
FRAMES = [frame_of(shot_of(content, seed)) for content in CONTENTS for seed in range(3)]


@pytest.fixture(scope="module")
def symbols() -> Symbols:
    return Symbols(WIDTH)


@pytest.fixture(scope="module")
def drawn() -> FramePool:
    return draw_frames("a seed", 120)


@pytest.mark.parametrize("keys", [fact_ids(), local_ids()])
def test_first_vectors_have_unit_variance_and_differ(keys: dict[FactKey, int]) -> None:
    rows = composed(keys, WIDTH)
    assert rows.shape == (len(keys), WIDTH)
    loud = rows.square().mean(1)
    # Fewer than a score of parts are behind hundreds of rows: their mean is not one to the last digit.
    assert 0.75 < float(loud.mean()) < 1.4
    assert float(loud.min()) > 0.3
    assert float(loud.max()) < 3
    alike = torch.nn.functional.normalize(rows, dim=1)
    likeness = alike @ alike.T - 2 * torch.eye(len(keys))
    assert float(likeness.max()) < 0.9
    assert torch.equal(rows, composed(keys, WIDTH))


def test_what_shares_a_name_is_more_alike_than_what_shares_none() -> None:
    rows = torch.nn.functional.normalize(composed(local_ids(), WIDTH), dim=1)
    ids = local_ids()

    def likeness(one: FactKey, other: FactKey) -> float:
        return float(rows[ids[one]] @ rows[ids[other]])

    for mate, stranger in (
        (("tile", 2, 3, "blue"), ("tile", 7, 8, "blue")),
        (("entry", 2, 3, "5"), ("entry", 4, 1, "5")),
        (("tile", 2, 9, "red"), ("tile", 1, 4, "green")),
    ):
        assert likeness(("tile", 2, 3, "red"), mate) > likeness(("tile", 2, 3, "red"), stranger) + 0.1


@pytest.mark.parametrize("scale", SCALES)
def test_a_frames_tokens_carry_the_whole_and_their_own_cells(symbols: Symbols, scale: int) -> None:
    cells = np.stack([cells_C for _, cells_C in FRAMES])
    with torch.no_grad():
        tokens = symbols.tokens(FRAMES, [scale] * len(FRAMES)).view(len(FRAMES), scale, WIDTH)
        wholes = symbols.whole([facts for facts, _ in FRAMES])
        local = symbols.cells(cells)
    assert (local[torch.from_numpy(cells) < 0] == 0).all()
    assert torch.allclose(tokens, wholes[:, None] + pool(local, scale), atol=1e-4)
    # Pooling keeps the mean: at every scale a frame's tokens say the same in all.
    assert torch.allclose(tokens.mean(1), wholes + local.mean(1), atol=1e-4)
    for (facts, _), tokens_SD, whole_D in zip(FRAMES, tokens, wholes, strict=True):
        bare = facts.page or not (facts.shapes or facts.sign or facts.board or facts.table)
        assert torch.allclose(tokens_SD, whole_D.expand(scale, -1)) == bare


def test_tokens_of_several_scales_are_packed_in_order(symbols: Symbols) -> None:
    scales = [SCALES[n % len(SCALES)] for n in range(len(FRAMES))]
    with torch.no_grad():
        packed = symbols.tokens(FRAMES, scales)
        apart = [symbols.tokens([frame], [scale]) for frame, scale in zip(FRAMES, scales, strict=True)]
    assert packed.shape == (sum(scales), WIDTH)
    assert torch.allclose(packed, torch.cat(apart), atol=1e-5)


def test_a_whole_is_the_sum_of_its_facts(symbols: Symbols) -> None:
    night, day = (facts._replace(night=flag) for facts, _ in FRAMES[:1] for flag in (True, False))
    with torch.no_grad():
        one, other = symbols.whole([night, day])
        turned = symbols.facts.weight[fact_ids()["night", True]] - symbols.facts.weight[fact_ids()["night", False]]
    assert torch.allclose(one - other, turned, atol=1e-5)


def test_a_seed_always_draws_the_same_frames(drawn: FramePool) -> None:
    few = draw_frames("a seed", 12)
    assert [facts for facts, _ in few.frames] == [facts for facts, _ in drawn.frames[:12]]
    assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(few.frames, drawn.frames, strict=False))
    assert few.fine == {name: [row for row in rows if row < 12] for name, rows in drawn.fine.items()}
    other = draw_frames("another seed", 12)
    assert [facts for facts, _ in few.frames] != [facts for facts, _ in other.frames]


def test_fine_frames_are_those_that_one_token_cannot_tell(drawn: FramePool) -> None:
    assert set(drawn.fine) == set(FOCUS)
    why = {row: name for name, rows in drawn.fine.items() for row in rows}
    assert len(why) == sum(map(len, drawn.fine.values())), "a frame is fine for one reason"
    for row, (facts, cells) in enumerate(drawn.frames):
        reasons = {"board": facts.board, "table": facts.table, "sign": facts.sign, "shapes": len(facts.shapes) > 1}
        assert why.get(row) == next((name for name, there in reasons.items() if there), None)
        assert row not in why or (cells >= 0).any()
    assert all(drawn.fine.values())
    assert 20 < len(why) < 100


def test_each_focus_is_on_frames_of_one_kind(drawn: FramePool) -> None:
    seen = [focus(random.Random(seed), drawn.fine) for seed in range(200)]
    counts = {name: sum(rows == drawn.fine[name] for rows in seen) for name in FOCUS}
    assert sum(counts.values()) == 200
    assert sorted(counts, key=counts.__getitem__)[-1] == max(FOCUS, key=FOCUS.__getitem__)
    assert min(counts.values()) > 10
    only = fine_rows([facts for facts, _ in FRAMES if facts.board])
    assert {tuple(focus(random.Random(seed), only)) for seed in range(20)} == {tuple(only["board"])}


def test_a_clips_frames_stay_a_while_and_are_drawn_afresh(drawn: FramePool) -> None:
    frames = drawn.sample(random.Random(1), 400)
    again = drawn.sample(random.Random(1), 400)
    assert len(frames) == 400
    assert [facts for facts, _ in frames] == [facts for facts, _ in again]
    stays = sum(a is b for a, b in pairwise(frames))
    assert 100 < stays < 250
    assert not {facts.board for facts, _ in frames if facts.board} & {facts.board for facts, _ in drawn.frames}
    assert [len(drawn.sample(random.Random(n), n)) for n in range(1, 9)] == list(range(1, 9))


def test_fine_clips_are_mostly_of_one_kind_of_detail(drawn: FramePool) -> None:
    most = set()
    for seed in range(30):
        frames = [facts for facts, _ in drawn.sample(random.Random(seed), 200, fine=True)]
        shares = {name: len(rows) / 200 for name, rows in fine_rows(frames).items()}
        name = max(shares, key=shares.__getitem__)
        most.add(name)
        assert shares[name] > 0.7
        assert shares[name] < 1, "other frames stand between"
    assert most == set(FOCUS)
