"""A step that takes too long is ended; one that does not is left alone."""

from __future__ import annotations

import signal
import threading

import pytest

from m3video.evaluation.deadline import DeadlineError, deadline


def test_a_long_step_is_ended() -> None:
    before = signal.getsignal(signal.SIGALRM)
    never = threading.Event()
    message = r"the step took longer than the deadline of 0\.05 s"
    with pytest.raises(DeadlineError, match=message), deadline(0.05, "the step"):
        never.wait(300)
    assert signal.getsignal(signal.SIGALRM) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


@pytest.mark.parametrize("seconds", [None, 300.0])
def test_a_short_step_is_left_alone(seconds: float | None) -> None:
    with deadline(seconds, "the step"):
        assert (signal.getitimer(signal.ITIMER_REAL)[0] > 0) == (seconds is not None)
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
