"""Short answers about rooms (DAQUAR): exact match and token F1, beside always giving the commonest answer."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable

from m3video.evaluation.natural.asking import Case, greedy_answers
from m3video.evaluation.natural.rows import Row, share
from m3video.evaluation.natural.sight import Bench
from m3video.training.natural import photos
from m3video.training.natural.named_objects import daquar_answer, daquar_questions
from m3video.training.natural.question_style import NaturalQuestion

SCALES_SHOWN = (9, 36, 144)
ROOMS = 60
"""Pictures by default."""
ANSWER_TOKENS = 12
KINDS = ("count", "colour", "object")
_LEFT_OUT = frozenset(("a", "an", "the", "and"))


def rooms(bench: Bench) -> list[Row]:
    """Measure answers about rooms of the part.

    Beside: the score of always giving the answer that is commonest for the kind of question in training.
    """
    known = list(photos.daquar(bench.photos, bench.part))[: bench.most(ROOMS)]
    rng = random.Random(f"{bench.seed} rooms")
    asked = [(room.image, daquar_questions(room, rng)) for room in known]
    commonest = common_answers(pair for room in photos.daquar(bench.photos, "train") for pair in room.questions)
    keys = [("daquar", image) for image, _ in asked]
    bench.sight.prepare(keys, SCALES_SHOWN)
    rows = []
    for scale in SCALES_SHOWN:
        cases = [
            Case((bench.sight.block(key, scale),), tuple(one.question for one in questions))
            for key, (_, questions) in zip(keys, asked, strict=True)
        ]
        answers = greedy_answers(bench.loaded, cases, max_new_tokens=ANSWER_TOKENS)
        flat = [
            (image, one, text)
            for (image, questions), of_case in zip(asked, answers, strict=True)
            for one, text in zip(questions, of_case, strict=True)
        ]
        rows += _scored(flat, commonest, scale)
    return rows


def _scored(flat: list[tuple[str, NaturalQuestion, str]], commonest: dict[str, str], scale: int) -> list[Row]:
    rows = []
    for kind in ("all", *KINDS):
        own = [one for one in flat if kind in ("all", kind_of(one[1].question))]
        if not own:
            continue
        clusters = [image for image, _, _ in own]
        for name, metric in (("exact match", exact), ("token F1", token_f1)):
            scores = [metric(text, asked.answer) for _, asked, text in own]
            baseline = [metric(commonest.get(kind_of(a.question), ""), a.answer) for _, a, _ in own]
            beside = {"commonest answer": sum(baseline) / len(baseline)}
            rows.append(Row("daquar", f"{name}, {kind}", scale, share(scores, clusters), beside))
    return rows


def kind_of(question: str) -> str:
    """Return what a question asks for: count, colour, or object."""
    text = question.lower()
    if re.search(r"\bhow many\b|\bnumber of\b", text):
        return "count"
    return "colour" if re.search(r"\bcolou?rs?\b", text) else "object"


def common_answers(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the commonest answer to each kind of question."""
    counts: dict[str, Counter[str]] = {}
    for question, answer in pairs:
        counts.setdefault(kind_of(question), Counter())[daquar_answer(answer)] += 1
    return {kind: held.most_common(1)[0][0] for kind, held in counts.items()}


def exact(answer: str, true: str) -> float:
    """Return 1 where an answer names the same things, in any order, articles and full stops aside; else 0."""
    return float(_things(answer) == _things(true))


def token_f1(answer: str, true: str) -> float:
    """Return the harmonic mean of precision and recall over words."""
    said, wanted = Counter(_words(answer)), Counter(_words(true))
    shared = sum((said & wanted).values())
    return 2 * shared / (sum(said.values()) + sum(wanted.values())) if shared else 0.0


def _words(text: str) -> list[str]:
    return [word for word in re.findall(r"[a-z0-9]+", text.lower()) if word not in _LEFT_OUT]


def _things(text: str) -> set[tuple[str, ...]]:
    return {tuple(words) for part in text.split(",") if (words := _words(part))}
