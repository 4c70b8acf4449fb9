"""Every reader on a small set in the published form, on a changed one, and on the real tables where they are."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from m3video.errors import UsageError
from m3video.evaluation.benchmarks.load import READERS, load_benchmark, subset
from m3video.evaluation.benchmarks.names import BENCHMARKS
from m3video.evaluation.records import is_right, prompt_text
from tests.evaluation.benchmarks.made import ANSWERS, FILES, make, touch, write
from tests.paths import ANNOTATIONS

REAL = {
    "egoschema": "igvlm_EgoSchema.csv",
    "next-qa": "igvlm_NExT_QA.csv",
    "intent-qa": "igvlm_IntentQA.csv",
    "star": "igvlm_STAR.csv",
    "activitynet-qa": "igvlm_ActivityNet_QA.csv",
    "msvd-qa": "igvlm_MSVD_QA.csv",
    "msrvtt-qa": "igvlm_MSRVTT_QA.csv",
    "tgif-qa": "igvlm_TGIF_FrameQA.csv",
}
NEEDED = {
    "video-mme": "options",
    "video-mme-v2": "answer",
    "mlvu": "candidates",
    "longvideobench": "correct_choice",
    "lvbench": "qa",
    "egoschema": "option 4",
    "next-qa": "a3",
    "next-qa-oe": "qid",
    "intent-qa": "video_id",
    "star": "choices",
    "tempcompass": "question",
    "activitynet-qa": "question_id",
    "msvd-qa": "video_id",
    "msrvtt-qa": "answer",
    "tgif-qa": "gif_name",
}


def test_every_benchmark_has_a_name_a_reader_and_tests() -> None:
    assert BENCHMARKS.keys() == READERS.keys() == FILES.keys() == NEEDED.keys() == ANSWERS.keys()


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_published_form_is_read(name: str, tmp_path: Path) -> None:
    made = load_benchmark(name, make(tmp_path, name))
    first = made.records[0]
    assert first.answer == ANSWERS[name]
    assert Path(first.video).is_file()
    assert first.question in prompt_text(first) or name in ("activitynet-qa", "msvd-qa", "msrvtt-qa", "tgif-qa")
    assert (first.options is None) == (first.metric == "exact")
    right = first.answer if first.options is None else "ABCDEFGH"[first.options.index(first.answer)]
    assert is_right(first, right)
    assert all(option in prompt_text(first) for option in first.options or ())
    assert not is_right(first, "something else")


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_changed_column_is_refused_by_name(name: str, tmp_path: Path) -> None:
    column = NEEDED[name]

    def rename(row: dict[str, Any]) -> None:
        row[column + "_new"] = row.pop(column)
        if name == "next-qa-oe":
            return

    folder = make(tmp_path, name, rename)
    if name == "video-mme":  # a table has one set of columns: the second row must change with the first
        rows = [{**row, "options_new": row["options"]} for row in FILES[name]["videomme/test-00000-of-00001.parquet"]]
        for row in rows:
            del row["options"]
        write(folder / "videomme/test-00000-of-00001.parquet", rows)
    with pytest.raises(UsageError, match=rf"has no {column}\b") as caught:
        load_benchmark(name, folder)
    assert f"{column}_new" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has n"):
        load_benchmark(name, tmp_path)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_missing_video_is_counted_and_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none of the \d+ questions can be asked.*without video left out"):
        load_benchmark(name, make(tmp_path, name, videos=False))


@pytest.mark.parametrize(("name", "file"), REAL.items())
def test_the_real_tables_are_read(name: str, file: str, tmp_path: Path) -> None:
    if not (ANNOTATIONS / file).is_file():
        pytest.skip(f"no {ANNOTATIONS / file}")
    with (ANNOTATIONS / file).open(encoding="utf-8", newline="") as text:
        rows = list(csv.DictReader(text))
    for row in rows[1:]:
        touch(tmp_path, f"{row['video_name']}.mp4")
    made = load_benchmark(name, ANNOTATIONS / file, videos=tmp_path)
    away = {row["video_name"] for row in rows} - {row["video_name"] for row in rows[1:]}
    assert set(made.missing.get("video", {})) == away
    assert len(made.records) + sum(sum(names.values()) for names in made.missing.values()) == len(rows) == 60
    answers = {row["question_id"]: row["answer"] for row in rows}
    assert all(record.answer == answers[record.id] for record in made.records)
    assert all(is_right(record, record.answer) for record in made.records)


def test_what_is_missing_is_counted_by_kind_and_the_rest_is_asked(tmp_path: Path) -> None:
    folder = make(tmp_path, "egoschema")
    write(folder / "subset_answers.json", {"q1": 3, "q2": None})
    made = load_benchmark("egoschema", folder)
    assert made.missing == {"answer": {"q2": 1}}
    assert made.missing_notes() == ["1 question without answer left out: q2"]
    made = load_benchmark("tempcompass", make(tmp_path / "t", "tempcompass"))
    assert made.missing["judge"] == {"captioning-1": 1}
    assert Counter(record.metric for record in made.records) == {"option": 2, "yes-no": 1}


@pytest.mark.parametrize(
    ("name", "column", "value", "message"),
    [
        ("video-mme", "answer", "E", r"answer \(E\) must be a letter from A to D"),
        ("longvideobench", "correct_choice", 3, r"answer \(3\) must be a number from 0 to 2"),
        ("longvideobench", "candidates", None, "another form than LongVideoBench"),
        ("mlvu", "answer", "Pink", r"answer \(Pink\) is none of the options"),
        ("star", "question", " ", "question .* must not be empty"),
    ],
)
def test_a_wrong_value_is_one_line(name: str, column: str, value: Any, message: str, tmp_path: Path) -> None:
    folder = make(tmp_path, name, lambda row: row.update({column: value}))
    with pytest.raises(UsageError, match=message) as caught:
        load_benchmark(name, folder)
    assert "\n" not in str(caught.value)


def test_two_videos_of_one_name_are_not_guessed_between(tmp_path: Path) -> None:
    folder = make(tmp_path, "lvbench")
    touch(folder, "other/Cm73.mp4")
    with pytest.raises(UsageError, match="holds several videos Cm73"):
        load_benchmark("lvbench", folder)


def test_a_time_reference_is_evidence(tmp_path: Path) -> None:
    made = load_benchmark("lvbench", make(tmp_path / "a", "lvbench"))
    assert made.records[0].evidence == (15, 80)
    assert made.records[0].options == ("1636", "1366", "1363", "1633")
    assert made.records[0].family == "key information retrieval + reasoning"
    folder = make(tmp_path / "b", "lvbench", lambda row: row["qa"][0].update(time_reference="01:20-00:15"))
    with pytest.raises(UsageError, match="time_reference"):
        load_benchmark("lvbench", folder)


def test_tables_and_parts_of_star_and_mlvu(tmp_path: Path) -> None:
    folder = make(tmp_path / "star", "star")
    whole = load_benchmark("star", folder)
    assert whole.records[0].evidence == (11.1, 19.6)
    assert any("part of a video" in note for note in whole.notes)
    touch(folder, "6H78U_11.1_19.6.mp4")
    assert load_benchmark("star", folder).records[0].evidence is None
    write(
        tmp_path / "dev" / "mlvu_dev.json",
        [
            {
                "video_name": "needle_32.mp4",
                "duration": 467.9,
                "question": "What?\n(A) Reins\n(B) Mane",
                "answer": "B",
                "task_type": "needle",
                "question_id": "q",
            }
        ],
    )
    touch(tmp_path / "dev", "needle_32.mp4")
    (one,) = load_benchmark("mlvu", tmp_path / "dev").records
    assert (one.answer, one.options, one.family) == ("Mane", ("Reins", "Mane"), "needle")


SRT = "1\n00:00:01,500 --> 00:00:03,000\n<i>Hello</i> &amp; bye\n\n2\n01:00:00.000 --> 01:00:01.000\nlater\n"


def test_subtitles_are_read_and_their_absence_is_counted(tmp_path: Path) -> None:
    folder = make(tmp_path, "video-mme")
    made = load_benchmark("video-mme", folder, subtitles=True)
    assert made.missing == {"subtitles": {"fFjv93ACGo8": 2}}
    assert len(made.records) == 2
    (folder / "subtitle").mkdir()
    (folder / "subtitle" / "fFjv93ACGo8.srt").write_text(SRT)
    made = load_benchmark("video-mme", folder, subtitles=True)
    assert not made.missing
    assert list(made.subtitles.values()) == [[(1.5, 3.0, "Hello & bye"), (3600.0, 3601.0, "later")]]
    with pytest.raises(UsageError, match="--subtitles: MLVU has none"):
        load_benchmark("mlvu", folder, subtitles=True)


@pytest.mark.parametrize(
    "rows",
    [
        [{"start": "00:00:11.000", "end": "00:00:12.500", "line": "Hi"}],
        [{"timestamp": [11, 12.5], "text": "Hi"}],
        [{"timestamp": [11, None], "text": "Hi"}, {"timestamp": [12.5, None], "text": "on"}],
    ],
)
def test_subtitles_of_longvideobench_start_with_the_video(rows: Any, tmp_path: Path) -> None:
    folder = make(tmp_path, "longvideobench")
    write(folder / "subtitles" / "86C_en.json", rows)
    made = load_benchmark("longvideobench", folder, subtitles=True)
    assert next(iter(made.subtitles.values()))[0] == (1.0, 2.5, "Hi")
    (folder / "subtitles" / "86C_en.json").write_text(json.dumps([{"words": "Hi"}]))
    with pytest.raises(UsageError, match="not in the published form"):
        load_benchmark("longvideobench", folder, subtitles=True)


def test_a_subset_is_drawn_by_its_seed(tmp_path: Path) -> None:
    made = load_benchmark("tempcompass", make(tmp_path, "tempcompass"))
    assert subset(made, None, seed=1) is subset(made, 9, seed=1) is made
    drawn = {seed: subset(made, 1, seed=seed).records[0].id for seed in range(20)}
    assert len(set(drawn.values())) > 1
    assert drawn == {seed: subset(made, 1, seed=seed).records[0].id for seed in range(20)}
