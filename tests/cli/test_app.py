"""The command line as a user meets it: a child process, its two streams and its exit code."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests import command
from tests.paths import ROOT
from tests.video.odd_inputs import REPRESENTATIVES, OddInput, Refused

SAMPLE = ROOT / "m3video" / "assets" / "sample.mp4"
VERBS = ("probe", "analyze", "plan", "ask", "convert", "train")


def run(*arguments: object, timeout: float = 60, **environment: str) -> subprocess.CompletedProcess[str]:
    return command.run(
        [sys.executable, "-m", "m3video.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "COLUMNS": "80", **environment},
    )


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What answers took is remembered in the cache: tests have one of their own, empty at first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("M3VIDEO_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


def one_line_error(done: subprocess.CompletedProcess[str], code: int) -> str:
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("m3video: error: ")
    return lines[0]


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_an_example_and_fits_80_columns(verb: str) -> None:
    done = run(verb, "--help")
    assert done.returncode == 0
    assert f"Example: m3video {verb}" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_version_and_no_arguments() -> None:
    assert run("--version").stdout.startswith("m3video 0.")
    assert all(verb in run().stdout + run().stderr for verb in VERBS)


def test_unknown_flag_is_a_usage_error() -> None:
    error = one_line_error(run("plan", SAMPLE, "--buget", "3"), 2)
    assert "--budget" in error
    assert error.endswith("(see m3video plan --help)")


@pytest.mark.parametrize(
    "arguments",
    [
        ("plan", SAMPLE),
        ("plan", SAMPLE, "--json"),
        ("probe", SAMPLE, "--pts"),
        ("cache", "ls"),
        ("plan", "--help"),
        ("--version",),
    ],
)
def test_a_full_stdout_is_one_line(arguments: tuple[object, ...]) -> None:
    with open("/dev/full", "w") as full:
        done = command.run(
            [sys.executable, "-m", "m3video.cli", *map(str, arguments)],
            warm=arguments[0] != "--version",  # one that Python itself ends
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert "output cannot be written: No space left on device" in one_line_error(done, 1)


@pytest.mark.parametrize(("module", "arguments"), [("typer", ("--version",)), ("av", ("plan", SAMPLE))])
def test_ctrl_c_while_modules_load_is_one_line(module: str, arguments: tuple[object, ...], tmp_path: Path) -> None:
    (tmp_path / f"{module}.py").write_text("raise KeyboardInterrupt")
    done = run(*arguments, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "m3video: interrupted\n")


def test_output_may_be_stdout_even_when_it_is_a_file(tmp_path: Path) -> None:
    saved, both = tmp_path / "plan.json", tmp_path / "both.txt"
    table = run("plan", SAMPLE, "--budget", 100, "-o", saved).stdout
    for done in (run("plan", SAMPLE, "--budget", 100, "-o", "/dev/stdout").stdout, _into_file(both)):
        assert done.startswith(saved.read_text())
        assert done.splitlines()[-1] == table.splitlines()[-1]


def _into_file(path: Path) -> str:
    arguments = [sys.executable, "-m", "m3video.cli", "plan", str(SAMPLE), "--budget", "100", "-o", "/dev/stdout"]
    with path.open("w") as file:
        command.run(arguments, stdout=file, check=True, env={**os.environ, "COLUMNS": "80"})
    return path.read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("plan", SAMPLE, "--budget", 0), 2, r"--budget (0)"),
        (("plan", SAMPLE, "--fps", 1, "--num-frames", 3), 2, "contradict"),
        (("plan", SAMPLE, "--start", "1:75"), 2, "time (1:75)"),
        (("plan", SAMPLE, "--at", "0:02=100"), 2, "--at (0:02=100): scale (100) must be one of 1, 9, 36"),
        (("plan", SAMPLE, "--at", "2 s"), 2, "--at (2 s): time (2 s) must be seconds or h:mm:ss"),
        (("plan", SAMPLE, "--at", ""), 2, "--at (): time () must be seconds or h:mm:ss"),
        (("plan", SAMPLE, "--at", "1:00"), 2, "--at (1:00) is outside the range, 0:00 to before 0:12:"),
        (("plan", SAMPLE, "--at", "3,5"), 2, "--at (3,5): 3,5 may be one time or two: write '3.5' for one, '3, 5'"),
        (("plan", SAMPLE, "--at", "0:02=576", "--budget", 300), 2, "--budget (300) is below the 576 tokens"),
        (("plan", SAMPLE, "--max-gap", 0), 2, "--max-gap (0"),
        (("plan", SAMPLE, "--detail", "huge"), 2, "'low', 'medium' or 'high'"),
        (("ask", SAMPLE, "what?", "--layout", "grid", "--every-shot"), 2, "--every-shot says which frames"),
        (("plan", SAMPLE, "--start", "99:00"), 2, "0:"),
        (("plan", SAMPLE, "--plot", "plan.jpg"), 2, "--plot (plan.jpg) must end in .png, .svg or .pdf"),
        (("plan", SAMPLE, "--html", "no/such/plan.html"), 2, "--html (no/such/plan.html): there is no folder no/such"),
        (("plan", SAMPLE, "-o", "no/such/plan.json"), 2, "-o (no/such/plan.json): there is no folder no/such"),
        (("analyze", SAMPLE, "-o", "no/such/st.parquet"), 2, "-o (no/such/st.parquet): there is no folder no/such"),
        (("plan", SAMPLE, "--budget", "1e3"), 2, "(see m3video plan --help)"),
        (("plan",), 2, "missing argument"),
        (("paln", SAMPLE), 2, "no such command 'paln'"),
        (("batch", "films", "--task", "no\nsuch", "-o", "out"), 2, "(see m3video batch --help)"),
        (("batch", "films", "-o", "out"), 2, "--task"),
        (("plan", SAMPLE, "--html", "plan.png"), 2, "--html (plan.png) must end in .html or .htm"),
        (("plan", SAMPLE, "-o", SAMPLE), 2, "is the video itself: name another file"),
        (("plan", SAMPLE, "--plot", SAMPLE), 2, "is the video itself: name another file"),
        (("analyze", SAMPLE, "-o", SAMPLE), 2, "is the video itself: name another file"),
        (
            ("plan", SAMPLE, "-o", "a.png", "--plot", "./a.png"),
            2,
            "--plot (a.png) is what -o writes: name another file",
        ),
        (("plan", SAMPLE, "--config", "none.yaml"), 2, "cannot be read"),
        (("ask", SAMPLE, " "), 2, "question is empty"),
        (("ask", SAMPLE, "what?", "--model", "no/such-folder"), 1, "no/such-folder"),
        (("probe", "none.mp4"), 1, "none.mp4"),
        (("convert", "no/such-folder", "out"), 1, "no/such-folder"),
        (("train", "none.yaml"), 2, "none.yaml"),
    ],
)
def test_user_errors_are_one_line(arguments: tuple[object, ...], code: int, message: str, tmp_path: Path) -> None:
    assert message in one_line_error(run(*arguments, HF_HUB_OFFLINE="1"), code)


@pytest.mark.parametrize("odd", REPRESENTATIVES, ids=lambda odd: odd.name)
def test_odd_inputs_end_in_a_clear_line(odd: OddInput) -> None:
    """Every file that no backend should read costs one line and exit code 1; every other one is planned."""
    done = run("plan", odd.path(), "--budget", 100, "--json", timeout=20)
    if isinstance(odd.outcome, Refused):
        one_line_error(done, 1)
        assert done.stdout == ""
    else:
        assert done.returncode == 0, done.stderr
        plan = json.loads(done.stdout)
        assert 0 < plan["total_tokens"] <= 100
        if odd.outcome.partial and odd.outcome.is_damage_seen:
            assert plan["warnings"] or plan["video"]["notes"], "a partial result must say that it is"


@pytest.mark.parametrize("budget", [1, 9, 100, 720, 2880, 16384])
def test_plan_spends_at_most_its_budget(budget: int) -> None:
    plan = json.loads(run("plan", SAMPLE, "--budget", budget, "--json").stdout)
    assert plan["schema"] == "m3video.plan/2"
    assert plan["total_tokens"] == sum(frame["scale"] for frame in plan["frames"]) <= budget
    assert plan["utility"] <= plan["bound"]
    assert plan["config"]["budget"] == budget


def test_plan_shows_what_is_wished() -> None:
    """A pinned frame at its scale, one without, every shot, no long gap, and no other frame above the detail."""
    done = run(
        "plan",
        SAMPLE,
        "--budget",
        300,
        "--at",
        "0:02=144",
        "--at",
        "00:00:03,400",
        "--every-shot",
        "--max-gap",
        1,
        "--detail",
        "low",
        "--json",
    )
    plan = json.loads(done.stdout)
    assert plan["warnings"] == []
    assert (plan["config"]["at"], plan["config"]["max_gap"]) == ("0:02=144, 00:00:03,400", 1)
    frames = plan["frames"]
    pinned = [(frame["pts_seconds"], frame["scale"]) for frame in frames if frame["reason"] == "pinned"]
    assert pinned[0] == (2.0, 144)
    assert pinned[1][0] == pytest.approx(3.4, abs=0.07)
    assert {frame["shot"] for frame in frames} == set(range(len(plan["shots"])))
    assert max(frame["scale"] for frame in frames if frame["reason"] != "pinned") <= 36
    times = [0.0, *(frame["pts_seconds"] for frame in frames)]
    assert max(b - a for a, b in itertools.pairwise(times)) <= 1.0 + 1e-9
    assert plan["method"] in ("fits", "hull", "dp")
    assert plan["gap"] == pytest.approx(1 - plan["utility"] / plan["bound"], abs=1e-9)


def test_wishes_come_from_the_environment_and_yaml_too(tmp_path: Path) -> None:
    config = tmp_path / "wishes.yaml"
    config.write_text("at: [0:02=144, 0:03]\ndetail: low\n")
    done = run("plan", SAMPLE, "--config", config, "--json", M3VIDEO_MAX_GAP="0.2", M3VIDEO_BUDGET="200")
    plan = json.loads(done.stdout)
    assert [frame["pts_seconds"] for frame in plan["frames"] if frame["reason"] == "pinned"] == [2.0, 3.0]
    assert "max_gap (0.2 s) needs" in plan["warnings"][0]


def facts(shown: str) -> dict[str, str]:
    """The labelled lines at the head of a plan's table, unwrapped."""
    found: dict[str, str] = {}
    for line in shown.partition("\n\n")[0].splitlines():
        label = line[:9].strip() or label  # noqa: F821 - wrapped lines belong to the label before
        found[label] = f"{found.get(label, '')} {line[9:]}".strip()
    return found


def test_the_table_tells_the_text_tokens_and_the_proof() -> None:
    shown = facts(run("plan", SAMPLE, "--budget", 100).stdout)
    planned = json.loads(run("plan", SAMPLE, "--budget", 100, "--json").stdout)
    assert shown["tokens"] == f"{planned['total_tokens']} of 100"
    assert shown["text"].startswith(f"{planned['text_tokens']} tokens around the frames")
    assert "the proven optimum" in shown["utility"]
    above = planned["bound"] / planned["utility"] - 1
    assert f"({100 * above:.2g}% above)" in shown["bound"]
    elsewhere = run("plan", SAMPLE, "--model", "no/such-folder", HF_HUB_OFFLINE="1").stdout
    assert "no/such-folder has no tokenizer on this machine" in facts(elsewhere)["text"]


@pytest.mark.parametrize(
    ("flags", "binding"),
    [
        (("--budget", 100), {"--budget 100", "--max-frames 16"}),
        (("--budget", 99999), {"--max-frames 16"}),
        (("--budget", 99999, "--detail", "low"), {"--detail low", "--max-frames 16"}),
        (("--budget", 99999, "--num-frames", 4), {"--num-frames 4"}),
        (("--budget", 99999, "--fps", 1), {"--fps 1"}),
        (("--budget", 199999, "--max-frames", 400), set()),
        (("--budget", 99999, "--fps", 1, "--at", "0:02=9"), {"--fps 1", "--at"}),
        (("--budget", 9, "--max-gap", 1.5), {"--budget 9", "--max-frames 16", "--max-gap 1.5"}),
    ],
)
def test_the_table_tells_which_limits_bind(flags: tuple[object, ...], binding: set[str]) -> None:
    told = facts(run("plan", SAMPLE, *flags).stdout)["limits"]
    names = {part.partition(" (")[0] for part in told.split(", ")} if not told.startswith("none binds") else set()
    assert names == binding


@pytest.mark.parametrize("flags", [(), ("--model", "/no/such/folder/with/quite/a/long/name/indeed/so/long")])
def test_the_table_fits_a_narrow_terminal(flags: tuple[str, ...]) -> None:
    done = run("plan", SAMPLE, "--max-gap", 1, "--detail", "low", *flags, COLUMNS="40", HF_HUB_OFFLINE="1")
    assert max(map(len, done.stdout.splitlines())) <= 40
    assert "\x1b" not in done.stdout
    wide = run("plan", SAMPLE, "--max-gap", 1, "--detail", "low", *flags, HF_HUB_OFFLINE="1")
    told, also = facts(done.stdout), facts(wide.stdout)
    labels = "frames tokens choice repeats text utility bound estimate limits unspent time"
    assert told.keys() == also.keys() == set(labels.split())
    assert all(told[label].replace(" ", "") == also[label].replace(" ", "") for label in told if label != "time")


def test_a_plan_keeps_its_first_pass_and_makes_the_same_plan_from_it(tmp_path: Path) -> None:
    kept = str(tmp_path / "kept")
    first = run("plan", SAMPLE, "--json", M3VIDEO_CACHE_DIR=kept)
    (scan,) = (tmp_path / "kept" / "scans").rglob("*.safetensors")
    assert run("plan", SAMPLE, "--json", M3VIDEO_CACHE_DIR=kept).stdout == first.stdout
    scan.write_bytes(scan.read_bytes()[:-1] + b"?")
    assert "is damaged: removed and made again" in run("plan", SAMPLE, M3VIDEO_CACHE_DIR=kept).stderr
    assert run("plan", SAMPLE, "--json", M3VIDEO_CACHE_DIR=kept).stdout == first.stdout
    run("plan", SAMPLE, "--no-cache", M3VIDEO_CACHE_DIR=str(tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_pictures_are_drawn_beside_pure_json(tmp_path: Path) -> None:
    png, html, saved = tmp_path / "plan.png", tmp_path / "plan.html", tmp_path / "plan.json"
    done = run("plan", SAMPLE, "--budget", 300, "--plot", png, "--html", html, "-o", saved, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads(run("plan", SAMPLE, "--budget", 300, "--json").stdout)
    assert json.loads(done.stdout) == json.loads(saved.read_text())
    with Image.open(png) as picture:
        assert picture.size == (1440, 900)
    assert html.read_text(encoding="utf-8").count("<img ") == len(json.loads(done.stdout)["frames"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plan.html", "plan.json", "plan.png"]


def test_a_missing_extra_is_named_before_the_video_is_read(tmp_path: Path) -> None:
    (tmp_path / "matplotlib").mkdir()
    (tmp_path / "matplotlib" / "__init__.py").write_text("raise ImportError('not here')")
    for flag in ("--plot", "--html"):
        done = run("plan", "none.mp4", flag, tmp_path / "plan.png", PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
        assert "m3video[plots]" in one_line_error(done, 2)
    assert run("plan", SAMPLE, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}").returncode == 0


def test_time_is_reported_once_it_was_measured(tmp_path: Path) -> None:
    def told() -> str:
        return facts(run("plan", SAMPLE, "--budget", 50, M3VIDEO_CACHE_DIR=str(tmp_path)).stdout)["time"]

    assert "not known yet" in told()
    done = run("ask", SAMPLE, "what colour?", "--budget", 50, "--json", M3VIDEO_CACHE_DIR=str(tmp_path))
    took = sum(json.loads(done.stdout)["stage_seconds"][stage] for stage in ("load model", "fetch", "vision tower"))
    found = re.search(r"about ([\d.]+) s more, by 1 earlier answer", told())
    assert found is not None
    assert took * 0.9 <= float(found[1]) <= took * 1.1 + 2


def test_an_answer_is_given_where_nothing_can_be_kept(tmp_path: Path) -> None:
    (tmp_path / "m3video").write_text("a file where the folder should be")
    done = run("ask", SAMPLE, "what colour?", "--budget", 50, "--json", M3VIDEO_CACHE_DIR=str(tmp_path / "m3video"))
    assert done.returncode == 0
    assert json.loads(done.stdout)["answer"]
    assert "plan will not know what this took" in done.stderr


def test_plan_lists_pts_that_probe_lists() -> None:
    probed = json.loads(run("probe", SAMPLE, "--json", "--pts").stdout)
    planned = json.loads(run("plan", SAMPLE, "--json").stdout)
    assert {frame["pts"] for frame in planned["frames"]} <= set(probed["pts"])
    assert len(probed["pts"]) == probed["num_frames"]


def test_ask_answers_and_replays_its_plan(tmp_path: Path) -> None:
    saved = tmp_path / "plan.json"
    assert run("plan", SAMPLE, "--budget", 200, "-o", saved).returncode == 0
    first = json.loads(run("ask", SAMPLE, "What colour is the background at 0:03?", "--budget", 200, "--json").stdout)
    again = json.loads(run("ask", SAMPLE, "What colour is the background at 0:03?", "--plan", saved, "--json").stdout)
    assert first["answer"] == again["answer"] != ""
    assert first["plan"]["frames"] == again["plan"]["frames"] == json.loads(saved.read_text())["frames"]
    assert first["tokens"]["visual"] == first["plan"]["total_tokens"] <= 200
    # The question has seven words and a question mark, of which the rendered tokenizer makes as many tokens.
    words = first["tokens"]["prompt"] - first["tokens"]["visual"] - first["plan"]["text_tokens"]
    assert 7 <= words <= 12
    assert first["plan"]["text_tokens"] == json.loads(saved.read_text())["text_tokens"]
    assert first["evidence"]
    assert {"plan", "load model", "fetch", "vision tower", "answer"} <= set(first["stage_seconds"])


def test_a_plan_for_another_video_is_refused(tmp_path: Path) -> None:
    saved, other = tmp_path / "plan.json", tmp_path / "other.mp4"
    run("plan", SAMPLE, "-o", saved)
    other.write_bytes(SAMPLE.read_bytes() + b"\0")
    assert "other.mp4" in one_line_error(run("ask", other, "what?", "--plan", saved), 1)


def test_plan_and_budget_contradict(tmp_path: Path) -> None:
    saved = tmp_path / "plan.json"
    run("plan", SAMPLE, "-o", saved)
    assert "--budget" in one_line_error(run("ask", SAMPLE, "what?", "--plan", saved, "--budget", 9), 2)


def test_plan_and_settings_from_elsewhere_are_distinguished(tmp_path: Path) -> None:
    """What a plan has decided cannot be changed by YAML or the environment, and is not ignored silently."""
    saved, config = tmp_path / "plan.json", tmp_path / "wishes.yaml"
    run("plan", SAMPLE, "--budget", 60, "-o", saved)
    config.write_text("detail: low\nevery_shot: true\nat: 0:02\nmax_new_tokens: 5\n")
    done = run(
        "ask", SAMPLE, "what colour?", "--plan", saved, "--config", config, M3VIDEO_MAX_GAP="2", M3VIDEO_BUDGET="60"
    )
    notes = [line for line in done.stderr.splitlines() if "the plan was made before" in line]
    assert len(notes) == 1
    assert all(name in notes[0] for name in ("detail (low)", "every_shot (True)", "at (0:02)", "max_gap (2.0)"))
    # The same value as the plan's own contradicts nothing.
    assert "budget" not in notes[0]
    assert "max_new_tokens" not in notes[0]


def test_context_overflow_is_refused_before_the_model_runs() -> None:
    error = one_line_error(run("ask", SAMPLE, "what " * 9000, "--budget", 100), 4)
    assert "ask a shorter question" in error
    assert "9214 tokens" in error


def test_nothing_but_data_on_stdout_and_no_bars_without_a_terminal() -> None:
    done = run("analyze", SAMPLE, "--json")
    assert json.loads(done.stdout)["frames"] > 0
    assert "\x1b" not in done.stderr
    assert "\r" not in done.stderr
