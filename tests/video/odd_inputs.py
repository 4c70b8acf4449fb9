"""Odd and hostile inputs, made with PyAV's encoders and byte surgery, each with the outcome that it must have.

`ODD_INPUTS` lists them, and `REPRESENTATIVES` one or two of each outcome. `odd.path()` is the path to open (it may be
a directory, a FIFO or nothing at all), shared by all tests; `odd.outcome` is `Readable` or `Refused`.
"""

from __future__ import annotations

from tests.video import odd_damaged, odd_readable
from tests.video.odd_input import ODD_INPUTS, X264_OPEN, OddInput, Readable, Refused

__all__ = ["ODD_INPUTS", "OUTCOMES", "REPRESENTATIVES", "X264_OPEN", "OddInput", "Readable", "Refused"]

# The list is complete once both of these are imported.
assert odd_damaged.odd is odd_readable.odd

OUTCOMES = {
    "reads fine": ("b_frames.mp4", "two\nlines.mp4"),
    "varying frame rate": ("vfr.mkv",),
    "late or negative start": ("start_10s.mkv", "leading_frames_cut_by_edit_list.mp4"),
    "rotated": ("turned_90.mp4",),
    "few frames": ("one_frame.mp4",),
    "no timestamps": ("no_pts_h264.avi", "raw.hevc"),
    "timestamps that jump": ("times_jump_back.ts",),
    "open GOP": ("open_gop_h264.mp4", "cut_in_open_gop.ts"),
    "sizes that change": ("resolution_change.ts",),
    "false claims": ("claims_a_century.mp4",),
    "damaged": ("damaged_middle.mp4", "hole_of_zeros.ts"),
    "truncated": ("tail_cut_off.mp4", "tail_cut_off.mkv"),
    "refused: no video": ("empty.mp4", "random.mp4", "sound_with_cover.m4a"),
    "refused: no frame": ("encrypted.mp4",),
    "refused: huge": ("too_many_pixels.avi",),
    "refused: leads elsewhere": ("hls.mp4",),
    "refused: no file": ("fifo.mp4", "missing.mp4"),
}
REPRESENTATIVES = [odd for names in OUTCOMES.values() for odd in ODD_INPUTS if odd.name in names]
