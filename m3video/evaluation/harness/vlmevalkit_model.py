"""m3video as a model of VLMEvalKit, which has no plug-ins: see docs/benchmarks.md for its entry in `supported_VLM`.

Source: VLMEvalKit 0.2rc1, `vlmeval/vlm/base.py`: messages are `{type: "video" | "image" | "text", value}`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vlmeval.vlm.base import BaseModel

from m3video.config import load_settings
from m3video.evaluation.harness.messages import OpenVideos, video_question
from m3video.model.m3 import checkpoint
from m3video.model.m3.default_model import with_model


class M3Video(BaseModel):
    """Answers each message within the token budget; greedy."""

    INSTALL_REQ = False
    INTERLEAVE = False
    VIDEO_LLM = True

    def __init__(self, **settings: Any) -> None:
        """Load the model.

        Args:
            settings: any of `Settings`, e.g. `model="small", budget=720`.

        Raises:
            UsageError: an unknown setting, or a wrong value.
            CheckpointError: the model cannot be loaded.
        """
        super().__init__()
        decided, _ = with_model(load_settings(settings))
        loaded = checkpoint.load(decided.model, device=decided.device, dtype=decided.dtype)
        self._videos = OpenVideos(decided, loaded)

    def generate_inner(self, message: Sequence[dict[str, Any]], dataset: str | None = None) -> str:
        """Answer one message.

        Args:
            message: parts with one video and a text.
            dataset: its name; prompts are those that VLMEvalKit makes.

        Raises:
            M3VideoError: the message is no question about one video, or it cannot be answered.
        """
        names = {"video": "url", "text": "text"}
        parts = [{"type": part["type"], names.get(part["type"], "value"): part["value"]} for part in message]
        return self._videos.ask(video_question(parts)).text
