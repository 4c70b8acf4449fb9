"""A benchmark by name: its files read, its videos found, a part of it drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from m3video.errors import UsageError
from m3video.evaluation.benchmarks import (
    activity_net_qa,
    ego_schema,
    intent_qa,
    long_video_bench,
    lvbench,
    mlvu,
    msrvtt_qa,
    msvd_qa,
    next_qa,
    star,
    temp_compass,
    tgif_qa,
    video_mme,
    video_mme_v2,
)
from m3video.evaluation.benchmarks.names import BENCHMARKS, OPEN, WITH_SUBTITLES
from m3video.evaluation.benchmarks.questions import Benchmark, Questions, Videos
from m3video.utils.text import first_line, printable

READERS: dict[str, Callable[..., None]] = {
    "video-mme": video_mme.read,
    "video-mme-v2": video_mme_v2.read,
    "mlvu": mlvu.read,
    "longvideobench": long_video_bench.read,
    "lvbench": lvbench.read,
    "egoschema": ego_schema.read,
    "next-qa": next_qa.read,
    "next-qa-oe": next_qa.read_oe,
    "intent-qa": intent_qa.read,
    "star": star.read,
    "tempcompass": temp_compass.read,
    "activitynet-qa": activity_net_qa.read,
    "msvd-qa": msvd_qa.read,
    "msrvtt-qa": msrvtt_qa.read,
    "tgif-qa": tgif_qa.read,
}
SAME_WORDS = "an answer is right when it is the same words: published figures come from a judge and are higher"


def load_benchmark(name: str, data: Path, *, videos: Path | None = None, subtitles: bool = False) -> Benchmark:
    """Read a benchmark as it is published.

    Args:
        name: one of `BENCHMARKS`.
        data: folder of its files, or the one file.
        videos: folder of its videos, by default `data`.
        subtitles: read them too.

    Raises:
        UsageError: a file is missing or not as published, no question can be asked, or the set has no subtitles.
    """
    if subtitles and name not in WITH_SUBTITLES:
        raise UsageError(f"--subtitles: {BENCHMARKS[name]} has none; {', '.join(WITH_SUBTITLES)} have")
    folder = videos or (data if data.is_dir() else data.parent)
    questions = Questions(name, Videos(folder))
    try:
        READERS[name](data, questions, subtitles=subtitles)
    except (TypeError, KeyError, IndexError, AttributeError) as error:  # the columns are there, what is in them differs
        what = f"{type(error).__name__}: {first_line(error)}"
        raise UsageError(
            f"{printable(data)}: question {questions.count + 1} has a value in another form than {BENCHMARKS[name]} "
            f"was published in ({what})"
        ) from error
    if name in OPEN and name != "next-qa-oe":
        questions.notes.append(SAME_WORDS)
    return questions.done()


def subset(made: Benchmark, count: int | None, *, seed: int) -> Benchmark:
    """Return `count` of the questions, drawn by `seed`, in their order; all of them for None or a larger number.

    Whether a question is drawn does not depend on the order in the file.
    """
    if count is None or count >= len(made.records):
        return made

    def rank(id: str) -> bytes:
        return hashlib.blake2b(f"{seed} {id}".encode()).digest()

    chosen = set(sorted((record.id for record in made.records), key=rank)[:count])
    return replace(made, records=tuple(record for record in made.records if record.id in chosen))
