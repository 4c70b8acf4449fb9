"""Videos and pictures of a request: files of the folder, data in the request itself, remote ones where allowed."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Lock
from urllib.parse import unquote, urlsplit

from m3video.serve.chat_request import ChatRequest
from m3video.serve.errors import RequestError
from m3video.serve.files import VideoFolder
from m3video.serve.remote import RemoteMedia
from m3video.utils.text import printable

MOST_BYTES = 1 << 30
"""Data of requests that is kept on disk, so that a follow-up finds its session."""

_DATA = re.compile(r"data:([\w.+-]+/[\w.+-]+)((?:;[\w.+-]+=[\w.+-]+)*);base64,", re.ASCII)


class MediaStore:
    """Turns URLs into files. For threads; temporary files go when it is closed."""

    def __init__(self, folder: VideoFolder, remote: RemoteMedia | None, *, most_bytes: int = MOST_BYTES) -> None:
        """Args:
        folder: whose files may be named.
        remote: fetches https URLs; None where none are allowed.
        most_bytes: of files that no request uses any more; those used least recently go first.
        """
        self._folder, self._remote, self._most_bytes = folder, remote, most_bytes
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._files: OrderedDict[Path, int] = OrderedDict()
        self._users: dict[Path, int] = {}
        self._lock = Lock()

    def close(self) -> None:
        """Remove all files that requests brought."""
        if self._temporary is not None:
            self._temporary.cleanup()

    @contextmanager
    def video_of(self, request: ChatRequest) -> Iterator[Path]:
        """Provide the file of the video that a request is about; pictures become a video of one frame a second.

        Raises:
            RequestError: 400, 404 or 413, by what is wrong with a URL.
        """
        if request.video is not None and request.video.startswith("file:"):
            yield self._file(request.video)
            return
        with ExitStack() as stack:
            if request.video is not None:
                data = self._bytes(request.video, "video")
                yield stack.enter_context(self._kept(hashlib.sha256(data).hexdigest(), ".video", lambda: data))
                return
            from m3video.serve.pictures import as_video

            pictures = [self._bytes(url, "image") for url in request.pictures]
            digest = hashlib.sha256()
            for data in pictures:
                digest.update(hashlib.sha256(data).digest())
            yield stack.enter_context(self._kept(digest.hexdigest(), ".mkv", lambda: as_video(pictures)))

    def _bytes(self, url: str, kind: str) -> bytes:
        """Return what a URL of one kind ("video" or "image") stands for."""
        if url.startswith("data:"):
            return _decoded(url, kind)
        if url.startswith("file:"):
            return self._file(url).read_bytes()
        if url.startswith("https:") and self._remote is not None:
            return self._remote.fetch(url)
        raise RequestError(_refusal(url, kind, is_remote_allowed=self._remote is not None), param=f"{kind}_url.url")

    def _file(self, url: str) -> Path:
        parts = urlsplit(url)
        if parts.netloc not in ("", "localhost") or parts.query or parts.fragment or not parts.path.startswith("/"):
            raise RequestError(
                f"{printable(url[:200])} is no file URL of this server: write file:// and an absolute path, with "
                "special characters as %XX"
            )
        return self._folder.find(unquote(parts.path, errors="surrogateescape"))

    @contextmanager
    def _kept(self, name: str, suffix: str, make: Callable[[], bytes]) -> Iterator[Path]:
        """Provide a file of some bytes, made where it is not here already."""
        with self._lock:
            self._temporary = self._temporary or tempfile.TemporaryDirectory(prefix="m3video-serve-")
            path = Path(self._temporary.name, name + suffix)
            self._users[path] = self._users.get(path, 0) + 1
        try:
            if not path.exists():
                data = make()
                with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
                    file.write(data)
                os.replace(file.name, path)
            with self._lock:
                self._files[path] = path.stat().st_size
                self._files.move_to_end(path)
            yield path
        finally:
            with self._lock:
                self._users[path] -= 1
                if not self._users[path]:
                    del self._users[path]
                self._trim()

    def _trim(self) -> None:
        idle = [path for path in self._files if path not in self._users]
        while idle and sum(self._files.values()) > self._most_bytes:
            path = idle.pop(0)
            del self._files[path]
            path.unlink(missing_ok=True)


def _decoded(url: str, kind: str) -> bytes:
    found = _DATA.match(url)
    if found is None or found[1].partition("/")[0] != kind:
        raise RequestError(f"{kind}_url: data must begin with data:{kind}/NAME;base64,", param=f"{kind}_url.url")
    try:
        data = base64.b64decode(url[found.end() :], validate=True)
    except (binascii.Error, ValueError):
        raise RequestError(f"{kind}_url: the data is not base64", param=f"{kind}_url.url") from None
    if not data:
        raise RequestError(f"{kind}_url: the data is empty", param=f"{kind}_url.url")
    return data


def _refusal(url: str, kind: str, *, is_remote_allowed: bool) -> str:
    shown = printable(url[:200])
    if url.startswith(("https:", "http:")) and not is_remote_allowed:
        return f"{shown}: this server fetches nothing from the network: give a file: or data: URL"
    if url.startswith("http:"):
        return f"{shown}: only https is fetched"
    schemes = "file:, data: or https:" if is_remote_allowed else "file: or data:"
    return f"{kind}_url ({shown}) must be a {schemes} URL"
