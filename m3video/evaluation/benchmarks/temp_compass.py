"""TempCompass: what happens when, in four kinds of question about short videos.

Captions that are written freely are scored by a judge: those questions are counted and left out.

Source: https://github.com/llyx97/TempCompass; table of lmms-lab/TempCompass with the kinds `multi-choice`, `yes_no`,
`caption_matching` and `captioning`; prompts and matching as in lmms-eval 0.7.3, `tasks/tempcompass`, without its
questions to ChatGPT where no rule matches (here: wrong).
"""

from __future__ import annotations

from pathlib import Path

from m3video.errors import UsageError
from m3video.evaluation.benchmarks.questions import Questions, split_options, without_letter
from m3video.evaluation.benchmarks.tables import Row, find, need, option_text, read_rows
from m3video.utils.text import printable

KINDS = ("multi-choice", "yes_no", "caption_matching", "captioning")
BEST = "\nPlease directly give the best option:"
YES_NO = "\nPlease answer yes or no:"


def read(data: Path, questions: Questions, *, subtitles: bool) -> None:
    """Read the tables of the kinds that are there: `{kind}/test-00000-of-00001.parquet`, or `{kind}.json`.

    Raises:
        UsageError: no file is there, or one is not as published.
    """
    files = {kind: find(data, f"{kind}/*.parquet", f"{kind}.parquet", f"{kind}.json") for kind in KINDS}
    lacking = [kind for kind, file in files.items() if file is None]
    if len(lacking) == len(KINDS):
        raise UsageError(f"--data ({printable(data)}) has no file {KINDS[0]}/*.parquet or {KINDS[0]}.json ...")
    if lacking:
        questions.notes.append(f"without {', '.join(lacking)}: not all kinds of TempCompass")
    for kind, path in files.items():
        if path is None:
            continue
        rows = read_rows(path)
        need(path, rows, "video_id", "dim", *(("mc_question",) if kind == "captioning" else ("question", "answer")))
        for number, row in enumerate(rows, 1):
            if kind == "captioning":
                questions.lack("judge", f"{kind}-{number}")
            else:
                _add(path, kind, number, row, questions)


def _add(path: Path, kind: str, number: int, row: Row, questions: Questions) -> None:
    name, video, family = f"{kind}-{number}", str(row["video_id"]), f"{kind} {row['dim']}"
    if kind == "yes_no":
        questions.add(
            name,
            video=video,
            question=row["question"],
            answer=str(row["answer"]).strip().lower() or None,
            family=family,
            metric="yes-no",
            prompt=f"{row['question']}{YES_NO}",
        )
        return
    if kind == "multi-choice":
        asked, options = split_options(row["question"])
        answer = without_letter(str(row["answer"] or ""))
    else:
        asked, *options = [line.strip() for line in row["question"].strip().split("\n")]
        answer = str(row["answer"] or "")
    questions.add_choice(
        name,
        video=video,
        question=asked,
        options=options,
        answer=option_text(path, number, answer, options),
        prompt=f"{row['question']}{BEST}",
        family=family,
    )
