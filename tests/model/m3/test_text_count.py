"""The tokens around a plan's frames, counted without a model, are those that the model then reads."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from m3video.model.m3 import checkpoint, inputs
from m3video.model.m3.model_paths import RENDERED_FOLDER
from m3video.model.m3.text_count import text_around


@pytest.mark.parametrize("timestamps", [True, False])
@pytest.mark.parametrize("times", [[], [0.0], [3.2, 67.9, 4000.0]])
def test_is_what_the_loaded_model_counts(loaded: checkpoint.LoadedModel, times: list[float], timestamps: bool) -> None:
    counted = text_around("rendered", times_seconds=times, timestamps=timestamps)
    assert counted == inputs.text_tokens(loaded, "", num_frames=len(times), times_seconds=times, timestamps=timestamps)


def test_times_cost_tokens() -> None:
    with_times, without = (text_around("rendered", times_seconds=[1, 2, 3], timestamps=t) for t in (True, False))
    assert with_times is not None
    assert without is not None
    assert with_times - without == 3


def test_a_model_that_is_not_here_is_not_counted(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(RENDERED_FOLDER, broken, ignore=shutil.ignore_patterns("*.safetensors"))
    assert text_around(str(broken), times_seconds=[1], timestamps=True) is not None
    (broken / "tokenizer.json").write_text("{}")
    for name in ("no/such-model", "no name/of-a-hub", "~nobody/x", str(tmp_path), str(tmp_path / "none"), str(broken)):
        assert text_around(name, times_seconds=[1], timestamps=True) is None


def test_the_prompt_style_has_its_former_name_in_older_folders(tmp_path: Path) -> None:
    shutil.copytree(RENDERED_FOLDER, tmp_path / "mine")
    config = tmp_path / "mine" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "prompt_style": "bundled"}))
    times = [1.0, 2.5]
    now, then = (text_around(str(name), times_seconds=times, timestamps=True) for name in ("rendered", config.parent))
    assert now == then is not None
    older = checkpoint.load(str(config.parent), device="cpu")
    assert older.config.prompt_style == "rendered"
    assert inputs.text_tokens(older, "", num_frames=2, times_seconds=times, timestamps=True) == now


def test_a_next_model_reads_one_more_token_per_frame(tmp_path: Path) -> None:
    shutil.copytree(RENDERED_FOLDER, tmp_path / "next", ignore=shutil.ignore_patterns("*.safetensors"))
    config = tmp_path / "next" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "use_image_newline": True}))
    plain, more = (
        text_around(name, times_seconds=[1, 2], timestamps=True) for name in ("rendered", str(tmp_path / "next"))
    )
    assert plain is not None
    assert more == plain + 2


def test_neither_torch_nor_transformers_is_loaded() -> None:
    code = (
        "import sys; from m3video.model.m3.text_count import text_around;"
        "assert text_around('rendered', times_seconds=[1], timestamps=True);"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
