"""Pieces of an answer: they add up, no stop text or half a character is ever sent, and nothing is taken back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from m3video.serve.text_stream import ChangedTextError, TextStream


def sent(states: list[str], stop: tuple[str, ...] = ()) -> tuple[list[str], str, bool]:
    """Follow the states of a text up to its end; return the pieces, the text, and whether it was stopped."""
    pieces: list[str] = []
    stream = TextStream(stop, pieces.append)
    last = ""
    for last in states:
        if not stream.follow(last):
            break
    return pieces, stream.finish(last), stream.is_stopped


def test_words_come_one_after_the_other() -> None:
    assert sent(["a", "a red", "a red ball"]) == (["a", " red", " ball"], "a red ball", False)


def test_half_a_character_waits_for_the_other() -> None:
    assert sent(["gr\ufffd", "grü", "grün"]) == (["gr", "ü", "n"], "grün", False)


def test_what_may_become_a_stop_text_waits() -> None:
    assert sent(["a E", "a EN", "a END b"], ("END",)) == (["a "], "a ", True)
    assert sent(["a E", "a EN", "a ENT"], ("END",)) == (["a ", "ENT"], "a ENT", False)
    assert sent(["a END"], ("END", "a")) == ([], "", True)


def test_an_answer_that_was_begun_again_is_told() -> None:
    stream = TextStream((), lambda piece: None)
    stream.follow("a red")
    stream.follow("a")
    with pytest.raises(ChangedTextError):
        stream.follow("a green")


@given(some.text("ab \ufffd", max_size=20), some.lists(some.text("ab ", min_size=1, max_size=3), max_size=3))
def test_pieces_add_up_to_the_text_before_the_first_stop(text: str, stop: list[str]) -> None:
    text = text.strip()
    pieces, whole, is_stopped = sent([text[: n + 1].strip() for n in range(len(text))] or [""], tuple(stop))
    assert "".join(pieces) == whole
    assert text.startswith(whole)
    assert not any(one in whole for one in stop)
    assert is_stopped == any(one in text for one in stop)
