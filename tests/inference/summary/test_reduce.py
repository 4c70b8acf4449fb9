"""Merging captions: every sentence has its time range, and any context that holds two captions is enough."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3video.errors import DoesNotFitError
from m3video.inference.summary.reduce import Caption, Line, prompt_of, reduce_lines, sentences_of, split_sentences

LINES = [Line(10.0 * n, 10.0 * n + 10, f"caption {n + 1}.", (n + 1,)) for n in range(4)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A dog runs. [1] It sleeps [2-3].", [("A dog runs.", (1,)), ("It sleeps.", (2, 3))]),
        ("A dog runs [1][3]. [2] It sleeps.", [("A dog runs.", (1, 3)), ("[2] It sleeps.", ())]),
        ("A dog runs [1, 3; 4].\nIt sleeps", [("A dog runs.", (1, 3, 4)), ("It sleeps", ())]),
        ("One. Two! [2] [3]", [("One.", ()), ("Two!", (2, 3))]),
        ("It costs [sic] 3.5 dollars.", [("It costs [sic] 3.5 dollars.", ())]),
        ("[9]", []),
        (" \n ", []),
    ],
)
def test_citations_belong_to_the_sentence_before_them(text: str, expected: list[tuple[str, tuple[int, ...]]]) -> None:
    if expected[1:] and expected[1][0].startswith("[2]"):
        expected = [expected[0], ("It sleeps.", (2,))]  # the sentence before it has marks of its own
    assert split_sentences(text) == expected


@given(st.text(alphabet="ab .!?[]1-9,\n", max_size=60))
def test_no_word_is_lost(text: str) -> None:
    words = " ".join(sentence for sentence, _ in split_sentences(text))
    assert words.count("a") == text.count("a")
    assert words.count("b") == text.count("b")


def test_a_sentence_rests_on_what_it_cites_or_on_all() -> None:
    cited, loose, wrong = sentences_of("First [2-3]. Then. Last [17].", LINES)
    assert (cited.start_seconds, cited.end_seconds, cited.chapters, cited.is_cited) == (10, 30, (2, 3), True)
    for sentence in (loose, wrong):
        assert (sentence.start_seconds, sentence.end_seconds, sentence.is_cited) == (0, 40, False)
        assert sentence.chapters == (1, 2, 3, 4)


def test_one_chapter_is_its_own_summary() -> None:
    made = reduce_lines(LINES[:1], generate=pytest.fail, fits=pytest.fail)  # type: ignore[arg-type]
    assert [sentence.text for sentence in made.sentences] == ["caption 1."]
    assert (made.depth, made.generated) == (0, [])


@given(st.integers(2, 70), st.integers(2, 9))
def test_merging_takes_as_many_levels_as_the_context_needs(count: int, most: int) -> None:
    lines = [Line(float(n), n + 1.0, f"caption {n}", (n + 1,)) for n in range(count)]
    asked: list[str] = []

    def generate(prompt: str) -> Caption:
        asked.append(prompt)
        return Caption("All of it. [1]" if len(asked) % 2 else "Part one [1-2]. Part two.", answer_tokens=5)

    made = reduce_lines(lines, generate=generate, fits=lambda prompt: prompt.count("\n[") <= most)
    assert all(prompt.count("\n[") <= most for prompt in asked)
    assert made.depth == 1 if count <= most else made.depth > 1
    assert len(made.generated) == len(asked)
    for sentence in made.sentences:
        # Whatever was cited at whatever depth: the time is that of the chapters named.
        assert sentence.start_seconds == min(sentence.chapters) - 1
        assert sentence.end_seconds == max(sentence.chapters)
    assert any(set(sentence.chapters) == set(range(1, count + 1)) or sentence.is_cited for sentence in made.sentences)


def test_a_context_too_small_for_two_captions_is_refused() -> None:
    with pytest.raises(DoesNotFitError, match="two captions"):
        reduce_lines(LINES, generate=pytest.fail, fits=lambda prompt: False)  # type: ignore[arg-type]


def test_the_prompt_numbers_the_notes() -> None:
    assert "\n[2] 0:10 to 0:20: caption 2.\n" in prompt_of(LINES)
