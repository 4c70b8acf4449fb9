"""Single pictures: captions against what people wrote, and whether a thing is there."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from m3video.evaluation.captions import cider_d
from m3video.evaluation.natural.asking import Case, batches, decoded, greedy_answers
from m3video.evaluation.natural.rows import Row, balanced, mean, share
from m3video.evaluation.natural.sight import Bench
from m3video.training.natural import photos
from m3video.training.natural.caption_facts import Facts
from m3video.training.natural.photos import Captioned
from m3video.training.natural.question_style import NaturalQuestion
from m3video.training.natural.questions import QuestionMaker

CAPTION_SCALES = (1, 9, 36, 144)
CAPTIONED = 200
"""Pictures by default."""
DESCRIBE = "Describe the picture."
CAPTION_TOKENS = 30
PRESENCE_SCALES = (1, 9, 36)
ASKED_ABOUT = 200
"""Pictures by default."""
ROUNDS = 2
"""Pairs of yes and no on a picture, as training has them."""
_FIRST_WORD = re.compile(r"[a-z]+")


def captions(bench: Bench) -> list[Row]:
    """Measure CIDEr-D of greedy captions; how rare words are is counted over all pictures of the part.

    Beside: what one person's caption scores against the other four.
    """
    known = list(photos.flickr8k(bench.photos, bench.part))
    chosen = drawn(known, bench.most(CAPTIONED), bench.seed)
    corpus = [photo.captions for photo in known]
    keys = [("flickr8k", photo.image) for photo in chosen]
    bench.sight.prepare(keys, CAPTION_SCALES)
    references = [photo.captions for photo in chosen]
    others = [held[1:] for held in references]
    people = cider_d([held[0] for held in references], others, corpus=[held[1:] for held in corpus]).mean
    rows = []
    for scale in CAPTION_SCALES:
        cases = [Case((bench.sight.block(key, scale),), (DESCRIBE,)) for key in keys]
        said = [answer for (answer,) in greedy_answers(bench.loaded, cases, max_new_tokens=CAPTION_TOKENS)]
        found = cider_d(said, references, corpus=corpus)
        interval = mean(found.each, [photo.image for photo in chosen])
        rows.append(Row("captions", "CIDEr-D", scale, interval, {"a person": people}))
        once = [float(said.count(text) == 1) for text in said]
        rows.append(Row("captions", "share that no other picture has", scale, share(once, [p.image for p in chosen])))
    return rows


def presence(bench: Bench) -> list[Row]:
    """Measure "Is there a ...?": by the first word of the greedy answer, and by whether Yes or No is likelier.

    Each thing is asked after with yes and no in balance, as in training; the accuracy is that over both, so that
    always the same answer makes .5.
    """
    known = list(photos.flickr8k(bench.photos, bench.part))
    maker = QuestionMaker(photo.captions for photo in known)
    rng = random.Random(f"{bench.seed} presence")
    asked: list[tuple[str, list[NaturalQuestion]]] = []
    for photo in drawn(known, bench.most(ASKED_ABOUT), bench.seed):
        facts = Facts.of(photo.captions)
        found = {one.question: one for _ in range(ROUNDS) for one in maker.presence(facts, rng)}
        if found:
            asked.append((photo.image, list(found.values())))
    keys = [("flickr8k", image) for image, _ in asked]
    truth = [one.answer.startswith("Yes") for _, questions in asked for one in questions]
    clusters = [image for image, questions in asked for _ in questions]
    bench.sight.prepare(keys, PRESENCE_SCALES)
    rows = []
    for scale in PRESENCE_SCALES:
        cases = [
            Case((bench.sight.block(key, scale),), tuple(one.question for one in questions))
            for key, (_, questions) in zip(keys, asked, strict=True)
        ]
        said, likelier = first_words(bench, cases)
        right = [first_word(text) == ("yes" if true else "no") for text, true in zip(said, truth, strict=True)]
        agrees = [yes is true for yes, true in zip(likelier, truth, strict=True)]
        rows += [
            Row("presence", "balanced accuracy, greedy", scale, balanced(right, truth, clusters), {"chance": 0.5}),
            Row("presence", "balanced accuracy, likelier", scale, balanced(agrees, truth, clusters), {"chance": 0.5}),
            Row(
                "presence",
                "share of yes, likelier",
                scale,
                share([float(yes) for yes in likelier], clusters),
                {"true": sum(truth) / max(1, len(truth))},
            ),
        ]
    return rows


def first_words(bench: Bench, cases: Sequence[Case]) -> tuple[list[str], list[bool]]:
    """Return for every question of every case the first token of the greedy answer, and whether Yes beats No there."""
    yes, no = (bench.loaded.codec.encode(word)[0] for word in ("Yes", "No"))
    said: list[str] = []
    likelier: list[bool] = []
    for _, read in batches(bench.loaded, cases):
        said += decoded(bench.loaded, read, max_new_tokens=1)
        likelier += (read.logits_KV[:, yes] > read.logits_KV[:, no]).tolist()
    return said, likelier


def first_word(text: str) -> str:
    """Return the first word of an answer in lower case: "No, there is none." -> no."""
    found = _FIRST_WORD.search(text.lower())
    return found[0] if found else ""


def drawn(known: Sequence[Captioned], most: int, seed: int) -> list[Captioned]:
    """Return at most so many pictures, the same for the same seed; those of a smaller number are among them."""
    order = list(known)
    random.Random(f"{seed} pictures").shuffle(order)
    return order[:most]
