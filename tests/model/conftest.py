"""Prints the greatest logit difference of the parity suite at the end of a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

DIFFERENCE = "logit difference of "


@pytest.fixture
def record_difference(record_property: Callable[[str, object], None]) -> Callable[[str, float], None]:
    """Remember how far a case is from the reference."""
    return lambda case, difference: record_property(DIFFERENCE + case, difference)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    told = dict(pair for report in reports for pair in report.user_properties)
    seen = {name.removeprefix(DIFFERENCE): value for name, value in told.items() if name.startswith(DIFFERENCE)}
    if seen:
        worst = max(seen, key=lambda case: seen[case])
        terminalreporter.write_line(
            f"M3 parity: {len(seen)} cases with logits, greatest difference {seen[worst]:.2e} ({worst})"
        )
