"""Safety of the server, one test for each guard."""

from __future__ import annotations

import hmac
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from m3video.config import Settings
from m3video.serve import guards
from m3video.serve.app import create_app
from m3video.serve.errors import RequestError
from m3video.serve.files import VideoFolder
from m3video.serve.guards import MOST_HEADERS, Access
from tests.serve.running import body, post, running

KEY = "a-key"


@pytest.fixture(scope="module")
def small_url(folder: Path, loaded: Any) -> Iterator[str]:
    """A server that takes bodies of 2,000 bytes."""
    access = Access(most_body=2000, most_body_of={"/v1/models": 10})
    with running(create_app(folder, Settings(model="rendered"), loaded=loaded, access=access)) as address:
        yield address


@pytest.fixture(scope="module")
def key_url(folder: Path, loaded: Any) -> Iterator[str]:
    app = create_app(folder, Settings(model="rendered"), loaded=loaded, access=Access(api_key=KEY))
    with running(app) as address:
        yield address


def error_of(answer: httpx.Response) -> str:
    return str(answer.json()["error"]["message"])


@pytest.mark.parametrize("host", ["example.org", "example.org:8000", "127.0.0.1.example.org", "10.0.0.1", "a@b", ""])
def test_a_name_that_is_not_the_servers_is_refused(url: str, host: str) -> None:
    """DNS rebinding: a page of example.org asks this server under its own name."""
    answer = httpx.get(f"{url}/v1/models", headers={"Host": host})
    assert answer.status_code == 403
    assert "is not this server" in error_of(answer)


@pytest.mark.parametrize("host", ["localhost", "localhost:99", "127.0.0.1", "[::1]:8000"])
def test_names_of_this_machine_are_allowed(url: str, host: str) -> None:
    assert httpx.get(f"{url}/v1/models", headers={"Host": host}).status_code == 200


def test_names_of_a_server_for_others() -> None:
    everywhere, one = Access(host="0.0.0.0", api_key=KEY), Access(host="films.lan", api_key=KEY)
    assert all(everywhere.is_host_allowed(name) for name in ("10.1.2.3", "fe80::1", socket.gethostname().lower()))
    assert not everywhere.is_host_allowed("example.org")
    assert one.is_host_allowed("films.lan")
    assert not one.is_host_allowed("10.1.2.3")


@pytest.mark.parametrize("origin", ["https://example.org", "null", "http://localhost:1"])
def test_a_page_of_another_site_is_refused(url: str, folder: Path, origin: str) -> None:
    answer = post(url, body(folder / "sample.mp4"), headers={"Origin": origin})
    assert answer.status_code == 403
    assert f"origin ({origin}) is another site" in error_of(answer)


def test_a_page_of_this_server_is_allowed(url: str) -> None:
    assert httpx.get(f"{url}/v1/models", headers={"Origin": url}).status_code == 200


@pytest.mark.parametrize(
    "given", [None, "Bearer", "Bearer wrong", f"Basic {KEY}", f"Bearer {KEY}x", "Bearer ä".encode()]
)
def test_a_request_without_the_key_is_refused(key_url: str, given: str | bytes | None) -> None:
    headers: Any = {} if given is None else {"Authorization": given}
    answer = httpx.get(f"{key_url}/v1/models", headers=headers)
    assert answer.status_code == 401
    assert answer.json()["error"]["type"] == "authentication_error"
    assert answer.headers["www-authenticate"] == "Bearer"


def test_the_key_opens_and_health_needs_none(key_url: str) -> None:
    assert httpx.get(f"{key_url}/v1/models", headers={"Authorization": f"Bearer {KEY}"}).status_code == 200
    assert httpx.get(f"{key_url}/health").status_code == 200
    assert httpx.get(f"{key_url}/metrics").status_code == 401


def test_keys_are_compared_in_constant_time(key_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def watched(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return hmac.compare_digest(one, other)

    class Watched:
        compare_digest = staticmethod(watched)

    monkeypatch.setattr(guards, "hmac", Watched)
    assert httpx.get(f"{key_url}/v1/models", headers={"Authorization": "Bearer b-key"}).status_code == 401
    assert compared == [(b"b-key", b"a-key")]


def test_a_body_that_is_too_large_is_refused_before_it_is_read(small_url: str) -> None:
    port = int(small_url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        client.sendall(f"{head}Content-Length: 2001\r\n\r\n".encode())
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"the body has more than 2000 bytes" in answer


def test_a_body_of_unknown_size_ends_at_the_limit(small_url: str) -> None:
    pieces = (b" " * 500 for _ in range(100))
    answer = httpx.post(
        f"{small_url}/v1/chat/completions", content=pieces, headers={"content-type": "application/json"}, timeout=20
    )
    assert answer.status_code == 413
    assert "the body has more than 2000 bytes" in error_of(answer)


def test_routes_may_have_limits_of_their_own(small_url: str) -> None:
    assert Access(most_body=5, most_body_of={"/a": 6, "/a/b": 7}).body_limit("/a/b/c") == 7
    answer = httpx.request("GET", f"{small_url}/v1/models", content=b"x" * 11)
    assert answer.status_code == 413


def test_headers_that_are_too_large_are_refused(url: str) -> None:
    answer = httpx.get(f"{url}/v1/models", headers={"X-Long": "x" * MOST_HEADERS})
    assert answer.status_code == 431
    assert httpx.get(f"{url}/v1/models", headers={"X-Long": "x" * (MOST_HEADERS - 1000)}).status_code == 200


def test_a_question_that_is_too_long_is_refused(url: str, folder: Path) -> None:
    answer = post(url, body(folder / "sample.mp4", "what " * 2000))
    assert answer.status_code == 413
    assert "the question has 10000 characters, more than 8192" in error_of(answer)


def test_answers_carry_a_policy_without_scripts_of_a_page(url: str) -> None:
    for answer in (httpx.get(f"{url}/health"), httpx.get(f"{url}/none"), httpx.get(url, headers={"Host": "x.org"})):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        assert re.search(r"(script|style)-src", policy) is None, "default-src decides on both"
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "server" not in answer.headers


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    (tmp_path / "served").mkdir()
    (tmp_path / "secret.mp4").write_bytes(b"secret")
    (tmp_path / "served" / "in.mp4").write_bytes(b"in")
    return tmp_path


def test_only_files_of_the_folder_are_found(outside: Path) -> None:
    served = VideoFolder(outside / "served")
    assert served.find("in.mp4") == served.find(str(outside / "served" / "in.mp4")) == outside / "served" / "in.mp4"
    (outside / "served" / "link.mp4").symlink_to("in.mp4")
    assert served.find("link.mp4") == outside / "served" / "in.mp4", "a link that stays inside"
    os.mkfifo(outside / "served" / "pipe.mp4")
    for name in ("none.mp4", "../secret.mp4", str(outside / "secret.mp4"), "", ".", "in.mp4/x", "a\0b", "pipe.mp4"):
        with pytest.raises(RequestError, match="no such file in the folder that is served") as refused:
            served.find(name)
        assert refused.value.status == 404


def test_links_that_lead_out_are_refused(outside: Path) -> None:
    (outside / "served" / "out.mp4").symlink_to(outside / "secret.mp4")
    (outside / "served" / "up").symlink_to(outside)
    served = VideoFolder(outside / "served")
    for name in ("out.mp4", "up/secret.mp4"):
        with pytest.raises(RequestError, match="no such file"):
            served.find(name)
    assert list(served.videos()) == ["in.mp4"]


def test_a_folder_that_is_itself_a_link(outside: Path) -> None:
    (outside / "link").symlink_to("served")
    served = VideoFolder(outside / "link")
    assert served.find("in.mp4") == outside / "served" / "in.mp4"
    assert served.find(str(outside / "link" / "in.mp4")) == outside / "served" / "in.mp4"


def test_dots_are_refused_even_where_they_stay_inside(outside: Path) -> None:
    (outside / "served" / "more").mkdir()
    with pytest.raises(RequestError, match="no such file"):
        VideoFolder(outside / "served").find("more/../in.mp4")


def test_files_outside_are_refused_over_http(url: str, folder: Path) -> None:
    (folder.parent / "other.mp4").write_bytes((folder / "sample.mp4").read_bytes())
    (folder / "out.mp4").unlink(missing_ok=True)
    (folder / "out.mp4").symlink_to(folder.parent / "other.mp4")
    there = [folder.parent / "other.mp4", folder / "out.mp4", Path("/etc/passwd"), folder / "none.mp4"]
    answers = [post(url, body(path)) for path in there]
    assert [answer.status_code for answer in answers] == [404] * 4
    assert {error_of(answer).partition(": ")[2] for answer in answers} == {"no such file in the folder that is served"}
    dotted = {"type": "video_url", "video_url": {"url": f"file://{folder}/more/%2E%2E/sample.mp4"}}
    content = [dotted, {"type": "text", "text": "What?"}]
    assert post(url, body(folder, messages=[{"role": "user", "content": content}])).status_code == 404
