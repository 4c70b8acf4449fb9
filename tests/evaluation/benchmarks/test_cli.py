"""`m3video eval BENCHMARK` as a user meets it, on a small LVBench over the sample clip."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import command
from tests.evaluation.benchmarks.made import touch, write
from tests.paths import SAMPLE

COMMAND = (sys.executable, "-m", "m3video.cli", "eval")
SMALL = ("--model", "rendered", "--max-frames", "4", "--budgets", "12,36")


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return command.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=400,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "COLUMNS": "80", **environment},
    )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three questions about the sample clip, one about a file that is no video, one about a video that is not there."""

    def row(key: str, *ids: str) -> dict[str, object]:
        asked = {"question": "What is there?\n(A) a dog\n(B) a cat", "answer": "B", "question_type": ["entity"]}
        return {"key": key, "qa": [{"uid": id, **asked, "time_reference": "00:00-00:30"} for id in ids]}

    folder = tmp_path / "data"
    write(folder / "video_info.meta.jsonl", [row("clip", "1", "2", "3"), row("torn", "4"), row("gone", "5")])
    shutil.copy(SAMPLE, folder / "clip.mp4")
    touch(folder, "torn.mp4")
    return folder


def test_a_run_goes_on_past_what_fails_and_is_finished_later(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("lvbench", "--data", data, *SMALL, "-o", out, "--json")
    assert done.returncode == 3, done.stderr
    value = json.loads(done.stdout)
    assert value["results"].keys() == {f"lvbench_{m}_{b}" for m in ("adaptive", "uniform") for b in (12, 36)}
    ours = value["m3video"]
    assert ours["missing"] == {"video": {"gone": 1}}
    assert ours["failed"].keys() == {"4"}
    assert "torn.mp4" in ours["failed"]["4"]
    assert all(cell["answers"] == 3 for cell in ours["cells"])
    for cell in ours["cells"]:
        assert cell["stage_seconds"].keys() == {"first pass", "fetch", "vision tower", "prefill", "decode"}
        assert 0 < cell["evidence_share"] <= 1
        assert 0 < cell["evidence_tokens"] <= cell["visual_tokens"] <= cell["budget"]
    assert "1 question without video left out: gone" in done.stderr

    shutil.copy(data / "clip.mp4", data / "torn.mp4")
    before = (out / "samples.jsonl").read_text()
    again = run("lvbench", "--data", data, *SMALL, "-o", out, "--quiet")
    assert again.returncode == 0, again.stderr
    assert again.stderr == ""
    assert (out / "samples.jsonl").read_text().startswith(before), "what was answered is not answered again"
    assert "4 questions about 2 clips" in again.stdout
    assert "evidence seen" in again.stdout
    assert "seconds of one answer, in each stage" in again.stdout
    same = run("compare", out, out, "--json")
    assert same.returncode == 0, same.stderr
    assert {cell["difference"]["value"] for cell in json.loads(same.stdout)["cells"]} == {0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("lvbench",), "missing option '--data'"),
        (("lvbench", "--data", "{data}", "--methods", "adaptve"), "did you mean adaptive"),
        (("lvbench", "--data", "{data}", "--deadline", "0"), "--deadline (0)"),
        (("lvbench", "--data", "{data}", "--subtitles"), "LVBench has none"),
        (("lvbench", "--data", "{data}/no"), "is not there"),
        (("mlvu", "--data", "{data}"), "has neither 1_plotQA.json"),
        (("compare", "{data}", "{data}"), "holds no questions of m3video eval"),
    ],
)
def test_mistakes_are_one_line(arguments: tuple[str, ...], message: str, data: Path) -> None:
    done = run(*(argument.format(data=data) for argument in arguments))
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""


def test_help_fits_80_columns() -> None:
    done = run("video-mme", "--help")
    assert done.returncode == 0
    assert "Example: m3video eval video-mme" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
