"""How many tokens a frame needs: the model that will read the plan is asked about one frame at every scale.

The frame stands alone in the prompt, so that only its scale differs. A frame is asked everything that is known of it
(see `questions_about`); what it is worth at a scale is the share of questions answered right, guessing taken out, each
group of questions (coarse, medium, fine) counting alike, and each family within its group. The *oracle scale* is the
smallest at which the frame is worth as much as at any.

Shape legend: Q questions of a frame, S the five scales, K shots of a clip.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from m3video.evaluation.asking import answer_many
from m3video.evaluation.footage_set import Recipe, about_moments, group_of
from m3video.evaluation.records import GROUPS, Record, is_right
from m3video.evaluation.scores import Guesses, corrected
from m3video.model.m3.checkpoint import LoadedModel
from m3video.model.m3.pooling import pool
from m3video.types import SCALES

Floats = NDArray[np.float64]

DRAWS = 4
"""So many times each family is drawn for each shot: several tiles, rows and entries, once whatever has one wording."""

NEARLY_ALL = 0.05
"""A frame is worth as much at a scale as at any when at most this is missing: one question of many is no need."""

SURE_GUESS = 0.9
"""Families that guessing answers this often do not count ("there is none" is always the answer where nothing is)."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One shot's frame: its questions, and what the model said to each at each scale."""

    records: tuple[Record, ...]
    texts_QS: tuple[tuple[str, ...], ...]

    @property
    def right_QS(self) -> Floats:
        return np.array(
            [[is_right(r, t) for t in texts] for r, texts in zip(self.records, self.texts_QS, strict=True)], np.float64
        ).reshape(-1, len(SCALES))


def questions_about(recipe: Recipe, *, seed: int) -> dict[tuple[float, float], list[Record]]:
    """All questions about each shot of a clip, by the seconds in which the shot alone is seen; no two alike."""
    found: dict[tuple[float, float], dict[tuple[str, str], Record]] = defaultdict(dict)
    for draw in range(DRAWS):
        for record in about_moments(recipe, random.Random(f"needs {seed} {recipe.name} {draw}")):
            assert record.evidence is not None
            question = record.question.replace(record.reference, "in frame 1")
            key = (record.family, record.answer) if record.group != "fine" else (record.family, question)
            found[record.evidence].setdefault(key, replace(record, question=question, reference=""))
    return {evidence: list(records.values()) for evidence, records in found.items()}


@torch.inference_mode()
def ask_frame(
    loaded: LoadedModel,
    grid_SD: torch.Tensor,
    records: Sequence[Record],
    *,
    time_seconds: float,
    max_new_tokens: int = 32,
) -> Asked:
    """Ask about one frame at every scale.

    Args:
        loaded: the model.
        grid_SD: [576, D], the frame after tower and projector.
        records: questions about "frame 1".
        time_seconds: when the frame is shown.
        max_new_tokens: longest answer.
    """
    by_scale = []
    for scale in SCALES:
        said = answer_many(
            loaded,
            [pool(grid_SD[None], scale)[0]],
            [record.question for record in records],
            times_seconds=[time_seconds],
            max_new_tokens=max_new_tokens,
        )
        by_scale.append([answer.text for answer in said])
    return Asked(tuple(records), tuple(zip(*by_scale, strict=True)))


def chances(asked: Sequence[Asked]) -> dict[str, float]:
    """For each family how often its answers, at any scale, are right for questions about other clips: guessing."""
    guesses = Guesses([record for one in asked for record in one.records])
    found: dict[str, list[float]] = defaultdict(list)
    for one in asked:
        for record, texts in zip(one.records, one.texts_QS, strict=True):
            found[record.family].append(float(np.mean([guesses.chance(record, [text]) for text in texts])))
    return {family: float(np.mean(values)) for family, values in sorted(found.items())}


def weights(families: Sequence[str]) -> Floats:
    """What each question of a frame counts, float64 [Q], sum 1: groups alike, families alike within their group."""
    groups = {group: {name for name in families if group_of(name) == group} for group in GROUPS}
    present = sum(bool(names) for names in groups.values())
    return np.array([1 / (present * len(groups[group_of(name)]) * families.count(name)) for name in families])


def worth(asked: Asked, chance: Mapping[str, float]) -> Floats:
    """What a frame is worth at each scale, float64 [S]: its questions answered right, 0 for guessing, 1 for all."""
    families = [record.family for record in asked.records]
    # What a guess gets right says nothing of what was seen.
    told = [number for number, name in enumerate(families) if chance[name] < SURE_GUESS]
    guess_Q = np.array([chance[families[number]] for number in told])[:, None]
    return weights([families[number] for number in told]) @ corrected(asked.right_QS[told], guess_Q)


def steady(worth_S: Floats) -> Floats:
    """The non-decreasing curve nearest to `worth_S` (least squares), within 0 to 1: a slip at one scale is no need.

    Source: pool adjacent violators, Ayer et al. (1955).
    """
    blocks: list[tuple[float, int]] = []
    for value in worth_S:
        mean, size = float(value), 1
        while blocks and blocks[-1][0] >= mean:
            before, count = blocks.pop()
            mean, size = (before * count + mean * size) / (count + size), count + size
        blocks.append((mean, size))
    return np.concatenate([np.full(size, mean) for mean, size in blocks]).clip(0.0, 1.0)


def oracle_scale(worth_S: Floats) -> int:
    """The smallest scale at which a frame is worth as much as at any, but for `NEARLY_ALL`."""
    curve = steady(worth_S)
    return SCALES[int(np.argmax(curve >= curve[-1] - NEARLY_ALL))]
