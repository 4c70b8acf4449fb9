"""Questions for measures that read the question: the benchmark's own, those that name no time, and more global ones.

Nearly all questions of rendered footage name a time, and finding a time is no art. So what can be asked about one shot
only is asked again without it: "what does the sign say" where one shot of the clip has a sign.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from m3video.evaluation.footage_set import (
    ClipRecipe,
    FootageSpec,
    about_all,
    about_moments,
    choose_questions,
    make_clip_recipe,
    render_footage_clip,
)
from m3video.evaluation.records import Record
from m3video.training import questions
from m3video.training.scenes import facts_at
from m3video.utils.progress import Progress, silent

REFERENCE_KINDS = ("names a time", "names no time", "global")
DRAWS = 4
"""So many times each question is drawn; equal ones count once."""


def reference_kind(record: Record) -> str:
    """Return one of `REFERENCE_KINDS`; the first two are about a moment."""
    if not record.localised:
        return "global"
    return "names a time" if record.reference else "names no time"


def make_saliency_records(
    spec: FootageSpec, *, folder: Path, timeless: int, overall: int, progress: Progress = silent
) -> list[Record]:
    """Render the missing clips and ask about all of them.

    Args:
        spec: the set; its own questions that are about a moment are kept.
        folder: cache of clips.
        timeless: questions without a time about each clip, at most.
        overall: global questions about each clip, at most.
        progress: draws a bar.
    """
    records: list[Record] = []
    with progress("render", spec.clips) as bar:
        for index in range(spec.clips):
            recipe = make_clip_recipe(spec, index)
            video = str(render_footage_clip(recipe, folder))
            asked = choose_questions(
                recipe, video=video, rng=random.Random(f"ask {spec.seed} {index}"), number=spec.questions
            )
            rng = random.Random(f"saliency {spec.seed} {index}")
            more = [*without_time(recipe, rng, number=timeless), *_overall(recipe, rng, number=overall)]
            records += [record for record in asked if record.localised]
            records += [replace(r, id=f"{recipe.name}-more-{i:02d}", video=video) for i, r in enumerate(more)]
            bar(index + 1)
    return records


def without_time(recipe: ClipRecipe, rng: random.Random, *, number: int) -> list[Record]:
    """Ask about moments without naming them, where only one shot can be meant; families in turn."""
    frames = [facts_at(shot, 0.0) for shot in recipe.clip.shots]
    found: dict[str, Record] = {}
    for _ in range(DRAWS):
        for record in about_moments(recipe, rng):
            question = " ".join(record.question.replace(record.reference, "").split())
            has_it = questions.subject(record.family, question)
            if has_it is not None and sum(map(has_it, frames)) == 1:
                found[question] = replace(record, question=question, reference="")
    return _in_turn(found.values(), rng, number)


def _overall(recipe: ClipRecipe, rng: random.Random, *, number: int) -> list[Record]:
    found = {record.question: record for _ in range(DRAWS) for record in about_all(recipe, rng)}
    return _in_turn(found.values(), rng, number)


def _in_turn(records: Iterable[Record], rng: random.Random, number: int) -> list[Record]:
    """Return `number` of the records, one of each family after the other."""
    pools: dict[str, list[Record]] = {}
    for record in records:
        pools.setdefault(record.family, []).append(record)
    chosen: list[Record] = []
    while pools and len(chosen) < number:
        for family in list(pools):
            chosen.append(pools[family].pop(rng.randrange(len(pools[family]))))
            if not pools[family]:
                del pools[family]
    return chosen[:number]


def describe_references(records: Sequence[Record]) -> str:
    """Describe in one line how many questions of each kind there are over how many clips."""
    counts = {kind: sum(reference_kind(record) == kind for record in records) for kind in REFERENCE_KINDS}
    text = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    return f"{len(records)} questions ({text}) about {len({record.clip for record in records})} clips"
