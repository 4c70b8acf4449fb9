"""Marks as clips for video editors: an EDL (CMX 3600) and an OpenTimelineIO file."""

from __future__ import annotations

from fractions import Fraction
from pathlib import PurePosixPath

from m3video.serve.errors import RequestError
from m3video.serve.exports import Exported, Info, Kept, Picture, cues_of
from m3video.types import VideoInfo

MOST_EVENTS = 999
"""Events that three digits can number."""


def frame_rate(info: VideoInfo) -> Fraction:
    """Return the average rate of a video in frames a second: 30000/1001 where it is near to that."""
    rate = Fraction(info.num_frames) / max(Fraction(info.duration_seconds), Fraction(1, 1000))
    nominal = max(1, round(rate))
    usual = [Fraction(nominal), Fraction(nominal * 1000, 1001)]
    near = min(usual, key=lambda one: abs(one - rate))
    return near if abs(near - rate) < Fraction(1, 200) * nominal / 30 else rate


def as_edl(kept: Kept, read_info: Info, picture: Picture) -> Exported:
    """Marks as the events of a CMX 3600 list, one after the other; time codes count frames, none is dropped."""
    cues = cues_of(kept)
    if len(cues) > MOST_EVENTS:
        raise RequestError(f"an EDL numbers at most {MOST_EVENTS} events, there are {len(cues)} marks: select some")
    rate = frame_rate(read_info())
    name = " ".join(PurePosixPath(kept.video).name.split())
    lines = [f"TITLE: {PurePosixPath(kept.video).stem}", "FCM: NON-DROP FRAME", ""]
    record = round(3600 * round(rate))  # lists begin at one hour, as tapes did
    for number, (start, until, text) in enumerate(cues, 1):
        first = round(start * rate)
        length = max(1, round(until * rate) - first)
        times = (first, first + length, record, record + length)
        lines.append(f"{number:03d}  AX       V     C        {' '.join(_timecode(at, round(rate)) for at in times)}")
        lines.append(f"* FROM CLIP NAME: {name}")
        if text.strip():
            lines.append(f"* COMMENT: {' '.join(text.split())}")
        lines.append("")
        record += length
    return Exported("\r\n".join(lines).encode(), ".edl", "text/plain; charset=utf-8")


def as_otio(kept: Kept, read_info: Info, picture: Picture) -> Exported:
    """Marks as the clips of an OpenTimelineIO timeline.

    Raises:
        RequestError: the package opentimelineio is not installed.
    """
    try:
        import opentimelineio as otio
    except ModuleNotFoundError:
        raise RequestError(
            "OpenTimelineIO files need a package: pip install opentimelineio, or export as EDL", status=501
        ) from None
    info = read_info()
    rate = float(frame_rate(info))

    def span(start: float, until: float) -> otio.opentime.TimeRange:
        first = round(start * rate)
        return otio.opentime.TimeRange(
            otio.opentime.RationalTime(first, rate),
            otio.opentime.RationalTime(max(1, round(until * rate) - first), rate),
        )

    timeline = otio.schema.Timeline(PurePosixPath(kept.video).stem)
    track = otio.schema.Track("marks", kind=otio.schema.TrackKind.Video)
    timeline.tracks.append(track)
    whole = span(0.0, info.pts_seconds(info.until_pts))
    for start, until, text in cues_of(kept):
        media = otio.schema.ExternalReference(target_url=kept.video, available_range=whole)
        name = " ".join(text.split()) or "mark"
        track.append(otio.schema.Clip(name, media_reference=media, source_range=span(start, until)))
    return Exported(otio.adapters.write_to_string(timeline, "otio_json").encode(), ".otio", "application/json")


def _timecode(frames: int, per_second: int) -> str:
    seconds, frame = divmod(frames, per_second)
    return f"{seconds // 3600:02d}:{seconds % 3600 // 60:02d}:{seconds % 60:02d}:{frame:02d}"
