"""Atomic writing of files and folders, and small JSON files that store measurements of this machine."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

RECIPE_FILE = "recipe.json"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` when the block succeeds, and is removed when it fails.

    A link stays, and the file that it leads to is replaced. A device or a pipe (/dev/stdout) stays too and receives the
    bytes at the end.

    Raises:
        OSError: `path` cannot be written.
    """
    stream = _own_stream(path)
    if stream is not None or (path.exists() and not path.is_file() and not path.is_dir()):
        with tempfile.TemporaryDirectory(prefix="m3video-") as folder:
            part = Path(folder) / "part"
            yield part
            with part.open("rb") as source, open(path if stream is None else os.dup(stream), "wb") as file:
                shutil.copyfileobj(source, file)
        return
    target = Path(os.path.realpath(path))
    part = target.parent / f".{target.name}.{os.getpid()}-{threading.get_ident()}.part"
    try:
        yield part
        os.replace(part, target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `folder` when the block succeeds, and is removed when it fails.

    Folders above are made; `folder` itself must not exist yet, or be empty.

    Raises:
        OSError: it cannot be written, or is not empty.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield work
        # Temporary folders, and files that safetensors writes, are readable by their owner only.
        work.chmod(0o755)
        for file in work.iterdir():
            file.chmod(0o644)
        if folder.is_dir():
            folder.rmdir()
        work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _own_stream(path: Path) -> int | None:
    """Return the descriptor of our stdout or stderr where `path` is a link to it.

    The target may be a regular file: if it were replaced or opened again, later output would be lost or overwrite it.
    """
    if path.is_symlink() and path.exists():
        for stream in (1, 2):
            try:
                if os.path.samestat(path.stat(), os.fstat(stream)):
                    return stream
            except OSError:  # it is closed
                continue
    return None


def prepare_folder(
    folder: Path, recipe: Mapping[str, Any], *, resume: bool, check: Callable[[dict[str, Any]], None]
) -> None:
    """Make a folder for what `recipe` makes, or check that the one that is there may be gone on with.

    Args:
        folder: its recipe.json marks it and is written anew.
        recipe: JSON values.
        resume: False to start over: a marked folder is removed first.
        check: called with the recipe that the folder was made with; it raises where that is another one.
    """
    path = folder / RECIPE_FILE
    if not resume and path.exists():
        # Only a folder that is marked is ever removed.
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if path.exists():
        check(json.loads(path.read_text(encoding="utf-8")))
    with replacing(path) as part:
        part.write_text(json.dumps(recipe, indent=2) + "\n", encoding="utf-8")


def remembered(file: Path, key: str) -> list[dict[str, Any]]:
    """Return what `remember` stored under `key`; nothing where the file is missing or damaged."""
    found = _entries(file).get(key, [])
    return found if isinstance(found, list) else []


def remember(file: Path, key: str, rows: Sequence[dict[str, Any]], *, most: int) -> None:
    """Store the latest `most` of `rows` under `key`, beside the entries of other keys.

    Raises:
        OSError: the file cannot be written.
    """
    entries = {**_entries(file), key: list(rows)[-most:]}
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as part:
        part.write_text(json.dumps(entries, indent=1), encoding="utf-8")


def _entries(file: Path) -> dict[str, Any]:
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return entries if isinstance(entries, dict) else {}
