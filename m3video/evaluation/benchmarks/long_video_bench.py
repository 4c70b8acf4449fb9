"""LongVideoBench: questions of two to five options about videos up to an hour, many with subtitles.

Source: https://huggingface.co/datasets/longvideobench/LongVideoBench; prompt as in lmms-eval 0.7.3,
`tasks/longvideobench/utils.py`. Subtitles stand before the question, not between the frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from m3video.evaluation.benchmarks.questions import LETTER, Questions, lettered
from m3video.evaluation.benchmarks.tables import find, found, need, option_number, read_rows
from m3video.evaluation.subtitles import Cue, read_subtitle_json


def read(data: Path, questions: Questions, *, subtitles: bool) -> None:
    """Read `lvb_val.json`, and `subtitles/{subtitle_path}` where subtitles are wanted.

    Raises:
        UsageError: a file is missing, or not as published.
    """
    path = found(data, "lvb_val.json", "lvb_test_wo_gt.json")
    rows = read_rows(path)
    needed = ("id", "video_path", "subtitle_path", "question", "candidates", "question_category", "duration_group")
    need(path, rows, *needed)
    if path.name == "lvb_val.json":
        need(path, rows, "correct_choice")
    if subtitles:
        need(path, rows, "starting_timestamp_for_subtitles")
        of_video = {row["video_path"]: row for row in rows}

        def cues(name: str) -> Sequence[Cue] | None:
            row = of_video[name]
            file = find(data, f"subtitles/{row['subtitle_path']}", row["subtitle_path"])
            start = float(row["starting_timestamp_for_subtitles"] or 0)
            return None if file is None else read_subtitle_json(file, offset=start)

        questions.cues = cues
    for number, row in enumerate(rows, 1):
        options = [str(option) for option in row["candidates"]]
        questions.add_choice(
            str(row["id"]),
            video=row["video_path"],
            question=row["question"],
            options=options,
            answer=option_number(path, number, row.get("correct_choice"), len(options)),
            prompt=f"{row['question']}\n{lettered(options)}\n{LETTER}",
            family=row["question_category"],
            duration=f"up to {row['duration_group']} s",
        )
