"""Video-MME: 2,700 multiple-choice questions about 900 videos, with subtitles.

Source: https://huggingface.co/datasets/lmms-lab/Video-MME; prompt and order of its parts as in lmms-eval 0.7.3,
`tasks/videomme/utils.py` (`videomme_doc_to_text`, `videomme_doc_to_text_subtitle`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from m3video.evaluation.benchmarks.questions import LETTER, Questions, without_letter
from m3video.evaluation.benchmarks.tables import find, found, need, option_letter, read_rows
from m3video.evaluation.subtitles import Cue, read_srt

ASK = (
    "Select the best answer to the following multiple-choice question based on the video and the subtitles. Respond "
    "with only the letter (A, B, C, or D) of the correct option."
)


def read(data: Path, questions: Questions, *, subtitles: bool) -> None:
    """Read `videomme/test-00000-of-00001.parquet`, and `subtitle/{videoID}.srt` where subtitles are wanted.

    Raises:
        UsageError: a file is missing, or not as published.
    """
    path = found(data, "videomme/test-*.parquet", "test-*.parquet", "*videomme*.parquet")
    rows = read_rows(path)
    need(path, rows, "duration", "videoID", "question_id", "task_type", "question", "options", "answer")
    if subtitles:

        def cues(name: str) -> Sequence[Cue] | None:
            file = find(data, f"subtitle/{name}.srt", f"{name}.srt")
            return None if file is None else read_srt(file)

        questions.cues = cues
    for number, row in enumerate(rows, 1):
        options = list(row["options"])
        text = "\n".join([row["question"], *options])
        questions.add_choice(
            str(row["question_id"]),
            video=row["videoID"],
            question=row["question"],
            options=[without_letter(option) for option in options],
            answer=option_letter(path, number, row["answer"], len(options)),
            prompt=f"{ASK}\n{text}\n{LETTER}",
            family=row["task_type"],
            duration=row["duration"],
        )
