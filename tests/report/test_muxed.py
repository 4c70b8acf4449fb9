"""Subtitles fit when they are put back into the file: each cue begins with the packet of its chapter's first frame."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from m3video.config import Settings
from m3video.inference.first_pass import analyze_video
from m3video.inference.pipeline import open_for
from m3video.inference.summary.chapters import find_spans
from m3video.inference.summary.values import Chapter, Summary
from m3video.report.summary_files import FORMATS
from tests.video.clips import Clip, write

N = 75
SOUND_FIRST = Clip(numbers=range(N), times=[125 + i for i in range(N)], audio=True)
PICTURE_FIRST = Clip(numbers=range(N), audio=True, audio_start=0.4)
AT_TEN = Clip(numbers=range(N), times=[250 + i for i in range(N)])
UNEVEN = Clip(numbers=range(N), times=[40 + i * (i + 3) // 4 for i in range(N)], audio=True, b_frames=0)
CLIPS = {"sound first": SOUND_FIRST, "picture first": PICTURE_FIRST, "from ten seconds": AT_TEN, "uneven": UNEVEN}


def chapters_of(path: Path) -> tuple[Summary, list[int]]:
    """Chapters of about half a second, and the row of the frame that each begins with."""
    with open_for(path, Settings()) as reader:
        info, stats = reader.info, analyze_video(reader)
    spans = find_spans(stats, end_pts=info.until_pts, most_shots=99, most_seconds=0.5)
    rows = [int(np.searchsorted(stats.pts_N, span.stats.pts_N[0])) for span in spans]
    chapters = tuple(Chapter(s.start_seconds, s.end_seconds, "words", 1, 1, 1) for s in spans)
    return Summary(str(path), "m", chapters, (), 0, {}, {}), rows


def cues_of(path: Path) -> list[Any]:
    with av.open(str(path)) as text:
        return [packet for packet in text.demux() if packet.size]


def mux(video: Path, text: Path, out: Path) -> None:
    """Pictures and sound copied, with the file's start taken as 0; cues at the times that they say, as FFmpeg does."""
    with av.open(str(video)) as source, av.open(str(text)) as words, av.open(str(out), "w") as target:
        zero = Fraction(source.start_time or 0, 10**6)
        copies = {s.index: target.add_stream_from_template(s) for s in source.streams if s.type in ("video", "audio")}
        read = [packet for packet in source.demux(*(source.streams[index] for index in copies)) if packet.size]
        packets = []
        for number, packet in enumerate(read):
            if packet.dts is None:  # Matroska keeps none, and B-frames hide those of the first packets
                same = [other for other in read[number:] if other.stream is packet.stream]
                known = next(place for place, other in enumerate(same) if other.dts is not None)
                packet.dts = same[known].dts - known
            packet.pts -= round(zero / packet.time_base)
            packet.dts -= round(zero / packet.time_base)
            packets.append((packet.dts * packet.time_base, packet, copies[packet.stream.index]))
        is_mp4, lines = out.suffix == ".mp4", words.streams[0]
        cues = target.add_stream("mov_text") if is_mp4 else target.add_stream_from_template(lines)
        decoder = lines.codec_context
        for packet in [packet for packet in words.demux() if packet.size]:
            cue = packet
            if is_mp4:
                shown = decoder.decode2(packet)
                cues.codec_context.subtitle_header = decoder.subtitle_header
                cue = cues.codec_context.encode_subtitle(shown)
                cue.pts, cue.dts, cue.duration = packet.pts, packet.pts, packet.duration
                cue.time_base = packet.time_base
            packets.append((packet.pts * packet.time_base, cue, cues))
        for _, packet, stream in sorted(packets, key=lambda item: item[0]):
            packet.stream = stream
            target.mux(packet)


def times(path: Path, kind: str) -> list[float]:
    """When the packets of a stream are shown; MP4 fills the time without subtitles with empty ones of two bytes."""
    with av.open(str(path)) as container:
        stream = next(s for s in container.streams if s.type == kind)
        least = 2 if kind == "subtitle" else 0
        return sorted(float(p.pts * p.time_base) for p in container.demux(stream) if p.size > least)


@pytest.mark.parametrize("clip", CLIPS.values(), ids=CLIPS)
@pytest.mark.parametrize("container", ["mp4", "mkv", "ts"])
def test_cues_begin_with_their_frames(container: str, clip: Clip, tmp_path: Path) -> None:
    video = write(tmp_path / f"film.{container}", clip)
    summary, rows = chapters_of(video)
    assert len(rows) > 3
    for kind, target in itertools.product(("srt", "vtt"), ("mkv", "mp4")):
        if (kind, target) == ("vtt", "mp4"):
            continue
        text, out = tmp_path / f"film.{kind}", tmp_path / f"out.{kind}.{target}"
        text.write_text(FORMATS[kind](summary), encoding="utf-8")
        mux(video, text, out)
        pictures, cues = times(out, "video"), times(out, "subtitle")
        assert len(pictures) == N
        # Half a millisecond of the cue's own rounding, and that of Matroska.
        assert cues == pytest.approx([pictures[row] for row in rows], abs=0.00151)
