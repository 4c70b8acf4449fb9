"""Exports are read back by what others read them with: JSON, CSV, subtitles through FFmpeg, OpenTimelineIO."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import opentimelineio
import pytest

from m3video.serve.edit_lists import as_edl, as_otio, frame_rate
from m3video.serve.errors import RequestError
from m3video.serve.exports import Kept, as_csv, as_json, as_markdown, as_report, as_srt, as_vtt, file_name
from m3video.types import PlannedFrame, VideoInfo
from m3video.video.reader import probe
from tests.paths import SAMPLE

NASTY = '=1+1 <script>alert("x")</script> | *bold* --> \n\nsecond line'


def read_info() -> VideoInfo:
    return probe(SAMPLE)


def picture(frame: PlannedFrame) -> bytes | None:
    return b"\xff\xd8 jpeg" if frame.pts == 0 else None


def kept(**more: Any) -> Kept:
    """Notes with one answer and two marks, one of them over a range."""
    frames = [{"pts": pts, "pts_seconds": pts / 15360, "scale": 9} for pts in (0, 15360)]
    evidence = {"ranges": [{"start_seconds": 0.0, "end_seconds": 1.0, "pts": [0, 15360], "nats": 4.5}]}
    record = {"model": "rendered", "tokens": {"visual": 18}, "evidence": evidence, "plan": {"frames": frames}}
    answer = {"id": 1, "asked_at": 0.0, "question": NASTY, "answer": "green", "record": record, "video": "sample.mp4"}
    marks = [
        {"id": 1, "start": 0.5, "until": None, "text": NASTY, "made_at": 0.0},
        {"id": 2, "start": 3.0, "until": 3661.25, "text": "star", "made_at": 0.0},
    ]
    return Kept(**{"video": "sub/sample.mp4", "answers": [answer], "marks": marks, **more})


def test_json_holds_everything() -> None:
    value = json.loads(as_json(kept(), read_info, picture).data)
    assert (value["answers"], value["marks"]) == (kept().answers, kept().marks)


def test_csv_is_read_back_and_no_cell_is_a_formula() -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(kept(), read_info, picture).data.decode("utf-8-sig"))))
    assert [row["kind"] for row in rows] == ["answer", "mark", "mark"]
    assert rows[0]["question"] == rows[1]["text"] == "'" + NASTY
    assert (rows[2]["start_seconds"], rows[2]["end_seconds"]) == ("3.0", "3661.25")
    assert not any((cell or "").startswith(("=", "+", "-", "@")) for row in rows for cell in row.values())


@pytest.mark.parametrize("export", [as_srt, as_vtt])
def test_subtitles_are_read_by_ffmpeg(export: Any, tmp_path: Path) -> None:
    made = export(kept(), read_info, picture)
    path = tmp_path / f"x{made.ending}"
    path.write_bytes(made.data)
    with av.open(str(path)) as file:
        times = [
            (float(packet.pts * packet.time_base), float((packet.pts + packet.duration) * packet.time_base))
            for packet in file.demux()
            if packet.size
        ]
    assert times == [(0.5, 2.5), (3.0, 3661.25)]
    assert "second line" in made.data.decode()


def test_markdown_and_report_show_words_and_no_markup_of_users() -> None:
    markdown = as_markdown(kept(), read_info, picture).data.decode()
    assert "\\*bold\\*" in markdown
    assert "<script" not in markdown.replace("\\<script", "")
    report = as_report(kept(), read_info, picture).data.decode()
    assert "<script" not in report
    assert "&lt;script&gt;" in report
    assert not re.search(r'(?:src|href)="(?!data:)', report)
    assert report.count("<figure>") == 2
    assert "cannot be decoded" in report


def test_an_edit_list_counts_frames() -> None:
    lines = as_edl(kept(), read_info, picture).data.decode().split("\r\n")
    events = [line for line in lines if re.match(r"\d{3} ", line)]
    assert events == [
        "001  AX       V     C        00:00:00:08 00:00:02:08 01:00:00:00 01:00:02:00",
        "002  AX       V     C        00:00:03:00 01:01:01:04 01:00:02:00 02:01:00:04",
    ]
    assert "* FROM CLIP NAME: sample.mp4" in lines


def test_opentimelineio_reads_its_clips() -> None:
    text = as_otio(kept(), read_info, picture).data.decode()
    timeline = opentimelineio.adapters.read_from_string(text, "otio_json")
    clips = list(timeline.find_clips())
    assert [clip.source_range.start_time.to_seconds() for clip in clips] == pytest.approx([0.5, 3.0], abs=1 / 15)
    assert clips[1].name == "star"


@pytest.mark.parametrize("export", [as_srt, as_vtt, as_edl, as_otio])
def test_formats_of_marks_need_one(export: Any) -> None:
    with pytest.raises(RequestError, match="there are no marks"):
        export(kept(marks=[]), read_info, picture)


def test_an_edit_list_has_no_more_events_than_it_can_number() -> None:
    marks = [{"id": i, "start": float(i), "until": None, "text": "", "made_at": 0.0} for i in range(1000)]
    with pytest.raises(RequestError, match="at most 999"):
        as_edl(kept(marks=marks), read_info, picture)


def test_the_rate_of_ntsc_is_a_fraction_and_others_are_whole() -> None:
    info = replace(probe(SAMPLE), time_base=(1, 30000), start_pts=0, last_duration=1001, num_frames=3000)
    assert frame_rate(replace(info, end_pts=2999 * 1001)) == Fraction(30000, 1001)
    assert frame_rate(replace(info, end_pts=2999 * 1000, last_duration=1000)) == 30


def test_an_export_is_named_after_its_video() -> None:
    assert file_name("sub/ما هذا.mp4", ".srt") == "ما هذا.srt"
