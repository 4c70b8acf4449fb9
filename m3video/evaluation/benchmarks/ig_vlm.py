"""The tables in which IG-VLM publishes eight sets: five with options, four with open answers.

Source: https://github.com/imagegridworth/IG-VLM, `data/*_QA/*.csv`; M3's table of videos was made with them.
"""

from __future__ import annotations

from pathlib import Path

from m3video.evaluation.benchmarks.questions import LETTER, SHORT, Questions, lettered
from m3video.evaluation.benchmarks.tables import need, option_text, read_rows


def read_choices(path: Path, questions: Questions) -> None:
    """Read `video_name, question, answer, question_id, a0 ...`, the answer an option's text.

    Raises:
        UsageError: the file is not as published.
    """
    rows = read_rows(path)
    need(path, rows, "video_name", "question", "answer", "question_id", "a0", "a1")
    names = [name for name in rows[0] if name.startswith("a") and name[1:].isdecimal()]
    for number, row in enumerate(rows, 1):
        options = [row[name] for name in names if row[name]]
        questions.add_choice(
            row["question_id"],
            video=row["video_name"],
            question=row["question"],
            options=options,
            answer=option_text(path, number, row["answer"], options),
            prompt=f"{row['question']}\n{lettered(options)}\n{LETTER}",
            family=row.get("question_type") or "all",
        )


def read_open(path: Path, questions: Questions) -> None:
    """Read `video_name, question, answer, question_id, question_type`, the answer in words.

    Raises:
        UsageError: the file is not as published.
    """
    rows = read_rows(path)
    need(path, rows, "video_name", "question", "answer", "question_id", "question_type")
    for row in rows:
        add_open(
            questions,
            row["question_id"],
            video=row["video_name"],
            question=row["question"],
            answer=row["answer"],
            family=f"type {row['question_type']}",
        )


def add_open(
    questions: Questions, id: str, *, video: str | tuple[str, ...], question: str, answer: str | None, family: str
) -> None:
    """Add an open question in the wording of lmms-eval's ActivityNet-QA: a capital in front, one question mark."""
    words = question.strip().rstrip("?").strip()
    questions.add(
        id,
        video=video,
        question=question,
        answer=answer or None,
        family=family,
        prompt=f"{words[:1].upper()}{words[1:]}? {SHORT}",
    )
