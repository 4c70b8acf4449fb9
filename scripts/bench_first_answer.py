"""How long a first answer takes, beside what others do; and what a quick first pass finds of what a full one finds.

    python scripts/bench_first_answer.py                     # about ten minutes on two quiet cores
    python scripts/bench_first_answer.py --full              # all lengths, sizes and codecs; a day
    python scripts/bench_first_answer.py --only time --film long.mp4 --rounds 3 --answers
    python scripts/bench_first_answer.py --only recall --film long.mp4 --candidates 64 256

Time: every way runs in a process of its own, with an empty cache, one after the other, in rounds. Printed are the
median of the seconds, and the median of the ratios to fetching evenly spread exact frames with PyAV in the same round:
machines have slow and quick minutes, which fall on all alike. Memory is the most that the process and those it starts
held together.

Recall: the share of known events of which at least one frame is among the candidates, at equal numbers of candidates.
Scenes count from 5 s on. 95 % intervals over the units that a film is made of (`long_films.py`), since copies of one
unit are no independent events.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
from long_films import CODECS, Event, Film, long_film

from m3video.config import Settings, changed_settings
from m3video.errors import M3VideoError
from m3video.evaluation.intervals import Interval, accuracy, bootstrap, clip_sums
from m3video.inference.first_pass import Wish, analyze_video
from m3video.inference.pipeline import plan_details
from m3video.video.reader import open_video

HERE = Path(__file__).resolve().parent
MODES = ("auto", "full", "keyframes", "nonref")
COUNT = 64
BASE = f"{COUNT} exact frames, PyAV"
WORK = [0.25, 0.5, 1.0, 2.0, 4.0]
"""How much `auto` may do, as factors of what it does by default."""
CANDIDATES = [64, 128, 256]
SCENE_SECONDS = 5.0
POLL_SECONDS = 0.02

Say = Callable[[str], None]
Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Run:
    """One command: wall seconds, most bytes of memory, and its last words where it failed or took too long."""

    seconds: float
    peak_bytes: int
    refusal: str | None


def held_bytes(pid: int) -> int:
    """Resident memory of a process and all that it started. Linux."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        children = " ".join(path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")).split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    own = next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmRSS")), 0)
    return own + sum(held_bytes(int(child)) for child in children)


def run(command: Sequence[str], *, limit: float) -> Run:
    """Run a command with an empty cache, and end it after `limit` seconds."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as errors:
        paths = [str(HERE.parent), os.environ.get("PYTHONPATH", "")]
        own = {"XDG_CACHE_HOME": folder, "M3VIDEO_CACHE_DIR": folder, "PYTHONPATH": ":".join(filter(None, paths))}
        start, peak = time.perf_counter(), 0
        how: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": errors, "env": os.environ | own}
        process = subprocess.Popen(command, start_new_session=True, **how)
        while time.perf_counter() - start < limit:
            peak = max(peak, held_bytes(process.pid))
            try:
                process.wait(POLL_SECONDS)
                break
            except subprocess.TimeoutExpired:
                continue
        spent = time.perf_counter() - start
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return Run(spent, peak, f"not done in {limit:.0f} s")
        errors.seek(0)
        words = errors.read().strip().splitlines()
        return Run(spent, peak, (words or [f"exit {process.returncode}"])[-1] if process.returncode else None)


def ways(path: Path, *, modes: Sequence[str], answers: bool) -> tuple[dict[str, list[str]], list[str]]:
    """The commands to compare by name, the one that all are compared to first; and what is not installed."""
    python, film, missing = sys.executable, str(path), []
    evenly = [python, str(HERE / "fetch_evenly.py"), film, "--count", str(COUNT)]
    found = {BASE: evenly, f"{BASE}, one thread": [*evenly, "--threads", "1"]}
    if importlib.util.find_spec("decord"):
        found[f"{COUNT} exact frames, decord"] = [*evenly, "--by", "decord"]
    else:
        missing.append("decord")
    for mode in modes:
        found[f"m3video plan --scan {mode}"] = [*m3video("plan", film), "--scan", mode]
    if answers:
        question = [*m3video("ask", film, "What is shown?"), "--model", "rendered"]
        found |= {f"m3video ask --scan {mode}": [*question, "--scan", mode] for mode in ("auto", "full")}
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None and importlib.util.find_spec("imageio_ffmpeg"):
        ffmpeg = importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe()
    if ffmpeg:
        found["ffmpeg -f null"] = [ffmpeg, "-v", "error", "-nostdin", "-i", film, "-an", "-f", "null", "-"]
    else:
        missing.append("ffmpeg")
    if importlib.util.find_spec("scenedetect"):
        found["PySceneDetect content"] = [python, "-m", "scenedetect", "-q", "-i", film, "detect-content"]
    else:
        missing.append("PySceneDetect")
    return found, missing


def m3video(*words: str) -> list[str]:
    return [sys.executable, "-m", "m3video.cli", *words, "--no-cache", "--quiet"]


def compare(path: Path, *, modes: Sequence[str], answers: bool, rounds: int, limit: float, say: Say) -> Rows:
    """Time all ways to read one file; a way that is refused is tried once."""
    commands, missing = ways(path, modes=modes, answers=answers)
    runs: dict[str, list[Run]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            if not any(each.refusal for each in runs[name]):
                runs[name].append(run(command, limit=limit))
    rows: Rows = []
    for name, done in runs.items():
        refusal = next((each.refusal for each in done if each.refusal), None)
        seconds = [each.seconds for each in done if each.refusal is None]
        row: dict[str, Any] = {"file": path.name, "way": name, "refusal": refusal, "rounds": len(seconds)}
        if seconds and refusal is None:
            pairs = [one.seconds / base.seconds for one, base in zip(done, runs[BASE], strict=False)]
            peak = max(each.peak_bytes for each in done)
            row |= {"seconds": median(seconds), "least": min(seconds), "most": max(seconds), "ratio": median(pairs)}
            row |= {"peak_mib": peak / 2**20}
        rows.append(row)
    say(f"\n{'way':<38}{'seconds':>9}{'least':>9}{'most':>9}{'of PyAV':>9}{'MiB':>7}")
    for row in rows:
        if row["refusal"]:
            say(f"{row['way']:<38}  no: {row['refusal']}")
            continue
        numbers = "".join(f"{row[name]:>9.2f}" for name in ("seconds", "least", "most", "ratio"))
        say(f"{row['way']:<38}{numbers}{row['peak_mib']:>7.0f}")
    if missing:
        say(f"not installed: {', '.join(missing)}")
    return rows


def about(film: Film) -> str:
    """One line on a file."""
    with open_video(film.path) as reader:
        info, index = reader.info, reader.index
        megabits = film.path.stat().st_size * 8e-6 / info.duration_seconds
        return (
            f"{film.path.name}: {info.duration_seconds / 60:.0f} min of {info.width}x{info.height} {info.codec}, "
            f"{megabits:.1f} Mbit/s, {len(index)} frames, {int(index.is_key_N.sum())} keyframes"
        )


@dataclass(frozen=True, slots=True)
class Way:
    """A way to find candidates, and what it found in one film: rows of frames for each number of candidates."""

    name: str
    seconds: float
    seen: int
    rows_of: Mapping[int, list[int]]


def uniform(frames: int, counts: Sequence[int]) -> Way:
    """The middles of so many equal parts."""
    return Way("uniform", 0, 0, {n: [int((i + 0.5) * frames / n) for i in range(n)] for n in counts})


def planned(path: Path, wish: Wish, counts: Sequence[int], *, name: str) -> Way:
    """What our planner chooses after one scan."""
    rows_of = {}
    with open_video(path) as reader:
        start = time.perf_counter()
        stats = analyze_video(reader, wish)
        seconds = time.perf_counter() - start
        for count in counts:
            settings = changed_settings(Settings(), {"max_frames": count, "budget": 2880})
            details = plan_details(reader, settings, stats=stats)
            rows_of[count] = np.searchsorted(reader.index.pts_N, details.selection.pts_N).tolist()
    return Way(name, seconds, len(stats), rows_of)


def find_all(film: Film, *, modes: Sequence[str], counts: Sequence[int], say: Say) -> list[Way]:
    """All ways over one film, `auto` at several amounts of work."""
    found = [uniform(film.frames, counts)]
    for mode in modes:
        for effort in WORK if mode == "auto" else [1.0]:
            name = f"auto, work x {effort:g}" if mode == "auto" else mode
            try:
                found.append(planned(film.path, Wish(mode, effort=effort), counts, name=name))
            except M3VideoError as error:
                say(f"{name}: refused: {error}")
    return found


def sought(film: Film) -> dict[str, list[Event]]:
    """Kind -> what is to be found."""
    found: dict[str, list[Event]] = {}
    for event in film.events:
        found.setdefault(event.kind, []).append(event)
    found["scene"] = [scene for scene in film.scenes if scene.end - scene.start >= SCENE_SECONDS]
    return found


def hits(events: Sequence[Event], rows: Sequence[int]) -> list[float]:
    """For each event 1.0 if one of the frames shows it, else 0.0."""
    ordered = np.sort(np.asarray(rows, np.int64))
    first, until = (np.searchsorted(ordered, [getattr(event, end) for event in events]) for end in ("first", "until"))
    return [float(b > a) for a, b in zip(first, until, strict=True)]


def of_full(hit_N: Sequence[float], full_N: Sequence[float], unit_N: Sequence[str]) -> Interval:
    """What a way finds as a share of what the full scan finds, with an interval over units."""
    totals = {"ours": clip_sums(hit_N, unit_N)[0], "full": clip_sums(full_N, unit_N)[0]}
    with np.errstate(divide="ignore", invalid="ignore"):
        return bootstrap(totals, lambda t: np.where(t["full"] > 0, t["ours"] / t["full"], np.nan))


def recall(films: Sequence[Film], *, modes: Sequence[str], counts: Sequence[int], say: Say) -> Rows:
    """Find, count and tell; events of several films are counted together."""
    found = [find_all(film, modes=modes, counts=counts, say=say) for film in films]
    names = [way.name for way in found[0] if all(way.name in {each.name for each in ways_} for ways_ in found)]
    by_name = [{way.name: way for way in ways_} for ways_ in found]
    kinds = list(dict.fromkeys(kind for film in films for kind in sought(film)))
    events = {kind: [sought(film).get(kind, []) for film in films] for kind in kinds}
    units = {kind: [event.unit for of_film in events[kind] for event in of_film] for kind in kinds}
    rows: Rows = []
    for count in counts:
        hit = {
            (name, kind): [
                one
                for of_film, way in zip(events[kind], by_name, strict=True)
                for one in hits(of_film, way[name].rows_of[count])
            ]
            for name in names
            for kind in kinds
        }
        heads = "".join(f"{f'{kind} ({len(units[kind])})':>21}" for kind in kinds)
        say(f"\nat most {count} candidates\n{'way':<18}{'seconds':>8}{'frames':>8}{'chosen':>8}{heads}")
        for name in names:
            of_way = [way[name] for way in by_name]
            row: dict[str, Any] = {"candidates": count, "way": name}
            row |= {"seconds": sum(way.seconds for way in of_way), "frames": sum(way.seen for way in of_way)}
            row |= {"chosen": sum(len(way.rows_of[count]) for way in of_way)}
            row["found"] = {kind: accuracy(hit[name, kind], units[kind])._asdict() for kind in kinds}
            if "full" in names:
                full = {kind: of_full(hit[name, kind], hit["full", kind], units[kind]) for kind in kinds}
                row["of_full"] = {kind: interval._asdict() for kind, interval in full.items()}
            rows.append(row)
            cells = "".join(f"{shown(row['found'][kind]):>21}" for kind in kinds)
            say(f"{name:<18}{row['seconds']:>8.1f}{row['frames']:>8}{row['chosen']:>8}{cells}")
        if "full" in names:
            say("as a share of what full finds")
            for row in rows[-len(names) :]:
                say(f"{row['way']:<42}" + "".join(f"{shown(row['of_full'][kind]):>21}" for kind in kinds))
    return rows


def shown(interval: Mapping[str, float]) -> str:
    if interval["value"] != interval["value"]:
        return "-"
    if interval["low"] != interval["low"]:
        return f"{interval['value']:.2f} [   -,    -]"
    return f"{interval['value']:.2f} [{interval['low']:.2f}, {interval['high']:.2f}]"


def films_for_time(folder: Path, *, full: bool, say: Say) -> list[Film]:
    """Rendered files of several lengths; with `full` of all sizes, codecs and keyframe distances."""
    if not full:
        return [long_film(folder, minutes=minutes, units=3, say=say) for minutes in (1, 10)]
    films = [
        long_film(folder, minutes=minutes, size=size, codec=codec, say=say)
        for size in ((1280, 720), (1920, 1080))
        for codec in CODECS
        for minutes in (1, 10, 60, 120)
    ]
    return films + [long_film(folder, minutes=10, gop=gop, say=say) for gop in ("intra", "10s")]


def films_for_recall(folder: Path, *, full: bool, say: Say) -> list[Film]:
    """A film of units that are all different, small so that it is soon rendered."""
    minutes = 60 if full else 10
    return [long_film(folder, minutes=minutes, units=minutes, size=(640, 360), seed=500, say=say)]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=("time", "recall"), help="leave the other part out")
    parser.add_argument("--full", action="store_true", help="all lengths, sizes and codecs; an hour for recall")
    parser.add_argument("--film", type=Path, nargs="+", help="files of long_films.py instead of those it would render")
    parser.add_argument("--folder", type=Path, help="where rendered files are kept for the next run")
    parser.add_argument("--modes", choices=MODES, nargs="+", default=MODES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=float, default=3600, help="most seconds of one command")
    parser.add_argument("--answers", action="store_true", help="also time answers of the model rendered")
    parser.add_argument("--candidates", type=int, nargs="+", default=CANDIDATES)
    parser.add_argument("--json", type=Path, help="write all rows to this file too")
    asked = parser.parse_args()

    def say(text: str) -> None:
        print(text, flush=True)

    cv2.setNumThreads(1)
    found: dict[str, Rows] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        given = [Film.load(path) for path in asked.film or ()]
        if asked.only != "recall":
            found["time"] = []
            for film in given or films_for_time(folder, full=asked.full, say=say):
                say(f"\n{about(film)}")
                how = {"modes": asked.modes, "answers": asked.answers, "rounds": asked.rounds, "limit": asked.limit}
                found["time"] += compare(film.path, **how, say=say)
        if asked.only != "time":
            films = given or films_for_recall(folder, full=asked.full, say=say)
            say("\n" + "\n".join(about(film) for film in films))
            found["recall"] = recall(films, modes=asked.modes, counts=asked.candidates, say=say)
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
