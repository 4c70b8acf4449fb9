"""Video-MME-v2: 3,200 questions of eight options about 800 videos, in groups of four.

What is reported is the share of right answers; the official score is per group and not linear (lmms-eval 0.7.3,
`tasks/videomme_v2/utils.py`), and a note says so.

Source: https://github.com/MME-Benchmarks/Video-MME-v2; prompt as in lmms-eval's `videomme_v2_doc_to_text`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from m3video.evaluation.benchmarks.questions import Questions, split_options
from m3video.evaluation.benchmarks.tables import find, found, need, option_letter, read_rows
from m3video.evaluation.subtitles import Cue, read_subtitle_json

ASK = (
    "Select the best answer to the following multiple-choice question based on the video. Respond with only the letter "
    "(A, B, C, D, E, F, G, or H) of the correct option."
)


def read(data: Path, questions: Questions, *, subtitles: bool) -> None:
    """Read `test.parquet`, and `subtitle/{video_id}.jsonl` where subtitles are wanted.

    Raises:
        UsageError: a file is missing, or not as published.
    """
    path = found(data, "test*.parquet")
    rows = read_rows(path)
    need(path, rows, "video_id", "question_id", "question", "options", "answer", "group_type")
    if subtitles:

        def cues(name: str) -> Sequence[Cue] | None:
            file = find(data, f"subtitle/{name}.jsonl", f"{name}.jsonl")
            return None if file is None else read_subtitle_json(file)

        questions.cues = cues
    questions.notes.append("the share of right answers is shown, not the official score of groups")
    for number, row in enumerate(rows, 1):
        _, options = split_options(row["options"])
        questions.add_choice(
            str(row["question_id"]),
            video=str(row["video_id"]),
            question=row["question"],
            options=options,
            answer=option_letter(path, number, row["answer"], len(options)),
            prompt=f"Question: {row['question']}\n{row['options']}\n{ASK}",
            family=str(row["group_type"]),
        )
