"""What is drawn is what the truth says, and what training sees is what inference will see."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from m3video.model.m3.images import pad_pixels
from m3video.training.footage import clip_frames, normalise_squares, random_clip, shot_frames, square, through_h264
from m3video.training.render import (
    BACKGROUND_CELL,
    PAD_CELL,
    PHOTOS,
    SHAPE_CELL,
    SIGN_CELL,
    TABLE_CELL,
    TEXTURES,
    TILE_CELL,
    draw,
    natural_picture,
)
from m3video.training.sample import sample_clip, write_sample
from m3video.training.scenes import Font, facts_at, place_of, sample_shot
from m3video.training.words import COLOURS, GLYPHS, PLACES, RGB, SHAPES
from tests.paths import SAMPLE


@pytest.mark.parametrize("content", ["shapes", "sign", "board", "table", "page", "empty", "crowd", "street"])
@pytest.mark.parametrize("seed", range(6))
def test_drawing_is_repeatable_and_of_the_right_size(content: str, seed: int) -> None:
    shot = sample_shot(random.Random(seed), content=content)
    picture, labels = draw(shot, 0.4)
    again, _ = draw(shot, 0.4)
    assert picture.shape == (shot.size[1], shot.size[0], 3)
    assert picture.dtype == np.uint8
    assert np.array_equal(picture, again)
    assert all(label.shape == (24, 24) for label in labels)


@pytest.mark.parametrize("seed", range(12))
def test_a_plain_day_background_has_its_colour(seed: int) -> None:
    shot = replace(sample_shot(random.Random(seed), content="empty"), backdrop="plain", night=False, noise=0.0)
    if shot.background not in COLOURS:
        shot = replace(shot, background="cyan")
    middle = draw(shot, 0.5)[0].reshape(-1, 3).mean(0)
    nearest = min(RGB, key=lambda name: float(np.abs(middle - np.array(RGB[name])).sum()))
    assert nearest == shot.background


@pytest.mark.parametrize("seed", range(8))
def test_night_is_darker_than_day_with_the_same_hue(seed: int) -> None:
    shot = replace(sample_shot(random.Random(seed), content="empty"), backdrop="plain", background="orange", noise=0.0)
    day, night = (draw(replace(shot, night=flag), 0.5)[0].reshape(-1, 3).mean(0) for flag in (False, True))
    assert night.mean() < 0.55 * day.mean()
    assert np.argsort(night).tolist() == np.argsort(day).tolist()


@pytest.mark.parametrize("seed", range(12))
def test_cell_labels_lie_where_the_shape_is(seed: int) -> None:
    shot = replace(sample_shot(random.Random(seed), content="shapes"), size=(320, 180))
    labels = draw(shot, 0.5)[1]
    assert (labels.kind_GG[:5] == PAD_CELL).all()
    assert (labels.kind_GG[6:18] != PAD_CELL).all()
    there = labels.kind_GG == SHAPE_CELL
    assert there.any()
    assert set(labels.colour_GG[there]) <= {COLOURS.index(s.colour) + 1 for s in shot.shapes}
    assert set(labels.shape_GG[there]) <= {SHAPES.index(s.kind) + 1 for s in shot.shapes}
    assert (labels.shape_GG[labels.kind_GG == BACKGROUND_CELL] == 0).all()
    for shape in shot.shapes:
        x, y = shape.centre(0.5)
        if shape.kind != "ring" and 0.12 < y < 0.88:
            row, column = int((y * 180 + 70) / 320 * 24), int(x * 24)
            assert labels.shape_GG[row, column] == SHAPES.index(shape.kind) + 1
            assert labels.place_GG[row, column] == PLACES.index(place_of(x, y)[0]) + 1
    assert ((labels.place_GG > 0) == there).all()


@pytest.mark.parametrize("held_out", [True, False])
def test_no_sign_loses_a_letter_at_the_edge(held_out: bool) -> None:
    rng = random.Random(5)
    wide = Font("complex", stretch=1.3, slant=0.15)
    for _ in range(40):
        shot = sample_shot(rng, held_out=held_out, content="sign")
        assert shot.sign is not None
        if not held_out:
            shot = replace(shot, sign=replace(shot.sign, font=wide))
        assert shot.sign is not None
        order = draw(shot, 0.5)[1].order_GG
        assert set(order[order > 0]) == set(range(1, len(shot.sign.text) + 1)), shot.sign


def test_glyph_and_tile_labels() -> None:
    rng = random.Random(3)
    shot = sample_shot(rng, content="sign")
    labels = draw(shot, 0.5)[1]
    assert shot.sign is not None
    glyphs = {GLYPHS[g - 1] for g in labels.glyph_GG[labels.glyph_GG > 0]}
    assert glyphs == set(shot.sign.text.upper())
    assert (labels.kind_GG == SIGN_CELL).any()
    shot = sample_shot(rng, content="board")
    labels = draw(shot, 0.5)[1]
    assert shot.board is not None
    for row, column in zip(*np.nonzero(labels.kind_GG == TILE_CELL), strict=True):
        r, c = divmod(int(labels.tile_GG[row, column]), 12)
        assert labels.colour_GG[row, column] == COLOURS.index(shot.board[r][c]) + 1


def test_held_out_pictures_are_not_trained_on() -> None:
    for group in (TEXTURES, PHOTOS):
        assert not set(group["train"]) & set(group["held_out"])
        for name in (*group["train"], *group["held_out"]):
            assert natural_picture(name).shape[2] == 3


@pytest.mark.parametrize("size", [(320, 180), (180, 320), (336, 336), (640, 361)])
def test_training_pixels_are_the_products_pixels(size: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    ours = normalise_squares(square(picture)[None])
    assert np.allclose(ours, pad_pixels([picture]).numpy(), atol=1e-5)


def test_h264_keeps_number_size_and_look() -> None:
    shot = replace(sample_shot(random.Random(1), content="shapes"), size=(320, 240), backdrop="plain", noise=0.0)
    pictures = [draw(shot, moment)[0] for moment in (0.1, 0.5, 0.9)]
    coded = through_h264(pictures, crf=23)
    assert [p.shape for p in coded] == [p.shape for p in pictures]
    assert all(np.abs(a.astype(int) - b).mean() < 8 for a, b in zip(pictures, coded, strict=True))


def test_shot_frames_match_their_facts() -> None:
    squares, labels, facts = shot_frames(random.Random(5), num_frames=3, h264=False)
    assert squares.shape == (3, 336, 336, 3)
    assert len(labels) == len(facts) == 3


def test_a_clip_shows_each_shot_in_its_time() -> None:
    clip = random_clip(random.Random(2), num_shots=3)
    first, second, _ = clip.seconds
    assert clip.where(0.0) == (0, 0.0)
    assert clip.where(first + second / 2)[0] == 1
    assert clip.where(clip.duration + 1)[0] == 2
    assert clip.facts(first + 0.01) == facts_at(clip.shots[1], 0.01 / second)
    frames = list(clip_frames(clip, fps=2))
    assert [time for time, _ in frames] == [n / 2 for n in range(int(clip.duration * 2))]


def test_the_shipped_sample_is_what_its_script_writes(tmp_path: Path) -> None:
    write_sample(tmp_path / "sample.mp4")
    assert SAMPLE.stat().st_size < 400_000
    with av.open(str(SAMPLE)) as shipped, av.open(str(tmp_path / "sample.mp4")) as fresh:
        assert shipped.streams.video[0].codec_context.pix_fmt == "yuv420p"
        pairs = list(zip(shipped.decode(video=0), fresh.decode(video=0), strict=True))
    assert len(pairs) == int(sample_clip().duration * 15)
    # Another build of the encoder may choose other bits; the pictures must look the same.
    for a, b in pairs[::30]:
        assert np.abs(a.to_ndarray(format="rgb24").astype(int) - b.to_ndarray(format="rgb24")).mean() < 4


@pytest.mark.parametrize("size", [(640, 360), (180, 320), (336, 336)])
@pytest.mark.parametrize("seed", range(4))
def test_glyph_labels_lie_on_the_sign(size: tuple[int, int], seed: int) -> None:
    shot = replace(sample_shot(random.Random(seed), content="sign"), size=size)
    labels = draw(shot, 0.5)[1]
    assert (labels.glyph_GG > 0).any()
    assert (labels.kind_GG[labels.glyph_GG > 0] == SIGN_CELL).all()


@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_a_tables_labels_are_its_digits(seed: int, held_out: bool) -> None:
    shot = sample_shot(random.Random(seed), content="table", held_out=held_out)
    labels = draw(shot, 0.5)[1]
    assert shot.table is not None
    there = labels.kind_GG == TABLE_CELL
    assert ((labels.tile_GG >= 0) == there).all()
    assert (there | (labels.glyph_GG == 0)).all()
    assert (labels.order_GG == 0).all()
    found = set(zip(labels.tile_GG[labels.glyph_GG > 0], labels.glyph_GG[labels.glyph_GG > 0], strict=True))
    assert found == {
        (r * 12 + c, GLYPHS.index(digit) + 1) for r, line in enumerate(shot.table) for c, digit in enumerate(line)
    }


def test_a_streets_letters_are_those_of_its_signs_in_their_order() -> None:
    seen = told = 0
    for seed in range(30):
        shot = sample_shot(random.Random(seed), content="street")
        assert 2 <= len(shot.more_signs) <= 6
        assert facts_at(shot, 0.5).sign is None
        labels = draw(shot, 0.5)[1]
        lettered = labels.glyph_GG > 0
        assert ((labels.order_GG > 0) == lettered).all()
        true = {(n, glyph) for sign in shot.more_signs for n, glyph in enumerate(sign.text.upper(), 1)}
        pairs = zip(labels.order_GG[lettered], labels.glyph_GG[lettered], strict=True)
        found = {(int(order), GLYPHS[glyph - 1]) for order, glyph in pairs}
        assert found <= true
        seen, told = seen + len(found), told + len(true)
    # Of the smallest letters two share a cell.
    assert seen > 0.8 * told


@pytest.mark.parametrize("seed", range(12))
def test_the_letters_of_a_sign_are_counted_from_the_left(seed: int) -> None:
    shot = sample_shot(random.Random(seed), content="sign")
    labels = draw(shot, 0.5)[1]
    assert shot.sign is not None
    columns = [np.nonzero(labels.order_GG == n)[1].mean() for n in range(1, len(shot.sign.text) + 1)]
    assert columns == sorted(columns)
    assert labels.order_GG.max() == len(shot.sign.text)
    assert ((labels.order_GG > 0) == (labels.glyph_GG > 0)).all()


def test_any_shot_has_one_content_and_no_crowd_or_street() -> None:
    shots = [sample_shot(random.Random(seed)) for seed in range(300)]
    seen = {"shapes": 0, "sign": 0, "board": 0, "table": 0, "page": 0}
    for shot in shots:
        has = [name for name in seen if getattr(shot, name)]
        assert len(has) <= 1
        assert len(shot.shapes) <= 3
        assert not shot.more_signs
        for name in has:
            seen[name] += 1
    assert min(seen.values()) >= 5
    assert sum(seen.values()) < len(shots), "some are empty"
