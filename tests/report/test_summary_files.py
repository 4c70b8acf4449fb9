"""Tables, subtitles and pages hold what the summary says, whatever words are in it."""

from __future__ import annotations

import csv
import io
import json
import re

from m3video.inference.summary.values import Chapter, Sentence, Summary
from m3video.report.summary_files import FORMATS

SUMMARY = Summary(
    video='a, "b".mp4',
    model="m",
    chapters=(
        Chapter(-0.5, 61.25, "first --> line\n\n2\n<b>|x|", 2, 4, 144),
        Chapter(61.25, 3700.0, "", 1, 2, 36),
    ),
    sentences=(
        Sentence('He said "so", twice.', 0.0, 61.25, (1,), True),
        Sentence("End --> all.", 0, 3700, (1, 2), False),
    ),
    depth=1,
    tokens={"visual": 180, "prompt": 200, "answer": 9},
    stage_seconds={},
    warnings=("careful",),
)


def test_json() -> None:
    value = json.loads(FORMATS["json"](SUMMARY))
    assert value["schema"] == "m3video.summary/2"
    assert value["summary"] == 'He said "so", twice. End --> all.'
    assert value["sentences"][1] == {
        "text": "End --> all.",
        "start_seconds": 0,
        "end_seconds": 3700,
        "chapters": [1, 2],
        "is_cited": False,
    }


def test_csv() -> None:
    rows = list(csv.DictReader(io.StringIO(FORMATS["csv"](SUMMARY))))
    assert [row["kind"] for row in rows] == ["summary", "summary", "chapter", "chapter"]
    assert rows[0]["text"] == 'He said "so", twice.'
    assert rows[2]["text"] == SUMMARY.chapters[0].caption
    assert {row["video"] for row in rows} == {'a, "b".mp4'}


def test_subtitles_have_a_cue_for_each_chapter_and_no_more() -> None:
    srt, vtt = FORMATS["srt"](SUMMARY), FORMATS["vtt"](SUMMARY)
    assert re.findall(r"^(.*) --> (.*)$", srt, re.M) == [
        ("00:00:00,000", "00:01:01,250"),
        ("00:01:01,250", "01:01:40,000"),
    ]
    assert len(srt.strip().split("\n\n")) == 2
    assert vtt.startswith("WEBVTT\n\nNOTE ")
    assert re.findall(r"^(.*) --> (.*)$", vtt, re.M) == [
        ("00:00:00.000", "00:01:01.250"),
        ("00:01:01.250", "01:01:40.000"),
    ]
    assert "first -&gt; line 2 &lt;b&gt;|x|" in vtt


def test_page() -> None:
    page = FORMATS["md"](SUMMARY)
    assert '- He said "so", twice. (0:00 - 1:01.25)' in page
    assert "| -0:00.50 - 1:01.25 | 2 | first --> line 2 <b>\\|x\\| |" in page
    assert "Note: careful" in page
