"""A command that the server forks tells a test what one that Python starts from nothing would tell."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests import command
from tests.paths import SAMPLE

PYTHON = sys.executable


def both(code: str, **how: Any) -> tuple[subprocess.CompletedProcess[Any], subprocess.CompletedProcess[Any]]:
    """What a script does in a forked process, and in one that starts from nothing."""
    arguments = [PYTHON, "-c", code, "one", "-two", os.fsdecode(b"\xe9")]
    how = {"capture_output": True, "timeout": 60, **how}
    warm, cold = (command.run(arguments, light=True, warm=warm, **how) for warm in (True, False))
    return warm, cold


SAME = {
    "nothing": "pass",
    "output": "import sys; print('out'); print('err', file=sys.stderr)",
    "output without an end": "import sys; sys.stdout.write('out'); sys.stderr.write('err')",
    "much output": "import sys; sys.stdout.write('o' * 300_000); sys.stderr.write('e' * 300_000)",
    "bytes": r"import sys; sys.stdout.buffer.write(bytes(range(256)))",
    "a child's output": "import os; os.system('echo from a shell')",
    "arguments": "import sys; print(ascii(sys.argv))",
    "input": "import sys; print(ascii(sys.stdin.read()))",
    "an exit code": "import sys; print('before'); sys.exit(3)",
    "an exit code of more than a byte": "import sys; sys.exit(259)",
    "a negative exit code": "import sys; sys.exit(-1)",
    "an exit text": "import sys; sys.exit('why')",
    "an immediate exit": "import os; print('lost'); os._exit(4)",
    "an exception": "print('before'); raise ValueError('what went wrong')",
    "an exception with a cause": "try: 1 / 0\nexcept Exception as e: raise OSError(2, 'No such file', 'x') from e",
    "an assertion": "assert 1 == 2, 'not the same'",
    "a module that is missing": "import no_such_module",
    "Ctrl-C": "import os, signal; os.kill(os.getpid(), signal.SIGINT); import time; time.sleep(9)",
    "a caught Ctrl-C": "import os, signal, sys\ntry: os.kill(os.getpid(), 2)\nexcept KeyboardInterrupt: sys.exit(130)",
    "a kill": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "a termination": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "a crash": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
    "an abort": "import os; os.abort()",
    "work at the exit": "import atexit; atexit.register(print, 'at the exit')",
    "a failure at the exit": "import atexit; atexit.register(lambda: 1 / 0)",
    "a thread that outlives the program": "import threading, time; "
    "threading.Thread(target=lambda: (time.sleep(0.3), print('late'))).start()",
    "a warning": "import warnings; warnings.warn('careful')",
    "a stream that is closed": "import sys; sys.stdout.close()",
    "a stream below that is closed": "import os, sys; print('lost'); os.close(1)",
    "the signals": "import signal; print([signal.getsignal(n) for n in (2, 13, 15, 17)])",
    "the streams": "import sys; print([(s.encoding, s.errors, s.line_buffering, s.isatty(), s.fileno(), s.mode) "
    "for s in (sys.stdin, sys.stdout, sys.stderr)], sys.stdout is sys.__stdout__)",
    "the open files": "import os; print(len([n for n in os.listdir('/proc/self/fd')]))",
    "the environment": "import os; print({n: v for n, v in os.environ.items() if n.startswith(('M3VIDEO', 'COL'))})",
    "the modules": "import sys; print(__name__, 'torch' in sys.modules)",
}


@pytest.mark.parametrize("what", SAME)
def test_a_forked_command_is_like_any_other(what: str) -> None:
    assert_same(SAME[what], PYTHONUNBUFFERED="")


@pytest.mark.parametrize("what", ["output", "an immediate exit", "the streams"])
def test_streams_without_a_buffer_are_like_any_other(what: str) -> None:
    assert_same(SAME[what], PYTHONUNBUFFERED="1")


def assert_same(code: str, **environment: str) -> None:
    environment = {**os.environ, "COLUMNS": "33", "M3VIDEO_BUDGET": "7", **environment}
    warm, cold = both(code, input=b"some\r\ninput", env=environment)
    assert warm.returncode == cold.returncode
    assert warm.stdout == cold.stdout
    assert without_frames(warm.stderr) == without_frames(cold.stderr)
    assert (b"Traceback" in warm.stderr) == (b"Traceback" in cold.stderr)


def without_frames(stderr: bytes) -> bytes:
    """Without the lines of a traceback that name the files and lines it came through, and without addresses."""
    lines = [line for line in stderr.splitlines() if not line.startswith(b"  ")]
    return re.sub(rb"0x[0-9a-f]+", b"0x", b"\n".join(lines))


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8:strict", "ascii:replace", "utf-16"])
def test_the_encoding_is_the_one_asked_for(encoding: str) -> None:
    code = r"import sys; print('caf\xe9 \u1234'); sys.stderr.write('\u1234'); print(sys.stdin.encoding)"
    warm, cold = both(code, env={**os.environ, "PYTHONIOENCODING": encoding})
    assert (warm.returncode, warm.stdout) == (cold.returncode, cold.stdout)
    assert without_frames(warm.stderr) == without_frames(cold.stderr)


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_a_stream_may_be_closed(closed: int) -> None:
    code = "import os, sys; print(sys.stdin, file=sys.stderr); print(sys.stdout is None); sys.exit(os.dup(2) - 2)"
    warm, cold = both(code, closed=closed)
    assert (warm.returncode, warm.stdout) == (cold.returncode, cold.stdout)


def test_output_that_cannot_be_written_is_an_error() -> None:
    with open("/dev/full", "w") as full:
        env = {**os.environ, "PYTHONUNBUFFERED": ""}
        warm, cold = both("print('text')", env=env, capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert warm.returncode == cold.returncode == 120
    assert b"No space left on device" in warm.stderr
    assert b"No space left on device" in cold.stderr


def test_a_terminal_is_one() -> None:
    mine, theirs = pty.openpty()
    code = "import sys; print([s.isatty() for s in (sys.stdin, sys.stdout, sys.stderr)], sys.stdout.line_buffering)"
    for warm in both(code, capture_output=False, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs):
        assert warm.stdout == b"[True, False, True] False\n"
    os.close(theirs)
    os.close(mine)


def test_a_timeout_ends_the_command() -> None:
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    begun = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        command.run([PYTHON, "-c", code], light=True, capture_output=True, timeout=0.5)
    assert time.monotonic() - begun < 10
    assert caught.value.output is not None
    assert not Path(f"/proc/{int(caught.value.output)}").exists()


def test_commands_share_nothing(tmp_path: Path) -> None:
    spoil = (
        "import os, sys, json, m3video.config; json.dumps = None; m3video.config.Settings = None; "
        "os.environ['M3VIDEO_BUDGET'] = '1'; os.chdir('/'); sys.modules['typer'] = None; print('spoilt')"
    )
    look = (
        "import os, sys, json, typer, m3video.config; assert json.dumps and m3video.config.Settings; "
        "print(os.environ.get('M3VIDEO_BUDGET'), os.getcwd())"
    )
    said = [
        command.run([PYTHON, "-c", code], light=True, capture_output=True, text=True, cwd=tmp_path, check=True).stdout
        for code in (spoil, look)
    ]
    assert said == ["spoilt\n", f"None {tmp_path}\n"]


def test_commands_run_beside_each_other() -> None:
    """One waits for what the other does, and each has its own output, pid and end."""
    read, write = os.pipe()
    wait = command.Popen([PYTHON, "-c", "print(input())"], light=True, stdin=read, stdout=subprocess.PIPE, text=True)
    tell = command.Popen([PYTHON, "-c", "print('told')"], light=True, stdout=write)
    os.close(read)
    os.close(write)
    assert isinstance(wait, command.Warm)
    assert tell.wait(timeout=30) == 0
    assert wait.communicate(timeout=30) == ("told\n", None)
    assert wait.returncode == 0
    assert wait.pid != tell.pid


def test_a_running_command_can_be_watched_and_stopped() -> None:
    code = "import os, time; print(os.getsid(0) == os.getpid(), flush=True); time.sleep(60)"
    arguments = [PYTHON, "-c", code]
    for number, sign in ((signal.SIGINT, "KeyboardInterrupt"), (signal.SIGKILL, "")):
        with command.Popen(
            arguments, light=True, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "True\n"
            assert process.poll() is None
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(timeout=0.05)
            process.send_signal(number)
            _, error = process.communicate(timeout=30)
        assert process.poll() == process.returncode == -number
        assert sign in error
        assert not Path(f"/proc/{process.pid}").exists()


def test_check_is_obeyed() -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        command.run([PYTHON, "-c", "import sys; sys.exit('why')"], light=True, capture_output=True, check=True)
    assert (caught.value.returncode, caught.value.stderr) == (1, b"why\n")


@pytest.mark.parametrize(
    "how",
    [
        {"warm": False},
        {"preexec_fn": os.getpid},
        {"env": {**os.environ, "PYTHONPATH": "elsewhere"}},
        {"env": {**os.environ, "PYTHONUTF8": "0"}},
        {"env": {**os.environ, "HF_HOME": "elsewhere"}},
        {"env": {name: value for name, value in os.environ.items() if name != "PATH"}},
    ],
)
def test_what_depends_on_the_start_is_started_from_nothing(how: dict[str, Any]) -> None:
    with command.Popen([PYTHON, "-c", "pass"], light=True, **how) as process:
        assert not isinstance(process, command.Warm)


def test_the_program_runs_in_the_server_as_it_does_alone() -> None:
    for arguments in (("plan", SAMPLE, "--budget", "0"), ("probe", SAMPLE, "--json"), ("--version",), ()):
        warm, cold = (
            command.run([PYTHON, "-m", "m3video.cli", *map(str, arguments)], warm=warm, capture_output=True)
            for warm in (True, False)
        )
        assert (warm.returncode, warm.stdout, warm.stderr) == (cold.returncode, cold.stdout, cold.stderr)


def test_a_fault_in_the_program_shows_its_traceback() -> None:
    code = "import m3video.cli.app as a, sys; a._run = lambda _: 1 / 0; a.main()"
    done = command.run([PYTHON, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")


def test_what_libraries_set_when_they_are_imported_does_not_make_commands_cold(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LD_LIBRARY_PATH", "RAY_CLIENT_MODE", "TORCHINDUCTOR_CACHE_DIR"):
        monkeypatch.setenv(name, "elsewhere")
    with command.Popen([PYTHON, "-c", "print(1)"], light=True, stdout=subprocess.PIPE, text=True) as process:
        assert isinstance(process, command.Warm)
        assert process.communicate(timeout=30) == ("1\n", None)
