"""Reading a video in a child process, so that a hang or a crash fails one test and not the whole run."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

SECONDS = 20
"""Longest time that one file may take."""


class Worker:
    """A child that reads videos; started again after a crash or a hang."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self._child: subprocess.Popen[str] | None = None

    def read(self, path: Path, *, backend: str = "pyav", drop_root: bool = False) -> dict[str, Any]:
        child = self._child = self._child if self._child and self._child.poll() is None else self._start()
        assert child.stdin is not None
        assert child.stdout is not None
        timer = threading.Timer(SECONDS, child.kill)
        timer.start()
        child.stdin.write(json.dumps({"path": str(path), "backend": backend, "drop_root": drop_root}) + "\n")
        child.stdin.flush()
        line = child.stdout.readline()
        timer.cancel()
        if not line:
            code = child.wait()
            pytest.fail(f"the reader died ({code}; -9 is a hang beyond {SECONDS} s):\n{self.log.read_text()[-3000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _start(self) -> subprocess.Popen[str]:
        root = Path(__file__).parents[2]
        with self.log.open("a") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.video.worker"],
                cwd=root,
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )

    def close(self) -> None:
        if self._child:
            self._child.communicate(timeout=SECONDS)
