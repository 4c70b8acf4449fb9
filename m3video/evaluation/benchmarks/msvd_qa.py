"""MSVD-QA: open questions made from captions, answered in one word.

Source: https://github.com/xudejing/video-question-answering, `test_qa.json` and `youtube_mapping.txt`, which says which
file `vid1201` is. Also IG-VLM's table.
"""

from __future__ import annotations

from pathlib import Path

from m3video.errors import UsageError
from m3video.evaluation.benchmarks import ig_vlm
from m3video.evaluation.benchmarks.questions import Questions
from m3video.evaluation.benchmarks.tables import find, found, need, read_rows
from m3video.utils.text import first_line, printable, read_text


def read(data: Path, questions: Questions, *, subtitles: bool) -> None:
    """Read `test_qa.json`, or IG-VLM's table.

    Raises:
        UsageError: a file is missing, or not as published.
    """
    path = find(data, "test_qa.json")
    if path is None:
        ig_vlm.read_open(found(data, "*MSVD_QA*.csv", "test_qa.json"), questions)
        return
    rows = read_rows(path)
    need(path, rows, "answer", "id", "question", "video_id")
    names = _names(data)
    for row in rows:
        video = f"vid{row['video_id']}"
        places = (names[video], video) if video in names else (video,)
        asked = str(row["question"])
        ig_vlm.add_open(
            questions,
            str(row["id"]),
            video=places,
            question=asked,
            answer=row["answer"],
            family=asked.partition(" ")[0].lower(),
        )


def _names(data: Path) -> dict[str, str]:
    """Return `vid1201` -> `bQJQGoJF7_k_162_169`, where the map is there."""
    path = find(data, "youtube_mapping.txt")
    if path is None:
        return {}
    try:
        pairs = [line.split() for line in read_text(path).split("\n") if line.strip()]
        return {short: long for long, short in pairs}
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{printable(path)} must hold a file's name and vidNUMBER on each line: {first_line(error)}"
        ) from None
