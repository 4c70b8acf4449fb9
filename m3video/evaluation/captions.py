"""CIDEr-D: how well captions agree with what several people wrote about the same picture.

Source: Vedantam, Zitnick, Parikh, "CIDEr: Consensus-based Image Description Evaluation", CVPR 2015, and the variant D
of the COCO caption evaluation (sigma 6, n-grams of 1 to 4 words, counts clipped, times 10). Values agree with that
code's on the same words. Words are made as its tokenizer (Penn Treebank) makes them where captions are plain: lower
case, `'s` and `n't` words of their own, punctuation left out; rare cases (abbreviations, prices, quotes inside words)
may differ.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from m3video.errors import UsageError

LONGEST_NGRAM = 4
SIGMA = 6.0
"""Of the Gaussian penalty for a difference in length, in words."""
SCALE = 10.0
_WORD = re.compile(r"n't\b|'(?:s|m|d|ll|re|ve)\b|[a-z0-9]+?(?=n't\b)|[a-z0-9]+(?:[-.,/][a-z0-9]+)*")

Ngram = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CiderD:
    """The mean over pictures, and each picture's score in their order, from 0 to 10."""

    mean: float
    each: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class _Weighted:
    """A caption's n-grams with TF-IDF weights, by n - 1; their Euclidean lengths; and its number of words."""

    weights: tuple[dict[Ngram, float], ...]
    norms: tuple[float, ...]
    words: int


def caption_words(caption: str) -> tuple[str, ...]:
    """Return a caption's words as CIDEr-D counts them: "A man's dog, it isn't." -> a man 's dog it is n't."""
    return tuple(_WORD.findall(caption.lower().replace("’", "'")))


def cider_d(
    captions: Sequence[str], references: Sequence[Sequence[str]], *, corpus: Sequence[Sequence[str]] | None = None
) -> CiderD:
    """Return the CIDEr-D of captions.

    Args:
        captions: one for each picture.
        references: what people wrote about each picture, at least one caption each.
        corpus: references of the pictures over which it is counted how rare an n-gram is; those of `references` by
            default. Scores of different sets cannot be compared, and one picture alone scores 0.

    Raises:
        UsageError: if numbers do not match, or a picture has no reference.
    """
    if len(captions) != len(references) or not captions:
        raise UsageError(
            f"CIDEr-D needs references for each caption: {len(captions)} captions, {len(references)} given"
        )
    for number, held in enumerate(references):
        if isinstance(held, str) or not held:
            raise UsageError(f"picture {number} needs a list of at least one reference caption")
    counted = [[_ngrams(caption_words(reference)) for reference in held] for held in references]
    pictures_with: Counter[Ngram] = Counter()
    of_corpus = counted if corpus is None else [[_ngrams(caption_words(text)) for text in held] for held in corpus]
    for held_counts in of_corpus:
        pictures_with.update({ngram for counts in held_counts for ngram in counts})
    scores = []
    for caption, held_counts in zip(captions, counted, strict=True):
        candidate = _weighted(_ngrams(caption_words(caption)), pictures_with, len(of_corpus))
        against = [_weighted(counts, pictures_with, len(of_corpus)) for counts in held_counts]
        scores.append(SCALE * sum(_similarity(candidate, reference) for reference in against) / len(against))
    return CiderD(sum(scores) / len(scores), tuple(scores))


def _ngrams(words: Sequence[str]) -> Counter[Ngram]:
    return Counter(
        tuple(words[start : start + n]) for n in range(1, LONGEST_NGRAM + 1) for start in range(len(words) - n + 1)
    )


def _weighted(counts: Counter[Ngram], pictures_with: Counter[Ngram], pictures: int) -> _Weighted:
    """Return n-grams weighted by count times log(pictures / pictures with it); one never seen counts as seen once."""
    weights: tuple[dict[Ngram, float], ...] = tuple({} for _ in range(LONGEST_NGRAM))
    for ngram, count in counts.items():
        weights[len(ngram) - 1][ngram] = count * math.log(pictures / max(1, pictures_with[ngram]))
    norms = tuple(math.sqrt(sum(weight * weight for weight in held.values())) for held in weights)
    return _Weighted(weights, norms, sum(count for ngram, count in counts.items() if len(ngram) == 1))


def _similarity(candidate: _Weighted, reference: _Weighted) -> float:
    """Return the mean cosine over n, with the candidate's weights clipped to the reference's, less for length."""
    total = 0.0
    for held, wanted, norm, other in zip(
        candidate.weights, reference.weights, candidate.norms, reference.norms, strict=True
    ):
        if norm > 0 and other > 0:
            shared = sum(
                min(weight, wanted[ngram]) * wanted[ngram] for ngram, weight in held.items() if ngram in wanted
            )
            total += shared / (norm * other)
    difference = candidate.words - reference.words
    return total / LONGEST_NGRAM * math.exp(-(difference**2) / (2 * SIGMA**2))
