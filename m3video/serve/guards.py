"""What every request must pass before any route sees it: host, origin, key, sizes. Answers get their safety headers."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from m3video.serve.errors import RequestError, body_of
from m3video.utils.text import printable

MOST_BODY = 128 << 20
"""Bytes of a request's body: a video within it takes a third more than its file."""

MOST_BODY_OF_THE_PAGE = 8 << 20
"""Bytes of a body that the page sends: the record of an answer about hours of video takes a tenth of it."""

MOST_UPLOAD = 8 << 30
"""Bytes of a video that the page sends into the folder."""

UPLOAD_PATH = "/api/upload"
"""Where it sends it."""

MOST_HEADERS = 16 << 10
"""Bytes of all headers of a request."""

OPEN_PATHS = frozenset({"/health", "/", "/api/login"})
OPEN_PREFIX = "/page/"
"""What needs no key: whether the server lives, and the files of the page, which asks for the key."""

COOKIE = "m3video-page"
"""Cookie of a browser that was given the key: a player and pictures can send no header."""

POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
"""Content-Security-Policy: nothing from elsewhere, and no script or style within a page."""

_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_EVERYWHERE = frozenset({"", "0.0.0.0", "::"})


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Access:
    """Who may ask.

    Attributes:
        host: the address that the server listens on.
        api_key: what a request must carry as a bearer token; None for no key.
        most_body: bytes of a body.
        most_body_of: path prefix -> bytes, for routes that take more or less.
    """

    host: str = "127.0.0.1"
    api_key: str | None = None
    most_body: int = MOST_BODY
    most_body_of: Mapping[str, int] = field(
        default_factory=lambda: {"/api/": MOST_BODY_OF_THE_PAGE, UPLOAD_PATH: MOST_UPLOAD}
    )

    @property
    def page_token(self) -> str:
        """What the cookie of a browser holds: it follows from the key, which does not follow from it."""
        return hashlib.sha256(f"{COOKIE} {self.api_key}".encode()).hexdigest()

    @property
    def may_upload(self) -> bool:
        """Whether those who may ask may also add videos: not where everybody on the network may ask."""
        return self.api_key is not None or is_loopback(self.host)

    def is_key(self, given: str) -> bool:
        """Return whether a text is the key, in a time that does not depend on where it differs."""
        return self.api_key is not None and hmac.compare_digest(given.encode(), self.api_key.encode())

    def is_let_in(self, headers: Headers) -> bool:
        """Return whether a request brings the key, or the cookie of a browser that was given it."""
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self.is_key(given.strip()):
            return True
        token = cookie_parser(headers.get("cookie", "")).get(COOKIE)
        return token is not None and hmac.compare_digest(token.encode(), self.page_token.encode())

    def is_host_allowed(self, name: str) -> bool:
        """Return whether a Host header names this server: a page elsewhere can make its own name lead here, but not
        an address."""
        if name in _LOOPBACK or name == self.host.lower():
            return True
        if self.host not in _EVERYWHERE:
            return False
        return _is_address(name) or name in (socket.gethostname().lower(), socket.getfqdn().lower())

    def body_limit(self, path: str) -> int:
        """Return the most bytes that a body for `path` may have."""
        found = [prefix for prefix in self.most_body_of if path.startswith(prefix)]
        return self.most_body_of[max(found, key=len)] if found else self.most_body


class Guards:
    """ASGI middleware, the outermost."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            self._check(scope)
            limit = self._access.body_limit(scope["path"])
            receive = _Limited(receive, limit, Headers(scope=scope))
        except RequestError as error:
            answer = JSONResponse(body_of(error), status_code=error.status, headers=error.headers)
            await answer(scope, receive, send_safely)
            return
        await self._app(scope, receive, send_safely)

    def _check(self, scope: Scope) -> None:
        """Raise RequestError for a request that no route may see."""
        if sum(len(name) + len(value) for name, value in scope["headers"]) > MOST_HEADERS:
            raise RequestError(f"the headers have more than {MOST_HEADERS} bytes", status=431)
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        name = _host_name(host)
        if name is None or not self._access.is_host_allowed(name):
            raise RequestError(
                f"host ({printable(host[:100])}) is not this server: use the address that it prints", status=403
            )
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin)[:2] not in ((scheme, host) for scheme in ("http", "https")):
            raise RequestError(f"origin ({printable(origin[:100])}) is another site: it may not ask here", status=403)
        path = scope["path"]
        is_open = path in OPEN_PATHS or path.startswith(OPEN_PREFIX)
        if self._access.api_key is not None and not is_open and not self._access.is_let_in(headers):
            raise RequestError(
                "the API key is missing or wrong: send it as Authorization: Bearer KEY",
                status=401,
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )


class _Limited:
    """`receive` of a body up to a size."""

    def __init__(self, receive: Receive, limit: int, headers: Headers) -> None:
        self._receive, self._limit, self._read = receive, limit, 0
        stated = headers.get("content-length", "0")
        if not stated.isdecimal() or int(stated) > limit:
            raise self._error()

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._read += len(message.get("body", b""))
            if self._read > self._limit:
                raise self._error()
        return message

    def _error(self) -> RequestError:
        return RequestError(
            f"the body has more than {self._limit} bytes: put the video into the folder, and name it by a file: URL",
            status=413,
            headers={"Connection": "close"},
        )


def _host_name(header: str) -> str | None:
    """Return the name in a Host header without its port; None where it is none."""
    try:
        parts = urlsplit(f"//{header}")
        return None if parts.path or parts.username is not None else (parts.hostname or None) and parts.hostname.lower()
    except ValueError:
        return None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
