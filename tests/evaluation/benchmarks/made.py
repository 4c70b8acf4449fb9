"""Small benchmarks in their published form. The videos are empty files: readers look at names only."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Rows = list[dict[str, Any]]


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def write(path: Path, rows: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".csv":
        tab = "\t" if "frameqa" in path.name else ","
        lines = [tab.join(rows[0])] + [tab.join(str(value) for value in row.values()) for row in rows]
        path.write_text("\n".join(lines) + "\n")
    else:
        path.write_text(json.dumps(rows))


NEXT: Rows = [
    {
        "video": "111",
        "frame_count": 9,
        "width": 4,
        "height": 4,
        "question": "why did he run",
        "answer": 2,
        "qid": 6,
        "type": "CW",
        **{f"a{n}": f"reason {n}" for n in range(5)},
    }
]
COMPASS = {"video_id": "v", "dim": "action"}

FILES: dict[str, dict[str, Any]] = {
    "video-mme": {
        "videomme/test-00000-of-00001.parquet": [
            {
                "video_id": "001",
                "duration": "short",
                "domain": "Knowledge",
                "sub_category": "Humanity",
                "url": "u",
                "videoID": "fFjv93ACGo8",
                "question_id": f"001-{n}",
                "task_type": "Counting Problem",
                "question": "How many?",
                "options": ["A. Apples.", "B. Candles.", "C. Berries.", "D. Equal."],
                "answer": "C",
            }
            for n in (1, 2)
        ]
    },
    "video-mme-v2": {
        "test.parquet": [
            {
                "video_id": "7",
                "question_id": "7-1",
                "question": "What?",
                "options": "\n".join(f"{letter}. thing {letter}" for letter in "ABCDEFGH"),
                "answer": "H",
                "group_type": "logic",
                "group_structure": "[1, 2, 3, 4]",
            }
        ]
    },
    "mlvu": {
        "json/1_plotQA.json": [
            {
                "video": "movie101_66.mp4",
                "duration": 480.0,
                "question": "What colour?",
                "candidates": ["Yellow", "Red", "Blue", "Green"],
                "answer": "Yellow",
                "question_type": "plotQA",
            }
        ]
    },
    "longvideobench": {
        "lvb_val.json": [
            {
                "video_id": "86C",
                "question": "On a desk, what lies?",
                "question_wo_referring_query": "what lies?",
                "candidates": ["a pen", "a book", "a cup"],
                "correct_choice": 1,
                "position": [1, 2],
                "topic_category": "NP",
                "question_category": "S2E",
                "level": "L1",
                "id": "86C_0",
                "video_path": "86C.mp4",
                "subtitle_path": "86C_en.json",
                "duration_group": 15,
                "starting_timestamp_for_subtitles": 10,
                "duration": 12.0,
                "view_count": 1,
            }
        ]
    },
    "lvbench": {
        "video_info.meta.jsonl": [
            {
                "key": "Cm73",
                "type": "cartoon",
                "qa": [
                    {
                        "uid": "0",
                        "question": "What year?\n(A) 1636\n(B) 1366\n(C) 1363\n(D) 1633",
                        "answer": "D",
                        "question_type": ["key information retrieval", "reasoning"],
                        "time_reference": "00:15-01:20",
                    }
                ],
            }
        ]
    },
    "egoschema": {
        "questions.json": [
            {"q_uid": q, "question": "Why?", **{f"option {n}": f"C does {n}." for n in range(5)}} for q in ("q1", "q2")
        ],
        "subset_answers.json": {"q1": 3},
    },
    "next-qa": {"test.csv": NEXT},
    "next-qa-oe": {
        "test.csv": [{"video": "111", "question": "what is this", "answer": "a dog", "qid": 1, "type": "DO"}],
        "map_vid_vidorID.json": {"111": "1164/111"},
    },
    "intent-qa": {"test.csv": [{"video_id": "111", **{k: v for k, v in NEXT[0].items() if k != "video"}}]},
    "star": {
        "STAR_val.json": [
            {
                "question_id": "Interaction_T1_13",
                "question": "Which object?",
                "video_id": "6H78U",
                "start": 11.1,
                "end": 19.6,
                "answer": "The clothes.",
                "choices": [{"choice_id": n, "choice": f"The {c}."} for n, c in enumerate(("box", "clothes", "bag"))],
            }
        ]
    },
    "tempcompass": {
        "multi-choice.json": [{**COMPASS, "question": "What?\nA. runs\nB. sits", "answer": "B. sits"}],
        "yes_no.json": [{**COMPASS, "question": "Does he run?", "answer": "no"}],
        "caption_matching.json": [
            {
                **COMPASS,
                "question": "Which fits?\nOption 1: He runs.\nOption 2: He sits.",
                "answer": "Option 2: He sits.",
            }
        ],
        "captioning.json": [{**COMPASS, "mc_question": "What?", "mc_answer": "B. sits"}],
    },
    "activitynet-qa": {
        "test_q.json": [{"video_name": "1QI", "question": "is he tall", "question_id": "v_1"}],
        "test_a.json": [{"answer": "no", "type": 3, "question_id": "v_1"}],
    },
    "msvd-qa": {
        "test_qa.json": [{"answer": "man", "id": 5, "question": "who pours liquid?", "video_id": 1201}],
    },
    "msrvtt-qa": {
        "test_qa.json": [{"answer": "couch", "category_id": 14, "id": 5, "question": "what?", "video_id": 6513}],
    },
    "tgif-qa": {
        "Test_frameqa_question.csv": [{"gif_name": "tumblr_x", "question": "where is he", "answer": "park", "key": 1}]
    },
}
VIDEOS = {
    "video-mme": "data/fFjv93ACGo8.mp4",
    "video-mme-v2": "7.mp4",
    "mlvu": "video/1_plotQA/movie101_66.mp4",
    "longvideobench": "videos/86C.mp4",
    "lvbench": "Cm73.mp4",
    "egoschema": "q1.MP4",
    "next-qa": "111.mp4",
    "next-qa-oe": "1164/111.mp4",
    "intent-qa": "111.mp4",
    "star": "6H78U.mp4",
    "tempcompass": "videos/v.mp4",
    "activitynet-qa": "v_1QI.webm",
    "msvd-qa": "vid1201.avi",
    "msrvtt-qa": "video6513.mp4",
    "tgif-qa": "tumblr_x.gif",
}
ANSWERS = {
    "video-mme": "Berries.",
    "video-mme-v2": "thing H",
    "mlvu": "Yellow",
    "longvideobench": "a book",
    "lvbench": "1633",
    "egoschema": "C does 3.",
    "next-qa": "reason 2",
    "next-qa-oe": "a dog",
    "intent-qa": "reason 2",
    "star": "The clothes.",
    "tempcompass": "sits",
    "activitynet-qa": "no",
    "msvd-qa": "man",
    "msrvtt-qa": "couch",
    "tgif-qa": "park",
}


def make(
    folder: Path, name: str, change: Callable[[dict[str, Any]], None] | None = None, *, videos: bool = True
) -> Path:
    """Write a benchmark with its one video; `change` may mutate the first row of its first file."""
    for number, (file, rows) in enumerate(copy.deepcopy(FILES[name]).items()):
        if number == 0 and change is not None:
            change(rows[0])
        write(folder / file, rows)
    if videos:
        touch(folder, VIDEOS[name])
    return folder
