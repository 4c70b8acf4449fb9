"""The image grid of IG-VLM: layout, prompts, reading answers."""

from __future__ import annotations

import numpy as np
import pytest

from m3video.errors import VideoError
from m3video.model.m3.image_grid import igvlm_indices, make_grid, mc_prompt, oe_prompt, parse_mc


def test_indices_are_segment_starts_of_one_frame_too_many() -> None:
    assert igvlm_indices(376 / 15, 15.0) == [0, 62, 124, 186, 248, 310]
    assert igvlm_indices(100.0, 10.0, start_seconds=2.0, end_seconds=5.9) == [20, 26, 32, 38, 44, 50]
    with pytest.raises(VideoError, match="6 frames"):
        igvlm_indices(0.3, 10.0)


def test_grid_is_row_major_with_white_filler_and_smallest_size() -> None:
    frames = [np.full((4, 6, 3), n * 10, np.uint8) for n in range(6)]
    grid = make_grid(frames)
    assert grid.shape == (12, 12, 3)
    assert [int(grid[row, column, 0]) for row in (0, 4, 8) for column in (0, 6)] == [0, 10, 20, 30, 40, 50]
    odd = make_grid([*frames[:4], np.full((8, 9, 3), 99, np.uint8)])
    assert odd.shape == (12, 12, 3)
    assert int(odd[8, 0, 0]) == 99
    assert (odd[8:, 6:] == 255).all()


def test_prompts_letter_any_number_of_options() -> None:
    assert "Question: why A:a. B:b. C:c. \nSelect" in mc_prompt("why", ["a", "b", "c"])
    assert mc_prompt("why", list("abcdefg")).count(":") == mc_prompt("why", list("ab")).count(":") + 5
    with pytest.raises(ValueError, match="2 to 26"):
        mc_prompt("why", ["a"])
    assert "Question: what is it? \n" in oe_prompt("what is it?")


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("B", 5, 1),
        ("B: stop", 5, 1),
        ("", 5, None),
        ("   ", 5, None),
        ("The answer is C) stop", 5, 2),
        ("A. But the answer is D: x", 5, 3),
        ("stop", 5, None),
        ("E", 4, None),
        ("G", 7, 6),
        ("(B) x", 5, 1),
        ("USER: A: x ASSISTANT:\nC", 5, 2),
        ("F: x", 5, None),
    ],
)
def test_reading_an_answer(text: str, options: int, expected: int | None) -> None:
    assert parse_mc(text, options) == expected
