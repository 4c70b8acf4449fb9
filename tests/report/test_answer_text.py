"""An answer as text: of many ranges those that mattered are named."""

from __future__ import annotations

from m3video.report.answer_text import MOST_RANGES, answer_record, answer_text, main_evidence
from m3video.types import Answer, Evidence
from tests.planning.plans import PLAN


def answered(tokens: list[int]) -> Answer:
    evidence = tuple(Evidence(10.0 * i, 10.0 * i + 5, 1, count) for i, count in enumerate(tokens))
    return Answer("what?", "a dog", evidence, "rendered", sum(tokens), 900, 3, {}, {}, PLAN)


def test_few_ranges_are_all_named() -> None:
    answer = answered([1, 9, 1])
    assert main_evidence(answer) == (list(answer.evidence), 0)
    text = answer_text(answer)
    assert "  0:10 - 0:15   1 frame, 9 tokens" in text
    assert "more range" not in text


def test_of_many_those_with_the_most_tokens_are_named_in_order() -> None:
    tokens = [1] * 100
    tokens[7], tokens[93] = 144, 36
    named, more = main_evidence(answered(tokens))
    assert (len(named), more) == (MOST_RANGES, 100 - MOST_RANGES)
    starts = [item.start_seconds for item in named]
    assert starts == sorted(starts)
    assert {70.0, 930.0} < set(starts)
    assert f"and {100 - MOST_RANGES} more ranges with fewer tokens; --json has all" in answer_text(answered(tokens))
    assert len(answer_record(answered(tokens))["evidence"]) == 100
