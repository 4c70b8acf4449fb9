"""Footage like films, lectures and CCTV at the bitrates of real encoders, with events of known times, joined to hours.

    python scripts/long_films.py unit cctv.mp4 --family cctv --seconds 60 --codec hevc
    python scripts/long_films.py join long.mp4 cctv.mp4 talk.mp4 --minutes 60
    python scripts/long_films.py film films/ --minutes 60 --units 10   # renders the units it lacks, then joins them
    python scripts/long_films.py check long.mp4

A unit is of one family (`film_families.py`). Over it lie events: a `caption` for half a second, a `slide` or a `person`
for two. Beside each file lies a JSON file with them and the scenes. The same arguments make the same file.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from film_families import FAMILIES, GRAIN, Picture, Rng, Shot, Size, figures, paste, text_slide, words, write

os.environ.setdefault("SVT_LOG", "1")  # errors only

EVENT_SECONDS = {"caption": 0.5, "slide": 2.0, "person": 2.0}
EVENTS_PER_MINUTE = {"caption": 1.0, "slide": 1.0, "person": 1.0}
APART_SECONDS = 1.0
"""Between two events, and between an event and the ends of a unit."""

X264 = "asm=avx2"
"""With AVX-512, x264's macroblock tree is not the same from run to run (core 165)."""
X265 = "pools=none:frame-threads=1:log-level=error"
CODECS: dict[str, tuple[str, dict[str, str]]] = {
    "h264": ("libx264", {"preset": "veryfast", "crf": "23", "x264-params": X264}),
    "hevc": ("libx265", {"preset": "superfast", "crf": "26", "x265-params": X265}),
    "vp9": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "7", "crf": "34"}),
    "av1": ("libsvtav1", {"preset": "10", "crf": "38", "svtav1-params": "lp=1"}),
}
GOPS = ("usual", "intra", "10s")
"""The encoder's usual keyframes (x264: up to 250 frames, at cuts, B-frames); keyframes only; one every ten seconds."""

MIX = "film talk slides cctv sport film credits film talk film".split()
"""Families of ten units of a long film."""

GRAIN_PICTURES, GRAIN_SPARE = 4, 32


@dataclass(frozen=True, slots=True)
class Event:
    """What is there to be found, in the frames first <= n < until; times in seconds as players count them.

    Attributes:
        kind: `caption`, `slide`, `person`, or `walker`, somebody who belongs to a CCTV scene.
        unit: the unit it was rendered in: its copies in a joined film are no independent events.
    """

    kind: str
    first: int
    until: int
    start: float
    end: float
    unit: str

    def shifted(self, frames: int, fps: float) -> Event:
        a, b = self.first + frames, self.until + frames
        return replace(self, first=a, until=b, start=a / fps, end=b / fps)


@dataclass(frozen=True, slots=True)
class Film:
    """A file with all that is known of it; `scenes` are events of the kind of their family."""

    path: Path
    frames: int
    fps: float
    events: tuple[Event, ...]
    scenes: tuple[Event, ...]

    def save(self) -> Film:
        known = {name: value for name, value in asdict(self).items() if name != "path"}
        self.path.with_suffix(".json").write_text(json.dumps(known, indent=1) + "\n")
        return self

    @classmethod
    def load(cls, path: Path) -> Film:
        known = json.loads(path.with_suffix(".json").read_text())
        events, scenes = (tuple(Event(**each) for each in known[name]) for name in ("events", "scenes"))
        return cls(path, known["frames"], known["fps"], events, scenes)


@dataclass(frozen=True, slots=True)
class Script:
    """What a unit will show: its shots, the frames they begin at, and the events over them."""

    family: str
    size: Size
    fps: float
    seed: int
    shots: tuple[Shot, ...]
    first_M: tuple[int, ...]
    events: tuple[Event, ...]
    frames: int

    def scenes(self, unit: str) -> tuple[Event, ...]:
        fps, spans = self.fps, pairwise((*self.first_M, self.frames))
        return tuple(Event(self.family, a, b, a / fps, b / fps, unit) for a, b in spans)


def script(
    family: str,
    *,
    unit: str = "",
    seconds: float = 60,
    seed: int = 0,
    size: Size = (1280, 720),
    fps: float = 30,
    per_minute: Mapping[str, float] = EVENTS_PER_MINUTE,
) -> Script:
    """Draw up a unit: its shots one after the other, and events at random places, none over another."""
    rng = np.random.default_rng((seed, sorted(FAMILIES).index(family)))
    frames, at, shots, first_M, walkers = round(seconds * fps), 0, [], [], []
    while at < frames:
        shots.append(FAMILIES[family](rng, size, fps))
        first_M.append(at)
        for start, end in shots[-1].walkers:
            first, until = (min(frames, at + int(np.ceil(time * fps))) for time in (start, end))
            if first < until:
                walkers.append(Event("walker", first, until, first / fps, until / fps, unit))
        at += max(1, round(shots[-1].seconds * fps))
    events: list[Event] = []
    rng = np.random.default_rng((seed, 1000))
    kinds = [kind for kind, count in per_minute.items() for _ in range(round(count * seconds / 60))]
    apart = round(APART_SECONDS * fps)
    for kind in kinds:
        length = round(EVENT_SECONDS[kind] * fps)
        is_free = np.zeros(frames, bool)
        is_free[apart : frames - length - apart] = True
        for other in events:
            is_free[max(other.first - length - apart + 1, 0) : other.until + apart] = False
        if is_free.any():
            first = int(rng.choice(np.flatnonzero(is_free)))
            events.append(Event(kind, first, first + length, first / fps, (first + length) / fps, unit))
    events = sorted(events + walkers, key=lambda event: event.first)
    return Script(family, size, fps, seed, tuple(shots), tuple(first_M), tuple(events), frames)


def overlay(event: Event, rng: Rng, size: Size) -> Callable[[Picture, int], None]:
    """What draws an event over a picture, given the picture and the number of frames since it began."""
    width, height = size
    if event.kind == "slide":
        page = text_slide(rng, size)
        return lambda picture, _: np.copyto(picture, page)
    if event.kind == "caption":
        text = words(rng, int(rng.integers(2, 5))).upper()
        letters = min(height * 0.055, width * 1.05 / len(text))

        def caption(picture: Picture, _: int) -> None:
            for colour, shift in (((0, 0, 0), height / 240), ((255, 255, 255), 0.0)):
                write(picture, text, (width * 0.08 + shift, height * 0.9 + shift), letters, colour)

        return caption
    tall = round(height * rng.uniform(0.35, 0.5))
    poses = figures(rng, tall, (-1, 0, 1, 0))
    walks, side = rng.random() < 0.5, int(rng.integers(2))
    count = event.until - event.first

    def person(picture: Picture, number: int) -> None:
        share = (number + 0.5) / count * 0.9 if walks else 0.02
        left = round((width - tall / 2) * (1 - share if side else share))
        paste(picture, poses[number // 5 % 4 if walks else 1], left, height - tall)

    return person


def grain_picture(rng: Rng, shape: tuple[int, int], level: float) -> Picture:
    """What a camera's noise adds to luma; it is smooth enough to survive an encoder, as that of cameras is."""
    noise = cv2.GaussianBlur(rng.normal(0, 1, shape).astype(np.float32), (0, 0), 0.8)
    return np.clip(np.rint((noise / noise.std() + 2.5) * level), 0, 255).astype(np.uint8)


def pictures(plan: Script, *, with_events: bool = True) -> Iterator[Picture]:
    """Draw a unit, frame by frame: uint8 [1.5 H, W], planes of YUV 4:2:0."""
    width, height = plan.size
    rng = np.random.default_rng((plan.seed, 2000))
    shape = (height + GRAIN_SPARE, width + GRAIN_SPARE)
    level = GRAIN[plan.family]
    grain = [grain_picture(rng, shape, level) for _ in range(GRAIN_PICTURES)]
    shifts = rng.integers(0, GRAIN_SPARE + 1, (plan.frames, 2)).tolist()
    draws = [(event, overlay(event, rng, plan.size)) for event in plan.events if event.kind != "walker"]
    shot = 0
    for number in range(plan.frames):
        if shot + 1 < len(plan.shots) and number == plan.first_M[shot + 1]:
            shot += 1
        picture = plan.shots[shot].draw(number - plan.first_M[shot])
        for event, draw in draws:
            if with_events and event.first <= number < event.until:
                draw(picture, number - event.first)
        planes = cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420)
        if level:
            (y, x), luma = shifts[number], planes[:height]
            cv2.add(luma, grain[number % GRAIN_PICTURES][y : y + height, x : x + width], luma)
        yield planes


def encoder(codec: str, gop: str, fps: float) -> tuple[str, dict[str, str]]:
    """The encoder of a codec and its options."""
    if gop == "usual":
        return CODECS[codec]
    if codec != "h264":
        raise ValueError(f"gop ({gop}) must be usual with codec {codec}: only h264 is made with other keyframes")
    keyint = 1 if gop == "intra" else round(10 * fps)
    return CODECS[codec][0], CODECS[codec][1] | {
        "x264-params": f"{X264}:keyint={keyint}:min-keyint={keyint}:scenecut=0"
    }


def render_unit(
    path: Path,
    family: str,
    *,
    seconds: float = 60,
    seed: int = 0,
    size: Size = (1280, 720),
    fps: int = 30,
    codec: str = "h264",
    gop: str = "usual",
    per_minute: Mapping[str, float] = EVENTS_PER_MINUTE,
) -> Film:
    """Draw and encode a unit, and write its events beside it.

    Args:
        path: .mp4 or .mkv.
        family: one of `FAMILIES`.
        seconds: length.
        seed: of shots, events and grain.
        size: width and height, even numbers.
        fps: frames a second.
        codec: one of `CODECS`.
        gop: one of `GOPS`; others than the first for h264 only.
        per_minute: kind of event to how many of them a minute has.
    """
    plan = script(family, unit=path.stem, seconds=seconds, seed=seed, size=size, fps=fps, per_minute=per_minute)
    name, options = encoder(codec, gop, fps)
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream(name, rate=fps, options=options)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.thread_count = 1
        for planes in pictures(plan):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(planes, format="yuv420p")))
        out.mux(stream.encode(None))
    return Film(path, plan.frames, fps, plan.events, plan.scenes(path.stem)).save()


def join(paths: Sequence[Path], order: Sequence[int], path: Path) -> Film:
    """Copy units one after the other, packet by packet, and write their events and scenes with the times they get.

    Args:
        paths: units of one size, rate, codec and encoder.
        order: which unit comes when; one may come often.
        path: the file to write.
    """
    units = [Film.load(each) for each in paths]
    frames, fps, events, scenes = 0, units[0].fps, [], []
    with av.open(str(path), "w") as out:
        copy: Any = None
        for unit in (units[number] for number in order):
            with av.open(str(unit.path)) as read:
                stream = read.streams.video[0]
                copy = copy or out.add_stream_from_template(stream, opaque=True)
                assert stream.time_base is not None
                shift = round(frames / fps / stream.time_base)
                for packet in read.demux(stream):
                    if packet.size and packet.pts is not None and packet.dts is not None:
                        packet.pts += shift
                        packet.dts += shift
                        packet.stream = copy
                        out.mux(packet)
            events += [event.shifted(frames, fps) for event in unit.events]
            scenes += [scene.shifted(frames, fps) for scene in unit.scenes]
            frames += unit.frames
    return Film(path, frames, fps, tuple(events), tuple(scenes)).save()


def shuffled(units: int, count: int, seed: int) -> list[int]:
    """A seeded order of `count` units: all come equally often, none after itself where there are several."""
    rng, order = np.random.default_rng(seed), list[int]()
    while len(order) < count:
        turn = rng.permutation(units).tolist()
        if order and units > 1 and turn[0] == order[-1]:
            turn.append(turn.pop(0))
        order += turn
    return order[:count]


def long_film(
    folder: Path,
    *,
    minutes: int,
    units: int = 10,
    size: Size = (1280, 720),
    codec: str = "h264",
    gop: str = "usual",
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> Film:
    """A film of so many minutes; units and films that are in the folder already are not made again."""
    suffix, paths = ".webm" if codec == "vp9" else ".mp4", []
    kind = f"{size[0]}x{size[1]}-{codec}-{gop}"
    for number in range(min(units, minutes)):
        family = MIX[number % len(MIX)]
        path = folder / f"unit-{seed + number}-{family}-{kind}{suffix}"
        paths.append(path)
        if not path.with_suffix(".json").exists():
            say(f"rendering {path.name}")
            render_unit(path, family, seed=seed + number, size=size, codec=codec, gop=gop)
    joined = folder / f"film-{minutes}min-{len(paths)}units-{seed}-{kind}{suffix}"
    if joined.with_suffix(".json").exists():
        return Film.load(joined)
    return join(paths, shuffled(len(paths), minutes, seed), joined)


def check(film: Film, *, tries: int = 8, seed: int = 0) -> list[str]:
    """What is wrong with a file: its index is read, and frames within and before some events are compared."""
    from m3video.video.reader import open_video

    wrong = []
    with av.open(str(film.path)) as read:
        dts = [packet.dts for packet in read.demux(video=0) if packet.size and packet.dts is not None]
    if any(b <= a for a, b in pairwise(dts)):
        wrong.append("dts do not increase")
    with open_video(film.path) as reader:
        index = reader.index
        if not index.is_regular:
            wrong.append("its pts are not regular")
        if len(index) != film.frames:
            return [*wrong, f"it has {len(index)} frames, not {film.frames}"]
        off = max(abs(index.pts_seconds(int(pts)) - n / film.fps) for n, pts in enumerate(index.pts_N))
        if off > 0.002:
            wrong.append(f"a frame is {off:.3f} s from its time")
        events = [event for event in film.events if event.kind != "walker"]
        for number in np.random.default_rng(seed).permutation(len(events))[:tries]:
            event = events[number]
            rows = [event.first - 1, event.first, (event.first + event.until) // 2, event.until - 1, event.until]
            shown = [frame.rgb_HW3.astype(np.int16) for frame in reader.fetch([int(index.pts_N[row]) for row in rows])]
            pairs = (shown[:2], shown[1:3], shown[3:])
            begins, stays, ends = (float((np.abs(b - a).max(axis=2) > 60).mean()) for a, b in pairs)
            # Half of the pixels change for a slide, one in a hundred for words, none at first for one who walks in.
            if event.kind != "person" and (min(begins, ends) < 0.002 or (event.kind == "slide" and stays > 0.01)):
                wrong.append(f"{event.kind} at {event.start:.2f} s is not there: {begins:.4f} {stays:.4f} {ends:.4f}")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    unit, join_, film, check_ = (verbs.add_parser(name) for name in ("unit", "join", "film", "check"))
    for verb in (unit, join_, check_):
        verb.add_argument("path", type=Path)
    for verb in (unit, join_, film):
        verb.add_argument("--seed", type=int, default=0)
    unit.add_argument("--family", choices=FAMILIES, required=True)
    unit.add_argument("--seconds", type=float, default=60)
    unit.add_argument("--events", type=float, default=1, help="of each kind, a minute")
    join_.add_argument("units", type=Path, nargs="+")
    film.add_argument("folder", type=Path)
    film.add_argument("--units", type=int, default=10, help="different minutes that it is made of")
    for verb in (join_, film):
        verb.add_argument("--minutes", type=int, required=True)
    for verb in (unit, film):
        for name, known in (("--codec", tuple(CODECS)), ("--gop", GOPS)):
            verb.add_argument(name, choices=known, default=known[0])
        verb.add_argument("--size", default="1280x720")
    asked = parser.parse_args()
    cv2.setNumThreads(1)
    if asked.verb == "check":
        wrong = check(Film.load(asked.path))
        print("\n".join(wrong) or f"{asked.path} is as described")
        return 1 if wrong else 0
    if asked.verb == "join":
        made = join(asked.units, shuffled(len(asked.units), asked.minutes, asked.seed), asked.path)
    else:
        width, height = (int(side) for side in asked.size.split("x"))
        how = {"size": (width, height), "codec": asked.codec, "gop": asked.gop, "seed": asked.seed}
        if asked.verb == "unit":
            how["per_minute"] = dict.fromkeys(EVENTS_PER_MINUTE, asked.events)
            made = render_unit(asked.path, asked.family, seconds=asked.seconds, **how)
        else:
            made = long_film(asked.folder, minutes=asked.minutes, units=asked.units, **how)
    print(made.path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
