"""LVBench: questions of four options about videos of an hour, with the time that shows the answer.

Source: https://github.com/THUDM/LVBench, `video_info.meta.jsonl`; prompt as in lmms-eval 0.7.3,
`tasks/lvbench/lvbench.yaml`.
"""

from __future__ import annotations

from pathlib import Path

from m3video.errors import UsageError
from m3video.evaluation.benchmarks.questions import Questions, split_options
from m3video.evaluation.benchmarks.tables import found, need, option_letter, read_rows
from m3video.evaluation.subtitles import clock_seconds
from m3video.utils.text import printable

ASK = "\nAnswer the question with the option letter"


def read(data: Path, questions: Questions, *, subtitles: bool) -> None:
    """Read `video_info.meta.jsonl`.

    Raises:
        UsageError: the file is missing, or not as published.
    """
    path = found(data, "video_info.meta.jsonl", "*lvbench*.jsonl")
    rows = read_rows(path)
    need(path, rows, "key", "qa")
    for number, row in enumerate(rows, 1):
        need(path, row["qa"], "uid", "question", "answer", "question_type", "time_reference")
        for asked in row["qa"]:
            words, options = split_options(asked["question"])
            questions.add_choice(
                str(asked["uid"]),
                video=row["key"],
                question=words,
                options=options,
                answer=option_letter(path, number, asked["answer"], len(options)),
                prompt=f"{asked['question']}{ASK}",
                family=" + ".join(asked["question_type"]),
                evidence=_reference(path, number, asked["time_reference"]),
                localised=True,
            )


def _reference(path: Path, number: int, text: str) -> tuple[float, float] | None:
    """Return `MM:SS-MM:SS`, `HH:MM:SS-HH:MM:SS` or one such time in seconds; None where there is none."""
    if not text or not text.strip():
        return None
    try:
        begin, _, end = text.partition("-")
        first, last = clock_seconds(begin), clock_seconds(end or begin)
        if first > last:
            raise ValueError(text)
        return first, last
    except ValueError:
        raise UsageError(f"{printable(path)}, row {number}: time_reference ({text}) must be like 00:15-01:20") from None
