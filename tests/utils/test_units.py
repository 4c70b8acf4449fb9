"""Sizes in bytes as text."""

from __future__ import annotations

import pytest

from m3video.config import load_settings
from m3video.errors import UsageError
from m3video.utils.units import GIB, MIB, parse_size, size_text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8GiB", 8 * GIB),
        ("8gib", 8 * GIB),
        (" 8 GiB ", 8 * GIB),
        ("8GB", 8 * 10**9),
        ("8192MiB", 8 * GIB),
        ("1.5GiB", 3 * GIB // 2),
        ("700000kB", 700_000_000),
        ("123B", 123),
        ("1TiB", 1024 * GIB),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["8", "", "GiB", "-8GiB", "8 gigs", "8GiBs", "1e3MiB", "inf GiB", "0GiB", "0.1B"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="size \\("):
        parse_size(text)


def test_size_text() -> None:
    assert size_text(512 * MIB) == "512 MiB"
    assert size_text(13.2 * GIB) == "13.2 GiB"


def test_a_wrong_memory_names_where_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"--memory \(8\): size \(8\) must be a number with a unit"):
        load_settings({"memory": "8"})
    monkeypatch.setenv("M3VIDEO_MEMORY", "much")
    with pytest.raises(UsageError, match=r"M3VIDEO_MEMORY \(much\)"):
        load_settings({})
    monkeypatch.setenv("M3VIDEO_MEMORY", "auto")
    assert load_settings({}).memory == "auto"
    with pytest.raises(UsageError, match="--memory says which frames"):
        load_settings({"layout": "grid"})
