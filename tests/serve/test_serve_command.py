"""`m3video serve` as whoever starts it meets it: addresses, keys, signals, what is missing."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests import command
from tests.paths import SAMPLE
from tests.serve.running import body, post

COMMAND = [sys.executable, "-m", "m3video.cli", "serve"]


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films").resolve()
    shutil.copy(SAMPLE, folder)
    return folder


@contextmanager
def started(folder: Path, *more: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start the command on a free port; provide the process and the address that it prints."""
    with command.Popen([*COMMAND, str(folder), "--port", "0", *more], stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = ""
            while "answers at" not in line:
                line = process.stderr.readline()
                assert line, "it has ended"
            found = re.search(r"rendered answers at (http://\S+)/v1 ", line)
            assert found is not None, line
            yield process, found[1]
        finally:
            process.kill()


def refused(*more: str, code: int = 2) -> str:
    done = command.run([*COMMAND, *more], capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("m3video: error: ")
    return str(line)


def test_sigterm_lets_a_running_answer_finish_and_ends_with_0(films: Path) -> None:
    with started(films) as (process, url):
        answers: list[httpx.Response] = []
        client = threading.Thread(target=lambda: answers.append(post(url, body(films / SAMPLE.name))))
        client.start()
        while httpx.get(f"{url}/health").json()["waiting"] == 0:
            assert not answers, "the answer was there before it could be interrupted"
        process.send_signal(signal.SIGTERM)
        client.join()
        assert answers[0].json()["choices"][0]["message"]["content"] == "green"
        assert process.wait(20) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_ctrl_c_ends_it_in_one_line(films: Path) -> None:
    with started(films) as (process, url):
        assert httpx.get(f"{url}/health").status_code == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert process.stderr is not None
        assert process.stderr.read() == "m3video: interrupted\n"


def test_a_port_that_is_taken(films: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"cannot listen on 127.0.0.1 port {port} (address already in use" in refused(
            str(films), "--port", str(port)
        )


def test_what_cannot_be_served_is_refused(films: Path) -> None:
    assert "none cannot be read: No such file" in refused(str(films / "none"))
    assert "is no folder: give the folder that holds the videos" in refused(str(films / SAMPLE.name))
    assert "model (./none) is no folder" in refused(str(films), "--port", "0", "--model", "./none", code=1)
    assert "--insecure and --api-key contradict each other" in refused(str(films), "--insecure", "--api-key", "k")
    assert "--api-key must be printable ASCII" in refused(str(films), "--api-key", " ")
    assert "cannot listen on 192.0.2.1" in refused(str(films), "--host", "192.0.2.1", "--insecure", "--quiet")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "films.example"])
def test_other_machines_need_a_key(films: Path, host: str) -> None:
    assert f"--host {host} lets other machines ask: give --api-key, or --insecure" in refused(
        str(films), "--host", host, "--port", "0"
    )


def test_an_open_server_says_so(films: Path) -> None:
    with command.Popen(
        [*COMMAND, str(films), "--port", "0", "--host", "0.0.0.0", "--insecure"], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        process.kill()
    assert line.startswith("m3video: note: whoever reaches 0.0.0.0 may ask about every video of ")


def test_a_key_from_the_environment(films: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("M3VIDEO_API_KEY", "a-key")
    with started(films, "--host", "0.0.0.0") as (_, url):
        address = url.replace("0.0.0.0", "127.0.0.1")
        assert httpx.get(f"{address}/v1/models").status_code == 401
        assert httpx.get(f"{address}/v1/models", headers={"Authorization": "Bearer a-key"}).status_code == 200


def test_without_the_extra_one_line_says_what_to_install(films: Path, tmp_path: Path) -> None:
    (tmp_path / "fastapi.py").write_text("raise ModuleNotFoundError(\"No module named 'fastapi'\", name='fastapi')\n")
    path = f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    done = subprocess.run(
        [*COMMAND, str(films)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 2
    assert done.stderr == "m3video: error: the server needs fastapi: pip install 'm3video[serve]'\n"


def test_help_names_no_web_framework_and_loads_none() -> None:
    script = (
        "import json, sys; import m3video.cli.serve; print(json.dumps(sorted({'fastapi', 'torch'} & set(sys.modules))))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
