"""TGIF-QA, the task FrameQA: open questions about animated GIFs, answered in one word.

Source: https://github.com/YunseokJANG/tgif-qa, `Test_frameqa_question.csv` (columns between tabs). Also IG-VLM's
table.
"""

from __future__ import annotations

from pathlib import Path

from m3video.evaluation.benchmarks import ig_vlm
from m3video.evaluation.benchmarks.questions import Questions
from m3video.evaluation.benchmarks.tables import find, found, need, read_rows


def read(data: Path, questions: Questions, *, subtitles: bool) -> None:
    """Read `Test_frameqa_question.csv`, or IG-VLM's table.

    Raises:
        UsageError: the file is missing, or not as published.
    """
    path = find(data, "Test_frameqa_question.csv")
    if path is None:
        ig_vlm.read_open(found(data, "*TGIF_FrameQA*.csv", "Test_frameqa_question.csv"), questions)
        return
    rows = read_rows(path, separator="\t")
    need(path, rows, "gif_name", "question", "answer")
    for number, row in enumerate(rows, 1):
        ig_vlm.add_open(
            questions,
            str(number),
            video=row["gif_name"],
            question=row["question"],
            answer=row["answer"],
            family=row["question"].partition(" ")[0].lower(),
        )
