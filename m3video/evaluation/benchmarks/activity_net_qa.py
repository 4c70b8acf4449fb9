"""ActivityNet-QA: open questions about activities, answered in a word or two.

Source: https://github.com/MILVLG/activitynet-qa, `test_q.json` and `test_a.json`; prompt as in lmms-eval 0.7.3,
`tasks/activitynetqa`. Also IG-VLM's table.
"""

from __future__ import annotations

from pathlib import Path

from m3video.evaluation.benchmarks import ig_vlm
from m3video.evaluation.benchmarks.questions import Questions
from m3video.evaluation.benchmarks.tables import find, found, need, read_rows


def read(data: Path, questions: Questions, *, subtitles: bool) -> None:
    """Read `test_q.json` and `test_a.json` (else those of `val`), or IG-VLM's table.

    Raises:
        UsageError: a file is missing, or not as published.
    """
    path = find(data, "test_q.json", "val_q.json")
    if path is None:
        ig_vlm.read_open(found(data, "*ActivityNet_QA*.csv", "test_q.json"), questions)
        return
    rows = read_rows(path)
    need(path, rows, "video_name", "question", "question_id")
    of_answers = found(data, path.name.replace("_q", "_a"))
    answered = read_rows(of_answers)
    need(of_answers, answered, "answer", "type", "question_id")
    answers = {row["question_id"]: row for row in answered}
    for row in rows:
        own = answers.get(row["question_id"], {})
        ig_vlm.add_open(
            questions,
            row["question_id"],
            video=(f"v_{row['video_name']}", row["video_name"]),
            question=row["question"],
            answer=own.get("answer"),
            family=f"type {own.get('type')}",
        )
