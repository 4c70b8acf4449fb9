"""What an odd input is, and the list that the modules beside this one fill: see odd_inputs.py."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.made_once import made_once
from tests.video.clips import Clip, write


@dataclass(frozen=True, slots=True)
class Readable:
    """What must come out.

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
        """Write it into `folder`, for a test that changes it."""
        return self.maker(folder)

    def path(self) -> Path:
        """Return the one that all tests of a session read and none changes."""
        return made_once(f"odd-{hashlib.sha256(self.name.encode()).hexdigest()[:16]}", self.maker)


ODD_INPUTS: list[OddInput] = []
N = 60
X264_OPEN = {"x264-params": "open-gop=1:bframes=3:b-adapt=0:scenecut=0:keyint=15:min-keyint=15"}
X265_OPEN = {"x265-params": "log-level=none:open-gop=1:bframes=3:keyint=15:min-keyint=15:scenecut=0"}
X265 = {"x265-params": "log-level=none"}


def clip(name: str, outcome: Readable | Refused, **how: Any) -> None:
    """An odd input that the encoder writes as it is."""
    ODD_INPUTS.append(OddInput(name, lambda folder: write(folder / name, Clip(**how)), outcome))


def odd(name: str, outcome: Readable | Refused, *, drop_root: bool = False) -> Callable[..., Any]:
    """An odd input made by the decorated function from the path to write."""

    def keep(maker: Callable[[Path], Path | None]) -> Callable[[Path], Path | None]:
        ODD_INPUTS.append(OddInput(name, lambda folder: maker(folder / name) or folder / name, outcome, drop_root))
        return maker

    return keep


def every(step: int, *, start: int = 0, count: int = N) -> list[int]:
    return [start + step * i for i in range(count)]


ALL = Readable(range(N))
