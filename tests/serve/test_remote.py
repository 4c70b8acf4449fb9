"""What is fetched from the network: only https, only allowed hosts at public addresses, only so much and so long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from m3video.serve.errors import RequestError
from m3video.serve.media import MediaStore
from m3video.serve.remote import RemoteMedia, _is_public

PUBLIC = "93.184.216.34"
Handler = Callable[[httpx.Request], Any]


def remote(handler: Handler, *, addresses: dict[str, list[str]] | None = None, **limits: Any) -> RemoteMedia:
    known = {"films.example": [PUBLIC], "cdn.example": ["2606:2800:220:1::1"], **(addresses or {})}

    def resolve(host: str, port: int) -> list[str]:
        if host not in known:
            raise OSError("no such host")
        return known[host]

    hosts = ["films.example", "CDN.example", "inside.example", "gone.example"]
    return RemoteMedia(hosts, resolve=resolve, transport=httpx.MockTransport(handler), **limits)


def content(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, content=b"film")


def refusal(found: RemoteMedia, url: str) -> RequestError:
    with pytest.raises(RequestError) as refused:
        found.fetch(url)
    return refused.value


def test_it_connects_to_the_address_that_was_checked() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return content(request)

    assert remote(handler).fetch("https://films.example/a.mp4?x=1") == b"film"
    assert remote(handler).fetch("https://cdn.example:8443/b.mp4") == b"film"
    first, second = seen
    assert (first.url.host, first.url.path, first.url.query) == (PUBLIC, "/a.mp4", b"x=1")
    assert first.headers["host"] == "films.example"
    assert first.extensions["sni_hostname"] == "films.example", "the certificate is checked against the name"
    assert (second.url.host, second.url.port) == ("2606:2800:220:1::1", 8443)
    assert second.headers["host"] == "cdn.example:8443"


@pytest.mark.parametrize("url", ["http://films.example/a", "ftp://films.example/a", "https://me:pw@films.example/a"])
def test_other_schemes_are_refused(url: str) -> None:
    assert "only https without a user name is fetched" in str(refusal(remote(content), url))


@pytest.mark.parametrize("url", ["https://other.example/a", "https://x.films.example/a", f"https://{PUBLIC}/a"])
def test_other_hosts_are_refused(url: str) -> None:
    assert "is not one that this server may fetch from" in str(refusal(remote(content), url))


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
        *("224.0.0.1", "255.255.255.255", "::1", "fe80::1", "fe80::1%eth0", "fd00::1", "::ffff:127.0.0.1"),
        *("64:ff9b::7f00:1", "2002:7f00:1::", "::"),
    ],
)
def test_names_that_lead_inside_are_refused(address: str) -> None:
    found = remote(content, addresses={"inside.example": [PUBLIC, address]})
    assert "leads to an address that is not public" in str(refusal(found, "https://inside.example/a"))
    assert not _is_public(address)


def test_redirects_are_checked_like_the_first_url() -> None:
    def to(where: str) -> Handler:
        return lambda request: (
            httpx.Response(302, headers={"location": where}) if request.url.path == "/a" else content(request)
        )

    url = "https://films.example/a"
    assert remote(to("/b")).fetch(url) == b"film"
    assert remote(to("https://cdn.example/b")).fetch(url) == b"film"
    assert "only https" in str(refusal(remote(to("http://films.example/b")), url))
    assert "may fetch from" in str(refusal(remote(to("https://127.0.0.1/b")), url))
    inside = remote(to("https://inside.example/b"), addresses={"inside.example": ["10.0.0.1"]})
    assert "not public" in str(refusal(inside, url))
    assert "redirects more than 3 times" in str(refusal(remote(to("/a")), url))


def test_size_and_time_have_limits() -> None:
    def large(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=pieces(b"x" * 1000))

    def slow(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=pieces(b"x", wait=0.02))

    async def silent(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(600)
        return content(request)

    url = "https://films.example/a"
    error = refusal(remote(large, most_bytes=5000), url)
    assert (error.status, "has more than 5000 bytes" in str(error)) == (413, True)
    for handler in (slow, silent):
        error = refusal(remote(handler, most_seconds=0.1), url)
        assert (error.status, "takes more than 0.1 s" in str(error)) == (422, True)


async def pieces(piece: bytes, *, wait: float = 0.0) -> AsyncIterator[bytes]:
    for _ in range(1000):
        await asyncio.sleep(wait)
        yield piece


def test_what_cannot_be_had_is_told_in_one_line() -> None:
    def broken(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    found = [
        refusal(remote(broken), "https://films.example/a"),
        refusal(remote(lambda request: httpx.Response(404)), "https://films.example/a"),
        refusal(remote(content), "https://gone.example/a"),
    ]
    assert [error.status for error in found] == [422] * 3
    assert [str(error).rpartition(" ")[0] for error in found] == [
        "https://films.example/a cannot be fetched:",
        "https://films.example/a answers with status",
        "https://gone.example/a: host gone.example is not",
    ]
    assert "is no URL" in str(refusal(remote(content), "https://films.example:x/"))


def test_no_server_fetches_by_default(folder: Any) -> None:
    from m3video.serve.files import VideoFolder

    videos = VideoFolder(folder)
    for store, words in (
        (MediaStore(videos, None), "this server fetches nothing from the network"),
        (MediaStore(videos, remote(content)), ""),
    ):
        if words:
            with pytest.raises(RequestError, match=words):
                store._bytes("https://films.example/a.mp4", "video")
        else:
            assert store._bytes("https://films.example/a.mp4", "video") == b"film"
            with pytest.raises(RequestError, match="only https is fetched"):
                store._bytes("http://films.example/a.mp4", "video")
        store.close()
