"""Flags > environment > YAML > defaults, and every wrong key or value is one line that names its origin."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from m3video.config import Settings, load_settings, parse_clock, parse_pins, pins_text
from m3video.errors import UsageError
from tests.paths import CONFIGS


@pytest.fixture(autouse=True)
def no_outer_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"M3VIDEO_{name.upper()}", raising=False)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_precedence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = write(tmp_path / "c.yaml", "budget: 10\nmax_frames: 11\nvision_batch: 12\n")
    monkeypatch.setenv("M3VIDEO_BUDGET", "20")
    monkeypatch.setenv("M3VIDEO_MAX_FRAMES", "21")
    settings = load_settings({"budget": 30, "fps": None}, config=config)
    assert (settings.budget, settings.max_frames, settings.vision_batch, settings.max_new_tokens) == (30, 21, 12, 64)


def test_environment_is_coerced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("M3VIDEO_TIMESTAMPS", "false")
    monkeypatch.setenv("M3VIDEO_FPS", "0.5")
    settings = load_settings({})
    assert settings.timestamps is False
    assert settings.fps == 0.5


def test_unknown_key_names_the_nearest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"unknown key 'budgett'; did you mean budget\?"):
        load_settings({}, config=write(tmp_path / "c.yaml", "budgett: 10"))
    monkeypatch.setenv("M3VIDEO_MAX_FRAME", "3")
    with pytest.raises(UsageError, match=r"unknown variable M3VIDEO_MAX_FRAME; did you mean M3VIDEO_MAX_FRAMES\?"):
        load_settings({})


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"budget": 0}, r"^--budget \(0\): "),
        ({"backend": "ffmpeg"}, r"^--backend \(ffmpeg\): .*'pyav', 'decord'"),
        ({"fps": 1.0, "num_frames": 4}, "contradict"),
        ({"start": 5.0, "end": 3.0}, r"--end \(3 s\) must be after --start \(5 s\)"),
    ],
)
def test_wrong_values(flags: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        load_settings(flags)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "pins"),
    [
        ("12:31", ((751.0, None),)),
        ("12:31=576, 14:02", ((751.0, 576), (842.0, None))),
        ("12:31=576,14:02", ((751.0, 576), (842.0, None))),
        ("0:03,0:07", ((3.0, None), (7.0, None))),
        ("3, 5", ((3.0, None), (5.0, None))),
        ("75.5,80", ((75.5, None), (80.0, None))),
        ("0:03=9,500", ((3.0, 9), (500.0, None))),
        ("0:03.5=576", ((3.5, 576),)),
        ("00:00:03,500", ((3.5, None),)),
        ("-00:00:03,500", ((-3.5, None),)),
        ("00:00:03,500=576", ((3.5, 576),)),
        ("01:02:03,004,00:00:07,250=9", ((3723.004, None), (7.25, 9))),
        (" 00:00:03,500 , 7 ", ((3.5, None), (7.0, None))),
        ("00:00:03, 500", ((3.0, None), (500.0, None))),
        (["00:00:03,500", 7, "9"], ((3.5, None), (7.0, None), (9.0, None))),
        (["0:01", "0:02=9"], ((1.0, None), (2.0, 9))),
        (75.5, ((75.5, None),)),
        (None, ()),
    ],
)
def test_pinned_times(value: object, pins: tuple[tuple[float, int | None], ...]) -> None:
    """As flags and the environment give them, and as YAML may."""
    assert Settings(at=value).pins == pins


@pytest.mark.parametrize("value", ["", "1:75", "0:01=7", "0:01=", "0:01,", "=9", True, {"a": 1}])
def test_times_that_pin_nothing(value: object) -> None:
    with pytest.raises(UsageError, match="--at"):
        load_settings({"at": value})


@pytest.mark.parametrize(
    ("value", "one", "two"),
    [
        ("3,5", "3.5", "3, 5"),
        ("1,000", "1.000", "1, 000"),
        ("0:03,500", "0:03.500", "0:03, 500"),
        ("00:00:03,5", "00:00:03.5", "00:00:03, 5"),
        ("3,5=576", "3.5=576", "3, 5=576"),
        ("1, 3,5", "3.5", "3, 5"),
    ],
)
def test_an_ambiguous_comma_is_refused(value: str, one: str, two: str) -> None:
    """What the message suggests instead is read as it says."""
    with pytest.raises(UsageError, match=rf"one time or two: write '{one}' for one, '{two}' for two"):
        load_settings({"at": value})
    assert len(Settings(at=one).pins) == 1
    assert len(Settings(at=two).pins) == 2


def test_a_whole_line_of_subtitles_is_no_time() -> None:
    with pytest.raises(UsageError, match=r"time \(500 --> 00:00:07\) must be seconds"):
        load_settings({"at": "00:00:03,500 --> 00:00:07,250"})


def test_pins_are_written_as_they_are_read() -> None:
    pins = ((0.0, None), (3.5, 576), (-1.25, 9), (3723.004, None))
    assert parse_pins(pins_text(pins)) == pins


def test_times_may_be_written_as_clock_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In YAML and the environment as in flags; YAML itself reads 1:15 as a number."""
    monkeypatch.setenv("M3VIDEO_END", "01:02:03,000")
    settings = load_settings({}, config=write(tmp_path / "c.yaml", "start: 0:01.5\nat: [1:15, 0:02=9]"))
    assert (settings.start, settings.end, settings.pins) == (1.5, 3723, ((75.0, None), (2.0, 9)))


def test_a_wrong_value_names_where_it_came_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = write(tmp_path / "c.yaml", "budget: many")
    with pytest.raises(UsageError, match=r"c\.yaml: budget \(many\)"):
        load_settings({}, config=config)
    monkeypatch.setenv("M3VIDEO_BUDGET", "x")
    with pytest.raises(UsageError, match=r"^M3VIDEO_BUDGET \(x\)"):
        load_settings({}, config=config)


@pytest.mark.parametrize("text", ["- 1\n- 2\n", "a: [", "1: 2\n"])
def test_a_file_that_is_no_mapping(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"c\.yaml") as caught:
        load_settings({}, config=write(tmp_path / "c.yaml", text))
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        load_settings({}, config=tmp_path / "none.yaml")


def test_the_shipped_default_is_the_default() -> None:
    values = yaml.safe_load((CONFIGS / "default.yaml").read_text(encoding="utf-8"))
    assert load_settings({}, config=CONFIGS / "default.yaml") == Settings()
    assert set(values) < set(Settings.model_fields)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("75.5", 75.5),
        ("1:15.5", 75.5),
        ("1:02:03", 3723),
        ("-0:02", -2),
        ("0", 0),
        ("00:01:15,500", 75.5),
        ("0:03,5", 3.5),
    ],
)
def test_parse_clock(text: str, value: float) -> None:
    assert parse_clock(text) == value


@pytest.mark.parametrize(
    "text", ["", "x", "1:60", "1:2:3:4", "1:-3", "nan:1", "inf", "3,5", "1,000", "1:02,3:00", "0:03,5,0", "0:01,60:00"]
)
def test_parse_clock_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="must be seconds"):
        parse_clock(text)
