"""Models of the hub: the cache first, one quick and quiet look at the network, and what is there told well."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from m3video.errors import CheckpointError
from m3video.model import hub
from m3video.model.m3 import checkpoint
from m3video.model.m3.model_paths import RENDERED_FOLDER, find_model, find_tower
from m3video.model.m3.size import read_size
from tests.model.tiny import save_original

NAME = "owner/name"
SAMPLE = RENDERED_FOLDER.parent / "sample.mp4"
OLD, NEW = "a" * 40, "b" * 40
QUICK_SECONDS = 3.0
"""Far below the 23 s that six tries take; a busy machine needs its time to import."""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, and no network at all: a port on which nobody listens."""
    folder = tmp_path / "hf" / "hub"
    folder.mkdir(parents=True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{taken.getsockname()[1]}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", closed)
    monkeypatch.setattr(hub, "LOOK_SECONDS", 0.5)
    return folder


@pytest.fixture
def silent_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A hub that takes connections and never says a word, as behind some firewalls."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(16)
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
        yield endpoint


def keep(cache: Path, *, commit: str = NEW, name: str = NAME, refs: dict[str, str] | None = None) -> Path:
    """A snapshot as huggingface_hub lays it out: links to blobs, and which commit a branch stands for."""
    repository = cache / f"models--{name.replace('/', '--')}"
    snapshot, blobs = repository / "snapshots" / commit, repository / "blobs"
    for folder in (snapshot, blobs, repository / "refs"):
        folder.mkdir(parents=True, exist_ok=True)
    for file in RENDERED_FOLDER.iterdir():
        blob = blobs / f"{commit[:8]}-{file.name}"
        shutil.copy(file, blob)
        (snapshot / file.name).symlink_to(blob)
    for branch, of in (refs or {"main": commit}).items():
        (repository / "refs" / branch).write_text(of)
    return snapshot


def in_shards(snapshot: Path) -> None:
    """The same weights as two shards of which the second was never fetched."""
    (snapshot / "model.safetensors").rename(snapshot / "model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))


def refusal(name: str = NAME, revision: str | None = None) -> str:
    begun = time.monotonic()
    with pytest.raises(CheckpointError) as error:
        find_model(name, revision=revision)
    assert time.monotonic() - begun < QUICK_SECONDS
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def no_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_look", lambda *args: pytest.fail("the network was asked"))


@pytest.mark.usefixtures("no_look")
def test_what_is_in_the_cache_is_used_without_a_look(cache: Path) -> None:
    snapshot = keep(cache)
    assert find_model(NAME) == snapshot
    assert read_size(NAME).params == read_size("rendered").params
    assert checkpoint.load(NAME, device="cpu").folder == snapshot


@pytest.mark.usefixtures("no_look")
def test_a_branch_decides_between_snapshots(cache: Path) -> None:
    old = keep(cache, commit=OLD, refs={"v1": OLD})
    new = keep(cache, commit=NEW)
    assert find_model(NAME) == new
    assert [find_model(NAME, revision=revision) for revision in ("main", "v1", OLD, NEW)] == [new, old, old, new]
    (cache / "models--owner--name" / "refs" / "main").write_text(OLD)
    assert find_model(NAME) == old


def test_a_revision_that_was_not_fetched_is_reported(cache: Path) -> None:
    keep(cache)
    assert "model (owner/name) at revision v2 is no folder here, not in the cache" in refusal(revision="v2")


def test_snapshots_that_no_branch_names_are_not_guessed_at(cache: Path) -> None:
    keep(cache, refs={"v1": NEW})
    assert "not in the cache" in refusal()


def test_nothing_in_the_cache_and_no_network_is_reported(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert "cannot be fetched ([Errno 111] Connection refused)" in refusal()
    assert caplog.records == []


@pytest.mark.usefixtures("silent_hub")
def test_a_hub_that_never_answers_is_reported(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert "cannot be fetched (" in refusal()
    assert caplog.records == []


def test_an_address_that_is_looked_up_for_ever_is_reported(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No timeout of HTTP counts this: the resolver waits for its own server."""
    let_go = threading.Event()

    def lookup(*args: object, **kwargs: object) -> list[object]:
        let_go.wait(60)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    try:
        assert "the hub does not answer within" in refusal()
    finally:
        let_go.set()
        for thread in threading.enumerate():
            if thread.name == "hub look":
                thread.join(5)


@pytest.mark.parametrize("name", ["a b/c", "owner/na..me", "owner/name.git", "-/-"])
def test_a_name_that_no_repository_has_is_reported(cache: Path, name: str) -> None:
    assert f"model ({name})" in refusal(name)


def cut_config(snapshot: Path) -> None:
    (snapshot / "config.json").unlink()


def cut_weights(snapshot: Path) -> None:
    (snapshot / "model.safetensors").unlink()


def cut_blob(snapshot: Path) -> None:
    (snapshot / "model.safetensors").resolve().unlink()


def cut_tokenizer(snapshot: Path) -> None:
    (snapshot / "tokenizer.json").unlink()


@pytest.mark.parametrize("offline", [False, True])
@pytest.mark.parametrize(
    ("cut", "lacks"),
    [
        (in_shards, "model.safetensors.index.json names model-00002-of-00002.safetensors, which is missing"),
        (cut_config, "its config.json is not"),
        (cut_weights, "holds no weights"),
        (cut_blob, "holds no weights"),
        (cut_tokenizer, "its tokenizer is not"),
    ],
)
def test_a_copy_that_was_not_fetched_to_its_end_is_reported(
    cut: object, lacks: str, offline: bool, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
    cut(keep(cache))  # type: ignore[operator]
    said = refusal()
    assert f"model (owner/name) is in the cache, but {lacks}" in said
    assert f"and the rest cannot be fetched ({'HF_HUB_OFFLINE is set' if offline else '[Errno 111]'}" in said


@pytest.mark.usefixtures("no_look")
def test_its_size_needs_no_weights(cache: Path) -> None:
    """As of a model of which `plan --memory` has fetched the config only."""
    cut_weights(keep(cache))
    assert read_size(NAME).params > 0


@pytest.mark.usefixtures("no_look")
def test_a_vision_tower_in_the_cache_is_found(cache: Path, tmp_path: Path) -> None:
    save_original(tmp_path / "old")
    snapshot = keep(cache, name="openai/clip-tiny")
    for file in snapshot.iterdir():
        file.unlink()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(tmp_path / "tower" / name, snapshot)
    assert find_tower(tmp_path / "old", {"mm_vision_tower": "openai/clip-tiny"}, None) == snapshot


class Repository(http.server.BaseHTTPRequestHandler):
    """A hub with one repository, which holds what the rendered folder does."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(f"{self.command} {self.path}")
        files = {file.name: file for file in RENDERED_FOLDER.iterdir()}
        if self.path.startswith("/api/models/owner/name/tree"):
            listed = [
                {"type": "file", "path": name, "size": file.stat().st_size, "oid": name.encode().hex()}
                for name, file in files.items()
            ]
            self._send(json.dumps(listed).encode())
        elif self.path.startswith("/api/models/owner/name"):
            self._send(
                json.dumps({"id": NAME, "sha": NEW, "siblings": [{"rfilename": name} for name in files]}).encode()
            )
        elif (name := self.path.rpartition("/")[2].partition("?")[0]) in files:
            self._send(files[name].read_bytes(), name)
        else:
            self._send(b"", code=404)

    do_HEAD = do_GET

    def _send(self, body: bytes, name: str = "", code: int = 200) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        if name:
            self.send_header("ETag", f'"{name.encode().hex()}"')
            self.send_header("X-Repo-Commit", NEW)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Nothing is printed."""


@pytest.fixture
def real_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What such a hub was asked."""
    Repository.asked = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Repository) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
        template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(hub, "LOOK_SECONDS", 10.0)
        yield Repository.asked
        server.shutdown()


def test_a_hub_that_is_there_fetches_once(cache: Path, real_hub: list[str]) -> None:
    folder = find_model(NAME)
    assert {file.name for file in folder.iterdir()} == {
        file.name for file in RENDERED_FOLDER.iterdir() if file.suffix != ".md"
    }
    assert (folder / "model.safetensors").read_bytes() == (RENDERED_FOLDER / "model.safetensors").read_bytes()
    real_hub.clear()
    assert find_model(NAME) == folder
    assert real_hub == []


def test_what_lacks_is_fetched(cache: Path, real_hub: list[str]) -> None:
    snapshot = keep(cache)
    cut_blob(snapshot)
    assert find_model(NAME) == snapshot
    assert (snapshot / "model.safetensors").read_bytes() == (RENDERED_FOLDER / "model.safetensors").read_bytes()


def test_only_the_config_is_fetched_for_a_size(cache: Path, real_hub: list[str]) -> None:
    assert read_size(NAME).params == read_size("rendered").params
    assert [file.name for file in cache.rglob("snapshots/*/*")] == ["config.json"]


@pytest.mark.parametrize("is_kept", [True, False])
def test_a_person_without_a_network_waits_for_nothing(is_kept: bool, tmp_path: Path) -> None:
    """The whole program, which says nothing of its tries."""
    if is_kept:
        keep(tmp_path / "hub")
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))  # and does not listen
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        begun = time.monotonic()
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "m3video.cli",
                "plan",
                str(SAMPLE),
                "--memory",
                "2GiB",
                "--model",
                NAME,
                "-q",
                "--device",
                "cpu",
            ],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "HF_HOME": str(tmp_path), "HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0"},
        )
        took = time.monotonic() - begun
    assert took < 15  # six tries take 23 s
    assert "etry" not in done.stderr
    if is_kept:
        assert (done.returncode, done.stderr) == (0, "")
    else:
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1
        assert "model (owner/name) is no folder here, not in the cache, and cannot be fetched" in done.stderr
