"""The items of a batch, and when two of them are the same."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from m3video.config import Settings
from m3video.distributed.identity import config_of
from m3video.distributed.items import BatchQuestion, BatchQuestions, items_of, left_out, read_batch_questions
from m3video.distributed.sources import open_source
from m3video.distributed.tasks import make_task
from m3video.errors import CheckpointError, UsageError
from m3video.utils.json_lines import RELATIVE
from tests.model.tiny import save_tiny


def test_a_folder_is_walked_in_order_without_what_is_no_video(tmp_path: Path) -> None:
    for name in ("b.MP4", "a/z.mkv", "a/.hidden.mp4", ".git/x.mp4", "a/notes.txt", "c.webm"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "link.mp4").symlink_to(tmp_path / "b.MP4")
    source = open_source(str(tmp_path))
    expected = [str(tmp_path / name) for name in ("a/z.mkv", "b.MP4", "c.webm", "link.mp4")]
    assert list(source) == expected == list(source)


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_bytes(b"\xef\xbb\xbfa.mp4\n")
    assert list(open_source(str(listed))) == ["a.mp4"]
    asked = tmp_path / "q.jsonl"
    asked.write_bytes(b'\xef\xbb\xbf{"question": "what?"}\n')
    assert read_batch_questions(asked).of_all == (BatchQuestion("what?"),)


def test_a_list_may_name_anything(tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_bytes(b"a.mp4\r\n\n  b c.xyz\n\xff.mp4")
    assert list(open_source(str(listed))) == ["a.mp4", "  b c.xyz", os.fsdecode(b"\xff.mp4")]
    listed.write_text("# 1.mp4\n")
    assert list(open_source(str(listed))) == ["# 1.mp4"]


def test_questions_of_all_and_of_one(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text('{"question": "what?"}\n\n{"question": "who?", "id": 7, "video": "v/a.mp4", "answer": "me"}\n')
    questions = read_batch_questions(path)
    assert questions.of(str(tmp_path / "b.mp4")) == (BatchQuestion("what?"),)
    assert questions.of(os.path.relpath(tmp_path / "v" / "a.mp4")) == (
        BatchQuestion("what?"),
        BatchQuestion("who?", "7"),
    )


def test_what_is_left_out_is_reported_in_two_lines() -> None:
    here, (one, two) = os.getcwd(), (BatchQuestion("what?"), BatchQuestion("who?"))
    asked = BatchQuestions((), {f"{here}/a.mp4": (one,), f"{here}/new\nline.mp4": (one, two), f"{here}/c.mp4": (one,)})
    assert left_out(["a.mp4", "# c", "d.mp4"], asked) == (
        f"3 of 4 questions are about other videos: left out ({here}/new\\nline.mp4, {here}/c.mp4); {RELATIVE}",
        "2 of 3 videos have no question: left out (# c, d.mp4)",
    )
    many = left_out(["a.mp4", *(f"{n}.mp4" for n in range(9))], asked)
    assert many[1] == "9 of 10 videos have no question: left out (0.mp4, 1.mp4, 2.mp4 and 6 more)"
    of_all = BatchQuestions((two,), {f"{here}/a.mp4": (one,)})
    assert left_out(["a.mp4", "b.mp4"], of_all) == ()
    assert left_out(["b.mp4"], of_all) == (
        f"1 of 2 questions are about other videos: left out ({here}/a.mp4); {RELATIVE}",
    )
    assert left_out(["b.mp4"], BatchQuestions((), {f"{here}/a.mp4": (one,)})) == ()  # the batch refuses


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("what?", "line 1 is not JSON"),
        ('{"question": "a"}\n{"id": "b"}', "line 2 is no question"),
        ('{"question": "a"}\n{"q": "b"}', "line 2: unknown key 'q'; known are question, answer, options, id, video"),
        ('{"question": " "}', "line 1 is no question"),
        ('{"question": "a", "video": 3}', "must be texts"),
        ('{"question": "a"}\n{"question": "a"}', "line 2: the same question"),
    ],
)
def test_a_bad_line_of_questions_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        read_batch_questions(path)


def test_an_item_is_its_content_question_task_and_config(tmp_path: Path) -> None:
    video = tmp_path / "a.mp4"
    video.write_text("x")
    (item,) = items_of(str(video), [BatchQuestion("q")], task="t", config="c")
    (again,) = items_of(os.path.relpath(video), [BatchQuestion("q")], task="t", config="c")
    assert (item.path_key, item.file_key) == (again.path_key, again.file_key)
    same = item.identity("f", "c")
    (elsewhere,) = items_of(str(tmp_path / "b.mp4"), [BatchQuestion("q")], task="t", config="c")
    assert elsewhere.identity("f", "c") == same
    assert elsewhere.path_key != item.path_key
    for question, fingerprint, config in (("p", "f", "c"), ("q", "g", "c"), ("q", "f", "d")):
        assert (
            items_of(str(video), [BatchQuestion(question)], task="t", config=config)[0].identity(fingerprint, config)
            != same
        )
    os.utime(video, ns=(1, 1))
    (touched,) = items_of(str(video), [BatchQuestion("q")], task="t", config="c")
    assert touched.file_key != item.file_key
    assert touched.path_key == item.path_key


def test_config_is_what_changes_the_outcome(tmp_path: Path) -> None:
    model = save_tiny(tmp_path / "m")
    plain = Settings(model=str(model))

    def changes(task: str, **how: object) -> bool:
        return config_of(task, plain.model_copy(update=how)) != config_of(task, plain)

    assert not changes("analyze", budget=9)
    assert changes("analyze", backend="opencv")
    assert changes("plan", budget=9)
    assert not changes("plan", max_new_tokens=9)
    assert changes("ask", max_new_tokens=9)
    assert changes("ask", abstain=0.5)
    assert not changes("summarize", abstain=0.5)
    assert not changes("ask", device="cuda", vision_batch=1)
    assert config_of("ask", plain) != config_of("summarize", plain)
    before = config_of("ask", plain)
    weights = next(model.glob("*.safetensors"))
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    assert config_of("ask", plain) != before


def test_settings_that_a_task_cannot_obey(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="grid"):
        make_task("ask", Settings(layout="grid"))
    with pytest.raises(UsageError, match="fps"):
        make_task("summarize", Settings(fps=1.0))
    with pytest.raises(CheckpointError):
        make_task("ask", Settings(model=str(tmp_path / "none")))
    assert make_task("ask", Settings(model="nobody/nothing-that-is-cached"), fetch=False).needs_model


def test_digests_need_no_utf8() -> None:
    (odd,) = items_of(os.fsdecode(b"/\xff.mp4"), [BatchQuestion()], task="t", config="c")
    assert json.dumps(odd.file_key)
