"""IntentQA: questions of five options about intentions, on videos of NExT-QA.

Source: https://github.com/JoseponLee/IntentQA, `test.csv`: the columns of NExT-QA, the video in `video_id` (its layout
is from memory of the publication; IG-VLM's table was checked against the real file).
"""

from __future__ import annotations

from pathlib import Path

from m3video.evaluation.benchmarks import ig_vlm
from m3video.evaluation.benchmarks.next_qa import add_choices
from m3video.evaluation.benchmarks.questions import Questions
from m3video.evaluation.benchmarks.tables import found, read_rows


def read(data: Path, questions: Questions, *, subtitles: bool) -> None:
    """Read `test.csv`, or IG-VLM's table.

    Raises:
        UsageError: the file is missing, or not as published.
    """
    path = found(data, "test.csv", "*IntentQA*.csv")
    rows = read_rows(path)
    if "video_name" in rows[0]:
        ig_vlm.read_choices(path, questions)
    else:
        add_choices(path, rows, questions, places={}, video="video_id")
