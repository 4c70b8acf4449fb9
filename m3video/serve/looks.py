"""First passes for the page: made in the background, one at a time, with progress; what they found is kept."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from m3video.config import Settings
from m3video.serve.decoding import Looked, look
from m3video.serve.errors import RequestError
from m3video.serve.jobs import Jobs, JobState
from m3video.utils.text import printable
from m3video.video.path_checks import Identity, check_file

KEPT_BYTES = 512 * 2**20
"""Stats that are kept in memory, about; the latest are kept however large they are."""

BYTES_OF_A_ROW = 450
"""What `FrameStats` holds of one frame, about."""


class Looks:
    """The first passes of the folder's videos."""

    def __init__(self, settings: Settings, *, on_ready: Callable[[str], Any]) -> None:
        """Nothing is read yet.

        Args:
            settings: name the decoder and the scan.
            on_ready: called with the path of each video whose pass has ended.
        """
        self._settings, self._on_ready = settings, on_ready
        self._lock = threading.Lock()
        self._kept: OrderedDict[Identity, Looked] = OrderedDict()
        self._jobs = Jobs(look, first_stage="reading its packets", on_found=self._keep)

    def start(self, path: str) -> JobState:
        """Start the first pass of a file if none was made, and return how far it is.

        Raises:
            VideoError: the file is no readable video, or the pass that was started before has failed.
            RequestError: 429, too many are waiting.
        """
        key = check_file(path).identity
        with self._lock:
            if key in self._kept:
                return JobState("ready")
        return self._jobs.start(path, lambda: (self._settings,))

    def found(self, path: str) -> Looked:
        """Return what the first pass found.

        Raises:
            VideoError: the file is no readable video.
            RequestError: 409, the file as it is now was not looked at.
        """
        key = check_file(path).identity
        with self._lock:
            if key not in self._kept:
                raise RequestError(
                    f"{printable(path)} was not looked at since the server started or the file changed: look first",
                    status=409,
                    code="not_looked_at",
                )
            self._kept.move_to_end(key)
            return self._kept[key]

    def cancel(self, path: str) -> None:
        """End the first pass of a file, if there is one that waits or runs."""
        self._jobs.cancel(path)

    def close(self) -> None:
        """End all first passes."""
        self._jobs.close()

    def _keep(self, key: Identity, path: str, found: Looked) -> None:
        self._on_ready(path)
        with self._lock:
            self._kept[key] = found
            while len(self._kept) > 1 and self._num_rows() * BYTES_OF_A_ROW > KEPT_BYTES:
                self._kept.popitem(last=False)

    def _num_rows(self) -> int:
        return sum(len(one.stats) for one in self._kept.values())
