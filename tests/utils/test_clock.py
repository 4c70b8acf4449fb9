"""Times as text."""

from __future__ import annotations

import pytest

from m3video.utils.clock import whole_clock


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0:00"), (59.99, "0:59"), (599.9, "9:59"), (600, "0:10:00"), (-1, "0:00")]
)
def test_whole_clock(value: float, text: str) -> None:
    assert whole_clock(value) == text
