"""The three streams of a process as the command line wants them: there, taking any text, and gone without a word when
their reader is."""

from __future__ import annotations

import io
import os
import select
import sys

_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


def open_streams() -> None:
    """Make stdin, stdout and stderr usable.

    One that was closed (`2>&-`) becomes the null device, or the next file that is opened would take its place and its
    messages. What an encoding lacks is escaped on stdout as it is on stderr.
    """
    for number, (name, mode) in enumerate(_STREAMS):
        stream = getattr(sys, name)
        if stream is None:
            # The lowest free descriptor is the one that was closed, unless something is open there by now.
            found = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(found, found == number)
            setattr(sys, name, open(found, mode, encoding="utf-8", errors="backslashreplace", closefd=False))  # noqa: SIM115
        elif mode == "w" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def flush_stdout() -> None:
    """Write what was printed: at the exit of Python there would be nobody to catch what goes wrong.

    A reader that went away (head, less) is no error of ours.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        drop_output()


def drop_output() -> bool:
    """What is still to be printed goes nowhere where it cannot be written, at the exit of Python too.

    Returns:
        Whether it was so of stdout or stderr.
    """
    is_dropped = False
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
            is_lost = _has_no_reader(stream.fileno())
        except OSError:
            is_lost = True
        if is_lost:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        is_dropped |= is_lost
    return is_dropped


def _has_no_reader(descriptor: int) -> bool:
    """Whether it is a pipe that nobody reads; what did not fit the buffer is not there to be flushed again."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
