"""Files that are complete or not there, never half; and small ones that remember what this machine measured."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name next to `path` to write to; it takes the place of `path` when the block ends well, else it is removed."""
    part = path.parent / f".{path.name}.{os.getpid()}-{threading.get_ident()}.part"
    try:
        yield part
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def remembered(file: Path, key: str) -> list[dict[str, Any]]:
    """What `remember` kept under `key`; a file that is missing or damaged holds nothing."""
    found = _memory(file).get(key, [])
    return found if isinstance(found, list) else []


def remember(file: Path, key: str, rows: Sequence[dict[str, Any]], *, most: int) -> None:
    """Keep the latest `most` of `rows` under `key`, beside what stands there under other keys.

    Raises:
        OSError: the file cannot be written.
    """
    held = {**_memory(file), key: list(rows)[-most:]}
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as part:
        part.write_text(json.dumps(held, indent=1), encoding="utf-8")


def _memory(file: Path) -> dict[str, Any]:
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return held if isinstance(held, dict) else {}
