"""The three streams of a process as the command line wants them: there, taking any text, and gone without a word when
their reader is."""

from __future__ import annotations

import io
import os
import select
import sys
from typing import Any

_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


class _Messages(io.FileIO):
    """stderr: a message that nobody reads is no reason to stop the work it tells of."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            return len(data)


def open_streams() -> None:
    """Make stdin, stdout and stderr usable.

    One that was closed (`2>&-`) becomes the null device, or the next file that is opened would take its place and its
    messages. What an encoding lacks is escaped on stdout as it is on stderr.
    """
    for number, (name, mode) in enumerate(_STREAMS):
        if getattr(sys, name) is None:
            # The lowest free descriptor is the one that was closed, unless something is open there by now.
            found = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(found, found == number)
            setattr(sys, name, open(found, mode, encoding="utf-8", errors="backslashreplace", closefd=False))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    told = sys.__stderr__
    if told is not None and told is sys.stderr:
        raw = io.BufferedWriter(_Messages(told.fileno(), "wb", closefd=False))
        sys.stderr = io.TextIOWrapper(raw, told.encoding, "backslashreplace", line_buffering=True)


def flush_stdout() -> None:
    """Write what was printed: at the exit of Python there would be nobody to catch what goes wrong.

    A reader that went away (head, less) is no error of ours.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        drop_stdout()


def drop_stdout() -> bool:
    """What is still to be printed goes nowhere when it cannot be written, at the exit of Python too.

    Returns:
        Whether it was so.
    """
    try:
        sys.stdout.flush()
        is_lost = _has_no_reader(sys.stdout.fileno())
    except OSError:
        is_lost = True
    if is_lost:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return is_lost


def _has_no_reader(descriptor: int) -> bool:
    """Whether it is a pipe that nobody reads; what did not fit the buffer is not there to be flushed again."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
