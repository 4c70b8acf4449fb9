"""Prints the greatest logit difference of the parity suite at the end of a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

DIFFERENCES = pytest.StashKey[dict[str, float]]()


@pytest.fixture
def record_difference(request: pytest.FixtureRequest) -> Callable[[str, float], None]:
    """Remember how far a case is from the reference."""
    seen = request.config.stash.setdefault(DIFFERENCES, {})

    def record(case: str, difference: float) -> None:
        seen[case] = difference

    return record


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    seen = config.stash.get(DIFFERENCES, {})
    if seen:
        worst = max(seen, key=lambda case: seen[case])
        terminalreporter.write_line(
            f"M3 parity: {len(seen)} cases with logits, greatest difference {seen[worst]:.2e} ({worst})"
        )
