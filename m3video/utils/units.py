"""Sizes in bytes as people write and read them."""

from __future__ import annotations

import re

MIB = 2**20
GIB = 2**30

_UNITS = {
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": 2**10,
    "MIB": MIB,
    "GIB": GIB,
    "TIB": 2**40,
}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?I?B)", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Parse `"8GiB"`, `"8 GB"` or `"512MiB"` to bytes.

    Raises:
        ValueError: anything else, a number without a unit included.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"size ({text}) must be a number with a unit, e.g. 8GiB, 8GB or 8192MiB, or auto")
    size = int(float(found[1]) * _UNITS[found[2].upper()])
    if size < 1:
        raise ValueError(f"size ({text}) must be more than 0")
    return size


def size_text(size: float, *, three_digits: bool = False) -> str:
    """Return bytes as people read them: `512 MiB`, `13.2 GiB`.

    Args:
        size: bytes.
        three_digits: three significant digits in any unit: `820 B`, `6.87 MiB`, `13.2 GiB`.
    """
    if three_digits:
        for unit in ("B", "KiB", "MiB"):
            if size < 1000:
                return f"{size:.3g} {unit}"
            size /= 1024
        return f"{size:.3g} GiB"
    return f"{size / GIB:.1f} GiB" if abs(size) >= GIB else f"{size / MIB:.0f} MiB"
