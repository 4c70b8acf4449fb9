"""`subprocess.run` and `subprocess.Popen` for commands of this program that do not wait seconds for its imports.

A server per test process has imported everything once and forks for each command (tests/command_server.py). The command
has real pipes, a pid, signals and the exit status of a process of its own. A command that would depend on how Python
starts (another PYTHONPATH, `preexec_fn`, ...) is started by `subprocess`, and so is any with `warm=False`.
"""

from __future__ import annotations

import atexit
import inspect
import json
import os
import pkgutil
import select
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import m3video
from tests.paths import ROOT

LIGHT = (
    *(f"m3video.cli.{name}" for name in ("app", "memory", "terminal")),
    *("m3video.distributed.analysis", "m3video.inference.pipeline", "m3video.video._pyav"),
    *("m3video.planning.plan_file", "m3video.planning.scan_cache", "m3video.planning.shots"),
    *("m3video.report.plan_page", "numpy.ma", "rich.console", "rich.progress", "rich.table"),
    *("av", "cv2", "av.subtitles.stream", "safetensors.numpy", "scipy.optimize", "tokenizers"),
)
"""What a light server has imported: no torch, so that it forks faster and a test can tell what a command has loaded."""
_NEEDS_NO_MODEL = {"probe", "analyze", "plan", "cache", "--version", "--help"}
_DRAWS = {"--plot", "--html", "--memory"}
_CHANGEABLE = ("COLUMNS", "TERM", "PYTHONIOENCODING", "PYTHONUNBUFFERED")
"""Environment variables, besides M3VIDEO_*, that are read when they are needed or that the server obeys."""
_SET_BY_IMPORTS = ("LD_LIBRARY_PATH", "RAY_", "TORCHINDUCTOR_")
"""Beginnings of those that OpenCV, Ray and torchao set when they are imported, so that they change while tests run. The
server has not imported Ray; nothing reads the others later."""
_FOREIGN = ("__main__", "harness.lmms_eval_model", "harness.vlmevalkit_model")
"""Ends of the names of modules that only another program imports: two need lmms-eval or VLMEvalKit."""
_PLAIN = {"args", "stdin", "stdout", "stderr", "cwd", "env", "text", "start_new_session"}
"""Arguments of Popen that the server knows."""


def heavy() -> list[str]:
    """All modules of this program, and what they import late. pyarrow is not among it: it starts a thread."""
    ours = [module.name for module in pkgutil.walk_packages(m3video.__path__, "m3video.") if not module.ispkg]
    late = [
        "torch",
        "transformers",
        "cv2",
        "av",
        "matplotlib.figure",
        "matplotlib.backends.backend_agg",
        "rich.progress",
    ]
    models = [f"transformers.models.{name}.modeling_{name}" for name in ("llama", "clip")]
    return [*(name for name in ours if not name.endswith(_FOREIGN)), *LIGHT, *late, *models]


class Server:
    """A server, started when the first command needs it."""

    def __init__(self, modules: Sequence[str]) -> None:
        self.environment = dict(os.environ)
        self.control, theirs = socket.socketpair()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.command_server", str(theirs.fileno()), *modules],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        atexit.register(self.close)

    def close(self) -> None:
        self.control.close()
        self.process.wait()


_servers: dict[bool, Server] = {}


def _server(light: bool) -> Server:
    if light not in _servers or _servers[light].process.poll() is not None:
        _servers[light] = Server(LIGHT if light else heavy())
    return _servers[light]


class Warm(subprocess.Popen[Any]):
    """A command that the server forks; everything else about it is that of `subprocess.Popen`."""

    def __init__(self, request: dict[str, Any], server: Server, arguments: Sequence[Any], **how: Any) -> None:
        self._request, self._server = request, server
        super().__init__(arguments, **how)

    def _execute_child(self, *given: Any) -> None:
        """Have the server fork, where Popen would do so itself."""
        names = inspect.signature(subprocess.Popen._execute_child).parameters  # type: ignore[attr-defined]
        how = dict(zip(list(names)[1:], given, strict=True))
        streams = [how["p2cread"], how["c2pwrite"], how["errwrite"]]
        self._connection, theirs = socket.socketpair()
        with theirs:
            own = [number if stream == -1 else stream for number, stream in enumerate(streams)]
            socket.send_fds(self._server.control, [b"+"], [theirs.fileno(), *own])
        self._lines = self._connection.makefile("r", encoding="ascii")
        self._connection.sendall(json.dumps(self._request).encode("ascii") + b"\n")
        self.pid = int(self._answer())
        self._child_created = True
        pairs = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        self._close_pipe_fds(*(how[name] for name in pairs))  # type: ignore[attr-defined]

    def _answer(self) -> str:
        line = self._lines.readline()
        if not line:
            raise RuntimeError(f"the command server died ({self._server.process.wait()}): its error is above")
        return line

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._connection], [], [], timeout)[0]:
                assert timeout is not None
                raise subprocess.TimeoutExpired(self.args, timeout)
            self.returncode = int(self._answer())
            self._lines.close()
            self._connection.close()
        return self.returncode

    def poll(self) -> int | None:
        try:
            return self.wait(timeout=0)
        except subprocess.TimeoutExpired:
            return None

    def _internal_poll(self, *_: Any, **__: Any) -> int | None:
        return self.poll()


def Popen(
    arguments: Sequence[Any], *, warm: bool = True, light: bool | None = None, closed: int | None = None, **how: Any
) -> subprocess.Popen[Any]:
    """Start `[sys.executable, "-m" or "-c", ...]`.

    Args:
        arguments: as for `subprocess.Popen`.
        warm: False for a Python that starts from nothing.
        light: from a server that has loaded neither torch nor transformers; by itself for verbs that need neither.
        closed: number of the standard stream that the command shall not have.
        how: as for `subprocess.Popen`.
    """
    env = how["env"] if how.get("env") is not None else dict(os.environ)
    told = [os.fsdecode(argument) for argument in arguments]
    if warm and told[0] == sys.executable and told[1] in ("-m", "-c") and how.keys() <= _PLAIN:
        server = _server(bool({*told[3:]} & _NEEDS_NO_MODEL) and not {*told[3:]} & _DRAWS if light is None else light)
        if not _changed(env, server.environment):
            request = {
                "module": told[2] if told[1] == "-m" else "",
                "code": told[2] if told[1] == "-c" else "",
                "arguments": told[3:],
                "cwd": os.fsdecode(how.get("cwd") or os.getcwd()),
                "env": {os.fsdecode(name): os.fsdecode(value) for name, value in env.items()},
                "closed": [] if closed is None else [closed],
                "start_new_session": how.get("start_new_session", False),
            }
            return Warm(request, server, told, **how)
    if closed is not None:
        how["preexec_fn"] = lambda: os.close(closed)
    return subprocess.Popen(arguments, **how)


def _changed(env: dict[str, str], before: dict[str, str]) -> set[str]:
    """Variables that differ from those of the server's start and that are read when a program or a module starts."""
    ours = {**before, "PYTHONPATH": before.get("PYTHONPATH", str(ROOT))}
    theirs = {**env, "PYTHONPATH": env.get("PYTHONPATH", str(ROOT))}
    return {
        name
        for name in ours.keys() | theirs.keys()
        if ours.get(name) != theirs.get(name)
        and name not in _CHANGEABLE
        and not name.startswith(("M3VIDEO_", "PYTEST_", *_SET_BY_IMPORTS))
    }


def run(
    arguments: Sequence[Any],
    *,
    input: Any = None,
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
    **how: Any,
) -> subprocess.CompletedProcess[Any]:
    """Run a command to its end, as `subprocess.run` does; the other arguments are those of `Popen` here."""
    if input is not None:
        how["stdin"] = subprocess.PIPE
    if capture_output:
        how["stdout"] = how["stderr"] = subprocess.PIPE
    with Popen(arguments, **how) as process:
        try:
            out, err = process.communicate(input, timeout=timeout)
        except BaseException:
            process.kill()
            raise
        code = process.wait()
    if check and code:
        raise subprocess.CalledProcessError(code, process.args, out, err)
    return subprocess.CompletedProcess(process.args, code, out, err)
