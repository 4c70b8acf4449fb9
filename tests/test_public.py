"""The public face: `import m3video` is light, and each public name comes from where it is made."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import m3video

SCRIPT = """
import json, sys
import m3video
light = sorted({"torch", "cv2", "numpy", "av", "pydantic", "transformers", "ray"} & set(sys.modules))
told = {name: str(getattr(m3video, name)) for name in m3video.__all__ if name != "load_model"}
after = sorted({"torch", "ray"} & set(sys.modules))
print(json.dumps([light, told, after]))
"""


def test_import_loads_nothing_heavy_and_names_load_when_used() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    light, found, after = json.loads(done.stdout)
    assert light == []
    assert found["ask"].startswith("<function ask")
    assert found["Settings"] == "<class 'm3video.config.Settings'>"
    assert after == [], "planning a video needs no torch"


def test_every_public_name_is_listed_and_there() -> None:
    assert set(m3video.__all__) <= set(dir(m3video))
    assert all(getattr(m3video, name) is not None for name in m3video.__all__)


def test_another_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'answer'"):
        m3video.answer  # noqa: B018
