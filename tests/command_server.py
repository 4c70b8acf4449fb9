"""A process that has imported the program once and forks a copy of itself for each command: see tests/command.py.

Run as `python -m tests.command_server SOCKET [MODULE ...]`. Each message on the socket brings four descriptors: a
connection and the command's three streams. The connection brings the request, takes the pid, and takes the exit status.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import io
import json
import os
import runpy
import select
import signal
import socket
import sys
import threading
from typing import Any

STREAMS = ("stdin", "stdout", "stderr")


def load(modules: list[str]) -> dict[str, str]:
    """Import `modules`, and return the environment variables that the imports have set."""
    before = dict(os.environ)
    for name in modules:
        importlib.import_module(name)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)  # a pool of threads does not survive a fork
    threads = os.listdir("/proc/self/task")
    assert len(threads) == 1, f"an import has started {len(threads) - 1} threads, which a fork would lose"
    gc.freeze()
    return {name: value for name, value in os.environ.items() if before.get(name) != value}


def serve(control: socket.socket) -> dict[str, Any]:
    """Fork for every request. Returns in the children only, with the request; here the process ends with its client."""
    woken, wakes = socket.socketpair()
    wakes.setblocking(False)
    signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    running: dict[int, socket.socket] = {}
    while True:
        ready, _, _ = select.select([control, woken, *running.values()], [], [])
        if woken in ready:
            woken.recv(4096)
            report(running)
        for pid, connection in running.items():
            if connection in ready:  # its client has gone
                os.kill(pid, signal.SIGKILL)
        if control not in ready:
            continue
        message, descriptors, _, _ = socket.recv_fds(control, 1, 4)
        if not message:
            for pid in running:
                os.kill(pid, signal.SIGKILL)
            os._exit(0)
        connection, streams = socket.socket(fileno=descriptors[0]), descriptors[1:]
        with connection.makefile("r", encoding="ascii") as lines:
            request = json.loads(lines.readline())
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for each in (control, woken, wakes, connection, *running.values()):
                each.close()
            return {**request, "streams": streams}
        connection.sendall(f"{pid}\n".encode())
        running[pid] = connection
        for descriptor in streams:
            os.close(descriptor)


def report(running: dict[int, socket.socket]) -> None:
    """Tell the clients of the children that have ended how they did."""
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            break
        with running.pop(pid) as connection:
            try:
                connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
            except BrokenPipeError:
                continue  # nobody waits for it


def become(request: dict[str, Any], added: dict[str, str]) -> None:
    """Make this process what a new one would be: session, folder, environment, arguments and streams."""
    if request["start_new_session"]:
        os.setsid()
    for number, descriptor in enumerate(request["streams"]):
        os.dup2(descriptor, number)
    for descriptor in request["streams"]:
        os.close(descriptor)
    for number in request["closed"]:
        os.close(number)
    os.chdir(request["cwd"])
    environment = {**added, **request["env"]}
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["-c", *request["arguments"]]
    for number, name in enumerate(STREAMS):
        stream = None if number in request["closed"] else open_stream(number)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def open_stream(number: int) -> io.TextIOWrapper:
    """A standard stream as Python makes it when it starts (`create_stdio` in its pylifecycle.c)."""
    before = getattr(sys, f"__{STREAMS[number]}__")
    encoding, _, errors = os.environ.get("PYTHONIOENCODING", "").partition(":")
    is_buffered = number == 0 or not os.environ.get("PYTHONUNBUFFERED")
    binary: Any = open(number, "wb" if number else "rb", buffering=-1 if is_buffered else 0, closefd=False)  # noqa: SIM115
    raw = binary.raw if is_buffered else binary
    raw.name = f"<{STREAMS[number]}>"
    text: Any = io.TextIOWrapper(
        binary,
        encoding or before.encoding,
        "backslashreplace" if number == 2 else errors or ("strict" if encoding else before.errors),
        newline="\n",
        line_buffering=is_buffered and (number == 2 or raw.isatty()),
        write_through=not is_buffered,
    )
    text.mode = "w" if number else "r"
    return text


def run(request: dict[str, Any]) -> None:
    """Run what `python -m MODULE` or `python -c CODE` would."""
    if request["module"]:
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
    else:
        exec(compile(request["code"], "<string>", "exec"), {"__name__": "__main__"})


def leave(code: Any) -> None:
    """Exit without taking apart all that is loaded, a third of a second: what Python does before that is done here.

    Returns where Python has something to tell: a text to print, or output that cannot be written.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except (OSError, ValueError):
        return
    if code is None or isinstance(code, int):
        os._exit((code or 0) & 0xFF)


if __name__ == "__main__":
    ADDED = load(sys.argv[2:])
    REQUEST = serve(socket.socket(fileno=int(sys.argv[1])))
    become(REQUEST, ADDED)
    # At the top of the program: what escapes from here ends it as Python ends any program.
    try:
        run(REQUEST)
    except SystemExit as done:
        leave(done.code)
        raise
    leave(0)
