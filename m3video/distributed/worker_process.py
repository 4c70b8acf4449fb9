"""A child process that may crash, hang or run out of memory without taking anything else with it.

A soft cancel does not stop native code, so a child that sends nothing for its deadline is killed. It sends values, and
`heartbeat()` calls of the running code: an hour-long file that is being read is alive, a decoder that hangs is not. The
child dies with its parent, and when memory is short the kernel kills the child first.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Generator, Iterator
from multiprocessing import connection
from multiprocessing.connection import Connection
from typing import Any, Literal, NoReturn

from m3video.distributed.failures import NEEDS_NEW_PROCESS, FailedError, Failure, failure_of
from m3video.utils import progress

Tag = Literal["value", "end", "failed", "heartbeat"]

DEADLINE_SECONDS = 300.0
"""Longest time that a worker may send nothing."""

START_SECONDS = 60.0
"""Longest time until a new process sends its first message: a busy machine imports slowly."""

HEARTBEAT_SECONDS = 0.5
_STDERR_BYTES = 2000
_PR_SET_PDEATHSIG = 1
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")

_channel: Connection | None = None
_last_heartbeat = 0.0


def heartbeat(done: int = 0) -> None:
    """Tell the parent that the work goes on, however much is `done`; do nothing outside a worker process."""
    global _last_heartbeat
    now = time.monotonic()
    if _channel is not None and now - _last_heartbeat >= HEARTBEAT_SECONDS:
        _last_heartbeat = now
        _channel.send_bytes(pickle.dumps(("heartbeat", None)))


class WorkerProcess:
    """A child process that runs one generator function at a time; started when first needed, and again after a death.

    The parent waits until `connection` is readable, then calls `receive`.
    """

    def __init__(self, *, deadline: float | None = DEADLINE_SECONDS, one_thread: bool = True) -> None:
        """Args:
        deadline: seconds without a message after which the child is killed; None for never.
        one_thread: compute with one thread, because there is a process for each core already.
        """
        self.deadline, self.one_thread = deadline, one_thread
        self._time_limit = deadline
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._stderr: Any = None
        self._last_message = 0.0

    @property
    def connection(self) -> Connection:
        assert self._connection is not None, "nothing was started"
        return self._connection

    @property
    def is_up(self) -> bool:
        """Whether there is a process, with what earlier calls left in its memory."""
        return self._process is not None and self._process.poll() is None

    @property
    def num_bytes(self) -> int:
        """Resident memory of the process; 0 where there is none."""
        if self._process is None or sys.platform != "linux":
            return 0
        try:
            with open(f"/proc/{self._process.pid}/statm", encoding="ascii") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except OSError:  # it ends just now
            return 0

    def start(self, function: Callable[..., Iterator[Any]], *arguments: Any) -> None:
        """Start `function(*arguments)`; it must be importable, and what it yields must pickle."""
        # Not what the call before left: its last heartbeat may be so young that this one begins without any.
        self._time_limit = self.deadline
        if not self.is_up:
            self.kill()
            self._spawn()
            self._time_limit = None if self.deadline is None else max(self.deadline, START_SECONDS)
        self._last_message = time.monotonic()
        with contextlib.suppress(OSError):  # if it died just now, `receive` reports it
            self.connection.send((function, arguments))

    def receive(self) -> tuple[Tag, Any]:
        """Return the next message; block until there is one, or until the child is dead."""
        self._last_message, self._time_limit = time.monotonic(), self.deadline
        try:
            tag, value = pickle.loads(self.connection.recv_bytes())
        except (EOFError, OSError, pickle.UnpicklingError):
            return "failed", self._death()
        if tag == "failed" and value.kind in NEEDS_NEW_PROCESS:
            self.kill()
        return tag, value

    def is_overdue(self) -> bool:
        """Whether nothing came for the deadline; call it only after waiting on `connection`."""
        silence = time.monotonic() - self._last_message
        return self._time_limit is not None and silence > self._time_limit and not self.connection.poll(0)

    def give_up(self) -> Failure:
        """Kill the silent child and return the failure."""
        stderr = self.kill()
        return Failure("silent", f"gave no sign of life for {self._time_limit:g} s and was killed", stderr)

    def run(self, function: Callable[..., Iterator[Any]], *arguments: Any) -> Generator[Any, None, None]:
        """Run `function(*arguments)` in the child and yield its values as they come.

        Raises:
            FailedError: an exception, a crash, or silence beyond the deadline.
        """
        self.start(function, *arguments)
        while True:
            if not self.connection.poll(self._time_limit):
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
                    self.kill()  # its remaining values must not be taken for those of the next call
                    raise

    def kill(self) -> str:
        """Kill the child if there is one; return the end of what it wrote to stdout and stderr."""
        if self._process is None:
            return ""
        self._process.kill()
        self._process.wait()
        self.connection.close()
        self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, self._stderr.tell() - _STDERR_BYTES))
        text = self._stderr.read().decode(errors="replace").strip()
        self._stderr.close()
        self._process = self._connection = self._stderr = None
        return str(text)

    def _death(self) -> Failure:
        assert self._process is not None
        # The pipe closes a moment before the process is gone.
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            code = 0
        stderr = self.kill()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return Failure("crash", f"the process working on it {how}", stderr)

    def _spawn(self) -> None:
        threads = dict.fromkeys(_THREADS, "1") if self.one_thread else {}
        with _no_interrupt():
            ours, theirs = socket.socketpair()
            self._connection = Connection(ours.detach())
            self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed in kill
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-c", _BOOT, str(theirs.fileno()), str(os.getpid())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=self._stderr,
                    stderr=self._stderr,
                    start_new_session=True,  # Ctrl-C is for the parent, which then kills the child
                    env={**os.environ, **threads},
                )
        self.connection.send(sys.path)


@contextlib.contextmanager
def _no_interrupt() -> Iterator[None]:
    """Delay Ctrl-C: a process that is started before its `Popen` exists could not be killed."""
    usual = signal.getsignal(signal.SIGINT)
    if not callable(usual) or threading.current_thread() is not threading.main_thread():
        yield  # Ctrl-C raises nothing here
        return
    delayed: list[tuple[int, Any]] = []
    signal.signal(signal.SIGINT, lambda number, frame: delayed.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
        if delayed:
            usual(*delayed[0])


def wait(children: Collection[WorkerProcess], seconds: float) -> list[tuple[WorkerProcess, Tag, Any]]:
    """Return the messages of `children` within `seconds`; one that was silent for too long is killed and has failed."""
    by_connection = {child.connection: child for child in children}
    ready = [by_connection[one] for one in connection.wait(list(by_connection), seconds)]  # type: ignore[index]
    messages: list[tuple[WorkerProcess, Tag, Any]] = [(child, *child.receive()) for child in ready]
    messages += [(child, "failed", child.give_up()) for child in children if child not in ready and child.is_overdue()]
    return messages


# The parent's sys.path comes first, because only then can this module be found.
_BOOT = """
import sys
from multiprocessing.connection import Connection
channel = Connection(int(sys.argv[1]))
sys.path[:] = channel.recv()
from m3video.distributed.worker_process import serve
serve(channel, int(sys.argv[2]))
"""


def serve(channel: Connection, parent: int) -> NoReturn:
    """Run in a child what comes through `channel`, until the parent closes it."""
    global _channel
    _channel = channel
    faulthandler.enable()
    _die_with(parent)
    progress.listen(heartbeat)
    while True:
        try:
            _carry_out(channel, channel.recv_bytes())
        except (EOFError, BrokenPipeError):
            os._exit(0)


def _carry_out(channel: Connection, message: bytes) -> None:
    """Run one call; a function of its own, so that nothing of the call stays in memory."""
    try:
        function, arguments = pickle.loads(message)  # imports what it needs
        heartbeat()
        for value in function(*arguments):
            channel.send_bytes(pickle.dumps(("value", value), protocol=pickle.HIGHEST_PROTOCOL))
        channel.send_bytes(pickle.dumps(("end", None)))
    except BrokenPipeError:
        raise
    except BaseException as error:
        channel.send_bytes(pickle.dumps(("failed", failure_of(error))))


def _die_with(parent: int) -> None:
    """On Linux, have the kernel kill this process when the parent dies, and first when memory is short."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the call
        os._exit(0)
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")
