"""`small`: the model for natural video. The first use writes it, base and shipped part merged, into the cache folder.

After that it is a converted folder like any other, and nothing else needs to know of its parts. Loads torch only to
write it.
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from m3video.errors import CheckpointError
from m3video.model.m3.small_base import BasePlace, OtherBaseError, base_of_hub, bases_here
from m3video.model.safetensors_headers import files_digest
from m3video.utils.cache import MODELS, STALE_SECONDS, VARIABLE
from m3video.utils.digest import digest_of
from m3video.utils.files import new_folder

SMALL = "small"
SMALL_FOLDER = Path(__file__).parents[2] / "assets" / "small"
_LAYOUT = 1
"""Counts up when the written folder changes, so that one of an older version is not taken."""


def prepare_small(cache: Path, *, part: Path | None = None) -> Path:
    """Return the folder of `small`, written first where it is not there yet (about ten seconds).

    Of several processes that need it at the same time one writes it and the others wait.

    Args:
        cache: the cache folder.
        part: what the package ships, see `small_part`; None is `SMALL_FOLDER`.

    Raises:
        CheckpointError: there is no base, or only another one, or the cache folder cannot be written.
    """
    part = part or SMALL_FOLDER
    found = find_prepared(cache, part=part)
    if found is not None:
        return found
    folder = cache / MODELS
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _one_at_a_time(folder):
            return find_prepared(cache, part=part) or _write(folder, part)
    except OSError as error:
        # Where files cannot be locked another process may have been first.
        if (found := find_prepared(cache, part=part)) is not None:
            return found
        raise CheckpointError(
            f"the model small cannot be written to {folder} ({error.strerror or error}); {VARIABLE} names another "
            "folder for the cache"
        ) from None


def find_prepared(cache: Path, *, part: Path | None = None) -> Path | None:
    """Return the folder that `prepare_small` wrote earlier; None where there is none for this part and named base.

    Raises:
        CheckpointError: the installation has no `small`, or the user names a base that is none.
    """
    key = _part_key(part or SMALL_FOLDER)
    written = sorted(path for path in (cache / MODELS).glob(f"{key}-*") if (path / "config.json").is_file())
    named = next((base for base in bases_here() if base.is_named), None)
    if named is not None:
        return next((path for path in written if path.name == f"{key}-{named.sample}"), None)
    if len(written) > 1:  # a base was named earlier
        names = [f"{key}-{base.sample}" for base in bases_here()]
        written.sort(key=lambda path: names.index(path.name) if path.name in names else len(names))
    return written[0] if written else None


def _part_key(part: Path) -> str:
    """Return the beginning of a written folder's name: it changes with the shipped part."""
    if not (part / "config.json").is_file():
        raise CheckpointError(f"{part} holds no model small in this installation; name another model")
    files = files_digest(file for file in sorted(part.iterdir()) if file.suffix != ".md")
    return f"{SMALL}-{digest_of([str(_LAYOUT).encode(), files.encode()])}"


def _write(folder: Path, part: Path) -> Path:
    """Write the whole model with the first base here that fits, or where there is none with the hub's."""
    _remove_unfinished(folder)
    refused: OtherBaseError | None = None
    for base in bases_here():
        try:
            return _write_with(base, folder, part)
        except OtherBaseError as error:
            refused = refused or error
    if refused is not None:
        raise refused
    return _write_with(base_of_hub(), folder, part)


def _write_with(base: BasePlace, folder: Path, part: Path) -> Path:
    # Loads torch, which takes seconds: not before there is something to write.
    from m3video.model.m3.small_part import write_whole

    out = folder / f"{_part_key(part)}-{base.sample}"
    with new_folder(out) as work:
        write_whole(part, base, work)
    return out


def _remove_unfinished(folder: Path) -> None:
    """Remove what processes left that died while they wrote."""
    for path in folder.glob(f".{SMALL}-*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Let one process in, the others after it; the lock ends with its process."""
    with (folder / ".lock").open("a") as lock:
        with contextlib.suppress(OSError):  # some network file systems have no locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
