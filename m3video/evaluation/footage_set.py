"""The benchmark that needs no download: rendered clips with known truth, through a real encoder, never trained on.

The same seed gives the same pictures and questions. x264 does not code the same pictures to the same bytes every time
(seen with one thread too), so two renderings may differ by a grey level here and there; a cached clip stays as it is,
under a name made of everything that decides its content. Questions name a moment ("at 0:07") in a shot whose content
holds from its first to its last frame, so that any frame of the shot shows the answer; moments in a cross-fade are
never asked about.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import PIL

from m3video.evaluation.records import GROUPS, Group, Record
from m3video.training import footage, questions, render, scenes, words
from m3video.training.footage import FADE_SECONDS, FootageClip, clip_frames, encode_h264
from m3video.training.questions import FAMILIES, FrameQuestion, Question, plain_answer, refined
from m3video.training.scenes import Facts, facts_at, sample_shot
from m3video.utils.clock import whole_clock
from m3video.utils.files import replacing
from m3video.utils.progress import Progress, silent

LENGTHS: tuple[tuple[float, float, int], ...] = ((5, 12, 10), (15, 40, 8), (60, 150, 6), (240, 540, 4))
"""(shortest s, longest s, frames per second); clips take them in turn."""

RATE_LENGTHS: tuple[tuple[float, float, int], ...] = ((5, 12, 10), (15, 40, 8), (40, 75, 6))
"""The same where budgets are tokens per second: 36 of them for the longest clip are what the model can hold."""

SHORTEST_SHOT = 0.7
"""Seconds."""

SHOT_SPREAD = 1.0
"""Standard deviation of the logarithm of what shots last beyond that: with 1.0 the median is 0.61 of the mean. In
films it is about 0.6: most shots are short, a few long (B. Salt, "The Metrics in Cinemetrics"; lognormal as he has it,
which fits few films exactly)."""

EDGE_SECONDS = 0.15
"""Moments keep this far from cuts: a question about 0:07 must not fall on a frame of the next shot."""

BRIEF_SECONDS = (0.5, 0.9)
"""A sign or a board that is shown this long stands in every second long clip."""

CONTENTS: tuple[tuple[str, int], ...] = (
    ("shapes", 40),
    ("sign", 20),
    ("board", 18),
    ("table", 8),
    ("page", 5),
    ("empty", 9),
)
"""What shots show, and how often: more signs and boards than training sees, because only they need detail. Each clip
has a sign or a board of 6x6 tiles or more."""

FAMILY_GROUPS: dict[str, Group] = {
    "background": "coarse",
    "light": "coarse",
    "present": "coarse",
    "shape colour": "medium",
    "shape kind": "medium",
    "count": "medium",
    "place": "medium",
    "what": "medium",
    "when": "medium",
    "first": "medium",
    "tile 3x3": "medium",
    "row 3x3": "medium",
    "sign": "fine",
    "tile": "fine",
    "row": "fine",
    "entry": "fine",
}
"""Most exact name first: "tile 6x6" is looked up as itself, then as "tile"."""


@dataclass(frozen=True, slots=True)
class FootageSpec:
    """What to render: everything that decides the set."""

    seed: int = 1
    clips: int = 40
    questions: int = 12
    lengths: tuple[tuple[float, float, int], ...] = LENGTHS


@dataclass(frozen=True, slots=True)
class ClipRecipe:
    """One clip: what is drawn, and how it is encoded."""

    name: str
    clip: FootageClip
    fps: int
    crf: int


def group_of(family: str) -> Group:
    """Return the task group of a family; KeyError for a family without one."""
    return FAMILY_GROUPS[family] if family in FAMILY_GROUPS else FAMILY_GROUPS[family.rsplit(" ", 1)[0]]


def make_clip_recipe(spec: FootageSpec, index: int) -> ClipRecipe:
    """Make the recipe of clip `index`; it does not depend on how many clips the set has."""
    rng = random.Random(f"footage set {spec.seed} {index}")
    shortest, longest, fps = spec.lengths[index % len(spec.lengths)]
    duration = rng.uniform(shortest, longest)
    # From a cut every two seconds to a quarter of the clip in one shot.
    count = max(2, min(24, round(duration / rng.uniform(2.5, max(3.0, duration / 4)))))
    names, shares = zip(*CONTENTS, strict=True)
    shots = [sample_shot(rng, held_out=True, content=content) for content in rng.choices(names, shares, k=count)]
    weights = [rng.lognormvariate(0.0, SHOT_SPREAD) for _ in shots]
    spare = duration - count * SHORTEST_SHOT
    lengths = [SHORTEST_SHOT + spare * weight / sum(weights) for weight in weights]
    if count > 3 and rng.random() < 0.5:
        brief = rng.randrange(1, count - 1)
        shots[brief] = sample_shot(rng, held_out=True, content=rng.choice(("sign", "board")))
        lengths[brief] = rng.uniform(*BRIEF_SECONDS)
    if not any(shot.sign or len(shot.board or ()) > 3 for shot in shots):
        shots[rng.randrange(count)] = sample_shot(rng, held_out=True, content="sign")
    size = shots[0].size
    fades = [rng.random() < 0.25 and length > 2 for length in lengths]
    clip = FootageClip(tuple(replace(shot, size=size) for shot in shots), tuple(lengths), tuple(fades))
    return ClipRecipe(f"{spec.seed}-{index:04d}", clip, fps, rng.randint(20, 34))


def footage_key(recipe: ClipRecipe) -> str:
    """Return a name for the file's content: from the recipe, the code that draws it, and the libraries that draw and
    encode."""
    parts: list[Any] = [recipe.clip, recipe.fps, recipe.crf, av.__version__, cv2.__version__, PIL.__version__]
    parts += [np.__version__]
    parts += [Path(module.__file__ or "").read_text(encoding="utf-8") for module in (footage, render, scenes, words)]
    return hashlib.blake2b("\0".join(map(repr, parts)).encode(), digest_size=12).hexdigest()


def render_footage_clip(recipe: ClipRecipe, folder: Path) -> Path:
    """Return the clip's file in `folder`, rendered if it is missing; written whole or not at all."""
    path = folder / f"{footage_key(recipe)}.mp4"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            pictures = (picture for _, picture in clip_frames(recipe.clip, fps=recipe.fps))
            encode_h264(pictures, part, fps=recipe.fps, crf=recipe.crf, preset="veryfast")
    return path


def make_footage_records(spec: FootageSpec, *, folder: Path, progress: Progress = silent) -> list[Record]:
    """Render the missing clips and ask about all of them.

    Args:
        spec: the set.
        folder: cache of clips.
        progress: draws a bar.

    Returns:
        `spec.questions` records for each clip (fewer where a clip has nothing more to ask about).
    """
    records: list[Record] = []
    with progress("render", spec.clips) as bar:
        for index in range(spec.clips):
            recipe = make_clip_recipe(spec, index)
            path = render_footage_clip(recipe, folder)
            records += choose_questions(
                recipe, video=str(path), rng=random.Random(f"ask {spec.seed} {index}"), number=spec.questions
            )
            bar(index + 1)
    return records


def choose_questions(recipe: ClipRecipe, *, video: str, rng: random.Random, number: int) -> list[Record]:
    """Choose `number` different questions about a clip, as even over the three groups as its content allows."""
    offers = [*about_moments(recipe, rng), *about_all(recipe, rng)]
    by_group: dict[str, dict[str, list[Record]]] = {group: {} for group in GROUPS}
    for offer in offers:
        by_group[group_of(offer.family)].setdefault(offer.family, []).append(offer)
    chosen: list[Record] = []
    while len(chosen) < number:
        open_groups = [group for group in GROUPS if by_group[group]]
        if not open_groups:
            break
        # The group asked least so far, then any of its families: fine families are rarer than their questions.
        group = min(open_groups, key=lambda g: (sum(r.group == g for r in chosen), rng.random()))
        family = rng.choice(sorted(by_group[group]))
        pool = by_group[group][family]
        chosen.append(pool.pop(rng.randrange(len(pool))))
        if not pool:
            del by_group[group][family]
    return [replace(r, id=f"{recipe.name}-{i:02d}", video=video) for i, r in enumerate(chosen)]


def _intervals(clip: FootageClip) -> list[tuple[float, float]]:
    """Return for each shot the seconds in which it alone is seen."""
    out, start = [], 0.0
    for number, length in enumerate(clip.seconds):
        fades = clip.fades[number] and number + 1 < len(clip.shots)
        out.append((start, start + length - (FADE_SECONDS if fades else 0.0)))
        start += length
    return out


def about_moments(recipe: ClipRecipe, rng: random.Random) -> list[Record]:
    """Ask each family once about every shot, where its answer holds for the whole shot."""
    offers = []
    for shot, (start, end) in zip(recipe.clip.shots, _intervals(recipe.clip), strict=True):
        first, last = start + EDGE_SECONDS, end - EDGE_SECONDS
        # The clock shows whole seconds: the second that is named must lie inside the shot.
        spoken = range(math.ceil(first), math.floor(last) + 1)
        moment = float(rng.choice(spoken)) + min(0.5, max(0.0, last - max(spoken))) if spoken else (first + last) / 2
        if last <= first:
            continue
        begin, finish = facts_at(shot, 0.0), facts_at(shot, 1.0)
        for name, make in FAMILIES.items():
            asked = make(begin, rng)
            if asked is None or not _holds(name, make, begin, finish, rng, asked):
                continue
            reference = f"at {whole_clock(moment)}"
            question = f"{reference} {asked.question}" if rng.random() < 0.15 else f"{asked.question} {reference}"
            family = refined(name, begin)
            offers.append(
                Record(
                    id="-",
                    video="-",
                    question=question,
                    answer=plain_answer(asked.answer),
                    family=family,
                    group=group_of(family),
                    localised=True,
                    clip=recipe.name,
                    evidence=(start, end),
                    moment=moment,
                    reference=reference,
                )
            )
    return offers


def _holds(
    name: str,
    make: Callable[[Facts, random.Random], FrameQuestion | None],
    begin: Facts,
    finish: Facts,
    rng: random.Random,
    asked: FrameQuestion,
) -> bool:
    """Return whether the answer is the same at both ends of the shot (only places change while a shot lasts)."""
    if name != "place":
        return True
    same = {(s.colour, s.place) for s in begin.shapes if s.clear} & {(s.colour, s.place) for s in finish.shapes}
    colours = {s.colour for s in begin.shapes}
    named = [s for s in begin.shapes if s.colour in asked.question.split()] or list(begin.shapes)
    return bool(colours) and all((s.colour, s.place) in same for s in named)


def about_all(recipe: ClipRecipe, rng: random.Random) -> list[Record]:
    """Ask when things first appear (any second of the first shot that shows them is right), and which of two came
    first."""
    frames = [facts_at(shot, 0.5) for shot in recipe.clip.shots]
    spans = _intervals(recipe.clip)
    tokens = [f"shot {number}" for number in range(len(frames))]
    offers: dict[str, Record] = {}
    for _ in range(12):
        asked: Question | None = questions.when_question(frames, tokens, rng)
        if asked is not None and asked.family == "first":
            offers[asked.question] = Record(
                id="-",
                video="-",
                question=asked.question,
                answer=asked.answer,
                family="first",
                group=group_of("first"),
                localised=False,
                clip=recipe.name,
            )
        if asked is None or asked.answer not in tokens:
            continue
        shot = tokens.index(asked.answer)
        # It may be seen from the fade before on.
        start = max(0.0, spans[shot][0] - FADE_SECONDS)
        offers[asked.question] = Record(
            id="-",
            video="-",
            question=asked.question,
            answer=whole_clock(spans[shot][0]),
            family="when",
            group=group_of("when"),
            localised=False,
            clip=recipe.name,
            metric="time",
            evidence=(start, spans[shot][1]),
        )
    return list(offers.values())


def describe_groups(records: Sequence[Record]) -> str:
    """Describe in one line how many questions of each group there are over how many clips."""
    counts = {group: sum(r.group == group for r in records) for group in GROUPS}
    text = ", ".join(f"{count} {group}" for group, count in counts.items())
    return f"{len(records)} questions ({text}) about {len({r.clip for r in records})} clips"
