"""MLVU: multiple-choice questions of seven tasks about long videos.

The two open tasks (`8_sub_scene`, `9_summary`) are scored by a judge and not read.

Source: https://github.com/JUNJIE99/MLVU (`json/1_plotQA.json` ...), and the table MLVU_dev that lmms-eval 0.7.3 reads;
prompt as in its `tasks/mlvu/mlvu_dev.yaml`.
"""

from __future__ import annotations

from pathlib import Path

from m3video.errors import UsageError
from m3video.evaluation.benchmarks.questions import Questions, lettered, split_options
from m3video.evaluation.benchmarks.tables import find, need, option_letter, option_text, read_rows
from m3video.utils.text import printable

TASKS = ("1_plotQA", "2_needle", "3_ego", "4_count", "5_order", "6_anomaly_reco", "7_topic_reasoning")
ASK = "\nOnly give the best option.\nBest option: ("


def read(data: Path, questions: Questions, *, subtitles: bool) -> None:
    """Read the seven JSON files, or the table with a `video_name`.

    Raises:
        UsageError: a file is missing, or not as published.
    """
    files = {task: find(data, f"{task}.json") for task in TASKS}
    lacking = [f"{task}.json" for task, file in files.items() if file is None]
    if len(lacking) < len(TASKS):
        if lacking:
            questions.notes.append(f"without {', '.join(lacking)}: not all tasks of MLVU")
        for task, file in files.items():
            if file is not None:
                _read_task(file, task, questions)
        return
    table = find(data, "*mlvu*.parquet", "*mlvu*.json", "test-*.parquet")
    if table is None:
        raise UsageError(f"--data ({printable(data)}) has neither {TASKS[0]}.json ... nor the table MLVU_dev")
    _read_table(table, questions)


def _read_task(path: Path, task: str, questions: Questions) -> None:
    rows = read_rows(path)
    need(path, rows, "video", "duration", "question", "candidates", "answer")
    for number, row in enumerate(rows, 1):
        options = [str(option) for option in row["candidates"]]
        questions.add_choice(
            str(row.get("question_id") or f"{task}-{number}"),
            video=(f"{task}/{row['video']}", row["video"]),
            question=row["question"],
            options=options,
            answer=option_text(path, number, row["answer"], options),
            prompt=f"{row['question']}\n{lettered(options, '({}) {}')}{ASK}",
            family=task.partition("_")[2],
        )


def _read_table(path: Path, questions: Questions) -> None:
    rows = read_rows(path)
    need(path, rows, "video_name", "question", "task_type", "answer")
    for number, row in enumerate(rows, 1):
        asked, options = split_options(row["question"])
        questions.add_choice(
            str(row.get("question_id") or f"{row['task_type']}-{number}"),
            video=row["video_name"],
            question=asked,
            options=options,
            answer=option_letter(path, number, row["answer"], len(options)),
            prompt=f"{row['question']}{ASK}",
            family=row["task_type"],
        )
