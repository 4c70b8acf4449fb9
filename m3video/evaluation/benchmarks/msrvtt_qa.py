"""MSRVTT-QA: open questions made from captions, answered in one word.

Source: https://github.com/xudejing/video-question-answering, `test_qa.json`. Also IG-VLM's table.
"""

from __future__ import annotations

from pathlib import Path

from m3video.evaluation.benchmarks import ig_vlm
from m3video.evaluation.benchmarks.questions import Questions
from m3video.evaluation.benchmarks.tables import find, found, need, read_rows


def read(data: Path, questions: Questions, *, subtitles: bool) -> None:
    """Read `test_qa.json`, or IG-VLM's table.

    Raises:
        UsageError: a file is missing, or not as published.
    """
    path = find(data, "test_qa.json")
    if path is None:
        ig_vlm.read_open(found(data, "*MSRVTT_QA*.csv", "test_qa.json"), questions)
        return
    rows = read_rows(path)
    need(path, rows, "answer", "category_id", "id", "question", "video_id")
    for row in rows:
        asked = str(row["question"])
        ig_vlm.add_open(
            questions,
            str(row["id"]),
            video=f"video{row['video_id']}",
            question=asked,
            answer=row["answer"],
            family=asked.partition(" ")[0].lower(),
        )
