"""Every key that is read from a model's JSON files has a rule; a value against it is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.activations import ACT2FN

from m3video.errors import CheckpointError
from m3video.model.m3 import checkpoint
from m3video.model.m3.config_rules import ACTIVATIONS, CONVERTED_ONLY
from m3video.model.m3.model_paths import find_model
from m3video.model.m3.modeling import PROMPT_STYLES
from m3video.model.m3.size import read_size
from tests.model.m3.layouts import GONE

pytestmark = pytest.mark.usefixtures("offline")

ANYRES = {"image_aspect_ratio": "anyres", "use_image_newline": True, "image_grid_pinpoints": [[336, 672]]}


# Layout, key, wrong value, and what the line says after "key (value) must be".
WRONG: list[tuple[str, str, Any, str]] = [
    # The reported ones.
    ("converted", "vision_feature_layer", -9, "a whole number from -2 to 2"),
    ("converted", "text_config.hidden_act", "swiglu", '"silu"'),
    ("converted", "prompt_style", "llama3", '"vicuna_v1"'),
    ("converted", "max_context", "8192", "a whole number from 1"),
    ("original", "mm_vision_select_layer", -9, "a whole number from -2 to 2"),
    ("original", "mm_use_im_start_end", True, "null or false"),
    ("original", "mm_vision_select_feature", "cls_patch", 'null or "patch"'),
    ("llava", "vision_feature_select_strategy", "full", '"default"'),
    # Another type: text, null, a list, an object, true, a fraction.
    ("converted", "max_context", None, "a whole number"),
    ("converted", "max_context", True, "a whole number"),
    ("converted", "max_context", 8192.5, "a whole number"),
    ("converted", "max_context", [8192], "a whole number"),
    ("converted", "max_context", {}, "a whole number"),
    ("converted", "vision_feature_layer", "-2", "a whole number"),
    ("converted", "vision_feature_layer", None, "a whole number"),
    ("converted", "vision_feature_layer", [-2, -1], "a whole number"),
    ("converted", "vision_feature_layer", True, "a whole number"),
    ("converted", "use_image_newline", "false", "true or false"),
    ("converted", "use_image_newline", 0, "true or false"),
    ("converted", "m3_trained", None, "true or false"),
    ("converted", "origin", 7, "text"),
    ("converted", "text_config", 3, "null or an object"),
    ("converted", "vision_config", [], "null or an object"),
    ("converted", "dtype", "fp16", "null or one of float32"),
    ("converted", "dtype", 16, "null or one of float32"),
    ("original", "torch_dtype", ["float16"], "null or one of float32"),
    ("original", "hidden_size", "16", "a whole number"),
    ("original", "hidden_size", None, "a whole number"),
    ("original", "num_hidden_layers", 2.0, "a whole number"),
    ("original", "vocab_size", [1], "a whole number"),
    ("original", "tokenizer_model_max_length", "2048", "null or a whole number"),
    ("original", "unfreeze_mm_vision_tower", "no", "null or true or false"),
    ("original", "mm_vision_tower", 5, "null or text"),
    ("original", "rope_theta", "1e4", "a number above 0"),
    ("original", "rope_theta", None, "a number above 0"),
    ("original", "rope_scaling", "linear", "null or an object"),
    ("original", "rope_scaling", 2, "null or an object"),
    ("llava", "text_config.attention_bias", "yes", "true or false"),
    ("llava", "text_config.hidden_act", None, '"silu"'),
    ("llava", "text_config.eos_token_id", "2", "null, a whole number"),
    ("llava", "image_token_index", "4", "a whole number"),
    ("llava", "multimodal_projector_bias", None, "true or false"),
    ("llava", "image_seq_length", "many", "a whole number"),
    ("llava", "vision_config.initializer_range", 0, "a number from 0.0 to 1.0 with a point"),
    ("tower", "vision_config", 3, "an object"),
    ("tower", "vision_config.hidden_act", 1, '"silu"'),
    ("tower", "vision_config.dtype", 0, "null or one of float32"),
    ("llava", "text_config.torch_dtype", "half", "null or one of float32"),
    # Out of range.
    ("converted", "max_context", 0, "a whole number from 1"),
    ("converted", "max_context", -1, "a whole number from 1"),
    ("converted", "image_token_index", -200, "a whole number from 0"),
    ("converted", "vision_feature_layer", -3, "a whole number from -2 to 2"),
    ("original", "mm_vision_select_layer", 0, "a whole number from -2 to 2"),
    ("converted", "vision_feature_layer", 3, "a whole number from -2 to 2"),
    ("original", "mm_vision_select_layer", 3, "a whole number from -2 to 2"),
    ("original", "mm_vision_select_layer", "-2", "a whole number"),
    ("original", "hidden_size", 0, "a whole number from 1"),
    ("original", "intermediate_size", -16, "a whole number from 1"),
    ("original", "num_hidden_layers", 10**9, "a whole number from 1 to 1000"),
    ("original", "vocab_size", 10**30, "a whole number from 1"),
    ("original", "num_attention_heads", 0, "a whole number from 1"),
    ("original", "rms_norm_eps", -1e-6, "a number above 0"),
    ("original", "rms_norm_eps", float("nan"), "a number above 0"),
    ("original", "rope_theta", 10**30, "a number above 0 and below 1e12"),
    ("original", "rope_theta", float("inf"), "a number above 0"),
    ("original", "mm_hidden_size", 1024, "16, the width of its vision tower"),
    ("llava", "text_config.attention_dropout", 1.5, "null or a number from 0 to 1"),
    ("tower", "vision_config.num_hidden_layers", 0, "a whole number from 1"),
    ("tower", "vision_config.image_size", 224, "336: M3 pools 24x24 patches"),
    ("tower", "vision_config.patch_size", 16, "14: M3 pools 24x24 patches"),
    ("tower", "vision_config.layer_norm_eps", 0, "a number above 0"),
    ("tower", "vision_config.num_channels", 1, "3"),
    ("original", "pad_token_id", 10**6, "a token below vocab_size"),
    # No such thing.
    ("converted", "image_aspect_ratio", "anyres_max_9", '"pad" or "anyres"'),
    ("converted", "token_scales", [1, 9, 100], "a list of some of 1, 9, 36, 144, 576"),
    ("converted", "token_scales", "all", "a list of some of"),
    ("converted", "model_type", "bert", "m3video"),
    ("converted", "model_type", 5, "m3video"),
    ("converted", "projector_hidden_act", "swiglu", '"silu"'),
    ("original", "mm_projector_type", "linear", "mlp2x_gelu"),
    ("original", "mm_patch_merge_type", "maxpool2x2", 'null or "flat"'),
    ("original", "image_aspect_ratio", "highres", 'null or "pad"'),
    ("llava", "text_config.model_type", "gpt9", '"llama"'),
    ("llava", "vision_config.model_type", "siglip_vision_model", '"clip_vision_model"'),
    ("llava", "quantization_config", {"quant_method": "awq"}, "left out"),
]

# Layout, changes, and the line after the file's name.
BROKEN: list[tuple[str, dict[str, Any], str]] = [
    ("original", {"vocab_size": GONE}, "vocab_size is missing: it must be a whole number"),
    ("original", {"mm_projector_type": GONE}, "mm_projector_type is missing: it must be mlp2x_gelu"),
    ("original", {"mm_hidden_size": GONE}, "mm_hidden_size is missing"),
    ("original", {"model_type": GONE}, "model_type (null) must be"),
    ("tower", {"vision_config.image_size": GONE}, "vision_config.image_size is missing: it must be 336"),
    ("original", {"rope_scaling": {"type": "bogus"}}, 'rope_scaling.type ("bogus") must be "default", "linear"'),
    ("original", {"rope_scaling": {"type": ["linear"]}}, 'rope_scaling.type (["linear"]) must be "default"'),
    ("original", {"rope_scaling": {"type": "linear"}}, "rope_scaling.factor is missing"),
    ("original", {"rope_scaling": {"type": "linear", "factor": "4"}}, 'rope_scaling.factor ("4") must be a number'),
    ("original", {"rope_scaling": {"rope_type": "llama3", "factor": 8}}, "rope_scaling.low_freq_factor is missing"),
    ("original", {"num_attention_heads": 3}, "num_attention_heads (3) must divide hidden_size (16)"),
    ("original", {"num_attention_heads": 16}, "num_attention_heads (16) must leave each head an even number of"),
    ("original", {"num_key_value_heads": 3}, "num_key_value_heads (3) must divide num_attention_heads (2)"),
    ("llava", {"text_config.num_attention_heads": 5}, "text_config.num_attention_heads (5) must divide"),
    ("converted", {**ANYRES, "image_grid_pinpoints": None}, "image_grid_pinpoints (null) must be pairs of sides"),
    ("converted", {**ANYRES, "image_grid_pinpoints": [[336, 500]]}, "image_grid_pinpoints ([[336, 500]]) must be"),
    ("converted", {**ANYRES, "image_grid_pinpoints": [336, 672]}, "image_grid_pinpoints ([336, 672]) must be"),
    ("converted", {**ANYRES, "use_image_newline": False}, "use_image_newline (false) must be true"),
    ("original", {"image_aspect_ratio": "anyres"}, 'mm_patch_merge_type ("flat") must be "spatial_unpad"'),
    (
        "original",
        {
            "image_aspect_ratio": "anyres",
            "mm_patch_merge_type": "spatial_unpad",
            "image_grid_pinpoints": "os.system('x')",
        },
        "image_grid_pinpoints",
    ),
]


def refusals(model: Path) -> list[str]:
    """What the checks before torch, of sizes, and of loading say."""
    said = []
    for use in (find_model, read_size, lambda name: checkpoint.load(name, device="cpu")):
        with pytest.raises(CheckpointError) as error:
            use(str(model))  # type: ignore[operator]
        said.append(str(error.value))
    return said


@pytest.mark.parametrize(("layout", "key", "value", "rule"), WRONG)
def test_a_value_against_its_rule_is_reported_with_its_key(
    layout: str, key: str, value: Any, rule: str, edited: Any
) -> None:
    said = refusals(edited(layout, {key: value}))
    assert set(said) == {said[0]}
    assert f"config.json: {key} ({value if value == 'bert' else json.dumps(value)}) must be {rule}" in said[0]
    assert "\n" not in said[0]
    assert len(said[0]) < 500


@pytest.mark.parametrize(("layout", "changes", "line"), BROKEN)
def test_a_config_that_is_none_is_reported(layout: str, changes: dict[str, Any], line: str, edited: Any) -> None:
    said = refusals(edited(layout, changes))
    assert set(said) == {said[0]}
    assert f"config.json: {line}" in said[0]
    assert "\n" not in said[0]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"[]", "must hold a JSON object"),
        (b"7", "JSON object"),
        (b"null", "JSON object"),
        (b'"m3video"', "JSON object"),
        (b'{"model_type": "m3vid\xe9o"}', "is not JSON"),
        ("{}".encode("utf-16"), "is not JSON"),
        (b"\xef\xbb\xbf{}", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"{}", "model_type (null)"),
        (b'{"max_context": 1}', "model_type (null)"),
    ],
)
def test_what_is_no_json_object_is_reported(content: bytes, line: str, folders: dict[str, Path], edited: Any) -> None:
    (folders["converted"] / "config.json").write_bytes(content)
    said = refusals(folders["converted"])
    assert set(said) == {said[0]}
    assert line in said[0]
    assert "\n" not in said[0]


@pytest.mark.parametrize(
    ("layout", "changes"),
    [
        # As the released configs have it.
        (
            "original",
            {
                "mm_use_im_start_end": False,
                "mm_use_im_patch_token": False,
                "mm_vision_select_feature": "patch",
                "rope_scaling": None,
                "mm_projector_lr": None,
                "tune_mm_mlp_adapter": False,
                "pad_token_id": 0,
                "torch_dtype": "float16",
                "attention_bias": False,
                "pretraining_tp": 1,
                "use_cache": True,
                "image_grid_pinpoints": "[(336, 672)]",
                "tokenizer_padding_side": "right",
            },
        ),
        ("original", {"pad_token_id": -1, "tokenizer_model_max_length": 10**30, "mm_use_im_patch_token": True}),
        ("original", {"mm_vision_select_layer": 1, "image_aspect_ratio": None, "mm_use_im_start_end": None}),
        ("original", {"mm_patch_merge_type": None, "num_key_value_heads": None, "torch_dtype": None}),
        ("original", {"rope_scaling": {"type": "linear", "factor": 4.0}, "rope_theta": 500000.0}),
        ("llava", {"text_config.eos_token_id": [1, 2], "text_config.num_key_value_heads": None}),
        ("llava", {"vision_feature_layer": 1, "transformers_version": 4, "text_config.problem_type": None}),
        ("llava", {"vision_feature_layer": -2, "text_config.head_dim": None, "torch_dtype": "torch.bfloat16"}),
        ("converted", {"token_scales": [576], "max_context": 64, "origin": "", "image_grid_pinpoints": None}),
        ("tower", {"vision_config.projection_dim": 7, "text_config": "not read"}),
    ],
)
def test_what_is_right_loads(layout: str, changes: dict[str, Any], edited: Any) -> None:
    model = str(edited(layout, changes))
    size, loaded = read_size(model), checkpoint.load(model, device="cpu")
    assert size.params == sum(parameter.numel() for parameter in loaded.model.parameters())
    assert size.context == loaded.context


def test_a_scaled_rotation_keeps_its_base(edited: Any) -> None:
    model = edited("original", {"rope_scaling": {"type": "linear", "factor": 4.0}, "rope_theta": 500000.0})
    rope = checkpoint.load(str(model), device="cpu").config.text_config.rope_parameters
    assert (rope["rope_type"], rope["factor"], rope["rope_theta"]) == ("linear", 4.0, 500000.0)


def test_pictures_cut_to_a_square_are_noted(edited: Any) -> None:
    loaded = checkpoint.load(str(edited("original", {"image_aspect_ratio": "square"})), device="cpu")
    assert "cut to their middle square" in loaded.warnings[0]


def test_the_names_in_the_rules_are_real() -> None:
    assert set(ACTIVATIONS) <= set(ACT2FN)
    assert all(CONVERTED_ONLY["prompt_style"].holds(style) for style in PROMPT_STYLES)


@pytest.mark.parametrize("layout", ["converted", "llava", "original", "tower"])
def test_no_odd_value_of_any_key_ends_in_a_traceback(layout: str, folders: dict[str, Path], edited: Any) -> None:
    """Every key of the file, whether it has a rule or not: refused in one line, or the model runs."""
    path = folders[layout] / "config.json"
    content = path.read_bytes()
    raw = json.loads(content)
    keys = [*raw, *(f"{key}.{inner}" for key, value in raw.items() if isinstance(value, dict) for inner in value)]
    said, run = [], 0
    for key in keys:
        for value in (GONE, None, "x", 0, 10**30, {}):
            model = str(edited(layout, {key: value}))
            try:
                find_model(model)
                loaded = checkpoint.load(model, device="cpu")
                with torch.inference_mode():
                    loaded.model.visual_grids(torch.zeros(1, 3, 336, 336))
                    loaded.model(input_ids=torch.tensor([[1, 2]]))
                run += 1
            except CheckpointError as error:
                said.append(str(error))
            except Exception as error:
                raise AssertionError(f"{key} ({value!r})") from error
            path.write_bytes(content)
    assert not any("\n" in line for line in said)
    assert len(said) > len(keys)
    assert run > 0
