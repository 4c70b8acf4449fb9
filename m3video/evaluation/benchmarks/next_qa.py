"""NExT-QA: five options, or open answers, about why, how and when in everyday videos.

Open answers are right when they are the same words; the official score is WUPS, which needs WordNet, and a note says
so.

Source: https://github.com/doc-doc/NExT-QA, `dataset/nextqa/{val,test}.csv` and `map_vid_vidorID.json`;
https://github.com/doc-doc/NExT-OE; prompts as in lmms-eval 0.7.3, `tasks/nextqa`. Also IG-VLM's table.
"""

from __future__ import annotations

import json
from pathlib import Path

from m3video.errors import UsageError
from m3video.evaluation.benchmarks import ig_vlm
from m3video.evaluation.benchmarks.questions import LETTER, Questions, lettered
from m3video.evaluation.benchmarks.tables import Row, find, found, need, option_number, read_rows
from m3video.utils.text import first_line, printable, read_text

OPEN = "\nAnswer a question using a short phrase or sentence."


def read(data: Path, questions: Questions, *, subtitles: bool) -> None:
    """Read `test.csv` (else `val.csv`) with `a0` to `a4`, or IG-VLM's table.

    Raises:
        UsageError: a file is missing, or not as published.
    """
    path = found(data, "test.csv", "val.csv", "*NExT_QA*.csv")
    rows = read_rows(path)
    if "video_name" in rows[0]:
        ig_vlm.read_choices(path, questions)
    else:
        add_choices(path, rows, questions, places=_places(data), video="video")


def read_oe(data: Path, questions: Questions, *, subtitles: bool) -> None:
    """Read `test.csv` (else `val.csv`) of the open form.

    Raises:
        UsageError: a file is missing, or not as published.
    """
    path = found(data, "test.csv", "val.csv", "*nextoe*.csv")
    rows = read_rows(path)
    need(path, rows, "video", "question", "answer", "qid", "type")
    if "a0" in rows[0]:
        raise UsageError(f"{printable(path)} has options: it is the multiple-choice form, next-qa")
    places = _places(data)
    questions.notes.append("an open answer is right when it is the same words: not WUPS, the official score")
    for row in rows:
        questions.add(
            f"{row['video']}_{row['qid']}",
            video=_names(row["video"], places),
            question=row["question"],
            answer=row["answer"] or None,
            family=row["type"],
            prompt=f"{row['question'].strip()}{OPEN}",
        )


def add_choices(path: Path, rows: list[Row], questions: Questions, *, places: dict[str, str], video: str) -> None:
    """Add the rows of `test.csv`; `video` is the column with the video's name.

    Raises:
        UsageError: a column is missing, or an answer is no option.
    """
    need(path, rows, video, "question", "answer", "qid", "type", *(f"a{n}" for n in range(5)))
    for number, row in enumerate(rows, 1):
        options = [row[f"a{n}"].strip() for n in range(5)]
        questions.add_choice(
            f"{row[video]}_{row['qid']}",
            video=_names(row[video], places),
            question=row["question"],
            options=options,
            answer=option_number(path, number, row["answer"], 5),
            prompt=f"{row['question'].strip()}\n{lettered(options)}\n{LETTER}",
            family=row["type"],
        )


def _names(video: str, places: dict[str, str]) -> tuple[str, ...]:
    return (video, f"{places[video]}.mp4") if video in places else (video,)


def _places(data: Path) -> dict[str, str]:
    """Return where VidOR keeps each video, where the map is there."""
    path = find(data, "map_vid_vidorID.json")
    if path is None:
        return {}
    try:
        places = json.loads(read_text(path))
    except (OSError, ValueError) as error:
        raise UsageError(f"{printable(path)} cannot be read: {first_line(error)}") from None
    if not isinstance(places, dict):
        raise UsageError(f"{printable(path)} must be one object, video -> its place")
    return places
