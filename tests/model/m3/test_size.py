"""Sizes read from configs and headers: equal to the loaded model's, without reading a weight or importing torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from m3video.errors import CheckpointError
from m3video.model.m3.checkpoint import load
from m3video.model.m3.model_paths import RENDERED_FOLDER
from m3video.model.m3.size import read_size
from m3video.model.safetensors_headers import read_header
from tests.model.tiny import save_original, save_tiny


def test_the_rendered_model_is_counted_without_torch_and_without_its_weights(tmp_path: Path) -> None:
    """In a child process, and from a copy of which only the header is left."""
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((RENDERED_FOLDER / name).read_bytes())
    weights = (RENDERED_FOLDER / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(weights[: 8 + int.from_bytes(weights[:8], "little")])
    script = (
        "import sys; from m3video.config import Settings; from m3video.inference.memory.fit import fit_settings;"
        f"fit = fit_settings(Settings(memory='2GiB', device='cpu', model={str(tmp_path)!r}));"
        "print(fit.size.params, fit.size.context, sorted({'torch', 'transformers', 'safetensors'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    model = load("rendered", device="cpu")
    params = sum(parameter.numel() for parameter in model.model.parameters())
    assert done.stdout.strip() == f"{params} {model.context} []"


@pytest.mark.parametrize("layout", ["converted", "apart", "inside", "bin", "anyres"])
def test_every_layout_is_counted_as_it_loads(layout: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    if layout in ("converted", "anyres"):
        anyres = {"use_image_newline": True, "image_aspect_ratio": "anyres", "image_grid_pinpoints": [[336, 672]]}
        save_tiny(folder, **(anyres if layout == "anyres" else {}))
    else:
        save_original(folder, inside=layout == "inside", as_bin=layout == "bin")
    if layout == "inside":
        save_original(tmp_path / "other")  # its tower tells the number of heads, which loading needs
    size, loaded = read_size(str(folder)), load(str(folder), device="cpu")
    parameters = dict(loaded.model.named_parameters())
    assert size.params == sum(parameter.numel() for parameter in parameters.values())
    assert size.tower_params == sum(p.numel() for name, p in parameters.items() if "vision_tower" in name)
    assert size.projector_params == sum(p.numel() for name, p in parameters.items() if "projector" in name)
    linear = [p for name, p in parameters.items() if "_proj.weight" in name and "language_model" in name]
    assert size.linear_params == sum(p.numel() for p in linear)
    assert size.linear_rows == sum(len(p) for p in linear)
    assert size.largest_linear == max(p.numel() for p in linear)
    assert (size.context, size.newlines) == (loaded.context, layout == "anyres")
    assert bool(size.notes) == (layout == "bin")


def test_a_config_alone_tells_the_7b_model(tmp_path: Path) -> None:
    """As a hub name whose weights were not fetched: the original config, and the tower that it always has."""
    config = {
        "model_type": "llava_llama",
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "vocab_size": 32000,
        "mm_hidden_size": 1024,
        "max_position_embeddings": 4096,
        "tokenizer_model_max_length": 2048,
        "torch_dtype": "float16",
        "mm_projector_type": "mlp2x_gelu",
        "mm_vision_tower": "openai/no-such-tower",
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    size = read_size(str(tmp_path))
    # LLaVA-1.5-7B has 7.06 billion parameters, 304 million of them in CLIP-L/14 at 336 pixels.
    assert size.params == pytest.approx(7.06e9, rel=0.001)
    assert size.tower_params == pytest.approx(304e6, rel=0.002)
    assert (size.context, size.stored_dtype, size.tower_places) == (2048, "float16", 577)
    assert len(size.notes) == 2
    llava_hf = {
        "model_type": "llava",
        "text_config": {"vocab_size": 32000},
        "vision_config": {
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "image_size": 336,
            "patch_size": 14,
        },
    }
    (tmp_path / "config.json").write_text(json.dumps(llava_hf))
    assert read_size(str(tmp_path)).params == size.params


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "is not JSON"),
        ('{"model_type": "bert"}', "model_type (bert)"),
        ('{"model_type": "llava", "text_config": {"hidden_size": "wide"}}', 'text_config.hidden_size ("wide")'),
        ('{"model_type": "llava", "text_config": 3}', "text_config (3)"),
    ],
)
def test_what_is_no_model_is_refused_in_one_line(config: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(CheckpointError) as error:
        read_size(str(tmp_path))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "data",
    [b"", b"\x00" * 4, b"\xff" * 16, b"\x02\x00\x00\x00\x00\x00\x00\x00[]", b"\x10\x00\x00\x00\x00\x00\x00\x00{}"],
)
def test_damaged_headers_are_reported(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(data)
    with pytest.raises(CheckpointError, match="damaged or cut off"):
        read_header(tmp_path / "model.safetensors")


def test_a_hub_name_offline_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match=r"model \(nobody/nothing\) is no folder here, not in the cache"):
        read_size("nobody/nothing")
