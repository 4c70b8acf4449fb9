"""EgoSchema: questions of five options about three minutes of a person's own view.

Source: https://github.com/egoschema/EgoSchema, `questions.json` and `subset_answers.json` (500 of 5,031 have a public
answer; the others are sent in); prompt as in lmms-eval 0.7.3, `tasks/egoschema`. Also IG-VLM's table.
"""

from __future__ import annotations

from pathlib import Path

from m3video.errors import UsageError
from m3video.evaluation.benchmarks import ig_vlm
from m3video.evaluation.benchmarks.questions import LETTER, Questions, lettered, without_letter
from m3video.evaluation.benchmarks.tables import find, found, need, option_number, read_rows
from m3video.utils.text import first_line, printable, read_text


def read(data: Path, questions: Questions, *, subtitles: bool) -> None:
    """Read the two JSON files, or IG-VLM's table.

    Raises:
        UsageError: a file is missing, or not as published.
    """
    path = find(data, "questions.json")
    if path is None:
        ig_vlm.read_choices(found(data, "*EgoSchema*.csv", "questions.json"), questions)
        return
    rows = read_rows(path)
    need(path, rows, "q_uid", "question", *(f"option {n}" for n in range(5)))
    answers = _answers(found(data, "subset_answers.json"))
    for number, row in enumerate(rows, 1):
        options = [without_letter(row[f"option {n}"]) for n in range(5)]
        questions.add_choice(
            row["q_uid"],
            video=row["q_uid"],
            question=row["question"],
            options=options,
            answer=option_number(path, number, answers.get(row["q_uid"]), 5),
            prompt=f"{row['question']}\n{lettered(options)}\n{LETTER}",
            family="all",
        )


def _answers(path: Path) -> dict[str, int]:
    import json

    try:
        found = json.loads(read_text(path))
    except (OSError, ValueError) as error:
        raise UsageError(f"{printable(path)} cannot be read: {first_line(error)}") from None
    if not isinstance(found, dict):
        raise UsageError(f"{printable(path)} must be one object, q_uid -> number of the option")
    return found
