"""An answer as it is generated: pieces that add up to the whole text, and texts at which it ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence

UNFINISHED = "\ufffd"
"""What half a character decodes to."""


class TextStream:
    """Follows an answer and sends what will not change any more.

    Attributes:
        is_stopped: whether a stop text was met.
    """

    def __init__(self, stop: Sequence[str], send: Callable[[str], object]) -> None:
        """Args:
        stop: texts at which the answer ends, before them.
        send: takes the next piece.
        """
        self._stop, self._send, self._sent = tuple(stop), send, ""
        self.is_stopped = False

    def follow(self, text: str) -> bool:
        """Send what is new and sure in the text so far; return whether the answer goes on."""
        text = self._cut(text)
        sure = text.rstrip(UNFINISHED).rstrip()
        if not self.is_stopped:
            sure = sure[: len(sure) - max((_overlap(sure, stop) for stop in self._stop), default=0)]
        self._advance(sure)
        return not self.is_stopped

    def finish(self, text: str) -> str:
        """Send what is left of the whole text, and return it up to a stop text."""
        text = self._cut(text)
        self._advance(text)
        return text

    def _cut(self, text: str) -> str:
        places = [place for place in (text.find(stop) for stop in self._stop) if place >= 0]
        self.is_stopped |= bool(places)
        return text[: min(places)] if places else text

    def _advance(self, text: str) -> None:
        """Send what `text` has beyond what was sent. Text that was sent cannot be taken back: less of it is nothing."""
        if not text.startswith(self._sent):
            if self._sent.startswith(text):
                return
            # Memory ran out in the middle, and the answer was begun again from fewer tokens.
            raise ChangedTextError
        if len(text) > len(self._sent):
            self._send(text[len(self._sent) :])
            self._sent = text


class ChangedTextError(Exception):
    """The answer was generated anew, and differs from what was sent."""


def _overlap(text: str, stop: str) -> int:
    """Return how many characters at the end of `text` may be the beginning of `stop`."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
