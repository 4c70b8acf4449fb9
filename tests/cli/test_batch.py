"""`batch` and `summarize` as a user meets them: child processes, their streams, exit codes and files."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from m3video.config import Settings
from m3video.distributed.ledger import Ledger
from m3video.inference.session import ask
from m3video.model.m3 import checkpoint
from m3video.utils.json_lines import RELATIVE
from tests import command
from tests.model.tiny import save_tiny
from tests.paths import ROOT
from tests.video.clips import Clip, write
from tests.video.odd_inputs import ODD_INPUTS, Refused

SAMPLE = ROOT / "m3video" / "assets" / "sample.mp4"
REFUSED = [odd for odd in ODD_INPUTS if isinstance(odd.outcome, Refused) and not odd.drop_root]


def run(*arguments: object, stdin: str = "", timeout: float = 240) -> subprocess.CompletedProcess[str]:
    return command.run(
        [sys.executable, "-m", "m3video.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        input=stdin,
        env={**os.environ, "COLUMNS": "80"},
        cwd=ROOT,
    )


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a few kilobytes with random weights."""
    return save_tiny(tmp_path_factory.mktemp("model") / "tiny", max_context=512)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("good")
    return [write(folder / f"good{n}.mp4", Clip(numbers=range(n, n + 20))) for n in range(4)]


def test_broken_files_cost_a_line_each(tmp_path: Path, tiny: Path, clips: list[Path]) -> None:
    """Over twenty broken files among good ones: exit code 3, every good item answered, every bad one named."""
    assert len(REFUSED) >= 20
    bad = {}
    for odd in REFUSED:
        bad[os.fspath(odd.path())] = odd.outcome
    listed = [*map(str, clips[:2]), *bad, *map(str, clips[2:])]
    out = tmp_path / "out"
    command = (
        "batch",
        "-",
        "--task",
        "ask",
        "--question",
        "what is it",
        "--model",
        tiny,
        "--budget",
        36,
        "-o",
        out,
        "--workers",
        2,
    )
    done = run(*command, stdin="\n".join(listed) + "\n")
    assert done.returncode == 3, done.stderr
    assert f"{len(bad)} of {len(bad) + 4} items failed; {out}/errors.jsonl" in done.stderr
    assert "Traceback" not in done.stderr
    assert Counter(row["video"] for row in rows(out / "results.jsonl")) == Counter(map(str, clips))
    errors = {row["video"]: row for row in rows(out / "errors.jsonl")}
    assert errors.keys() == bad.keys()
    for video, outcome in bad.items():
        assert outcome.message.lower() in errors[video]["error"].lower(), errors[video]
        assert errors[video]["kind"] == "input"
        assert errors[video]["attempts"] == 1
    again = run(*command, "--json", stdin="\n".join(listed) + "\n")
    assert again.returncode == 3
    counts = json.loads(again.stdout)
    assert (counts["done"], counts["done_before"], counts["failed"], counts["failed_before"]) == (0, 4, 0, len(bad))


def test_an_answer_of_a_batch_is_the_answer_of_ask(tmp_path: Path, tiny: Path, clips: list[Path]) -> None:
    questions = tmp_path / "q.jsonl"
    questions.write_text(
        '{"question": "what is it"}\n{"question": "is it red", "id": "colour"}\n'
        + json.dumps({"question": "red", "video": os.path.relpath(clips[1], tmp_path)})
    )
    done = run(
        "batch",
        clips[0].parent,
        "--task",
        "ask",
        "--questions",
        questions,
        "--model",
        tiny,
        "--budget",
        100,
        "--limit",
        5,
        "-o",
        tmp_path / "out",
        "--json",
    )
    assert done.returncode == 0, done.stderr
    found = rows(tmp_path / "out" / "results.jsonl")
    assert Counter(Path(row["video"]).stem for row in found) == {"good0": 2, "good1": 3}
    loaded = checkpoint.load(str(tiny))
    for row in found:
        alone = ask(row["video"], row["question"], Settings(model=str(tiny), budget=100), loaded=loaded)
        assert row["answer"] == alone.text
        assert row["tokens"] == {
            "visual": alone.visual_tokens,
            "prompt": alone.prompt_tokens,
            "answer": alone.answer_tokens,
        }
        assert row["config"] == Settings(model=str(tiny), budget=100).model_dump()
        plan = tmp_path / "out" / "items" / row["item"][:2] / row["item"] / "plan.json"
        assert json.loads(plan.read_text())["total_tokens"] == alone.visual_tokens


def test_questions_and_videos_that_are_left_out_are_reported(tmp_path: Path, tiny: Path, clips: list[Path]) -> None:
    listed, questions = tmp_path / "list.txt", tmp_path / "q.jsonl"
    listed.write_text(f"{clips[0]}\n# c\n")
    questions.write_text(
        "\n".join(json.dumps({"question": "what is it", "video": str(video)}) for video in (clips[0], "two.mp4"))
    )
    command = ("batch", listed, "--task", "ask", "--questions", questions, "--model", tiny, "--budget", 36)
    for more, end in ((("--dry-run",), "1 items of 1 videos"), ((), "1 items done")):
        done = run(*command, "-o", tmp_path / "out", *more)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(end)
        assert done.stderr.splitlines() == [
            f"m3video: note: 1 of 2 questions are about other videos: left out ({tmp_path}/two.mp4); {RELATIVE}",
            "m3video: note: 1 of 2 videos have no question: left out (# c)",
        ]
    assert run(*command, "-o", tmp_path / "out", "--quiet").stderr == ""


def test_files_of_every_task(tmp_path: Path, clips: list[Path], tiny: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text(f"{clips[0]}\n\n{clips[1]}\n")
    files = {
        "analyze": {"stats.parquet"},
        "plan": {"plan.json"},
        "summarize": {"summary.json", "summary.srt", "summary.md"},
    }
    for task, expected in files.items():
        out = tmp_path / task
        more = ("--format", "srt", "--format", "md", "--model", tiny, "--budget", 72) if task == "summarize" else ()
        done = run("batch", listed, "--task", task, "-o", out, *more)
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"2 items done: {out}/results.jsonl\n"
        for row in rows(out / "results.jsonl"):
            folder = out / "items" / row["item"][:2] / row["item"]
            assert {path.name for path in folder.iterdir()} == expected == set(row["files"])


def test_a_dry_run_counts_and_writes_nothing(tmp_path: Path, clips: list[Path]) -> None:
    (tmp_path / "v").mkdir()
    for clip in clips[:2]:
        (tmp_path / "v" / clip.name).symlink_to(clip)
    (tmp_path / "v" / "torn.mkv").write_text("no video")
    (tmp_path / "v" / "notes.txt").write_text("no video, and not called one")
    command = ("batch", tmp_path / "v", "--task", "analyze", "-o", tmp_path / "out", "--json")
    said = json.loads(run(*command, "--dry-run").stdout)
    assert not (tmp_path / "out").exists()
    assert (said["videos"], said["items"], said["refused"], said["unknown_durations"]) == (3, 3, 1, 0)
    assert said["seconds"] is None
    assert said["video_seconds"] == pytest.approx(1.6, abs=0.1)
    assert run(*command).returncode == 3
    before = (tmp_path / "out" / "results.jsonl").read_bytes()
    with Ledger(tmp_path / "out"):  # as a running batch holds it
        said = json.loads(run(*command, "--dry-run", "--retry-failed").stdout)
    assert (said["items"], said["done"], said["failed_before"]) == (1, 2, 0)
    assert said["seconds"] is not None
    assert (tmp_path / "out" / "results.jsonl").read_bytes() == before
    assert "1 failed before" in run(*command[:-1], "--dry-run").stdout


def test_output_to_a_url(tmp_path: Path, clips: list[Path]) -> None:
    """Plain files behind a URL, so that a copy is no rename; the same records and artifacts as in a folder."""
    pytest.importorskip("fsspec", reason="URLs need fsspec")
    listed = tmp_path / "list.txt"
    listed.write_text(f"{clips[0]}\n{clips[1]}\nnone.mp4\n")
    command = ("batch", listed, "--task", "plan", "-o", f"local://{tmp_path}/url")
    done = run(*command)
    assert done.returncode == 3, done.stderr
    assert done.stdout == f"2 items done, 1 failed: local://{tmp_path}/url/results.jsonl\n"
    assert run("batch", listed, "--task", "plan", "-o", tmp_path / "folder").returncode == 3
    found = {}
    for place in ("url", "folder"):
        for row in rows(tmp_path / place / "results.jsonl"):
            plan = tmp_path / place / "items" / row["item"][:2] / row["item"] / "plan.json"
            found.setdefault(row["video"], []).append((row["item"], row["frames"], row["utility"], plan.read_bytes()))
        assert [row["video"] for row in rows(tmp_path / place / "errors.jsonl")] == ["none.mp4"]
    assert all(one == other for one, other in found.values())
    said = json.loads(run(*command, "--dry-run", "--json").stdout)
    assert (said["done"], said["failed_before"], said["items"]) == (2, 1, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("batch", "none", "--task", "plan", "-o", "x"), "none is neither a folder nor a file"),
        (("batch", SAMPLE, "--task", "plan", "-o", "x"), "is a video"),
        (("batch", ROOT, "--task", "ask", "-o", "x"), "--task ask takes one of --question and --questions"),
        (("batch", ROOT, "--task", "plan", "--question", "why", "-o", "x"), "--task plan takes neither"),
        (("batch", ROOT, "--task", "ask", "--question", " ", "-o", "x"), "question is empty"),
        (("batch", ROOT, "--task", "ask", "--questions", SAMPLE, "-o", "x"), "cannot be read"),
        (("batch", ROOT, "--task", "plan", "--format", "md", "-o", "x"), "--format md is for summaries"),
        (("summarize", SAMPLE, SAMPLE, "--format", "srt"), "--format srt holds one video"),
        (("summarize", SAMPLE, "--format", "md", "--json"), "--json and --format md contradict each other"),
        (("batch", ROOT, "--task", "plan", "-o", "memory://x"), "ends with the process that writes to it"),
    ],
)
def test_wrong_use_is_one_line(arguments: tuple[object, ...], message: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("verb", ["batch", "summarize"])
def test_help_has_an_example_and_fits_80_columns(verb: str) -> None:
    done = run(verb, "--help")
    assert done.returncode == 0
    assert f"Example: m3video {verb}" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_summaries_of_several_videos_are_one_table(tiny: Path, clips: list[Path]) -> None:
    done = run("summarize", clips[0], "none.mp4", clips[1], "--model", tiny, "--budget", 72, "--format", "csv")
    assert done.returncode == 3
    assert "none.mp4: no such file" in done.stderr
    assert "1 of 3 videos failed" in done.stderr
    table = list(csv.DictReader(io.StringIO(done.stdout)))
    assert {row["video"] for row in table} == {str(clips[0]), str(clips[1])}


def test_summaries_as_json_are_a_line_each(tiny: Path, clips: list[Path]) -> None:
    done = run("summarize", clips[0], clips[1], "--model", tiny, "--budget", 72, "--json")
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["video"] for one in found] == [str(clips[0]), str(clips[1])]
