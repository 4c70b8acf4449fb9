"""The cache folder: named arrays in safetensors files, addressed by everything that they were computed from.

An entry is found by its whole key, never by a file's name or date: the key contains everything that its numbers depend
on. What is read is checked against a digest of its bytes; a damaged file is reported, removed and computed again.
Writing is atomic, and two processes that make the same entry write the same numbers, so it is harmless that the last
one wins.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m3video.utils.files import replacing

VARIABLE = "M3VIDEO_CACHE_DIR"
KINDS = ("grids", "scans")
"""Kinds of entries: projected grids of frames, and first passes over videos. All can be evicted and computed again."""

MODELS = "models"
"""Folder of whole models that were put together here. The limit does not count them, and nothing evicts them: it would
pull a model from under its readers. Only emptying the cache removes them."""

MADE_FROM = "made_from.json"
"""In the folder of such a model: "name", and the "base" that it was made from."""

DECODERS = ("av", "decord", "torchcodec", "opencv-python-headless")
"""Libraries that a decoded picture may depend on; each backend takes its index and colours from others too."""

STALE_SECONDS = 3600
"""Unfinished files older than this were left by a process that died."""

_PACKAGE = Path(__file__).parents[1]
_SUFFIX = ".safetensors"

Key = Mapping[str, Any]
Arrays = dict[str, NDArray[Any]]


def cache_root() -> Path:
    """Return `M3VIDEO_CACHE_DIR`, else the folder `m3video` in the platform's folder for caches (XDG)."""
    folder = os.environ.get(VARIABLE)
    return Path(folder) if folder else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "m3video"


@dataclass(slots=True)
class Cache:
    """Entries below `root`, at most `most_bytes` of them after each `settle`.

    Attributes:
        root: the folder; created when the first entry is written.
        most_bytes: size limit; beyond it the least recently used entries are evicted.
        notes: one line for users for each thing that went wrong.
    """

    root: Path
    most_bytes: int
    notes: list[str] = field(default_factory=list)
    _is_writable: bool = True
    _has_grown: bool = False

    def load(self, kind: str, key: Key, name: str) -> Arrays | None:
        """Return the arrays stored under `key` and `name`, or None where there are none.

        Args:
            kind: one of `KINDS`.
            key: everything that the numbers depend on, but for `name`; JSON values.
            name: which of the entries that share `key`, e.g. a pts.
        """
        path = self._path(kind, key, name)
        try:
            stored = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            self._note(f"cache {self.root} cannot be read ({error.strerror}): what it holds is made again")
            return None
        # Mark as recently used, because not every file system records access. Another user's file cannot be marked.
        with contextlib.suppress(OSError):
            os.utime(path)
        arrays = _checked(stored, key, name)
        if arrays is None:
            self._note(f"cache {path} is damaged: {'removed and ' if self._remove(path) else ''}made again")
        return arrays

    def save(self, kind: str, key: Key, name: str, arrays: Arrays, *, about: Mapping[str, str]) -> None:
        """Store arrays; a folder that cannot be written adds a note and raises nothing.

        Args:
            kind, key, name: as for `load`.
            arrays: of any NumPy types that safetensors supports.
            about: description for `cache ls`; not part of the key.
        """
        from safetensors.numpy import save

        if not self._is_writable:
            return
        path = self._path(kind, key, name)
        contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        metadata = {**about, "key": _text(key), "name": name}
        metadata["digest"] = _digest(contiguous, metadata)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as part:
                part.write_bytes(save(contiguous, metadata))
            self._has_grown = True
        except OSError as error:
            self._is_writable = False
            self._note(f"cache {self.root} cannot be written ({error.strerror}): nothing is kept")

    def settle(self) -> None:
        """Trim the folder to its limit, if entries were added."""
        if self._has_grown:
            self.trim()
            self._has_grown = False

    def trim(self, most_bytes: int | None = None) -> tuple[int, int]:
        """Evict the least recently used entries beyond `most_bytes` (by default the cache's own limit).

        What cannot be removed adds a note.

        Returns:
            How many files were removed, and their bytes.
        """
        most = self.most_bytes if most_bytes is None else most_bytes
        entries = sorted(self._files(), key=lambda entry: entry[2], reverse=True)
        total = count = freed = 0
        for path, size, _ in entries:
            total += size
            if total > most and self._remove(path):
                count, freed = count + 1, freed + size
        for kind in KINDS:
            for folder in self._folders(kind):
                for part in folder.glob(".*.part"):
                    if _age(part) > STALE_SECONDS:
                        self._remove(part)
                if count and not any(folder.iterdir()):
                    # Another process may be writing a file there now.
                    _remove_empty(folder)
        return count, freed

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield a row for each folder of entries that share a key, for `cache ls`; the latest used first."""
        found: list[dict[str, Any]] = []
        for kind in KINDS:
            for folder in self._folders(kind):
                files = [(path, size, used) for path, size, used in self._files(kind) if path.parent == folder]
                if files:
                    found.append(
                        {
                            "kind": kind,
                            "files": len(files),
                            "bytes": sum(size for _, size, _ in files),
                            "used": max(used for _, _, used in files),
                            **_about(files[0][0]),
                            "folder": str(folder),
                        }
                    )
        found += self._models()
        yield from sorted(found, key=lambda row: row["used"], reverse=True)

    def remove_models(self) -> tuple[int, int]:
        """Remove the models that were put together here; they are made again when they are used.

        Returns:
            How many files were removed, and their bytes.
        """
        count = freed = 0
        for row in self._models():
            folder = Path(row["folder"])
            hidden = folder.with_name(f".{folder.name}.gone")
            try:
                folder.rename(hidden)  # nobody finds half of it
                shutil.rmtree(hidden)
            except OSError as error:
                self._note(f"cache {folder} cannot be removed ({error.strerror}): it stays")
                continue
            count, freed = count + row["files"], freed + row["bytes"]
        return count, freed

    def _models(self) -> list[dict[str, Any]]:
        """Return a row for each model, as in `rows`."""
        found = []
        for folder in self._folders(MODELS):
            if folder.name.startswith("."):
                continue
            try:
                made = json.loads((folder / MADE_FROM).read_text(encoding="utf-8"))
                sizes = [file.stat().st_size for file in folder.iterdir()]
                used = folder.stat().st_mtime
                about = {"name": str(made["name"]), "base": str(made["base"])}
            except (OSError, ValueError, KeyError, TypeError):
                continue  # it is being removed
            found.append({"kind": MODELS, "files": len(sizes), "bytes": sum(sizes), "used": used, **about})
            found[-1]["folder"] = str(folder)
        return found

    def _path(self, kind: str, key: Key, name: str) -> Path:
        assert kind in KINDS
        folder = hashlib.blake2b(_text(key).encode(), digest_size=12).hexdigest()
        return self.root / kind / folder / f"{name}{_SUFFIX}"

    def _folders(self, kind: str) -> list[Path]:
        try:
            return sorted(path for path in (self.root / kind).iterdir() if path.is_dir())
        except OSError:
            return []

    def _files(self, *kinds: str) -> Iterator[tuple[Path, int, float]]:
        """Yield (path, bytes, last use) of every entry; one that another process removes meanwhile is skipped."""
        for kind in kinds or KINDS:
            for folder in self._folders(kind):
                for path in folder.glob(f"[!.]*{_SUFFIX}"):
                    try:
                        status = path.stat()
                    except OSError:
                        continue
                    yield path, status.st_size, status.st_mtime

    def _remove(self, path: Path) -> bool:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            self._note(f"cache {self.root} holds files that cannot be removed ({error.strerror}): they stay")
            return False
        return True

    def _note(self, line: str) -> None:
        if line not in self.notes:
            self.notes.append(line)


def code_digest(*patterns: str) -> str:
    """Return a digest of source files of this package, so that cached numbers are computed again when the code changes.

    Args:
        patterns: relative to the package, e.g. "video/*.py". Each must match a file: a moved file would silently weaken
            the key.
    """
    return _code_digest(patterns)


@functools.cache
def _code_digest(patterns: tuple[str, ...]) -> str:
    seen = hashlib.blake2b(digest_size=12)
    found = {pattern: list(_PACKAGE.glob(pattern)) for pattern in patterns}
    assert all(found.values()), f"no file of the package matches {[name for name in found if not found[name]]}"
    for path in sorted({path for paths in found.values() for path in paths}):
        seen.update(str(path.relative_to(_PACKAGE)).encode() + b"\0" + path.read_bytes())
    return seen.hexdigest()


def versions(*packages: str) -> dict[str, str]:
    """Return the installed versions of `packages`; empty for one that is not installed."""
    found = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = ""
    return found


def _text(key: Key) -> str:
    return json.dumps(key, sort_keys=True)


def _digest(arrays: Arrays, metadata: Mapping[str, str]) -> str:
    seen = hashlib.blake2b(_text(metadata).encode(), digest_size=16)
    for name, array in sorted(arrays.items()):
        seen.update(f"{name} {array.dtype.str} {array.shape}".encode())
        seen.update(array.reshape(-1).view(np.uint8).data)
    return seen.hexdigest()


def _checked(stored: bytes, key: Key, name: str) -> Arrays | None:
    """Return the arrays of a file, or None when it is not, byte for byte, what was written for `key` and `name`."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        metadata, arrays = _header(stored), load(stored)
    except (SafetensorError, ValueError, KeyError, TypeError, UnicodeDecodeError):
        return None
    digest = metadata.pop("digest", None)
    is_whole = (metadata.get("key"), metadata.get("name"), digest) == (_text(key), name, _digest(arrays, metadata))
    return arrays if is_whole else None


def _header(stored: bytes) -> dict[str, str]:
    """Return the metadata in a safetensors file: eight bytes of length, then JSON."""
    length = int.from_bytes(stored[:8], "little")
    return dict(json.loads(stored[8 : 8 + length])["__metadata__"])


def _about(path: Path) -> dict[str, str]:
    """Return the description stored in a file, without its key; empty where it is damaged."""
    try:
        with path.open("rb") as stream:
            head = stream.read(8)
            metadata = _header(head + stream.read(min(int.from_bytes(head, "little"), 1 << 20)))
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {name: value for name, value in metadata.items() if name not in ("key", "name", "digest")}


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


def _remove_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        return
