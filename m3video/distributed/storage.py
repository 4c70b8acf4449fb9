"""The location of results: a folder, or a URL of any filesystem that fsspec knows.

What a kill can leave depends on the filesystem. A local or NFS folder has an atomic rename. S3, GCS and Azure have
neither rename nor append, but an object appears whole or not at all. SFTP, SMB or HDFS may keep half a file: a reader
must treat a torn file as missing.
"""

from __future__ import annotations

import contextlib
import functools
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from m3video.distributed.failures import one_line
from m3video.errors import DiskFullError, UsageError
from m3video.utils.files import replacing

T = TypeVar("T")
_URL = re.compile(r"[a-z][a-z0-9+.-]*(://|::)")
_BATCH_SIZE = 256
"""Small files that are read at once."""

_PAUSES = (1.0, 5.0)
"""Seconds before the second and the third try of a write."""


def local_folder(location: str) -> Path | None:
    """Return `location` as a folder of this machine, mounted ones included; None for a URL of anything else."""
    location = location.removeprefix("file://")
    return None if _URL.match(location) else Path(location)


@contextlib.contextmanager
def saving(folder: str, name: str) -> Iterator[Path]:
    """Yield a local path to write to; after the block the file becomes `name` in `folder`, a path or a URL."""
    local = local_folder(folder)
    if local is None:
        with tempfile.TemporaryDirectory(prefix="m3video-") as scratch:
            path = Path(scratch) / name
            yield path
            Store(folder).put_file(path, name)
        return
    local.mkdir(parents=True, exist_ok=True)
    for part in local.glob(".*.part"):  # of an earlier attempt
        part.unlink(missing_ok=True)
    with replacing(local / name) as part:
        yield part


class Store:
    """Files below one URL."""

    def __init__(self, url: str) -> None:
        """Args:
        url: of a folder, in the form of fsspec: `s3://bucket/out`, `gs://...`, `sftp://host/out`.

        Raises:
            UsageError: fsspec, or what it needs for this URL, is not installed; the URL means nothing, or names
                a store that other processes do not see.
        """
        self.url = url.rstrip("/")
        try:
            import fsspec
        except ImportError:
            raise UsageError(f'{url} needs fsspec: pip install "m3video[urls]", or give a folder') from None
        try:
            self.fs, self.root = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise UsageError(f"{url} cannot be used ({one_line(error)}): give a folder or another URL") from None
        if self.fs.protocol == "memory":
            raise UsageError(f"{url} ends with the process that writes to it: give a folder or another URL")

    def put(self, name: str, data: bytes) -> None:
        """Write a small file; raise DiskFullError when that fails three times."""
        self._write(name, lambda path: self.fs.pipe_file(path, data))

    def put_file(self, path: Path, name: str) -> None:
        """Copy a local file here; errors as for `put`."""
        self._write(name, lambda target: self.fs.put_file(str(path), target))

    def get(self, name: str) -> bytes | None:
        """Return the content of a file; None where there is no file."""
        data = self._read(lambda: self.fs.cat_file(f"{self.root}/{name}"))
        return None if data is None else bytes(data)

    def each(self, folder: str) -> Iterator[tuple[str, bytes]]:
        """Yield name and content of the files directly in a folder, sorted by name."""
        paths = sorted(self._read(lambda: self.fs.ls(f"{self.root}/{folder}", detail=False, refresh=True)) or [])
        for start in range(0, len(paths), _BATCH_SIZE):
            part = paths[start : start + _BATCH_SIZE]
            contents: dict[str, bytes] = self._read(functools.partial(self.fs.cat, part)) or {}
            yield from ((path.rpartition("/")[2], bytes(contents[path])) for path in part)

    def names(self) -> set[str]:
        """Return the names of files and folders directly below the URL."""
        paths = self._read(lambda: self.fs.ls(self.root, detail=False, refresh=True)) or []
        return {path.rstrip("/").rpartition("/")[2] for path in paths}

    def size(self, name: str) -> int | None:
        """Return the size of a file in bytes; None where there is no file."""
        self.fs.invalidate_cache()
        size = self._read(lambda: self.fs.size(f"{self.root}/{name}"))
        return None if size is None else int(size)

    def delete(self, name: str) -> None:
        """Remove a file, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            self.fs.rm_file(f"{self.root}/{name}")

    def _read(self, read: Callable[[], T]) -> T | None:
        """Return None for what does not exist; raise UsageError for what cannot be read."""
        try:
            return read()
        except FileNotFoundError:
            return None
        except Exception as error:  # every filesystem has its own
            reason = f"{type(error).__name__}: {one_line(error)[:200]}"
            raise UsageError(f"{self.url} cannot be read ({reason})") from error

    def _write(self, name: str, write: Callable[[str], T]) -> T:
        path = f"{self.root}/{name}"
        for pause in (*_PAUSES, None):
            try:
                self.fs.makedirs(path.rpartition("/")[0], exist_ok=True)
                return write(path)
            except Exception as error:  # every filesystem has its own
                if pause is None:
                    raise DiskFullError(
                        f"{self.url}/{name} cannot be written ({type(error).__name__}: {one_line(error)[:200]}): what "
                        "is finished is kept; run the same command again"
                    ) from error
                time.sleep(pause)
        raise AssertionError("the last try raises")
