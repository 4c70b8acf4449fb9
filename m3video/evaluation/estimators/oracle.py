"""How many tokens a frame needs: the model that will read the plan is asked about one frame at every scale.

The frame stands alone in the prompt, so that only its scale differs, and is asked every question with a known answer
(see `questions_about`). Its utility at a scale is the share of questions answered right, corrected for guessing, with
equal weight for each group of questions (coarse, medium, fine) and for each family within its group. The *oracle scale*
is the smallest at which the utility is as high as at any.

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
from m3video.evaluation.footage_set import ClipRecipe, about_moments, group_of
from m3video.evaluation.records import GROUPS, Record, is_right
from m3video.evaluation.scores import Guesses, corrected
from m3video.model.m3.checkpoint import LoadedModel
from m3video.model.m3.pooling import pool
from m3video.types import SCALES

Floats = NDArray[np.float64]

DRAWS = 4
"""How often each family is drawn for each shot: several tiles, rows and entries; equal questions count once."""

NEARLY_ALL = 0.05
"""Utility that may be missing at the oracle scale: one wrong answer of many is no reason for a finer one."""

SURE_GUESS = 0.9
"""Families that guessing answers this often do not count ("there is none" is always right where nothing is)."""


@dataclass(frozen=True, slots=True)
class AskedFrame:
    """One shot's frame: its questions, and the model's answer to each at each scale."""

    records: tuple[Record, ...]
    texts_QS: tuple[tuple[str, ...], ...]

    @property
    def right_QS(self) -> Floats:
        return np.array(
            [[is_right(r, t) for t in texts] for r, texts in zip(self.records, self.texts_QS, strict=True)], np.float64
        ).reshape(-1, len(SCALES))


def questions_about(recipe: ClipRecipe, *, seed: int) -> dict[tuple[float, float], list[Record]]:
    """Return all questions about each shot of a clip, by the seconds in which the shot alone is seen; no two alike."""
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
) -> AskedFrame:
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
        answers = answer_many(
            loaded,
            [pool(grid_SD[None], scale)[0]],
            [record.question for record in records],
            times_seconds=[time_seconds],
            max_new_tokens=max_new_tokens,
        )
        by_scale.append([answer.text for answer in answers])
    return AskedFrame(tuple(records), tuple(zip(*by_scale, strict=True)))


def chances(asked: Sequence[AskedFrame]) -> dict[str, float]:
    """Estimate the chance of each family: how often its answers are right for questions about other clips."""
    guesses = Guesses([record for one in asked for record in one.records])
    found: dict[str, list[float]] = defaultdict(list)
    for one in asked:
        for record, texts in zip(one.records, one.texts_QS, strict=True):
            found[record.family].append(float(np.mean([guesses.chance(record, [text]) for text in texts])))
    return {family: float(np.mean(values)) for family, values in sorted(found.items())}


def weights(families: Sequence[str]) -> Floats:
    """Return each question's weight, float64 [Q], sum 1: equal for groups, and for the families of a group."""
    groups = {group: {name for name in families if group_of(name) == group} for group in GROUPS}
    present = sum(bool(names) for names in groups.values())
    return np.array([1 / (present * len(groups[group_of(name)]) * families.count(name)) for name in families])


def measured_utility(asked: AskedFrame, chance: Mapping[str, float]) -> Floats:
    """Return a frame's utility at each scale, float64 [S]: 0 for guessing, 1 for all questions answered right."""
    families = [record.family for record in asked.records]
    # An answer that guessing gets right says nothing about what the frame shows.
    counted = [number for number, name in enumerate(families) if chance[name] < SURE_GUESS]
    guess_Q = np.array([chance[families[number]] for number in counted])[:, None]
    return weights([families[number] for number in counted]) @ corrected(asked.right_QS[counted], guess_Q)


def monotone(utility_S: Floats) -> Floats:
    """Return the non-decreasing curve nearest to `utility_S` (least squares), within 0 to 1.

    Source: pool adjacent violators, Ayer et al. (1955).
    """
    blocks: list[tuple[float, int]] = []
    for value in utility_S:
        mean, size = float(value), 1
        while blocks and blocks[-1][0] >= mean:
            before, count = blocks.pop()
            mean, size = (before * count + mean * size) / (count + size), count + size
        blocks.append((mean, size))
    return np.concatenate([np.full(size, mean) for mean, size in blocks]).clip(0.0, 1.0)


def oracle_scale(utility_S: Floats) -> int:
    """Return the smallest scale with as much utility as any, but for `NEARLY_ALL`."""
    curve = monotone(utility_S)
    return SCALES[int(np.argmax(curve >= curve[-1] - NEARLY_ALL))]
