"""Digests by which numbers, weights and settings are told apart."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def digest_of(pieces: Iterable[bytes | memoryview], *, size: int = 12) -> str:
    """Return a BLAKE2b digest of bytes, one piece after the other.

    Args:
        pieces: in order.
        size: bytes of the digest; twice as many hex digits are returned.
    """
    digest = hashlib.blake2b(digest_size=size)
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()
