"""Rules for the keys of a model's JSON files, in words and as tests. Loads no torch.

Only keys that are used have a rule: a config has many more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from m3video.model.m3.conv_sizes import CONV_SIDE, EFFICIENTNET_LITE, FEATURE_STRIDES
from m3video.model.m3.prompt import FORMER_STYLE, TEMPLATES
from m3video.types import SCALES

ORIGINAL, CONVERTED = "llava_llama", "m3video"
HUGGING_FACE = ("llava", "llava_next")
IMAGE_SIDE, PATCH = 336, 14

# The defaults of LlamaConfig and CLIPVisionConfig: llava-hf configs leave out what equals them.
LLAMA = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "vocab_size": 32000,
    "max_position_embeddings": 2048,
}
CLIP = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 224,
    "patch_size": 32,
    "hidden_act": "quick_gelu",
}
# What LlavaConfig takes where a config names no tower, and what every original LLaVA-1.5 and NeXT has.
CLIP_L_336 = {
    **CLIP,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
}

ACTIVATIONS = (
    "silu",
    "swish",
    "gelu",
    "gelu_fast",
    "gelu_new",
    "gelu_pytorch_tanh",
    "quick_gelu",
    "relu",
    "relu2",
    "relu6",
    "mish",
    "sigmoid",
    "tanh",
)
DTYPES = ("float32", "float16", "bfloat16", "float64")
# The kinds of rotary scaling, and the further keys that each needs.
ROPE = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor",),
    "yarn": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
}
_MOST = 2**31 - 1


def shown(value: object) -> str:
    """Return a value as JSON, shortened to 60 characters."""
    text = json.dumps(value, ensure_ascii=True, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


@dataclass(frozen=True, slots=True)
class Rule:
    """What a value must be, in words and as a test; `is_needed` where a config must have the key."""

    says: str
    holds: Callable[[Any], bool]
    is_needed: bool = False


def broken(values: Mapping[str, Any], rules: Mapping[str, Rule], where: str = "") -> Iterator[str]:
    """Yield a line for each of `values` that is against `rules`; `where` names the object that holds them."""
    for key, rule in rules.items():
        name = f"{where}.{key}" if where else key
        if key not in values:
            if rule.is_needed:
                yield f"{name} is missing: it must be {rule.says}"
        elif not rule.holds(values[key]):
            yield against(name, values[key], rule)


def against(name: str, value: object, rule: Rule) -> str:
    """Return the line for one value that is against its rule."""
    return f"{name} ({shown(value)}) must be {rule.says}"


def _whole(least: int, most: int = _MOST) -> Rule:
    return Rule(f"a whole number from {least} to {most}", lambda value: type(value) is int and least <= value <= most)


def _number(low: float, high: float, says: str) -> Rule:
    return Rule(says, lambda value: type(value) in (int, float) and low < value < high)


def one_of(*values: object) -> Rule:
    """Return the rule that a value is one of these, of the same type."""
    # 1 == True: only a value of the same type is meant.
    return Rule(
        " or ".join([", ".join(map(shown, values[:-1])), shown(values[-1])]) if len(values) > 1 else shown(values[0]),
        lambda value: any(type(value) is type(one) and value == one for one in values),
    )


def or_null(rule: Rule) -> Rule:
    """Return the rule that also allows null."""
    return Rule(f"null or {rule.says}", lambda value: value is None or rule.holds(value))


def needed(rule: Rule) -> Rule:
    """Return the rule for a key that a config must have."""
    return Rule(rule.says, rule.holds, is_needed=True)


ABOVE = _number(0, 1e12, "a number above 0 and below 1e12")
_FLAG, _SIZE = one_of(True, False), _whole(1, 2**20)
_TEXT = Rule("text", lambda value: isinstance(value, str))
OBJECT = Rule("an object", lambda value: isinstance(value, dict))
_UNIT = Rule("a number from 0 to 1", lambda value: type(value) in (int, float) and 0 <= value <= 1)
_SHARE = or_null(_UNIT)
_SMALL = _number(0, 1, "a number above 0 and below 1")
# transformers takes no whole number here.
_FRACTION = Rule("a number from 0.0 to 1.0 with a point", lambda value: type(value) is float and 0 <= value <= 1)
_ID = or_null(_whole(0))
_ACTIVATION = one_of(*ACTIVATIONS)


def _is_dtype(value: object) -> bool:
    return isinstance(value, str) and value.removeprefix("torch.") in (*DTYPES, "auto")


_STORED = {
    "dtype": or_null(Rule(f"one of {', '.join(DTYPES)}", _is_dtype)),
    "torch_dtype": or_null(Rule(f"one of {', '.join(DTYPES)}", _is_dtype)),
}
OF_ANY = {
    **_STORED,
    "quantization_config": Rule(
        "left out: weights that are stored quantized are not read; take the plain ones, with --quantize int8 or int4",
        lambda value: value is None,
    ),
}
DECODER = {
    **_STORED,
    "hidden_size": _SIZE,
    "intermediate_size": _SIZE,
    "num_hidden_layers": _whole(1, 1000),
    "num_attention_heads": _SIZE,
    "num_key_value_heads": or_null(_SIZE),
    "head_dim": or_null(_SIZE),
    "vocab_size": _whole(1, 2**24),
    "max_position_embeddings": _whole(1),
    "rms_norm_eps": _SMALL,
    "rope_theta": ABOVE,
    "hidden_act": _ACTIVATION,
    "attention_bias": _FLAG,
    "mlp_bias": _FLAG,
    "tie_word_embeddings": _FLAG,
    "attention_dropout": _SHARE,
    "initializer_range": _FRACTION,
    "bos_token_id": _ID,
    "pretraining_tp": or_null(_whole(1)),
    "use_cache": _FLAG,
    "eos_token_id": Rule(
        "null, a whole number from 0 on, or a list of such",
        lambda value: all(map(_ID.holds, value)) if isinstance(value, list) else _ID.holds(value),
    ),
}
_CLIP_KINDS = ("clip_vision_model", "clip")
TOWER_KINDS = {"model_type": one_of(*_CLIP_KINDS, EFFICIENTNET_LITE)}
"""Of the vision tower in a converted folder; those of other layouts are CLIP."""
TOWER = {
    **_STORED,
    "hidden_size": _SIZE,
    "intermediate_size": _SIZE,
    "num_hidden_layers": _whole(1, 1000),
    "num_attention_heads": _SIZE,
    "num_channels": one_of(3),
    "hidden_act": _ACTIVATION,
    "layer_norm_eps": _SMALL,
    "attention_dropout": _SHARE,
    "projection_dim": _SIZE,
    "initializer_range": _FRACTION,
    "initializer_factor": _FRACTION,
    "model_type": one_of(*_CLIP_KINDS),
    "image_size": needed(Rule(f"{IMAGE_SIDE}: M3 pools 24x24 patches of {PATCH}", lambda v: v == IMAGE_SIDE)),
    "patch_size": needed(Rule(f"{PATCH}: M3 pools 24x24 patches of {IMAGE_SIDE} pixels", lambda v: v == PATCH)),
}


def _is_list(each: Rule, length: int | None = None) -> Callable[[Any], bool]:
    """Return a test for a list of items that all keep to a rule: `length` of them, or at least one."""
    return lambda value: (
        isinstance(value, list) and len(value) > 0 and length in (None, len(value)) and all(map(each.holds, value))
    )


CONV_TOWER = {
    **_STORED,
    "num_channels": one_of(3),
    "image_size": Rule(f"{CONV_SIDE}: M3 pools 24x24 cells of 16 pixels", lambda value: value == CONV_SIDE),
    "stem_width": _SIZE,
    "blocks": Rule(
        "a list of groups of six whole numbers from 1 on: repeats, kernel, stride, expansion, channels in and out",
        _is_list(Rule("six sizes", _is_list(_whole(1, 2**16), 6))),
    ),
    "feature_strides": Rule(
        f"a list of some of {', '.join(map(str, FEATURE_STRIDES))}, each once",
        lambda value: _is_list(one_of(*FEATURE_STRIDES))(value) and len(set(value)) == len(value),
    ),
    "head_channels": _whole(0, 2**14),
    "reading_channels": _whole(0, 2**12),
    "reading_width": _whole(1, 2**12),
    "reading_depths": Rule("a list of two whole numbers from 0 to 64", _is_list(_whole(0, 64), 2)),
    "image_mean": Rule("a list of three numbers from 0 to 1", _is_list(_UNIT, 3)),
    "image_std": Rule("a list of three numbers above 0 and below 1e12", _is_list(ABOVE, 3)),
    "initializer_range": ABOVE,
}
"""Of a vision tower whose `model_type` is efficientnet_lite."""
UNREAD = frozenset({"dtype", "torch_dtype", "model_type"})
"""Keys of a part's config that are checked but not used: the folder's own number format applies."""

_SELECTED = "M3 pools the 24x24 patches, without the class token"
FOLDED = {
    "text_config": or_null(OBJECT),
    "vision_config": or_null(OBJECT),
    "image_token_index": _whole(0),
    "image_token_id": _whole(0),
    "image_seq_length": _whole(0),
    "projector_hidden_act": _ACTIVATION,
    "multimodal_projector_bias": _FLAG,
    "tie_word_embeddings": _FLAG,
    "vision_feature_select_strategy": Rule(f'"default": {_SELECTED}', lambda value: value == "default"),
}
FULL_STRATEGY = needed(Rule('"full": a convolutional tower has no class token', lambda value: value == "full"))
CONVERTED_ONLY = {
    "prompt_style": one_of(*TEMPLATES, "rendered", FORMER_STYLE),
    "image_aspect_ratio": one_of("pad", "anyres"),
    "use_image_newline": _FLAG,
    "max_context": _whole(1),
    "projector_width": or_null(_SIZE),
    "m3_trained": _FLAG,
    "origin": _TEXT,
    "token_scales": Rule(
        f"a list of some of {', '.join(map(str, SCALES))}",
        lambda value: isinstance(value, list) and all(type(one) is int and one in SCALES for one in value),
    ),
}
REFERENCE = {
    "mm_hidden_size": needed(_SIZE),
    "hidden_size": needed(_SIZE),
    "intermediate_size": needed(_SIZE),
    "num_hidden_layers": needed(_whole(1, 1000)),
    "num_attention_heads": needed(_SIZE),
    "vocab_size": needed(_whole(1, 2**24)),
    "mm_projector_type": needed(Rule("mlp2x_gelu, the projector of M3", lambda value: value == "mlp2x_gelu")),
    "mm_vision_select_feature": or_null(Rule(f'"patch": {_SELECTED}', lambda value: value == "patch")),
    "mm_use_im_start_end": or_null(
        Rule(
            "false: pictures are shown without the marks <im_start> and <im_end> around them that it was trained with",
            lambda value: value is False,
        )
    ),
    "mm_use_im_patch_token": or_null(_FLAG),
    "unfreeze_mm_vision_tower": or_null(_FLAG),
    "mm_vision_tower": or_null(_TEXT),
    "vision_tower": or_null(_TEXT),
    "mm_patch_merge_type": or_null(one_of("flat", "spatial", "spatial_unpad")),
    "image_aspect_ratio": or_null(one_of("pad", "anyres", "square")),
    # Tokenizers without a limit say 10**30.
    "tokenizer_model_max_length": or_null(Rule("a whole number from 1 on", lambda v: type(v) is int and v >= 1)),
}


def _is_alpha_pattern(value: object) -> bool:
    if not isinstance(value, dict):
        return value is None
    try:
        return all(ABOVE.holds(alpha) and re.compile(pattern) for pattern, alpha in value.items())
    except re.error:
        return False


ADAPTER = {
    "peft_type": one_of("LORA"),
    "r": _SIZE,
    "lora_alpha": ABOVE,
    "use_rslora": _FLAG,
    "alpha_pattern": Rule("an object of patterns and numbers above 0", _is_alpha_pattern),
    "use_dora": or_null(Rule("false: DoRA is not merged here; merge it with peft", lambda value: value is False)),
    "fan_in_fan_out": or_null(Rule("false: Llama's matrices are not stored that way", lambda value: value is False)),
    "init_lora_weights": Rule(
        "one that leaves the base as it is; merge it with peft",
        lambda value: not str(value).lower().startswith(("pissa", "olora", "corda", "loftq")),
    ),
}
_TOKEN = or_null(Rule("text", lambda v: isinstance(v.get("content") if isinstance(v, dict) else v, str)))
TOKENIZER = {
    "legacy": or_null(_FLAG),
    "tokenizer_class": or_null(_TEXT),
    "bos_token": _TOKEN,
    "eos_token": _TOKEN,
    "pad_token": _TOKEN,
    "unk_token": _TOKEN,
}
