"""Videos and pictures at https addresses, from hosts that whoever runs the server has named."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Collection
from urllib.parse import urljoin, urlsplit

import httpx

from m3video.serve.errors import RequestError
from m3video.utils.text import first_line, printable

MOST_BYTES = 256 << 20
"""Size of what is fetched."""

MOST_SECONDS = 60.0
"""For one URL, with its redirects."""

MOST_REDIRECTS = 3

Resolve = Callable[[str, int], list[str]]
"""(host, port) -> IP addresses."""


def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a host, as this machine's resolver knows them; raise OSError where there are none."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


class RemoteMedia:
    """Fetches from allowed hosts. Where a name leads is looked up once, and that very address is connected to."""

    def __init__(
        self,
        hosts: Collection[str],
        *,
        resolve: Resolve = resolve,
        transport: httpx.AsyncBaseTransport | None = None,
        most_bytes: int = MOST_BYTES,
        most_seconds: float = MOST_SECONDS,
    ) -> None:
        """Args:
        hosts: names that may be fetched from, exactly as in a URL, without port.
        resolve: looks up names.
        transport: makes the requests; by default over the network.
        most_bytes: size of what is fetched.
        most_seconds: time for one URL.
        """
        self._hosts = frozenset(host.lower() for host in hosts)
        self._resolve, self._transport = resolve, transport
        self._most_bytes, self._most_seconds = most_bytes, most_seconds

    def fetch(self, url: str) -> bytes:
        """Return what is at an https URL.

        Raises:
            RequestError: 400 for a host or scheme that is not allowed, also of a redirect, and for an answer without
                content; 413 for more than the size limit; 422 where it cannot be had in time.
        """
        shown = printable(url[:200])
        try:
            return asyncio.run(self._fetch(url))
        except TimeoutError:
            raise RequestError(
                f"{shown} takes more than {self._most_seconds:g} s: put it into the folder", status=422
            ) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise RequestError(f"{shown} cannot be fetched: {first_line(error, limit=100)}", status=422) from None

    async def _fetch(self, url: str) -> bytes:
        # No proxy and no credentials of this machine's environment.
        client = httpx.AsyncClient(
            transport=self._transport, trust_env=False, follow_redirects=False, timeout=self._most_seconds
        )
        there = url
        async with asyncio.timeout(self._most_seconds), client:
            for _ in range(MOST_REDIRECTS + 1):
                found = await self._get(client, there)
                if isinstance(found, bytes):
                    return found
                there = found
        raise RequestError(f"{printable(url[:200])} redirects more than {MOST_REDIRECTS} times")

    async def _get(self, client: httpx.AsyncClient, url: str) -> bytes | str:
        """Return the content, or where the server redirects to."""
        host, port, address = self._checked(url)
        headers = {"Host": host if port == 443 else f"{host}:{port}", "Accept-Encoding": "identity"}
        there = httpx.URL(url).copy_with(host=address)
        async with client.stream("GET", there, headers=headers, extensions={"sni_hostname": host}) as answer:
            if answer.is_redirect:
                return urljoin(url, answer.headers["location"])
            if answer.status_code != 200:
                raise RequestError(f"{printable(url[:200])} answers with status {answer.status_code}", status=422)
            content = bytearray()
            async for piece in answer.aiter_bytes():
                content += piece
                if len(content) > self._most_bytes:
                    raise RequestError(
                        f"{printable(url[:200])} has more than {self._most_bytes} bytes: put it into the folder",
                        status=413,
                    )
            return bytes(content)

    def _checked(self, url: str) -> tuple[str, int, str]:
        """Return host, port and address of a URL that may be fetched."""
        shown = printable(url[:200])
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").lower(), parts.port or 443
        except ValueError:
            raise RequestError(f"{shown} is no URL") from None
        if parts.scheme != "https" or parts.username is not None:
            raise RequestError(f"{shown}: only https without a user name is fetched")
        if host not in self._hosts:
            raise RequestError(f"{shown}: host {printable(host)} is not one that this server may fetch from")
        try:
            addresses = self._resolve(host, port)
        except OSError:
            raise RequestError(f"{shown}: host {printable(host)} is not known", status=422) from None
        # One that is not public means that the name is not to be trusted, whatever the others are.
        if not addresses or not all(_is_public(address) for address in addresses):
            raise RequestError(f"{shown}: host {printable(host)} leads to an address that is not public")
        return host, port, addresses[0]


def _is_public(address: str) -> bool:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped or parsed.sixtofour or parsed.teredo:
            return False  # an IPv4 address in disguise
        if parsed in ipaddress.ip_network("64:ff9b::/96"):
            return False
    return parsed.is_global and not parsed.is_multicast and not parsed.is_reserved
