"""What a plan says of itself in words, at any width."""

from __future__ import annotations

from dataclasses import replace

import pytest

from m3video.inference.latency import Estimate
from m3video.planning.limits import Limit
from m3video.report.plan_text import plan_facts, plan_text, scale_rows, time_fact
from m3video.types import PlannedFrame, TokenPlan
from tests.planning.plans import PLAN

LONG = replace(
    PLAN,
    budget=10**6,
    text_tokens=None,
    config={"model": "/a/very/long/folder/without/a/single/space/in/it/or/a/hyphen"},
    video=replace(PLAN.video, end_pts=90000 * 40000, num_frames=10**6),
    num_candidates=4096,
    frames=tuple(PlannedFrame(90000 * 9 * i, (1, 9, 36, 144, 576)[i % 5], i % 2) for i in range(4096)),
)
MANY = [Limit("--budget 1000000", 0.123), Limit("--max-gap 0.125", 0.00001), Limit("--max-frames 4096")]


def fact(label: str, plan: TokenPlan, limits: list[Limit] | None = None) -> str:
    return dict(plan_facts(plan, limits))[label]


@pytest.mark.parametrize("width", [40, 57, 80, 200])
@pytest.mark.parametrize("plan", [PLAN, LONG], ids=["short", "long"])
def test_no_line_is_wider_than_the_terminal_and_none_has_escape_codes(plan: TokenPlan, width: int) -> None:
    facts = [*plan_facts(plan, MANY), time_fact(12.34, Estimate(1234.5, 16)), time_fact(0, None)]
    lines = plan_text(plan, facts=facts, width=width).splitlines()
    assert max(map(len, lines)) <= width
    assert not any("\x1b" in line or line != line.rstrip() for line in lines)
    # Nothing is lost by wrapping.
    words = "".join("".join(lines).split())
    assert all("".join(text.split()) in words for _, text in facts)


def test_the_table_of_scales_adds_up() -> None:
    rows = scale_rows(LONG, all_scales=True)
    assert [scale for scale, _, _ in rows] == [1, 9, 36, 144, 576]
    assert sum(count for _, count, _ in rows) == len(LONG.frames)
    assert sum(together for _, _, together in rows) == LONG.total_tokens
    assert [row[0] for row in scale_rows(PLAN)] == [144, 576]


def test_more_tokens_have_a_longer_bar_even_in_a_narrow_terminal() -> None:
    lines = plan_text(LONG, width=40).splitlines()
    start = next(i for i, line in enumerate(lines) if line.split() == ["time", "shot", "tokens"])
    bars = [line.count("#") for line in lines[start + 1 : start + 6]]
    assert bars == sorted(bars)
    assert 1 <= bars[0] < bars[-1]


@pytest.mark.parametrize("method", ["fits", "hull", "dp"])
def test_a_proven_optimum_is_called_so_and_the_bound_leaves_no_doubt(method: str) -> None:
    plan = replace(PLAN, method=method)
    assert "the proven optimum" in fact("utility", plan)
    assert "gap" not in plan_text(plan)
    assert "(2% above)" in fact("bound", plan)
    assert fact("bound", plan).endswith("none can")
    assert fact("bound", replace(plan, bound=plan.utility)).endswith("reached")


def test_an_unproven_one_is_not() -> None:
    unproven = replace(PLAN, method="gap")
    assert "optimum" not in plan_text(unproven)
    assert "no plan is worth over 2% more" in fact("utility", unproven)
    assert "optimum" not in plan_text(replace(PLAN, method=""))


def test_limits_are_reported_with_what_they_cost() -> None:
    told = fact("limits", PLAN, MANY)
    assert "--budget 1000000 (without it 12% more utility)" in told
    assert "--max-gap 0.125 (without it under 0.01% more utility)" in told
    assert "--max-frames 4096 (reached)" in told
    assert fact("limits", PLAN, []).startswith("none binds")
    assert "limits" not in dict(plan_facts(PLAN))


def test_a_grid_has_neither_utility_nor_scales() -> None:
    grid = replace(PLAN, grid_tokens=36, method="", utility=0.0, bound=0.0)
    assert [label for label, _ in plan_facts(grid)] == ["frames", "tokens"]
    assert "36 of 720" in plan_text(grid)


def test_time_is_only_reported_where_it_was_measured() -> None:
    assert "about 21 min more" in time_fact(0.5, Estimate(1234.5, 2))[1]
    assert "0.5 s for this plan" in time_fact(0.5, Estimate(3.21, 1))[1]
    assert "about 3.2 s more, by 1 earlier answer" in time_fact(0.5, Estimate(3.21, 1))[1]
    assert "not known yet" in time_fact(0.5, None)[1]
