"""CIDEr-D against values worked out by hand. With two pictures that share no word, every n-gram weighs log 2."""

from __future__ import annotations

import math

import pytest

from m3video.errors import UsageError
from m3video.evaluation.captions import caption_words, cider_d

OTHER = ["x y z w"]


def first(caption: str, references: list[str]) -> float:
    """Return a caption's score beside a second picture whose caption shares no word."""
    return cider_d([caption, OTHER[0]], [references, OTHER]).each[0]


def test_words_are_lower_case_without_punctuation() -> None:
    assert caption_words("A man's dog , it isn't \"Big\" .") == ("a", "man", "'s", "dog", "it", "is", "n't", "big")
    assert caption_words("Black-and-white dog; 2 cats (3.5 kg)!") == (
        "black-and-white",
        "dog",
        "2",
        "cats",
        "3.5",
        "kg",
    )
    assert caption_words("Can't won’t they're") == ("ca", "n't", "wo", "n't", "they", "'re")
    assert caption_words(" . ") == ()


def test_the_same_words_score_ten_and_other_words_nothing() -> None:
    assert first("a b c d e", ["A b, c d e."]) == pytest.approx(10)
    assert first("p q r s", ["a b c d"]) == 0
    assert first("", ["a b c d"]) == 0


def test_a_caption_without_longer_ngrams_loses_their_share() -> None:
    assert first("a b", ["a b"]) == pytest.approx(5)  # 1 and 1 for n = 1, 2; nothing for 3, 4


def test_one_word_is_different() -> None:
    # shared: 3 of 4 words, 2 of 3 pairs, 1 of 2 triples, no four
    assert first("a b c e", ["a b c d"]) == pytest.approx(10 * (3 / 4 + 2 / 3 + 1 / 2) / 4)


def test_saying_a_word_again_is_clipped() -> None:
    # n = 1: min(2, 1) * 1 / (2 * sqrt 2); the pair `a a` is not in the reference
    assert first("a a", ["a b"]) == pytest.approx(10 / (2 * math.sqrt(2)) / 4)


def test_a_caption_two_words_short_is_damped() -> None:
    cosines = 3 / math.sqrt(15) + 2 / math.sqrt(8) + 1 / math.sqrt(3)
    assert first("a b c", ["a b c d e"]) == pytest.approx(10 * cosines / 4 * math.exp(-4 / 72))
    assert first("a b c", ["a b c d e"]) == pytest.approx(4.8695, abs=1e-3)


def test_references_are_averaged() -> None:
    assert first("a b c d", ["a b c d", "p q r s"]) == pytest.approx(5)


def test_what_every_picture_has_weighs_nothing() -> None:
    scores = cider_d(["a dog", "a cat"], [["a dog"], ["a cat"]])
    assert scores.each == pytest.approx((5, 5))  # n = 1 by dog alone, n = 2 by `a dog`
    assert cider_d(["a", "a cat"], [["a dog"], ["a cat"]]).each[0] == 0
    assert cider_d(["a b", "x y"], [["a b"], ["p q"]]).mean == pytest.approx(2.5)


def test_a_rare_word_weighs_more() -> None:
    references = [["red dog"], ["red cat"], ["red cow"], ["blue hen"]]
    rare, common = math.log(4), math.log(4 / 3)
    norm = math.hypot(rare, common)
    captions = ["dog green", "red cat", "red cow", "blue hen"]
    # `green` was never seen: weighs as much as what was seen once; the pair `dog green` matches nothing
    assert cider_d(captions, references).each[0] == pytest.approx(10 * rare**2 / (norm * math.hypot(rare, rare)) / 4)


def test_what_does_not_fit_together_is_said() -> None:
    with pytest.raises(UsageError, match=r"needs references for each caption: 1 captions, 0 given"):
        cider_d(["a"], [])
    with pytest.raises(UsageError, match=r"picture 1 needs a list of at least one reference"):
        cider_d(["a", "b"], [["a"], []])
    with pytest.raises(UsageError, match=r"picture 0 needs a list"):
        cider_d(["a"], ["a"])
