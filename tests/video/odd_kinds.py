"""How an odd input is described: how to make the file, and the outcome that it must have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.video.clips import Clip, write


@dataclass(frozen=True, slots=True)
class Readable:
    """What must be read.

    `numbers[i]` is painted in frame i, shown at `pts[i]` (None: not checked). When `partial`, at least `at_least` of
    the frames come out, each at its own time, and the damage is reported unless the container cannot tell
    (`is_damage_seen`). `note` must occur in the notes, `size` is (width, height) as displayed.
    """

    numbers: Sequence[int]
    pts: Sequence[int] | None = None
    partial: bool = False
    at_least: int = 0
    is_damage_seen: bool = True
    note: str = ""
    size: tuple[int, int] | None = None
    is_painted: bool = True
    is_scan_painted: bool = True


@dataclass(frozen=True, slots=True)
class Refused:
    """A `VideoError` of one line that contains `message`."""

    message: str


@dataclass(frozen=True, slots=True)
class OddInput:
    name: str
    maker: Callable[[Path], Path]
    outcome: Readable | Refused
    drop_root: bool = False

    def make(self, folder: Path) -> Path:
        return self.maker(folder)


@dataclass(slots=True)
class OddInputs:
    """Odd inputs of one kind, in the order in which they are defined."""

    inputs: list[OddInput] = field(default_factory=list)

    def clip(self, name: str, outcome: Readable | Refused, **how: Any) -> None:
        """Add an odd input that the encoder writes as it is."""
        self.inputs.append(OddInput(name, lambda folder: write(folder / name, Clip(**how)), outcome))

    def odd(self, name: str, outcome: Readable | Refused, *, drop_root: bool = False) -> Callable[..., Any]:
        """Add an odd input made by the decorated function from the path to write."""

        def add(maker: Callable[[Path], Path | None]) -> Callable[[Path], Path | None]:
            self.inputs.append(OddInput(name, lambda folder: maker(folder / name) or folder / name, outcome, drop_root))
            return maker

        return add


N = 60
"""Frames of a clip, where nothing else is said."""

ALL = Readable(range(N))
X264_OPEN = {"x264-params": "open-gop=1:bframes=3:b-adapt=0:scenecut=0:keyint=15:min-keyint=15"}


def every(step: int, *, start: int = 0, count: int = N) -> list[int]:
    """Times of `count` frames, `step` ticks apart."""
    return [start + step * i for i in range(count)]
