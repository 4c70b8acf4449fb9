"""`m3video chat` and `m3video cache` as a user meets them: a child process, its streams and its exit code."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import command
from tests.paths import ROOT

SAMPLE = ROOT / "m3video" / "assets" / "sample.mp4"
COLOUR = "What colour is the background at 0:03?"
NIGHT = "is it day or night in frame 2"


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("M3VIDEO_CACHE_DIR", str(folder))
        yield folder


def run(*arguments: object, stdin: str | bytes = "", **environment: str) -> subprocess.CompletedProcess[str]:
    said = command.run(
        [sys.executable, "-m", "m3video.cli", *map(str, arguments)],
        capture_output=True,
        timeout=120,
        input=stdin.encode() if isinstance(stdin, str) else stdin,
        env={**os.environ, "COLUMNS": "80", **environment},
    )
    return subprocess.CompletedProcess(said.args, said.returncode, said.stdout.decode(), said.stderr.decode())


@pytest.mark.parametrize("verb", [("chat",), ("cache", "ls"), ("cache", "prune")])
def test_help_has_an_example_and_fits_80_columns(verb: tuple[str, ...]) -> None:
    done = run(*verb, "--help")
    assert f"Example: m3video {' '.join(verb)}" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_a_budget_beyond_the_memory_is_refused_and_the_one_before_stays() -> None:
    asked = f"/budget 100000\n/budget 300\n{COLOUR}\n"
    done = run("chat", SAMPLE, "--memory", "1GiB", "--budget", 36, "--json", stdin=asked)
    refused, answer = [json.loads(line) for line in done.stdout.splitlines()]
    assert refused["error"].startswith("budget (100000) is more than fits: ")
    assert answer["answer"] == "green"
    assert 36 < answer["tokens"]["visual"] <= 300
    wrong = f"/budget 10\n{COLOUR}\n/plan\n"
    done = run("chat", SAMPLE, "--at", "0:08=36", "--budget", 100, "--saliency", "times", "--json", stdin=wrong)
    error, answer, shown = [json.loads(line) for line in done.stdout.splitlines()]
    assert "--budget (10) is below the 36 tokens" in error["error"]
    assert answer["answer"] == "green"
    assert shown["plan"]["focus"]["question"] == COLOUR, "what that question was shown"


def test_a_pipe_of_questions_with_wrong_ones_among_them() -> None:
    asked = f"{COLOUR}\n\n   \n/nonsense\nwhat <image>\n/budget 0\n".encode() + b"\xff\xfe what\n" + NIGHT.encode()
    done = run("chat", SAMPLE, "--budget", 200, "--json", stdin=asked)
    assert done.returncode == 3
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line.get("answer") for line in lines] == ["green", None, None, None, None, "day"]
    errors = [line["error"] for line in lines if "error" in line]
    assert done.stderr.splitlines() == [f"m3video: error: {error}" for error in errors]
    for error, words in zip(errors, ("/nonsense) is unknown", "<image>", "/budget (0)", "not UTF-8"), strict=True):
        assert words in error
    assert lines[-1]["tokens"]["reused"] > 200 - 10
    assert lines[-1]["cached"] == {"frames": lines[-1]["cached"]["frames"], "scan": True}
    assert "plan" not in lines[0]


def test_answers_are_those_of_ask_with_and_without_the_cache() -> None:
    told = run("chat", SAMPLE, "--budget", 200, stdin=f"{COLOUR}\n{NIGHT}\n/quit\nwhat\n", COLUMNS="44")
    assert told.returncode == 0
    assert max(map(len, told.stdout.splitlines())) <= 44
    blocks = told.stdout.strip().split("\n\n")
    assert all("rests on" in block for block in blocks)
    kept, fresh = (
        json.loads(run("ask", SAMPLE, NIGHT, "--budget", 200, "--json", *flag).stdout) for flag in ((), ("--no-cache",))
    )
    assert kept["answer"] == fresh["answer"] == blocks[1].splitlines()[0]
    assert kept["cached"] == {"frames": len(kept["plan"]["frames"]), "scan": True}
    assert fresh["cached"] == {"frames": 0, "scan": False}
    assert fresh["plan"]["frames"] == kept["plan"]["frames"]


def test_commands_show_and_change_the_plan() -> None:
    done = run("chat", SAMPLE, "--budget", 200, "--json", stdin=f"/plan\n/budget 60\n/plan\n{COLOUR}\n")
    first, second, answer = (json.loads(line) for line in done.stdout.splitlines())
    assert first["plan"]["total_tokens"] > 60 >= second["plan"]["total_tokens"] == answer["tokens"]["visual"]
    assert not any("made before" in warning for warning in answer["warnings"])
    assert (
        done.stderr.splitlines()[-1] == f"{len(second['plan']['frames'])} frames, {answer['tokens']['visual']} tokens"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("chat", "none.mp4"), 1, "none.mp4"),
        (("chat", SAMPLE, "--model", "no/such-folder"), 1, "no/such-folder"),
        (("chat", SAMPLE, "--plan", "none.json"), 1, "none.json"),
        (("chat", SAMPLE, "--plan", "none.json", "--budget", 3), 2, "already decides --budget"),
        (("chat", SAMPLE, "--max-new-tokens", 99999), 4, "context"),
    ],
)
def test_what_cannot_work_is_reported_before_a_question(arguments: tuple[object, ...], code: int, message: str) -> None:
    done = run(*arguments, stdin="what\n", HF_HUB_OFFLINE="1")
    assert done.returncode == code
    assert len(done.stderr.strip().splitlines()) == 1
    assert message in done.stderr
    assert done.stdout == ""


def test_a_terminal_has_a_prompt_and_ctrl_c_ends_cleanly() -> None:
    mine, theirs = pty.openpty()
    process = command.Popen(
        [sys.executable, "-m", "m3video.cli", "chat", str(SAMPLE), "--budget", "200"],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "60"},
    )
    os.close(theirs)
    assert process.stdout is not None
    os.write(mine, f"\n{COLOUR}\nwhat <image>\n".encode())
    told = [process.stdout.readline() for _ in range(3)]
    assert told[0] == "green\n"
    assert "confidence" in told[1]
    assert "rests on" in told[2]
    time.sleep(0.5)  # back at the prompt
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    os.close(mine)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert "> " in errors
    assert "the question contains <image>" in errors
    assert errors.rstrip().endswith("m3video: interrupted")


def test_end_of_input_leaves_a_terminal() -> None:
    mine, theirs = pty.openpty()
    os.write(mine, b"\x04")
    done = command.run(
        [sys.executable, "-m", "m3video.cli", "chat", str(SAMPLE), "--budget", "200"],
        stdin=theirs,
        capture_output=True,
        text=True,
        timeout=120,
    )
    os.close(theirs)
    os.close(mine)
    assert (done.returncode, done.stdout) == (0, "")
    assert "> " in done.stderr


def test_the_cache_is_listed_and_pruned(own_cache: Path) -> None:
    run("ask", SAMPLE, COLOUR, "--budget", 200)
    told = json.loads(run("cache", "ls", "--json").stdout)
    assert told["folder"] == str(own_cache)
    assert {entry["kind"] for entry in told["entries"]} == {"grids", "scans"}
    assert told["bytes"] == sum(path.stat().st_size for path in own_cache.rglob("*.safetensors"))
    shown = run("cache", "ls", COLUMNS="60").stdout
    assert [line.split()[-2] for line in shown.splitlines()[2:]] == [str(SAMPLE)] * 2, "in a pipe nothing is cut"
    assert "sample.mp4 (rendered)" in run("cache", "ls", COLUMNS="200").stdout
    removed = json.loads(run("cache", "prune", "--json").stdout)
    assert removed["removed_files"] == 0
    emptied = json.loads(run("cache", "prune", "--keep-gib", 0, "--json").stdout)
    assert emptied["removed_bytes"] == told["bytes"]
    assert json.loads(run("cache", "ls", "--json").stdout)["entries"] == []
    assert run("cache", "ls").stdout.startswith(str(own_cache))
