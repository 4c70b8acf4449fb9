"""How often the evidence of an answer is true: rendered clips with known truth, cited ranges beside three baselines.

    python scripts/eval_evidence.py                      # two seeds of eight clips; about ten minutes
    python scripts/eval_evidence.py --random             # the same with random weights: chance
    python scripts/eval_evidence.py --natural PHOTOS     # `small`, on reels of photographs

On reels of eight photographs one shows a thing by what people wrote of it, and seven surely do not: "Is there a dog?"
is asked, and counts where the answer is yes.

Only questions count that name a moment and are answered right. A range is right where one of its frames lies in the
true shot. Precision is over all ranges, recall over all questions, with 95 % intervals over clips. Then frames are
replaced by those of another clip: cited ones, and as many others.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from m3video.config import Settings
from m3video.evaluation.counterfactual import swap_frames
from m3video.evaluation.footage_set import FootageSpec, make_footage_records
from m3video.evaluation.intervals import accuracy
from m3video.evaluation.records import Record, is_right
from m3video.inference.session import VideoSession
from m3video.model.m3 import checkpoint
from m3video.model.m3.checkpoint import LoadedModel
from m3video.model.m3.saliency import CoarseAttention
from m3video.types import Answer

EDGE = 0.05
"""Seconds by which a frame may lie outside the true shot."""

Measures = dict[str, list[tuple[float, str]]]
"""What was measured -> values, each with its clip."""


def is_true(record: Record, answer: Answer, pts: Sequence[int]) -> bool:
    """Whether one of these frames lies in the shot that the question is about."""
    assert record.evidence is not None
    start, end = record.evidence
    return any(start - EDGE <= answer.plan.video.pts_seconds(each) <= end + EDGE for each in pts)


def baselines(record: Record, answer: Answer, attention: CoarseAttention) -> dict[str, list[list[int]]]:
    """Groups of frames that others would cite: all shots shown, the frame nearest to the moment, and the frame that the
    question makes the model attend to most."""
    frames = answer.plan.frames
    shots = [[frame.pts for frame in group] for _, group in itertools.groupby(frames, key=lambda frame: frame.shot)]
    moment = record.moment or 0.0
    near = min(frames, key=lambda frame: abs(answer.plan.video.pts_seconds(frame.pts) - moment))
    most = frames[int(attention.attend(record.question).relevance_N.argmax())]
    return {
        "all that was shown": shots,
        "the frame nearest to the moment": [[near.pts]],
        "the frame with most attention": [[most.pts]],
    }


def attention_over(session: VideoSession, answer: Answer) -> CoarseAttention:
    """The model's attention to the frames of an answer, at the scales that they have in it."""
    visual, _ = session.tokens(answer.plan)
    times = [answer.plan.video.pts_seconds(frame.pts) for frame in answer.plan.frames]
    return CoarseAttention(session.loaded, visual, times_seconds=times)


def note_ranges(found: Measures, name: str, record: Record, answer: Answer, groups: Sequence[Sequence[int]]) -> None:
    hits = [is_true(record, answer, group) for group in groups]
    found[f"{name}: precision"] += [(float(hit), record.clip) for hit in hits]
    found[f"{name}: recall"].append((float(any(hits)), record.clip))


def measure(records: Sequence[Record], loaded: LoadedModel, settings: Settings, *, swaps: int, found: Measures) -> None:
    rng = random.Random(0)
    videos = sorted({record.video for record in records})
    for number, video in enumerate(videos):
        other = videos[(number + 1) % len(videos)]
        with (
            VideoSession(video, settings, loaded=loaded) as session,
            VideoSession(other, settings, loaded=loaded) as strange,
        ):
            left, attention = swaps, None
            for asked, record in enumerate(one for one in records if one.video == video):
                answer = session.ask(record.question)
                evidence = answer.evidence
                assert evidence is not None
                if not asked:  # the first answer decodes, encodes and reads the frames
                    own = sum(seconds for name, seconds in answer.stage_seconds.items() if name != "evidence")
                    found["extra time: share of a first answer"].append((evidence.seconds / own, record.clip))
                if record.evidence is None or record.moment is None or not is_right(record, answer.text):
                    continue
                cited = [one.pts for one in evidence.ranges] if evidence.verdict == "cited" else []
                note_ranges(found, "cited", record, answer, cited)
                attention = attention or attention_over(session, answer)
                for name, groups in baselines(record, answer, attention).items():
                    note_ranges(found, name, record, answer, groups)
                found["nothing cited: the model says it without frames"].append(
                    (float(evidence.verdict == "unsupported"), record.clip)
                )
                if not cited:
                    continue
                start, end = record.evidence
                width = sum(one.end_seconds - one.start_seconds for one in evidence.ranges)
                found["width of what is cited over the true width"].append((width / (end - start), record.clip))
                found["cited alone gives the same answer"].append((float(evidence.stands_alone), record.clip))
                found["without the cited the answer changes"].append(
                    (float(evidence.instead != answer.text), record.clip)
                )
                found["masked minus read again, nats, without sign"].append(
                    (abs(evidence.masked_nats - evidence.nats), record.clip)
                )
                if left:
                    left -= 1
                    mine = {pts for group in cited for pts in group}
                    rest = [frame.pts for frame in answer.plan.frames if frame.pts not in mine]
                    for name, pts in (("cited", mine), ("others", rng.sample(rest, min(len(rest), len(mine))))):
                        again = swap_frames(session, answer, pts, strange)
                        changes = (float(again.text != answer.text), record.clip)
                        found[f"{name} replaced by another clip's frames: the answer changes"].append(changes)
                        if again.foreign != answer.text:
                            found[f"{name} replaced by frames with another answer: the answer changes"].append(changes)


def measure_natural(folder: Path, asked: argparse.Namespace, found: Measures) -> None:
    """Ask `small` about a thing that one of eight scenes shows, for each thing and seed."""
    from eval_find import THINGS, compose, write_reel

    from m3video.training.natural import photos
    from m3video.training.natural.caption_facts import Facts
    from m3video.training.natural.nouns import with_article

    known = [(photo, Facts.of(photo.captions)) for photo in photos.flickr8k(asked.natural, "dev")]
    stored, loaded = photos.pictures(asked.natural, "flickr8k"), checkpoint.load("small")
    settings = Settings(model="small", budget=asked.budget, max_frames=32, cache=False)
    for seed, thing in itertools.product(asked.seeds, THINGS.split(",")):
        name = f"{seed} {thing}"
        scenes, (true,) = compose(known, thing, random.Random(f"{name} evidence"), count=8, showing=1)
        path = folder / f"{name}.mp4"
        write_reel(path, scenes, stored)
        with VideoSession(path, settings, loaded=loaded, keeps_looking=False) as session:
            answer = session.ask(f"Is there {with_article(thing)}?")
            is_yes = answer.text.lower().startswith("yes")
            found["the answer is right"].append((float(is_yes), name))
            if not is_yes or answer.evidence is None:
                continue
            record = Record(
                id=name,
                video=str(path),
                question=answer.question,
                answer="yes",
                family="presence",
                group=None,
                localised=True,
                clip=name,
                metric="yes-no",
                evidence=true,
                moment=sum(true) / 2,
            )
            cited = [one.pts for one in answer.evidence.ranges] if answer.evidence.verdict == "cited" else []
            note_ranges(found, "cited", record, answer, cited)
            for other, groups in baselines(record, answer, attention_over(session, answer)).items():
                note_ranges(found, other, record, answer, groups)
            found["nothing cited: the model says it without frames"].append(
                (float(answer.evidence.verdict == "unsupported"), name)
            )
            found["nothing cited: it rests on no single moment"].append(
                (float(answer.evidence.verdict == "spread"), name)
            )


def summed_up(values: Sequence[tuple[float, str]]) -> dict[str, float]:
    """The share of what is true with its interval over clips; the median of what is no share."""
    numbers = [value for value, _ in values]
    if not set(numbers) <= {0.0, 1.0}:
        return {"value": float(np.median(numbers)), "n": len(numbers)}
    share = accuracy(numbers, [clip for _, clip in values])
    return {"value": share.value, "low": share.low, "high": share.high, "n": len(numbers)}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--questions", type=int, default=12, help="about each clip")
    parser.add_argument("--seeds", type=int, nargs="+", default=[101, 102])
    parser.add_argument("--budget", type=int, default=720)
    parser.add_argument("--swaps", type=int, default=4, help="answers for each clip whose frames are replaced")
    parser.add_argument("--random", action="store_true", help="weights that know nothing")
    parser.add_argument("--natural", type=Path, metavar="PHOTOS", help="folder with flickr8k/")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    found: Measures = defaultdict(list)
    if asked.natural is not None:
        with tempfile.TemporaryDirectory() as folder:
            measure_natural(Path(folder), asked, found)
        return show(found, as_json=asked.json)
    loaded = checkpoint.load("rendered")
    if asked.random:
        torch.manual_seed(0)
        for parameter in loaded.model.model.language_model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.02)
    settings = Settings(model="rendered", budget=asked.budget, max_frames=32, cache=False)
    with tempfile.TemporaryDirectory() as folder:
        for seed in asked.seeds:
            spec = FootageSpec(seed=seed, clips=asked.clips, questions=asked.questions)
            records = make_footage_records(spec, folder=Path(folder))
            measure(records, loaded, settings, swaps=asked.swaps, found=found)
    return show(found, as_json=asked.json)


def show(found: Measures, *, as_json: bool) -> int:
    """Print what was measured; return the exit code."""
    rows = {name: summed_up(values) for name, values in sorted(found.items())}
    if as_json:
        print(json.dumps(rows, indent=1))
        return 0
    for name, row in rows.items():
        interval = f" [{row['low']:.2f}, {row['high']:.2f}]" if "low" in row else ""
        print(f"{name:62} {row['value']:6.2f}{interval}  n {row['n']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
