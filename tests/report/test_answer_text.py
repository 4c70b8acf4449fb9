"""What stands below an answer: what it rests on, in words."""

from __future__ import annotations

from dataclasses import replace

from m3video.report.answer_text import MOST_RANGES, answer_details, answer_record, evidence_lines
from m3video.types import Answer, CitedRange, Evidence
from tests.planning.plans import PLAN


def evidence(nats: list[float]) -> Evidence:
    return Evidence(
        verdict="cited",
        ranges=tuple(CitedRange(10.0 * i, 10.0 * i + 5, (i,), each) for i, each in enumerate(nats)),
        nats=sum(nats),
        masked_nats=sum(nats),
        instead="a cat",
        stands_alone=True,
        needs_tokens=9,
        stands_without_frames=False,
        tested=((0, 1.0),),
        passes=4,
        read_tokens=100,
        seconds=0.5,
    )


def answered(found: Evidence | None) -> Answer:
    return Answer("what?", "a dog", found, "rendered", 720, 900, 3, {}, {}, PLAN)


def test_few_ranges_are_all_named() -> None:
    assert evidence_lines(evidence([1, 9.25]), "a dog") == [
        "rests on",
        "  0:00 - 0:05   1 frame, 1.0 nats",
        "  0:10 - 0:15   1 frame, 9.2 nats",
        '  without that: "a cat"; alone it is enough, at 9 tokens a frame',
    ]


def test_of_many_those_with_the_most_support_are_named_in_order() -> None:
    nats = [1.0] * 100
    nats[7], nats[93] = 144, 36
    found = evidence(nats)
    lines = evidence_lines(found, "a dog")
    starts = [line.split()[0] for line in lines[1 : 1 + MOST_RANGES]]
    assert starts == sorted(starts, key=lambda text: [int(part) for part in text.split(":")])
    assert {"1:10", "15:30"} < set(starts)
    assert f"  and {100 - MOST_RANGES} more ranges with less support; --json has all" in lines
    assert len(answer_record(answered(found))["evidence"]["ranges"]) == 100


def test_what_rests_on_nothing_says_so() -> None:
    found = replace(evidence([]), verdict="unsupported", instead="")
    assert evidence_lines(found, "a dog") == ["rests on nothing shown: the model gives this answer without any frame"]
    spread = replace(evidence([2.0]), verdict="spread")
    (line,) = evidence_lines(spread, "a dog")
    assert line.startswith("rests on no single moment: the answer stays, whichever part of 0:00 - 0:05")


def test_without_evidence_there_is_no_word_of_it() -> None:
    assert "rests on" not in answer_details(answered(None))
    assert answer_record(answered(None))["evidence"] is None
    weak = replace(evidence([2.0]), stands_alone=False, needs_tokens=None, instead="a dog")
    assert evidence_lines(weak, "a dog")[-1] == "  without that the same, but less likely; alone it is not enough"
