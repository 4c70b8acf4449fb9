"""The model of a batch that names none: decided when its output is begun, and kept there for every later start.

Else a batch that is resumed on a machine where another model is installed would do all of its items again.
"""

from __future__ import annotations

import json

from m3video.config import ANY_MODEL, Settings
from m3video.distributed.storage import Store, local_folder, saving
from m3video.errors import DiskFullError
from m3video.model.m3.default_model import RENDERED, with_model
from m3video.model.m3.small import SMALL

NAME = "model.json"
"""In the folder or at the URL of the batch: `{"model": "small"}`."""


def decide_for_batch(settings: Settings, output: str) -> tuple[Settings, tuple[str, ...]]:
    """Return settings that name the model of a batch, and notes; nothing is written.

    Args:
        settings: resolved, but for the model.
        output: folder or URL of the batch; it need not exist.

    Raises:
        CheckpointError: as for `decide_model`.
    """
    found, decided = with_model(settings)
    if settings.model != ANY_MODEL:
        return found, decided.notes
    kept = kept_model(output)
    if kept in (None, decided.name):
        return found, decided.notes
    note = f"this batch began with the model {kept} and goes on with it; --model {decided.name} begins anew"
    return settings.model_copy(update={"model": kept}), (note,)


def kept_model(output: str) -> str | None:
    """Return the model that was decided for a batch; None where none was, or the file was torn by a kill."""
    folder = local_folder(output)
    try:
        data = Store(output).get(NAME) if folder is None else (folder / NAME).read_bytes()
        name = json.loads(data or b"null")["model"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return name if name in (SMALL, RENDERED) else None


def keep_model(output: str, name: str) -> None:
    """Write down which model was decided; the batch there must have been begun, see `Ledger`.

    Raises:
        DiskFullError: it cannot be written.
    """
    if kept_model(output) is not None:
        return
    try:
        with saving(output, NAME) as path:
            path.write_text(json.dumps({"model": name}) + "\n", encoding="utf-8")
    except OSError as error:
        raise DiskFullError(f"{output}/{NAME} cannot be written ({error.strerror}): make room") from error
