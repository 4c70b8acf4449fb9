"""LLaVA-style rows: which are usable, how they are written, and exactly which tokens are learned."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from m3video.errors import UsageError
from m3video.model.gguf_file import unpack
from m3video.model.m3.prompt import build_prompt
from m3video.model.tokenizer import IMAGE_ID, SentencePieceText, TextCodec, load_text, prompt_ids
from m3video.training.conversations import (
    Conversation,
    Labelled,
    check_style,
    conversation_text,
    label,
    read_conversations,
)
from tests.model.tiny import WORDS, save_words
from tests.model.tiny_base import save_gguf
from tests.paths import PARITY

VICUNA = PARITY / "llava-v1.5-tiny-m3" / "safetensors"
needs_vicuna = pytest.mark.skipif(not VICUNA.is_dir(), reason="no parity set: M3VIDEO_PARITY_DIR names one")
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


def turns(*texts: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[n % 2], "value": text} for n, text in enumerate(texts)]


def read(tmp_path: Path, *rows: Any) -> tuple[list[Conversation], list[tuple[str, str]], int]:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "v.mp4").write_bytes(b"a video")
    path = tmp_path / "data.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    good, bad, begun = read_conversations(path, tmp_path)
    return good, [(one.kind, one.reason) for one in bad], begun


def test_the_forms_of_mix665k_and_llava_video(tmp_path: Path) -> None:
    rows, bad, begun = read(
        tmp_path,
        {"id": "1", "image": "a.png", "conversations": turns("<image>\nWhat?", "Red.", "Sure?", "Yes.")},
        {"id": "2", "image": "a.png", "conversations": turns("What is it?\n<image>", "Red.")},
        {"id": "3", "model": "", "conversations": turns("Hello", "Hi there.")},
        {"id": "4", "data_source": "x", "video": "v.mp4", "conversations": turns("<image>\nWhat happens?", "It ends.")},
        {"id": 5, "video": ["v.mp4"], "conversations": turns("What happens?\n<video>", "It ends.")},
        {"id": "6", "image": ["a.png", "a.png"], "conversations": turns("<image> and <image>?", "Same.")},
        {"id": "7", "conversations": [{"from": "gpt", "value": "Welcome."}, *turns("Hello", "Hi there.")]},
    )
    assert bad == []
    assert begun == 1
    assert [row.turns for row in rows] == [
        (("<image>\nWhat?", "Red."), ("Sure?", "Yes.")),
        (("<image>\nWhat is it?", "Red."),),
        (("Hello", "Hi there."),),
        (("What happens?", "It ends."),),
        (("What happens?", "It ends."),),
        (("<image> and <image>?", "Same."),),
        (("Hello", "Hi there."),),
    ]
    assert [len(row.images) for row in rows] == [1, 1, 0, 0, 0, 2, 0]
    assert [row.video is not None for row in rows] == [False, False, False, True, True, False, False]
    assert rows[4].name.endswith("data.json row 4 (id 5)")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("text", "must be an object"),
        ({"conversations": []}, "list of turns"),
        ({"conversations": [{"from": "human"}]}, "from and value"),
        ({"conversations": turns("a")}, "does not end with an answer"),
        ({"conversations": turns("a", "b", "c")}, "does not end with an answer"),
        ({"conversations": [*turns("a"), *turns("a")]}, "take turns"),
        ({"conversations": [{"from": "system", "value": "a"}, *turns("b")]}, "'system'"),
        ({"conversations": turns("a", " ")}, "empty"),
        ({"conversations": turns("a", "b</s>c")}, "contains </s>, which begins or ends a turn"),
        ({"conversations": turns("a<|im_end|>", "b")}, "contains <|im_end|>, which begins or ends a turn"),
        ({"conversations": turns("<image>\na", "b")}, "0 pictures, 1 times"),
        ({"image": "a.png", "conversations": turns("a", "b")}, "1 picture, and <image> in 0"),
        ({"image": "a.png", "conversations": turns("<image>", "b", "<image>", "c")}, "in 2 human turns"),
        ({"image": "a.png", "conversations": turns("a", "b <image>")}, "an answer contains"),
        ({"image": ["a.png", "a.png"], "conversations": turns("<image>", "b")}, "2 pictures, 1 times"),
        ({"image": 3, "conversations": turns("<image>", "b")}, "image must be"),
        ({"image": "a.png", "video": "v.mp4", "conversations": turns("<image>", "b")}, "image and video"),
        ({"video": ["v.mp4", "v.mp4"], "conversations": turns("a", "b")}, "2 videos"),
        ({"video": "v.mp4", "conversations": turns("a", "b", "<image> c", "d")}, "after the first turn"),
        ({"video": "v.mp4", "conversations": turns("<image> <image> a", "b")}, "several marks"),
    ],
)
def test_a_malformed_row_is_named_and_the_others_are_kept(tmp_path: Path, row: Any, reason: str) -> None:
    rows, bad, _ = read(tmp_path, row, {"conversations": turns("Hello", "Hi")})
    assert len(rows) == 1
    assert [kind for kind, _ in bad] == ["malformed"]
    assert reason in bad[0][1]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    rows, bad, _ = read(tmp_path, {"image": "b.png", "conversations": turns("<image>", "Red")})
    assert rows == []
    assert bad == [("missing file", f"{tmp_path / 'b.png'} is not there")]


@pytest.mark.parametrize(("name", "text"), [("a.json", "{"), ("a.json", "{}"), ("absent.json", None)])
def test_a_file_that_is_no_list_is_one_line(tmp_path: Path, name: str, text: str | None) -> None:
    if text is not None:
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=name) as failure:
        read_conversations(tmp_path / name, tmp_path)
    assert "\n" not in str(failure.value)


def test_jsonl_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"conversations": turns("a", "b")}) + "\n\n", encoding="utf-8")
    assert [row.turns for row in read_conversations(path, tmp_path)[0]] == [(("a", "b"),)]


@pytest.mark.parametrize(
    ("key", "meant"), [("images", "image"), ("Image", "image"), ("image_path", "image"), ("video_path", "video")]
)
def test_a_key_that_nearly_names_a_file_is_no_text_row(tmp_path: Path, key: str, meant: str) -> None:
    said = turns("What?", "Red.")
    rows, bad, _ = read(
        tmp_path,
        {key: "a.png", "conversations": said},
        {"source": "x", "model": "", "conversations": said},
        {"image": "a.png", "image_id": 7, "conversations": turns("<image>\nWhat?", "Red.")},
    )
    assert bad == [("malformed", f"unknown key {key!r}, and no {meant}: did you mean {meant}?")]
    assert len(rows) == 2


def test_text_that_is_no_utf8(tmp_path: Path) -> None:
    _, bad, _ = read(tmp_path, {"conversations": turns("What \ud800?", "Red.")})
    assert bad == [("malformed", "a turn holds \\ud800, which is half a character: leave it out, or write both halves")]
    path = tmp_path / "rows.jsonl"
    row = json.dumps({"conversations": turns("line\u2028end?", "Réd.")}, ensure_ascii=False)
    path.write_bytes(row.encode("utf-8-sig"))
    assert read_conversations(path, tmp_path)[0][0].turns == (("line\u2028end?", "Réd."),)
    path.write_bytes(row.encode("utf-16"))
    with pytest.raises(UsageError, match="is not JSON: it is UTF-16LE: save it as UTF-8"):
        read_conversations(path, tmp_path)


def test_the_written_text_is_the_prompt_that_ask_uses() -> None:
    video = Conversation("v", (("What is it?", "Red."), ("Sure?", "Yes.")), video=Path("v"))
    for style in ("vicuna_v1", "llava_v1", "rendered"):
        text, spans = conversation_text(style, video, num_frames=2, times_seconds=[0.5, 61.25])
        asked = build_prompt(style, "What is it?", num_frames=2, times_seconds=[0.5, 61.25])
        assert text.startswith(asked)
        assert [text[a:b] for a, b in spans] == [" Red.</s>", " Yes.</s>"]
    text, spans = conversation_text("chatml", video, num_frames=2, times_seconds=[0.5, 61.25])
    asked = build_prompt("chatml", "What is it?", num_frames=2, times_seconds=[0.5, 61.25])
    later = "<|im_end|>\n<|im_start|>user\nSure?<|im_end|>\n<|im_start|>assistant\n"
    assert text == f"{asked}Red.{later}Yes.<|im_end|>"
    assert [text[a:b] for a, b in spans] == ["Red.<|im_end|>", "Yes.<|im_end|>"]
    image = Conversation("i", (("<image>\nWhat?", "Red."),), images=(Path("i"),))
    assert conversation_text("vicuna_v1", image, num_frames=1, times_seconds=None)[0] == (
        build_prompt("vicuna_v1", "What?", num_frames=1, times_seconds=None) + " Red.</s>"
    )
    several = Conversation("s", (("<image> or <image>?", "Both."), ("Why?", "So.")), images=(Path("i"), Path("j")))
    assert conversation_text("vicuna_v1", several, num_frames=2, times_seconds=None)[0] == (
        f"{SYSTEM} USER: <image> or <image>? ASSISTANT: Both.</s>USER: Why? ASSISTANT: So.</s>"
    )
    with pytest.raises(UsageError, match="llava_v0"):
        check_style("llava_v0")


def learned(told: Labelled) -> list[tuple[int, int]]:
    assert len(told.ids) == len(told.labels)
    return [(place, token) for place, token in enumerate(told.labels) if token != -100]


def test_the_rendered_form_token_by_token(tmp_path: Path) -> None:
    save_words(tmp_path)
    codec = load_text(tmp_path)
    row = Conversation("v", (("what is it", "red"), ("is it red", "it is")), video=Path("v"))
    told = label(codec, "rendered", row, num_frames=2, times_seconds=[1.0, 2.9])
    assert isinstance(told, Labelled)
    words = "<s> frame 1 0:01 I frame 2 0:02 I question what is it answer red </s> question is it red answer it is </s>"
    assert told.ids == [IMAGE_ID if word == "I" else WORDS.index(word) for word in words.split()]
    kept = "_ _ _ _ _ _ _ _ _ _ _ _ _ _ red </s> _ _ _ _ _ it is </s>"
    assert told.labels == [-100 if word == "_" else WORDS.index(word) for word in kept.split()]


def test_in_chatml_answers_and_their_end_marks_are_learned(tmp_path: Path) -> None:
    unpack(save_gguf(tmp_path / "tiny.gguf"), tmp_path)
    codec = load_text(tmp_path)
    row = Conversation("v", (("user?", "a cat"), ("12?", "us")), video=Path("v"))
    told = label(codec, "chatml", row, num_frames=2, times_seconds=[1.0, 2.9])
    assert isinstance(told, Labelled)
    end = [codec.eos_id]
    assert [token for _, token in learned(told)] == [*codec.encode("a cat"), *end, *codec.encode("us"), *end]
    assert all(told.ids[place] == token for place, token in learned(told))
    first = build_prompt("chatml", "user?", num_frames=2, times_seconds=[1.0, 2.9])
    assert told.ids[: learned(told)[0][0]] == prompt_ids(codec, first)


def test_an_answer_of_unknown_words_is_left_out(tmp_path: Path) -> None:
    save_words(tmp_path)
    found = label(load_text(tmp_path), "rendered", Conversation("a", (("what", "a zebra"),)), num_frames=0)
    assert not isinstance(found, Labelled)
    assert found.kind == "unknown words"
    assert "zebra" in found.reason


def reference_mask(codec: TextCodec, text: str, *, legacy: bool) -> list[int]:
    """The labels by the reference's own arithmetic (`preprocess_v1`).

    It never looks for an answer in the ids: it counts the tokens of every round and of its instruction, each
    tokenized alone with a BOS. The instruction ends in a space, whose lone mark and the BOS are the 2 taken off. A
    round after the first is one shorter than alone, since USER gets no space mark behind </s> (unless legacy).
    """
    ids = prompt_ids(codec, text)
    labels = [-100, *ids[1:]]
    at = 1
    for number, part in enumerate(text.split("</s>")[:-1]):
        instruction = part.split(" ASSISTANT: ")[0] + " ASSISTANT: "
        shorter = int(number > 0 and not legacy)
        masked = len(prompt_ids(codec, instruction)) - 2 - shorter
        labels[at : at + masked] = [-100] * masked
        at += len(prompt_ids(codec, part)) - shorter
    assert at == len(ids)
    return labels


@needs_vicuna
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "row",
    [
        Conversation(
            "1", (("<image>\nWhat is this?", "It is a person in a video."), ("And next?", "Nothing.")), (Path("i"),)
        ),
        Conversation("2", (("Hello there", "Hi."), ("Count: 1, 2", "3, 4\n5"), ("é ü 漢?", "漢字 ok"))),
        Conversation("3", (("What happens?", "A\n\nB"), ("Why", "So")), video=Path("v")),
    ],
    ids=["image", "text", "video"],
)
def test_labels_are_the_references_own(row: Conversation, legacy: bool) -> None:
    codec = SentencePieceText(VICUNA, legacy=legacy)
    times = [0.0, 3.25, 75.5] if row.video else None
    told = label(codec, "vicuna_v1", row, num_frames=3, times_seconds=times)
    assert isinstance(told, Labelled)
    text, _ = conversation_text("vicuna_v1", row, num_frames=3, times_seconds=times)
    assert told.labels == reference_mask(codec, text, legacy=legacy)
    # Spelled out: what is learned, read back, is the answers.
    tokens = [token for _, token in learned(told)]
    ends = [place for place, token in enumerate(tokens) if token == codec.eos_id]
    pieces = [tokens[a:b] for a, b in zip([0, *(end + 1 for end in ends)], ends, strict=False)]
    assert [codec.decode(piece) for piece in pieces] == [answer for _, answer in row.turns]
    assert ends[-1] == len(tokens) - 1


@needs_vicuna
def test_a_golden_conversation_has_the_golden_ids() -> None:
    golden = json.loads((PARITY / "goldens" / "llava-v1.5-tiny-m3.json").read_text("utf-8"))["chat2/s1"]
    row = Conversation(
        "g",
        (("<image>\nWhat is this?", "It is a person in a video."), ("And what happens next?", "Nothing.")),
        images=(Path("i"),),
    )
    codec = load_text(VICUNA)
    told = label(codec, "vicuna_v1", row, num_frames=1)
    assert isinstance(told, Labelled)
    prompt = golden["input_ids"]
    assert told.ids[: len(prompt)] == prompt
    places = [place for place, _ in learned(told)]
    # The first answer ends with the prompt's own </s>; the second begins where the prompt ends.
    first_end = prompt.index(codec.eos_id)
    assert first_end in places
    assert [place for place in places if place > first_end] == list(range(len(prompt), len(told.ids)))


@functools.cache
def vicuna() -> TextCodec:
    return load_text(VICUNA)


@needs_vicuna
@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.text(max_size=12), st.text(min_size=1, max_size=12)), min_size=1, max_size=3))
def test_any_text_is_labelled_exactly_or_left_out(pairs: list[tuple[str, str]]) -> None:
    codec = vicuna()
    told = label(codec, "vicuna_v1", Conversation("a", tuple(pairs)), num_frames=0)
    if isinstance(told, Labelled):
        assert sum(token == codec.eos_id for _, token in learned(told)) == len(pairs)
        assert all(told.ids[place] == token for place, token in learned(told))
