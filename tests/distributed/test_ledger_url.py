"""A batch whose output is a URL: after a kill at every write, and with two writers at one location."""

from __future__ import annotations

import builtins
import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from m3video.distributed import lease, storage
from m3video.distributed.ledger_url import UrlLedger, open_ledger, read_batch_state
from m3video.distributed.storage import Store, local_folder, saving
from m3video.errors import DiskFullError, UsageError
from tests.distributed.test_ledger import fill, item, name


class Killed(BaseException):
    """The process is gone."""


class Objects(MemoryFileSystem):
    """An object store that can be killed within a write; what it holds then is torn, or is not there.

    Without rename: `mv` would be a mistake.
    """

    protocol = "objects"
    store: dict[str, Any] = {}  # noqa: RUF012
    pseudo_dirs: list[str] = [""]  # noqa: RUF012
    writes, kill_at, tear, is_dead, is_full = 0, -1, False, False, False

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.replace("objects://", "memory://")))

    @classmethod
    def clear(cls) -> None:
        cls.store.clear()
        cls.pseudo_dirs[:] = [""]

    @classmethod
    def new(cls, *, kill_at: int = -1, tear: bool = False) -> None:
        """A new process that sees what is there."""
        cls.writes, cls.kill_at, cls.tear, cls.is_dead, cls.is_full = 0, kill_at, tear, False, False

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **how: Any) -> None:
        if self.is_full:
            raise OSError("quota")
        if self.is_dead or self.writes == self.kill_at:
            if self.tear and not self.is_dead:
                super().pipe_file(path, value[: len(value) // 2])
            type(self).is_dead = True
            raise Killed
        type(self).writes += 1
        super().pipe_file(path, value)

    def put_file(self, lpath: str, rpath: str, **how: Any) -> None:
        self.pipe_file(rpath, Path(lpath).read_bytes())

    def mv(self, *paths: Any, **how: Any) -> None:
        raise AssertionError("an object store has no rename")

    def rm_file(self, path: str) -> None:
        if self.is_dead:
            raise Killed
        super().rm_file(path)


fsspec.register_implementation("objects", Objects)
URL = "objects://bucket/out"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(lease, "EXPIRY_SECONDS", 0.05)
    monkeypatch.setattr(lease, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(storage, "_PAUSES", (0.0, 0.0))
    Objects.clear()
    Objects.new()
    yield
    assert not [thread for thread in threading.enumerate() if thread.name == "lease"]


def lines(file: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Store(URL).get(file) or b"").splitlines()]


def check() -> None:
    with UrlLedger(Store(URL)) as ledger:
        assert all(ledger.is_done(item(number)) for number in (1, 3, 4, 5))
        assert set(ledger.failed) == {item(2).path_key}
        assert ledger.video_seconds == 6.0
        assert [row["video"] for row in ledger.results()] == ["video 1", "video 4", "video 5"]
    assert [row["video"] for row in lines("results.jsonl")] == ["video 1", "video 4", "video 5"]
    assert [row["video"] for row in lines("errors.jsonl")] == ["video 2"]


def run_until_killed() -> None:
    ledger = None
    try:
        ledger = UrlLedger(Store(URL))
        fill(ledger)
        ledger.close()
    except Killed:
        if ledger is not None:  # a killed process renews nothing
            ledger._lease._done.set()
            ledger._lease._thread.join()
            ledger._scratch.cleanup()


@pytest.mark.parametrize("tear", [False, True], ids=["whole", "torn"])
def test_a_kill_anywhere_loses_and_doubles_nothing(tear: bool) -> None:
    kill_at = 0
    while True:
        Objects.clear()
        Objects.new(kill_at=kill_at, tear=tear)
        run_until_killed()
        was_killed = Objects.is_dead
        Objects.new()
        with UrlLedger(Store(URL)) as ledger:
            fill(ledger)
        check()
        if not was_killed:
            break
        kill_at += 1
    assert kill_at == 10  # the lease, batch.json, six rows, results, errors


def test_reading_the_state_changes_nothing_and_disturbs_no_writer() -> None:
    assert read_batch_state(URL) is None
    with UrlLedger(Store(URL)) as ledger:
        fill(ledger)
        before = dict(Objects.store)
        state = read_batch_state(URL)
        assert dict(Objects.store) == before
    assert state is not None
    assert state.is_done(item(3))
    assert state.has(name(5))
    assert state.has_failed(item(2))


def test_one_writer_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.01)
    monkeypatch.setattr(lease, "EXPIRY_SECONDS", 1.0)
    waited: list[str] = []
    with UrlLedger(Store(URL)):
        with pytest.raises(UsageError, match=r"objects://bucket/out is in use by another m3video"):
            UrlLedger(Store(URL), note=waited.append)
        assert len(waited) == 1
    UrlLedger(Store(URL)).close()


def test_a_lease_that_is_taken_away_stops_the_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.01)
    ledger = UrlLedger(Store(URL))
    while ledger._lease._thread.is_alive():  # it may be writing just now
        Store(URL).put(lease.NAME, b'{"owner": "another"}')
        time.sleep(0.005)
    with pytest.raises(UsageError, match="in use"):
        ledger.add_error(item(1), {})
    with pytest.raises(UsageError, match="in use"):
        ledger.close()
    assert lines(lease.NAME) == [{"owner": "another"}]


def test_a_process_of_this_machine_that_is_gone_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "EXPIRY_SECONDS", 1000.0)
    gone = {"owner": "x", "machine": lease._machine(), "pid": 2**22 - 1, "beats": 1}
    Store(URL).put(lease.NAME, json.dumps(gone).encode())
    Store(URL).put("batch.json", b'{"schema": "m3video.batch/1"}')
    notes: list[str] = []
    with UrlLedger(Store(URL), note=notes.append) as ledger:
        assert lines(lease.NAME)[0]["owner"] == ledger._lease.owner != "x"
    assert notes == []
    assert lines(lease.NAME) == []


def test_what_cannot_be_written_is_not_known_and_stops_the_batch() -> None:
    with UrlLedger(Store(URL)) as ledger:
        ledger.add_result(item(1), name(1), {})
        Objects.is_full = True
        with pytest.raises(DiskFullError, match=r"journal/.* cannot be written \(OSError: quota\): what is finished"):
            ledger.add_result(item(2), name(2), {})
        assert not ledger.is_done(item(2))
        Objects.is_full = False
        ledger.add_result(item(2), name(2), {})
    assert [row["video"] for row in lines("results.jsonl")] == ["video 1", "video 2"]


def test_locations_with_other_files_are_left_alone() -> None:
    Store(URL).put("holiday.txt", b"x")
    for touch in (open_ledger, read_batch_state):
        with pytest.raises(UsageError, match="not empty and holds no batch"):
            touch(URL)
    assert list(Objects.store) == ["/bucket/out/holiday.txt"]
    Store(URL).put("batch.json", b'{"schema": "m3video.batch/9"}')
    with pytest.raises(UsageError, match=r"m3video\.batch/9"):
        open_ledger(URL)


def test_files_of_items_are_whole_wherever_they_go(tmp_path: Path) -> None:
    for location in (f"{URL}/items/x", str(tmp_path / "x"), f"file://{tmp_path}/y"):
        with saving(location, "plan.json") as path:
            path.write_text("plan")
        with pytest.raises(UnicodeEncodeError), saving(location, "half.json") as path:
            path.write_text("ha\udfff", encoding="utf-8")
    assert Store(f"{URL}/items").get("x/plan.json") == b"plan"
    assert Store(f"{URL}/items").get("x/half.json") is None
    assert [[path.name for path in (tmp_path / folder).iterdir()] for folder in "xy"] == [["plan.json"]] * 2


@pytest.mark.parametrize(
    ("url", "why"),
    [("memory://x", "ends with the process"), ("nonsense://x", "Protocol not known"), ("s3://bucket/x", "s3fs")],
)
def test_unusable_urls_are_one_line(url: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(UsageError, match=why) as caught:
        Store(url)
    assert "\n" not in str(caught.value)


def test_missing_fsspec_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = builtins.__import__

    def without(module: str, *how: Any) -> Any:
        if module == "fsspec":
            raise ImportError(module)
        return usual(module, *how)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=r'pip install "m3video\[urls\]"'):
        Store("s3://bucket/x")


def test_a_folder_is_no_url() -> None:
    assert local_folder("a/b") == Path("a/b")
    assert local_folder("file:///a/b") == Path("/a/b")
    assert local_folder("C:/a") == Path("C:/a")
    assert local_folder("s3://a/b") is local_folder("dir::file:///x") is None
