"""Name the main object of ImageNet pictures: the likeliest of a thousand names, searched without leaving one out.

A name's log-likelihood is a sum of log-probabilities, so it falls with every token. Names are a tree of tokens, and
what is likeliest so far is read first: once no open beginning is as likely as a whole name, that name is the best.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from m3video.errors import UsageError
from m3video.evaluation.natural.asking import Case, Read, batches
from m3video.evaluation.natural.rows import Row, share
from m3video.evaluation.natural.sight import Bench
from m3video.model.m3.checkpoint import LoadedModel
from m3video.training.natural import photos
from m3video.training.natural.named_objects import PLAIN_NAMES, article
from m3video.training.natural.photos import Named
from m3video.training.natural.splits import PARTS
from m3video.training.pretrained_tower import load_pretrained_tower

SCALES_SHOWN = (1, 9, 36)
PICTURES = 200
"""By default."""
QUESTION = "What is this?"
WIDTH = 6
"""Beginnings of names that are read in one pass for each picture."""

Branches = dict[int, "Branches"]
"""Token -> what may follow; the end token ends a name."""


def names(bench: Bench) -> list[Row]:
    """Measure how often the likeliest of all classes' names is the right one, on classes that training has not seen.

    The classes that are not trained on are all of the test part. Beside: the released tower's own head on the same
    pictures, where it is installed, and chance.
    """
    classes = [photo for part in PARTS for photo in photos.imagenet(bench.photos, part)]
    unseen = list(photos.imagenet(bench.photos, bench.part)) or list(photos.imagenet(bench.photos, "test"))
    random.Random(f"{bench.seed} names").shuffle(unseen)
    unseen = unseen[: bench.most(PICTURES)]
    texts = sorted({spoken(photo) for photo in classes})
    keys = [("imagenet", photo.image) for photo in unseen]
    bench.sight.prepare(keys, SCALES_SHOWN)
    beside = {"chance": 1 / len(texts), **head_accuracy(bench, unseen, classes)}
    rows = []
    for scale in SCALES_SHOWN:
        cases = [Case((bench.sight.block(key, scale),), (QUESTION,)) for key in keys]
        found = likeliest_texts(bench.loaded, cases, texts)
        right = [float(text == spoken(photo)) for text, photo in zip(found, unseen, strict=True)]
        rows.append(Row("names", "top 1 of all names", scale, share(right, [p.image for p in unseen]), beside))
    return rows


def spoken(photo: Named) -> str:
    """Return a class's name as training has it in an answer: `an abacus`."""
    return article(PLAIN_NAMES.get(photo.index, photo.name))


def head_accuracy(bench: Bench, asked: Sequence[Named], classes: Sequence[Named]) -> dict[str, float]:
    """Return how often the released tower's own head names these pictures; nothing where it is not installed."""
    coarse_NTC = bench.sight.coarse([("imagenet", photo.image) for photo in asked])
    try:
        _, head = load_pretrained_tower()
    except UsageError:
        return {}
    if coarse_NTC is None or coarse_NTC.shape[-1] not in head.mix_weight.shape:
        return {}
    name_of = {photo.index: spoken(photo) for photo in classes}
    found = head.classify(coarse_NTC).argmax(-1).tolist()
    right = [name_of.get(index) == spoken(photo) for index, photo in zip(found, asked, strict=True)]
    return {"tower's head": sum(right) / max(1, len(right))}


def likeliest_texts(loaded: LoadedModel, cases: Sequence[Case], texts: Sequence[str]) -> list[str]:
    """Return for each question of each case the likeliest of the texts, each with its end token.

    Args:
        loaded: the model.
        cases: what is asked.
        texts: different from each other.
    """
    codec = loaded.codec
    coded = {(*codec.encode(text), codec.eos_id): text for text in texts}
    if len(coded) < len(set(texts)):
        raise ValueError("two texts have the same tokens")
    return [
        coded[ids] for _, read in batches(loaded, cases) for ids in _searched(read, branches(list(coded)), codec.eos_id)
    ]


def branches(sequences: Sequence[Sequence[int]]) -> Branches:
    """Return token sequences as a tree."""
    tree: Branches = {}
    for ids in sequences:
        at = tree
        for token in ids:
            at = at.setdefault(token, {})
    return tree


@dataclass
class _Search:
    """One question's search: `open` holds (minus log-probability, ids so far, parent node, what follows)."""

    best: float = float("inf")
    ids: tuple[int, ...] = ()
    open: list[tuple[float, tuple[int, ...], int, Branches]] = field(default_factory=list)

    def grow(
        self, cost: float, ids: tuple[int, ...], node: int, tree: Branches, costs: Sequence[float], end: int
    ) -> None:
        """Add what may follow a beginning that is read: tokens of `tree`, with their costs after it."""
        for (token, after), more in zip(tree.items(), costs, strict=True):
            total = cost + more
            if token == end:
                if total < self.best:
                    self.best, self.ids = total, (*ids, token)
            else:
                heapq.heappush(self.open, (total, (*ids, token), node, after))

    def next(self) -> list[tuple[float, tuple[int, ...], int, Branches]]:
        """Return the likeliest open beginnings that may still win."""
        found: list[tuple[float, tuple[int, ...], int, Branches]] = []
        while self.open and len(found) < WIDTH and self.open[0][0] < self.best:
            found.append(heapq.heappop(self.open))
        return found


def _searched(read: Read, tree: Branches, end: int) -> list[tuple[int, ...]]:
    """Return the likeliest ids of each question's."""
    searches = [_Search() for _ in read.ends]
    first = torch.tensor(list(tree), device=read.logits_KV.device)
    for search, node, costs in zip(
        searches, read.ends, (-read.logits_KV.log_softmax(-1)[:, first]).tolist(), strict=True
    ):
        search.grow(0.0, (), node, tree, costs, end)
    while True:
        taken = [(search, *beginning) for search in searches for beginning in search.next()]
        if not taken:
            return [search.ids for search in searches]
        base = len(read.forest)
        hidden_KD = read.forest.read_ids([ids[-1] for _, _, ids, _, _ in taken], [node for _, _, _, node, _ in taken])
        shares_KV = read.forest.logits(hidden_KD).log_softmax(-1)
        for number, (search, cost, ids, _, after) in enumerate(taken):
            costs = (-shares_KV[number, torch.tensor(list(after), device=shares_KV.device)]).tolist()
            search.grow(cost, ids, base + number, after, costs, end)
