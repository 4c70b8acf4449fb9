"""Text that comes in as anything and goes out as UTF-8."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3video.config import load_settings, read_yaml
from m3video.errors import M3VideoError, PlanError, UsageError
from m3video.planning.plan_file import load_plan
from m3video.utils.text import check_text, encoding_of, json_text, read_text
from tests.paths import ROOT

WIDE = ("utf-16-le", "utf-16-be", "utf-16", "utf-32-le", "utf-32-be", "utf-32")


@pytest.mark.parametrize("encoding", WIDE)
@pytest.mark.parametrize("text", ['{"question": "what?"}', "films/a.mp4\r\nfilms/b.mp4\r\n", "映画\nfilms/映画.mp4\n"])
def test_wide_encodings_are_named(encoding: str, text: str, tmp_path: Path) -> None:
    data = text.encode(encoding)
    (tmp_path / "x").write_bytes(data)
    told = encoding_of(data)
    assert told is not None
    assert data.decode(told).removeprefix("\ufeff") == text
    with pytest.raises(ValueError, match=rf"it is {told}: save it as UTF-8 \(iconv -f {told} -t UTF-8\)"):
        read_text(tmp_path / "x")


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1), min_size=2))
def test_names_between_zeros_are_not_taken_for_a_wide_encoding(names: list[str]) -> None:
    data = "\0".join(f"films/{name}" for name in names).encode(errors="surrogateescape")
    assert encoding_of(data) is None


def test_nor_is_a_video() -> None:
    sample = ROOT / "m3video" / "assets" / "sample.mp4"
    assert encoding_of(sample.read_bytes()) is None
    assert encoding_of(b"\0\0\0\x20" * 40 + b"\1\0\0\0") is None


def test_a_byte_order_mark_is_no_text_and_another_byte_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"\xef\xbb\xbfbudget: 36\n")
    assert read_text(path) == "budget: 36\n"
    assert read_yaml(path) == {"budget": 36}
    path.write_bytes("a: b\nmodel: café\n".encode("latin-1"))
    with pytest.raises(UsageError, match="is not YAML: line 2 holds the byte 0xe9, which is not UTF-8: save the file"):
        read_yaml(path)
    with pytest.raises(PlanError, match="is not JSON: line 2 holds the byte 0xe9"):
        load_plan(path)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (os.fsdecode(b"caf\xe9"), r"what (caf\udce9) holds the byte 0xe9, which is not UTF-8: write it in UTF-8"),
        ("a\n\ud800", r"what (a\n\ud800) holds \ud800, which is half a character: leave it out"),
        (json.loads('"\\udfff"'), r"holds \udfff, which is half a character"),
    ],
)
def test_text_that_cannot_be_written_is_refused_in_one_line(text: str, fault: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_text(text, "what")
    assert fault in str(caught.value)
    assert str(caught.value).isprintable()


def test_text_in_a_locale_without_utf8(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "ascii")
    with pytest.raises(UsageError, match=r"0xc3, which is not ascii: choose a locale with UTF-8, e.g. LC_ALL=C\.UTF-8"):
        check_text("caf\udcc3\udca9", "question")


@pytest.mark.parametrize("way", ["flag", "variable", "file"])
@pytest.mark.parametrize("key", ["model", "vision_tower", "device", "at", "start", "memory"])
def test_settings_are_text_wherever_they_come_from(
    way: str, key: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    flags, config = {}, None
    if way == "flag":
        flags, origin = {key: "caf\udce9"}, f"--{key.replace('_', '-')}"
    elif way == "variable":
        origin = f"M3VIDEO_{key.upper()}"
        monkeypatch.setitem(os.environ, origin, "caf\udce9")
    else:
        monkeypatch.delenv(f"M3VIDEO_{key.upper()}", raising=False)  # it would win over the file
        config = tmp_path / "c.yaml"
        config.write_text(f'{key}: "caf\\udce9"\n')
        origin = f"{config}: {key}"
    with pytest.raises(UsageError) as caught:
        load_settings(flags, config=config)
    assert str(caught.value) == f"{origin} (caf\\udce9): it holds the byte 0xe9, which is not UTF-8: write it in UTF-8"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-16", "utf-8"])
def test_json_is_utf8_and_the_same_value_on_every_stdout(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    for value in ({"é": "日本 😀"}, {"path": "caf\udce9.mp4"}, ["plain"]):
        text = json_text(value, indent=1)
        assert json.loads(text) == value
        data = text.encode(encoding)  # no error, and for what is no UTF-16 also UTF-8
        assert encoding == "utf-16" or json.loads(data.decode("utf-8")) == value
    assert issubclass(UsageError, M3VideoError)
