"""Odd and hostile inputs, made with PyAV's encoders and byte surgery, each with the outcome that it must have.

`ODD_INPUTS` lists them. `odd.make(folder)` writes one into an existing folder and returns the path to open (which may
be a directory, a FIFO or nothing at all); `odd.outcome` is `Readable` or `Refused`.
"""

from __future__ import annotations

from tests.video.odd_containers import CONTAINERS
from tests.video.odd_damage import DAMAGE
from tests.video.odd_kinds import X264_OPEN, OddInput, Readable, Refused
from tests.video.odd_refused import REFUSED
from tests.video.odd_streams import STREAMS

__all__ = ["ODD_INPUTS", "X264_OPEN", "OddInput", "Readable", "Refused"]

ODD_INPUTS: list[OddInput] = [*STREAMS.inputs, *CONTAINERS.inputs, *DAMAGE.inputs, *REFUSED.inputs]
