"""What a checkpoint folder shows without loading weights: JSON files, shards, safetensors headers. Loads no torch."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from m3video.errors import CheckpointError
from m3video.utils.digest import digest_of
from m3video.utils.text import first_line

WEIGHTS = ("model.safetensors.index.json", "model.safetensors", "pytorch_model.bin.index.json", "pytorch_model.bin")
"""A folder with a whole model has one of these; the first one found is read."""

_SAMPLES, _SAMPLE_BYTES = 16, 65536
"""Pieces of each file of weights that its digest reads, and their size."""

LONGEST_HEADER = 100 * 2**20
"""Most bytes of a valid header (safetensors' own limit)."""


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file; raise CheckpointError, in one line, where it is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or first_line(error)}") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON: {first_line(error)}") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} must hold a JSON object")
    return value


def weight_files(folder: Path) -> list[Path]:
    """Return the files with a folder's weights: safetensors before bin, shards by their index.

    Raises:
        CheckpointError: there are no weights, or a shard that the index names is missing.
    """
    for name in WEIGHTS:
        if not (folder / name).is_file():
            continue
        if not name.endswith(".json"):
            return [folder / name]
        weight_map = read_json(folder / name).get("weight_map")
        if not isinstance(weight_map, dict):
            raise CheckpointError(f"{folder / name} has no weight_map")
        shards = sorted({str(shard) for shard in weight_map.values()})
        missing = [shard for shard in shards if not (folder / shard).is_file()]
        if missing or not shards:
            raise CheckpointError(f"{folder}: {name} names {missing[0] if missing else 'no file'}, which is missing")
        return [folder / shard for shard in shards]
    raise CheckpointError(
        f"{folder} holds no weights: model.safetensors, pytorch_model.bin or the shards of either are needed"
    )


def read_header(path: Path) -> dict[str, tuple[int, ...]]:
    """Read the names and shapes of the tensors in a safetensors file, without reading a tensor.

    Raises:
        CheckpointError: the file is damaged or cut off within its header.

    Source: the safetensors format: 8 bytes little-endian length, then that much JSON.
    """
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > LONGEST_HEADER:
                raise ValueError(f"its header claims {length} bytes")
            text = file.read(length)
            if len(text) < length:
                raise ValueError(f"its header has {len(text)} of {length} bytes")
            entries = json.loads(text)
        return {
            str(name): tuple(int(side) for side in entry["shape"])
            for name, entry in entries.items()
            if name != "__metadata__"
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise CheckpointError(f"{path} is damaged or cut off: {first_line(error)}") from None


def weights_digest(folder: Path) -> str:
    """Return a digest of a folder's config and of samples of its weights: reads a megabyte, not 14 GB."""
    files = sorted(folder.iterdir())
    return files_digest(file for file in files if file.suffix in (".safetensors", ".bin") or file.name == "config.json")


def files_digest(files: Iterable[Path]) -> str:
    """Return a digest of the names, the sizes and samples of files, a megabyte of each at most."""
    return digest_of(piece for file in files for piece in _samples(file))


def _samples(file: Path) -> Iterator[bytes]:
    size = file.stat().st_size
    yield f"{file.name} {size}".encode()
    with file.open("rb") as stream:
        for number in range(_SAMPLES):
            stream.seek(size * number // _SAMPLES)
            yield stream.read(_SAMPLE_BYTES)
