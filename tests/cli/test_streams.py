"""The command line's three streams: closed, without a reader, in another encoding, and as files that `-` names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from m3video.planning.plan_file import load_plan
from m3video.planning.stats_file import load_stats
from tests import command
from tests.paths import ROOT

SAMPLE = ROOT / "m3video" / "assets" / "sample.mp4"
QUESTION = "What colour is the background at 0:03?"


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("M3VIDEO_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


def start(arguments: Sequence[object], **how: Any) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "COLUMNS": "80", "PYTHONPATH": str(ROOT), **how.pop("environment", {})}
    started = [sys.executable, "-m", "m3video.cli", *(os.fsencode(str(argument)) for argument in arguments)]
    how = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how}
    return command.run(started, env=environment, timeout=120, check=False, **how)


VERBS: dict[str, tuple[object, ...]] = {
    "probe": ("probe", SAMPLE, "--pts"),
    "plan": ("plan", SAMPLE),
    "plan as JSON": ("plan", SAMPLE, "--json"),
    "plan to -": ("plan", SAMPLE, "-o", "-"),
    "plan to a device": ("plan", SAMPLE, "-o", "/dev/stdout"),
    "analyze": ("analyze", SAMPLE),
    "stats to -": ("analyze", SAMPLE, "-o", "-"),
    "ask": ("ask", SAMPLE, QUESTION),
    "answer as JSON": ("ask", SAMPLE, QUESTION, "--json"),
    "summarize": ("summarize", SAMPLE, "--budget", 36),
    "cache": ("cache", "ls"),
    "help": ("plan", "--help"),
    "version": ("--version",),
}
"""Every verb that prints what it found, and batch below."""


@pytest.mark.parametrize("verb", VERBS)
def test_a_reader_that_is_gone_is_no_error(verb: str) -> None:
    """Whatever is printed, none of it is read: with `head -1` it depends on the moment which part is."""
    read, write = os.pipe()
    os.close(read)
    done = start(VERBS[verb], stdout=write)
    os.close(write)
    assert done.returncode == 0
    assert b"error" not in done.stderr
    assert b"Traceback" not in done.stderr


def test_what_failed_is_reported_though_nobody_reads(tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    read, write = os.pipe()
    os.close(read)
    (tmp_path / "good.mp4").symlink_to(SAMPLE)
    for streams in ({"stdout": write}, {"stderr": write}, {"stdout": write, "stderr": write}):
        out = tmp_path / "".join(streams)
        for arguments, code in (
            (("batch", tmp_path, "--task", "plan", "-o", out), 3),
            (("probe", "none.mp4"), 1),
            (("plan", SAMPLE, "--budget", 0), 2),
        ):
            assert start(arguments, **streams).returncode == code
        assert [len((out / name).read_bytes().splitlines()) for name in ("results.jsonl", "errors.jsonl")] == [1, 1]
    os.close(write)


@pytest.mark.parametrize(
    ("arguments", "code", "closed"),
    [
        (arguments, code, closed)
        for closed in (0, 1, 2)
        for arguments, code in (
            (("plan", SAMPLE, "--budget", 100), 0),
            (("cache", "ls"), 0),
            (("probe", "none.mp4"), 1),
            (("plan", SAMPLE, "--budget", 0), 2),
        )
    ]
    + [(("ask", SAMPLE, QUESTION, "--budget", 36), 0, 2)],
)
def test_a_closed_stream_changes_nothing_else(arguments: tuple[object, ...], code: int, closed: int) -> None:
    whole = start(arguments)
    done = start(arguments, closed=closed, warm=arguments[0] != "cache")  # one verb that Python itself starts so
    assert done.returncode == whole.returncode == code
    assert done.stdout[:60] == (b"" if closed == 1 else whole.stdout[:60])
    assert done.stderr == (b"" if closed == 2 else whole.stderr)


def test_a_list_from_a_closed_stdin_is_empty(tmp_path: Path) -> None:
    done = start(("batch", "-", "--task", "plan", "-o", tmp_path / "out"), closed=0)
    assert done.returncode == 2
    assert b"there is nothing to do" in done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8:strict"])
@pytest.mark.parametrize("name", [b"caf\xc3\xa9.mp4", b"b\xe9.mp4"])
def test_names_of_any_bytes_on_any_stdout(name: bytes, encoding: str, tmp_path: Path) -> None:
    """`probe` for people, `plan` as JSON; whatever the name, verbs that answer print in the same two ways."""
    video = tmp_path / os.fsdecode(name)
    video.symlink_to(SAMPLE)
    coded = {"environment": {"PYTHONIOENCODING": encoding}}
    shown = start(("probe", video), **coded)
    assert (shown.returncode, shown.stderr) == (0, b"")
    assert shown.stdout.decode(encoding.partition(":")[0])
    told = start(("plan", video, "--json"), **coded).stdout.decode("utf-8")
    assert os.fsencode(json.loads(told)["video"]["path"]) == os.fsencode(video)


@pytest.mark.parametrize("verb", [("ask", QUESTION), ("summarize",)])
def test_answers_about_a_name_of_any_bytes(verb: tuple[str, ...], tmp_path: Path) -> None:
    video = tmp_path / os.fsdecode(b"b\xe9.mp4")
    video.symlink_to(SAMPLE)
    done = start((verb[0], video, *verb[1:], "--budget", 36, "--json"), environment={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0
    found = json.loads(done.stdout.decode("utf-8"))
    path = found["video"] if verb[0] == "summarize" else found["plan"]["video"]["path"]
    assert os.fsencode(path) == os.fsencode(video)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("ask", SAMPLE, os.fsdecode(b"caf\xe9?")), r"question (caf\udce9?) holds the byte 0xe9, which is not UTF-8"),
        (("ask", SAMPLE, "what?", "--model", os.fsdecode(b"m\xe9")), r"--model (m\udce9): it holds the byte 0xe9"),
        (
            ("ask", SAMPLE, "what?", "--layout", "grid", "--option", "a", "--option", os.fsdecode(b"\xe9")),
            r"--option (\udce9) holds the byte 0xe9",
        ),
        (
            ("batch", ROOT, "--task", "ask", "--question", os.fsdecode(b"\xe9"), "-o", "x"),
            r"question (\udce9) holds the byte 0xe9",
        ),
        (("convert", os.fsdecode(b"m\xe9"), "x"), r"source (m\udce9) holds the byte 0xe9"),
        (("plan", os.fsdecode(b"no\xe9.mp4")), r"no\udce9.mp4: no such file"),
        (("plan", SAMPLE, "--config", os.fsdecode(b"no\xe9.yaml")), r"no\udce9.yaml cannot be read"),
        (("ask", SAMPLE, "what?", "--plan", os.fsdecode(b"no\xe9.json")), r"no\udce9.json cannot be read"),
        (("plan", SAMPLE, os.fsdecode(b"--\xe9")), r"no such option: --\udce9"),
        (("batch", os.fsdecode(b"no\xe9"), "--task", "plan", "-o", "x"), r"no\udce9 is neither a folder"),
    ],
)
def test_arguments_that_are_no_text_are_one_line(arguments: tuple[object, ...], told: str) -> None:
    done = start(arguments, environment={"PYTHONIOENCODING": "utf-8:strict"})
    assert done.returncode in (1, 2)
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("m3video: error: ")
    assert told in line


def test_a_plan_goes_to_stdout_alone(tmp_path: Path) -> None:
    saved = tmp_path / "plan.json"
    assert start(("plan", SAMPLE, "--budget", 100, "-o", saved)).returncode == 0
    done = start(("plan", SAMPLE, "--budget", 100, "-o", "-"), cwd=tmp_path)
    assert done.stdout == saved.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]
    saved.write_bytes(b"\xef\xbb\xbf" + done.stdout)
    assert load_plan(saved).total_tokens <= 100
    saved.write_bytes(done.stdout.decode().encode("utf-16"))
    again = start(("ask", SAMPLE, "what?", "--plan", saved))
    assert b"plan.json is not JSON: it is UTF-16LE: save it as UTF-8" in again.stderr


def test_stats_are_parquet_in_a_file_in_a_pipe_and_under_no_other_name(tmp_path: Path) -> None:
    saved, piped = tmp_path / "stats.parquet", tmp_path / "piped"
    assert start(("analyze", SAMPLE, "-o", saved)).returncode == 0
    piped.write_bytes(start(("analyze", SAMPLE, "-o", "-")).stdout)
    assert pq.read_table(saved).equals(pq.read_table(piped))
    assert len(load_stats(piped)[0]) == 180
    for name in ("x.csv", "x.json", "x.CSV", "x.parquet.txt"):
        done = start(("analyze", SAMPLE, "-o", tmp_path / name))
        assert done.returncode == 2
        assert f"-o ({tmp_path / name}) must end in .parquet" in done.stderr.decode()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["piped", "stats.parquet"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("plan", SAMPLE, "-o", "-", "--json"), "-o - and --json both print to stdout: give one"),
        (("analyze", SAMPLE, "-o", "-", "--json"), "-o - and --json both print to stdout: give one"),
        (("batch", ROOT, "--task", "plan", "-o", "-"), "-o (-) must be a folder"),
        (("convert", "x", "-"), "target (-) must be a folder"),
        (("train", "x.yaml", "--out", "-"), "--out (-) must be a folder"),
        (("train", "x.yaml", "--run-dir", "-"), "--run-dir (-) must be a folder"),
        (("eval", "footage", "--out", "-"), "--out (-) must be a folder"),
        (("plan", SAMPLE, "--plot", "-"), "--plot (-) must end in .png"),
        (("plan", SAMPLE, "--html", "-"), "--html (-) must end in .html"),
    ],
)
def test_a_dash_where_no_text_is_printed(arguments: tuple[object, ...], told: str, tmp_path: Path) -> None:
    done = start(arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert told in done.stderr.decode()
    assert list(tmp_path.iterdir()) == []
