"""Uploads: a readable video enters the folder whole; anything else leaves nothing behind."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi.testclient import TestClient

from m3video.config import Settings
from m3video.serve.app import create_app
from m3video.serve.files import UNFINISHED
from m3video.serve.guards import UPLOAD_PATH, Access
from tests.paths import SAMPLE
from tests.serve.browser import chromium, needs_chromium, planned, served
from tests.serve.browser import until as until_page
from tests.serve.running import running, until

KEY = {"Authorization": "Bearer key"}
NAME = "Überwachung 🎬.mp4"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    access = Access(host="testserver", api_key="key", most_body_of={"/api/": 1000, UPLOAD_PATH: 1 << 20})
    with TestClient(create_app(tmp_path, Settings(model="rendered"), access=access), headers=KEY) as client:
        yield client


def put(client: Any, name: str, data: Any, *, base: str = "") -> Any:
    return client.put(f"{base}/api/upload", params={"name": name}, content=data)


def left(folder: Path) -> list[Path]:
    """What lies beside the library."""
    return list((folder / UNFINISHED).iterdir()) if (folder / UNFINISHED).exists() else []


def test_a_video_enters_the_library_whole(client: TestClient, tmp_path: Path) -> None:
    assert put(client, NAME, SAMPLE.read_bytes()).json() == {"name": NAME}
    assert (tmp_path / NAME).read_bytes() == SAMPLE.read_bytes()
    assert [row["name"] for row in client.get("/api/videos").json()["videos"]] == [NAME]
    assert client.get("/api/video", params={"video": NAME}).json()["seconds"] == 12.0
    assert left(tmp_path) == []
    assert (tmp_path / NAME).stat().st_mode & 0o777 == (tmp_path / ".m3video").stat().st_mode & 0o666


def test_a_server_that_everybody_may_ask_takes_no_videos(tmp_path: Path) -> None:
    for host, status in (("testserver", 403), ("127.0.0.1", 200)):
        app = create_app(tmp_path, Settings(model="rendered"), access=Access(host=host))
        with TestClient(app, base_url=f"http://{host}") as client:
            assert put(client, NAME, SAMPLE.read_bytes()).status_code == status
            assert (tmp_path / NAME).exists() == (status == 200)


def test_what_is_there_is_never_replaced(client: TestClient, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"kept")
    refused = put(client, NAME, SAMPLE.read_bytes())
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "name_taken")
    assert (tmp_path / NAME).read_bytes() == b"kept"


@pytest.mark.parametrize(
    ("name", "data", "status", "words"),
    [
        (
            "a.mp4",
            b"no video at all",
            422,
            "a.mp4: not a readable video file (invalid data found when processing input)",
        ),
        ("a.m3u8", b"#EXTM3U", 400, "no video by its ending"),
        ("a.mp4", b"#EXTM3U\nsecret.ts", 422, "a.mp4 is an HLS playlist"),
        ("../a.mp4", b"", 400, "is no name for a file here"),
        (".a.mp4", b"", 400, "is no name for a file here"),
        ("a\n.mp4", b"", 400, "is no name for a file here"),
        ("", b"", 400, "is no name for a file here"),
        (f"{'a' * 252}.mp4", b"", 400, "more than 255 bytes"),
        ("a.mp4", bytes((1 << 20) + 1), 413, "more than 1048576 bytes"),
        ("a.mp4", b"", 422, "a.mp4"),
    ],
)
def test_anything_else_leaves_nothing(
    client: TestClient, tmp_path: Path, name: str, data: bytes, status: int, words: str
) -> None:
    refused = put(client, name, data)
    assert refused.status_code == status, refused.text
    assert words in refused.json()["error"]["message"]
    assert str(UNFINISHED) not in refused.text
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_body_of_no_stated_size_is_cut_too(client: TestClient, tmp_path: Path) -> None:
    assert put(client, "a.mp4", iter([bytes(1 << 19)] * 3)).status_code == 413
    assert left(tmp_path) == []


def test_a_browser_that_leaves_leaves_no_file(tmp_path: Path, loaded: Any) -> None:
    with running(create_app(tmp_path, Settings(model="rendered"), loaded=loaded)) as url:
        parts = urlsplit(url)
        with socket.create_connection((parts.hostname or "", parts.port or 0)) as connection:
            head = f"PUT /api/upload?name=a.mp4 HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: 90000\r\n\r\n"
            connection.sendall(head.encode() + SAMPLE.read_bytes()[:50_000])
            until(lambda: left(tmp_path))
            assert not (tmp_path / "a.mp4").exists()
        until(lambda: not left(tmp_path))
        assert not (tmp_path / "a.mp4").exists()
        refused = httpx.put(f"{url}/api/upload?name=a.mp4", content=b"", headers={"Origin": "http://other.example"})
        assert refused.status_code == 403


def test_a_folder_that_cannot_be_written_is_one_line(client: TestClient, tmp_path: Path) -> None:
    (tmp_path / ".m3video").write_text("a file where the folder should be")
    refused = put(client, NAME, SAMPLE.read_bytes())
    assert (refused.status_code, "cannot be written" in refused.text) == (403, True)


@needs_chromium
def test_videos_are_added_on_the_page(tmp_path: Path, loaded: Any) -> None:
    (tmp_path / "films").mkdir()
    (tmp_path / NAME).write_bytes(SAMPLE.read_bytes())
    (tmp_path / "b.mp4").write_bytes(b"no video")
    with served(tmp_path / "films", loaded=loaded) as address, chromium() as browser:
        page = browser.new_page()
        page.goto(address)
        page.wait_for_selector("#library-notice .notice")
        page.set_input_files("#upload-files", [tmp_path / "b.mp4", tmp_path / NAME])
        page.wait_for_selector(".video-row img")
        assert page.locator(".video-row .name").all_inner_texts() == [NAME]
        assert "Not added. b.mp4: not a readable video file" in page.inner_text("#uploads")
        assert page.locator("#uploads li").count() == 1
        page.click("#uploads button")
        page.set_input_files("#upload-files", [tmp_path / NAME])
        page.wait_for_selector("#uploads .bad")
        assert "is in the folder already" in page.inner_text("#uploads")
        page.click("#uploads button")
        page.evaluate("m3video['library'].upload.most = 1000")
        page.set_input_files("#upload-files", [tmp_path / NAME])
        assert "it has 72.0 kB, and the server takes 1.00 kB at most" in page.inner_text("#uploads")
        page.click("#uploads button")

        page.evaluate("m3video['library'].upload.most = Infinity")
        page.route("**/api/upload**", lambda route: None)  # an upload that takes long
        page.set_input_files("#upload-files", [tmp_path / NAME])
        page.get_by_role("button", name="Cancel the upload").click()
        until_page(page, "!document.querySelector('#uploads li')")
        page.locator(".video-row a").click()
        planned(page)
        page.close()
