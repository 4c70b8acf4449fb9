"""`m3video tune` as a user meets it."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image

from m3video.cli.app import app
from m3video.cli.tune import _command, _videos
from m3video.errors import UsageError, VideoError
from tests import command
from tests.evaluation.made import record
from tests.paths import SAMPLE

COMMAND = (sys.executable, "-m", "m3video.cli")
SMALL = ("--budgets", "36,180", "--max-frames", "4")


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return command.run(
        [*COMMAND, "tune", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=200,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "COLUMNS": "80", **environment},
    )


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    path = tmp_path / "q.jsonl"
    lines = [{"question": "is it day or night at 0:01", "answer": "day"}, {"question": "is there a sign at 0:02"}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_help_has_an_example_and_fits_80_columns() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert "Example: m3video tune" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_a_run_prints_tables_a_picture_and_a_command_that_works(asked: Path, tmp_path: Path) -> None:
    plot = tmp_path / "tune.png"
    done = run(SAMPLE, "--questions", asked, *SMALL, "--plot", plot, COLUMNS="40")
    assert done.returncode == 0, done.stderr
    assert "note: full tokens: up to 4 candidates" in done.stderr
    with Image.open(plot) as picture:
        assert picture.width > 800
    printed = shlex.split(done.stdout.splitlines()[-1])
    assert printed[:4] == ["m3video", "ask", str(SAMPLE), "is it day or night at 0:01"]
    assert printed[printed.index("--max-frames") + 1] == "4"
    pasted = command.run([*COMMAND, *printed[1:], "--json"], capture_output=True, text=True, timeout=100)
    assert pasted.returncode == 0, pasted.stderr
    assert json.loads(pasted.stdout)["config"]["budget"] == int(printed[printed.index("--budget") + 1])
    # A second run says the same.
    again = run(SAMPLE, "--questions", asked, *SMALL, "--json", "--quiet")
    assert again.returncode == 0
    assert again.stderr == ""
    value = json.loads(again.stdout)
    assert shlex.join(printed) == value["recommended"]["command"]
    assert value["judged"] == "1 of 2 right by the answers given, 1 the same answer as with full tokens"
    assert all(row["stage_seconds"]["vision tower"] > 0 for row in value["rows"])
    for row in value["rows"]:
        assert f"{row['method']:<12}{row['budget']:>7}{row['visual_tokens']:>7.0f}" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--budgets", "1,x"), "--budgets (1,x)"),
        (("--budgets", "0"), "--budgets (0)"),
        (("--budgets", ""), "--budgets ()"),
        (("--plot", "tune.gif"), "--plot (tune.gif)"),
        (("--questions", "none.jsonl"), "none.jsonl cannot be read"),
    ],
)
def test_mistakes_are_one_line(asked: Path, arguments: tuple[str, ...], message: str) -> None:
    done = run(SAMPLE, *(() if "--questions" in arguments else ("--questions", asked)), *arguments)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_the_plot_never_replaces_the_video(asked: Path, tmp_path: Path) -> None:
    video, link = tmp_path / "film.mp4", tmp_path / "film.png"
    video.write_bytes(SAMPLE.read_bytes())
    link.symlink_to(video)
    done = run(video, "--questions", asked, "--plot", link)
    assert done.returncode == 2
    assert f"--plot ({link}) is the video itself" in done.stderr
    assert video.read_bytes() == SAMPLE.read_bytes()


def test_a_folder_with_a_bad_file_ends_with_3(asked: Path, tmp_path: Path) -> None:
    films = tmp_path / "films"
    films.mkdir()
    (films / "a.mp4").write_bytes(SAMPLE.read_bytes())
    (films / "b.mp4").write_bytes(b"no video")
    done = run(films, "--questions", asked, "--budgets", "36", "--max-frames", "2")
    assert done.returncode == 3
    assert done.stdout.splitlines()[-1].startswith(f"m3video batch {films} --task ask --questions {asked} -o out")
    assert "note: left out: " in done.stderr
    assert done.stderr.splitlines()[-1] == "m3video: error: 1 of 2 videos failed"


def test_ctrl_c_ends_in_one_line_and_writes_nothing(asked: Path, tmp_path: Path) -> None:
    plot = tmp_path / "tune.png"
    arguments = ["tune", str(SAMPLE), "--questions", str(asked), "--plot", str(plot), "--budgets", "180,720,1440,2880"]
    child = subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 100
    # Torch is loaded, so the model is or will soon be at work.
    while time.monotonic() < deadline and "libtorch_cpu" not in Path(f"/proc/{child.pid}/maps").read_text():
        time.sleep(0.05)
    time.sleep(2)
    assert child.poll() is None, "it ended before it could be interrupted"
    child.send_signal(signal.SIGINT)
    said, error = child.communicate(timeout=100)
    # Where Ctrl-C meets code that a library runs from a string (`exec`), Python ends by the signal whatever `main`
    # returns; to a shell both are 130.
    assert child.returncode in (130, -signal.SIGINT), error
    assert error.strip() == "m3video: error: interrupted: nothing is written"
    assert said == ""
    assert [path.name for path in tmp_path.iterdir()] == ["q.jsonl"]


def test_what_a_source_may_be(tmp_path: Path) -> None:
    assert _videos(str(SAMPLE)) == ([str(SAMPLE)], ())
    with pytest.raises(VideoError, match="is a URL: download the video"):
        _videos("https://youtu.be/abc")
    with pytest.raises(VideoError, match=r"nowhere\.mp4"):
        _videos("nowhere.mp4")
    (tmp_path / "a.mkv").touch()
    (tmp_path / "a.srt").touch()
    missed = f"left out of {tmp_path}: 1 .srt (a list of paths takes any file)"
    assert _videos(str(tmp_path)) == ([str(tmp_path / "a.mkv")], (missed,))
    (tmp_path / "list.txt").write_text("x.mp4\nx.mp4\ny.mp4\n")
    assert _videos(str(tmp_path / "list.txt")) == (["x.mp4", "y.mp4"], ())
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no video"):
        _videos(str(tmp_path / "empty"))
    (tmp_path / "film").write_bytes(SAMPLE.read_bytes())
    with pytest.raises(UsageError, match="no list of videos"):
        _videos(str(tmp_path / "film"))


def test_the_command_keeps_what_was_tried() -> None:
    about = {"my film.mp4": [record(1, question="what's up")]}
    flags = {"model": "./m3 7b", "timestamps": False, "max_frames": 8}
    said = _command("my film.mp4", about, Path("q.jsonl"), 720, flags, Path("c.yaml"))
    assert said == (
        "m3video ask 'my film.mp4' 'what'\"'\"'s up' --budget 720 --model './m3 7b' --no-timestamps --max-frames 8 "
        "--config c.yaml"
    )


@pytest.mark.parametrize("question", ["-q is what?", "--help", "what is it?"])
@pytest.mark.parametrize("video", ["s.mp4", "-s.mp4"])
def test_the_command_can_be_parsed_whatever_begins_with_a_dash(video: str, question: str) -> None:
    said = _command(video, {video: [record(1, question=question)]}, Path("q.jsonl"), 4, {"max_frames": 8}, None)
    program, verb, *arguments = shlex.split(said)
    assert (program, verb) == ("m3video", "ask")
    parsed = _verb("ask").make_context("ask", arguments).params
    assert [parsed[name] for name in ("video", "question", "budget", "max_frames")] == [video, question, 4, "8"]
    films = {"a.mp4": [record(1)], "b.mp4": [record(1)]}
    _, _, *arguments = shlex.split(_command(f"{video}.d", films, Path("-q.jsonl"), 4, {}, None))
    parsed = _verb("batch").make_context("batch", arguments).params
    assert [parsed[name] for name in ("videos", "questions", "budget")] == [f"{video}.d", Path("-q.jsonl"), 4]


def _verb(name: str) -> Any:
    group: Any = typer.main.get_command(app)
    return group.commands[name]
