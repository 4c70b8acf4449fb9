"""Work in a child process that may crash, hang or run out of memory without taking anything else with it.

A soft cancel does not stop native code, so a child that gives no sign of life for its deadline is killed. A sign of
life is a value, or `beat()` from the work itself: an hour-long file that is being read is alive, a decoder that hangs
is not. The child dies with its parent, and when memory is short the kernel takes the child first.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import faulthandler
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Literal, NoReturn

from m3video.errors import M3VideoError

Kind = Literal["input", "memory", "silent", "crash", "disk", "bug"]
"""Whose fault a failure is: the input's, memory's, a hang (no sign of life), native code's or a kill, a full disk's,
or our own."""

BEAT_EVERY_SECONDS = 0.5
_STDERR_KEPT = 2000
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Failure:
    """Why work did not end well: `message` in one line, `detail` what a maintainer wants to see."""

    kind: Kind
    message: str
    detail: str = ""


class FailedError(Exception):
    """Raised by `Child.run` where the work failed."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure


def failure_of(error: BaseException) -> Failure:
    """Sort an exception by whose fault it is."""
    if is_full(error):
        return Failure("disk", one_line(error))
    if isinstance(error, M3VideoError):
        return Failure("input", one_line(error))
    detail = "".join(traceback.format_exception(error))
    # torch has an error of its own, which is no MemoryError.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return Failure("memory", one_line(error) or "out of memory", detail)
    return Failure("bug", f"{type(error).__name__}: {one_line(error)}", detail)


def is_full(error: BaseException | None) -> bool:
    """Whether a full disk is at the root of `error`."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False


def one_line(error: BaseException) -> str:
    """The words of `error` in one line."""
    return " ".join(str(error).split())


_channel: Connection | None = None
_last_beat = 0.0


def beat(done: int = 0) -> None:
    """Tell the parent that the work goes on, however much is `done`; outside a child it does nothing."""
    global _last_beat
    now = time.monotonic()
    if _channel is not None and now - _last_beat >= BEAT_EVERY_SECONDS:
        _last_beat = now
        _channel.send_bytes(pickle.dumps(("beat", None)))


class Child:
    """A child process that runs one generator function at a time; started when first needed, and again after a death.

    The parent waits on `connection` (with others, if it likes) and calls `receive` when it is readable.
    """

    def __init__(self, *, deadline: float) -> None:
        """Args:
        deadline: seconds without a sign of life after which the child is killed.
        """
        self.deadline = deadline
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._stderr: Any = None
        self._heard = 0.0

    @property
    def connection(self) -> Connection:
        assert self._connection is not None, "no work was started"
        return self._connection

    def start(self, function: Callable[..., Iterator[Any]], *arguments: Any) -> None:
        """Begin `function(*arguments)`; it must be importable, and what it yields must pickle."""
        if self._process is None or self._process.poll() is not None:
            self.kill()
            self._spawn()
        self._heard = time.monotonic()
        with contextlib.suppress(OSError):  # if it died just now, `receive` will say so
            self.connection.send((function, arguments))

    def receive(self) -> tuple[Literal["value", "end", "failed", "beat"], Any]:
        """The next message; blocks until there is one, or until the child is dead."""
        self._heard = time.monotonic()
        try:
            tag, value = pickle.loads(self.connection.recv_bytes())
        except (EOFError, OSError, pickle.UnpicklingError):
            return "failed", self._death()
        if tag == "failed" and value.kind == "memory":
            self.kill()  # what is left of its memory is in pieces
        return tag, value

    def is_overdue(self) -> bool:
        """Whether nothing was heard for the deadline; call it only after waiting on `connection`."""
        return time.monotonic() - self._heard > self.deadline and not self.connection.poll(0)

    def give_up(self) -> Failure:
        """Kill the silent child."""
        said = self.kill()
        return Failure("silent", f"gave no sign of life for {self.deadline:g} s and was killed", said)

    def run(self, function: Callable[..., Iterator[Any]], *arguments: Any) -> Generator[Any, None, None]:
        """`function(*arguments)` in the child, its values as they come.

        Raises:
            FailedError: an exception, a crash, or silence beyond the deadline.
        """
        self.start(function, *arguments)
        while True:
            if not self.connection.poll(self.deadline):
                raise FailedError(self.give_up())
            tag, value = self.receive()
            if tag == "failed":
                raise FailedError(value)
            if tag == "end":
                return
            if tag == "value":
                try:
                    yield value
                except GeneratorExit:
                    self.kill()  # what it still says must not be taken for an answer to the next question
                    raise

    def kill(self) -> str:
        """Kill the child if there is one; returns the end of what it wrote to stderr."""
        if self._process is None:
            return ""
        self._process.kill()
        self._process.wait()
        self.connection.close()
        self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, self._stderr.tell() - _STDERR_KEPT))
        said = self._stderr.read().decode(errors="replace").strip()
        self._stderr.close()
        self._process = self._connection = self._stderr = None
        return str(said)

    def _death(self) -> Failure:
        assert self._process is not None
        # The pipe closes a moment before the process is gone.
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            code = 0
        said = self.kill()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return Failure("crash", f"the process working on it {how}", said)

    def _spawn(self) -> None:
        ours, theirs = socket.socketpair()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed in kill
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _BOOT, str(theirs.fileno()), str(os.getpid())],
                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=self._stderr, stderr=self._stderr,
                start_new_session=True,  # Ctrl-C is for the parent, which then kills the child
            )  # fmt: skip
        self._connection = Connection(ours.detach())
        self.connection.send(sys.path)


# The parent's sys.path comes first, because only then can this module be found.
_BOOT = """
import sys
from multiprocessing.connection import Connection
channel = Connection(int(sys.argv[1]))
sys.path[:] = channel.recv()
from m3video.distributed.isolate import serve
serve(channel, int(sys.argv[2]))
"""


def serve(channel: Connection, parent: int) -> NoReturn:
    """What a child does: work that comes through `channel`, until the parent closes it."""
    global _channel
    _channel = channel
    faulthandler.enable()
    _die_with(parent)
    while True:
        try:
            function, arguments = channel.recv()
        except EOFError:
            os._exit(0)
        try:
            for value in function(*arguments):
                channel.send_bytes(pickle.dumps(("value", value), protocol=pickle.HIGHEST_PROTOCOL))
            channel.send_bytes(pickle.dumps(("end", None)))
        except BrokenPipeError:
            os._exit(0)
        except BaseException as error:
            channel.send_bytes(pickle.dumps(("failed", failure_of(error))))


def _die_with(parent: int) -> None:
    """Linux: be killed when the parent dies, however it dies, and be the first that goes when memory is short."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the call
        os._exit(0)
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")
