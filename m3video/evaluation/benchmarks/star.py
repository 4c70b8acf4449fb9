"""STAR: questions of four options about a part of a Charades video.

Source: https://github.com/csbobby/STAR, `STAR_val.json`; prompt as in lmms-eval's sets of this form. Also IG-VLM's
table, whose videos are cut to the part: `{video_id}_{start}_{end}.mp4`.
"""

from __future__ import annotations

from pathlib import Path

from m3video.evaluation.benchmarks import ig_vlm
from m3video.evaluation.benchmarks.questions import LETTER, Questions, lettered
from m3video.evaluation.benchmarks.tables import find, found, need, option_text, read_rows


def read(data: Path, questions: Questions, *, subtitles: bool) -> None:
    """Read `STAR_val.json`, or IG-VLM's table.

    A video that is cut to the part is taken before the whole one; of a whole one, the part is the question's evidence.

    Raises:
        UsageError: the file is missing, or not as published.
    """
    path = find(data, "STAR_val.json")
    if path is None:
        ig_vlm.read_choices(found(data, "*STAR*.csv", "STAR_val.json"), questions)
        return
    rows = read_rows(path)
    need(path, rows, "question_id", "video_id", "start", "end", "question", "answer", "choices")
    whole = 0
    for number, row in enumerate(rows, 1):
        need(path, row["choices"], "choice")
        options = [choice["choice"] for choice in row["choices"]]
        cut = f"{row['video_id']}_{row['start']}_{row['end']}"
        is_cut = questions.videos.find(cut) is not None
        whole += not is_cut
        questions.add_choice(
            row["question_id"],
            video=cut if is_cut else row["video_id"],
            question=row["question"],
            options=options,
            answer=option_text(path, number, row["answer"], options),
            prompt=f"{row['question']}\n{lettered(options)}\n{LETTER}",
            family=row["question_id"].partition("_")[0],
            evidence=None if is_cut else (float(row["start"]), float(row["end"])),
            localised=None if is_cut else True,
            clip=row["video_id"],
        )
    if whole:
        questions.notes.append(
            f"{whole} questions are about a part of a video and were put to the whole of it: cut the videos to "
            "VIDEO_START_END.mp4 for figures that compare with the published ones"
        )
