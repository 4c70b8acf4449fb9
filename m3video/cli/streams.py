"""Standard streams of the process: always open, able to take any text, and silent when their reader has gone."""

from __future__ import annotations

import io
import os
import select
import sys
from typing import Any

_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


class _Messages(io.FileIO):
    """A stderr that ignores a reader that has gone: a lost message must not stop the work."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            return len(data)


def open_streams() -> None:
    """Make stdin, stdout and stderr usable.

    A stream that was closed (`2>&-`) becomes the null device; otherwise the next file that is opened would take its
    descriptor and get its messages. Characters that the encoding lacks are escaped, on stdout as on stderr.
    """
    for number, (name, mode) in enumerate(_STREAMS):
        if getattr(sys, name) is None:
            # The lowest free descriptor is the one that was closed, unless it has been taken since.
            found = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(found, found == number)
            setattr(sys, name, open(found, mode, encoding="utf-8", errors="backslashreplace", closefd=False))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    stderr = sys.__stderr__
    if stderr is not None and stderr is sys.stderr:
        raw = io.BufferedWriter(_Messages(stderr.fileno(), "wb", closefd=False))
        sys.stderr = io.TextIOWrapper(raw, stderr.encoding, "backslashreplace", line_buffering=True)


def flush_stdout() -> None:
    """Write what was printed, while errors can still be handled: at the exit of Python they no longer can.

    A reader that has gone (head, less) is no error.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        drop_stdout()


def drop_stdout() -> bool:
    """Discard what is still to be printed if it cannot be written, so that Python does not try again at its exit.

    Returns:
        Whether output was lost.
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
    """Return whether a descriptor is a pipe without a reader; after a failed write a flush does not show it."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
