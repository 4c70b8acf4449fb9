"""The mapper over local processes.

Not `concurrent.futures`: there a worker that dies takes every item in flight with it and does not say whose fault it
was. Here each worker holds one item, on a pipe of its own, so a death costs that item alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, TypeVar

from m3video.distributed.mapping import Crashes, Done, Mapper, Work, attempt

R = TypeVar("R")
_CONTEXT = multiprocessing.get_context("spawn")
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
_PR_SET_PDEATHSIG = 1
_READY = "ready"


def processes(num_workers: int) -> Mapper[Any]:
    """A mapper over at most `num_workers` processes of this machine."""

    def run(work: Work[R], shared: Any, items: Sequence[Any]) -> Generator[Done[R], None, None]:
        todo, crashes = deque(range(len(items))), Crashes({})
        workers: list[_Worker] = []  # each holds one item; every other item is in `todo` or done
        try:
            while todo or workers:
                while todo and len(workers) < num_workers:
                    workers.append(_start(todo.popleft()))
                pipes = wait([worker.pipe for worker in workers])
                for worker in [worker for worker in workers if worker.pipe in pipes]:
                    try:
                        said = worker.pipe.recv()
                    except (EOFError, ConnectionError):
                        workers.remove(worker)
                        crashes.add(worker.number, worker.stop())
                        todo.appendleft(worker.number)
                        continue
                    if said == _READY:
                        worker.send((work, shared))
                        worker.send(items[worker.number])
                        continue
                    value, error = said
                    if error is not None:
                        raise error
                    done = crashes.done(worker.number, value)
                    if todo:
                        worker.number = todo.popleft()
                        worker.send(items[worker.number])
                    else:
                        workers.remove(worker)
                        worker.stop()
                    yield done
        finally:
            for worker in workers:
                worker.stop()

    return run


@dataclass(slots=True)
class _Worker:
    """A process, our end of its pipe, and the place of the item that it holds."""

    process: SpawnProcess
    pipe: Connection
    number: int

    def send(self, message: Any) -> None:
        # When it died just now, the next `recv` says so.
        with contextlib.suppress(ConnectionError):
            self.pipe.send(message)

    def stop(self) -> str:
        """Kill it; how it ended, for people. A worker in native code hears nothing gentler."""
        self.pipe.close()
        self.process.join(0.1)
        self.process.kill()
        self.process.join()
        code = self.process.exitcode or 0
        self.process.close()
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _start(number: int) -> _Worker:
    ours, theirs = _CONTEXT.Pipe()
    process = _CONTEXT.Process(target=_serve, args=(theirs, os.getpid()), daemon=True)
    try:
        with _one_thread(), _without_interrupts():
            process.start()
    except KeyboardInterrupt:
        if process.pid is not None:
            process.kill()
        raise
    finally:
        theirs.close()
    return _Worker(process, ours, number)


def _serve(pipe: Connection, parent: int) -> None:
    """What a worker process does: items in, results out, until the pipe closes."""
    # A worker that hangs in native code would outlive a killed parent and go on burning a core.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return
    try:
        pipe.send(_READY)
        work, shared = pipe.recv()
        while True:
            pipe.send(attempt(work, shared, pipe.recv()))
    except (EOFError, ConnectionError):
        return


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Children started here compute with one thread each: there is a process per core already."""
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(_ONE_THREAD)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Children started here never see Ctrl-C, not even while they import: this process hears it, and stops them. It
    hears it after the block, because a child that is not yet told what to do would complain."""
    resource_tracker.ensure_running()  # on its start it would unblock the signal again
    heard: list[int] = []
    # Blocking is for this thread and the children; another thread may take the signal, and the handler still runs here.
    is_main = threading.current_thread() is threading.main_thread()
    usual = signal.signal(signal.SIGINT, lambda number, _: heard.append(number)) if is_main else None
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if is_main:
            signal.signal(signal.SIGINT, usual if usual is not None else signal.SIG_DFL)
    if heard and callable(usual):
        usual(signal.SIGINT, None)
