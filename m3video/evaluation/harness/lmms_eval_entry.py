"""What lmms-eval finds through the entry point `lmms_eval.models`: the name `m3video` and where its class is."""

from __future__ import annotations

from typing import Any


def manifest() -> Any:
    """Return the `ModelManifest` of lmms-eval (0.7): a chat model named `m3video`."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id="m3video", chat_class_path="m3video.evaluation.harness.lmms_eval_model.LmmsEvalModel")
