"""A Llama model in one GGUF file, as a folder that transformers reads: config.json, weights and tokenizer.

Quantized matrices are written as the numbers that they stand for, in float32.

Shape legend: O rows of a matrix, I its columns.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m3video.errors import CheckpointError
from m3video.utils.text import first_line

_PLACES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""GGUF's names of Llama's parts, and transformers'."""

_NAME = re.compile(r"(blk\.(?P<layer>\d+)\.)?(?P<part>\w+)\.weight")
_CONTROL = 3
"""Type of a token that marks structure and stands for no text. Source: `llama_token_type` of llama.cpp."""

_DIGIT_BY_DIGIT = ("smollm",)
"""Tokenizers (`tokenizer.ggml.pre`) that split at each digit, then as GPT-2. Source: `llama-vocab.cpp`."""


def unpack(file: Path, folder: Path) -> None:
    """Write a GGUF file's model into an existing folder.

    Args:
        file: a Llama model with a byte-level BPE tokenizer, quantized or not.
        folder: gets config.json, model.safetensors, tokenizer.json and tokenizer_config.json.

    Raises:
        CheckpointError: the package `gguf` is missing, the file is damaged, or of another kind of model.
        OSError: the folder cannot be written.
    """
    from safetensors.numpy import save_file

    values, tensors = _read(file)
    kind, pre = values.get("general.architecture"), values.get("tokenizer.ggml.pre")
    if kind != "llama" or pre not in _DIGIT_BY_DIGIT:
        known = " or ".join(_DIGIT_BY_DIGIT)
        raise CheckpointError(f"{file} holds a model {kind} with the tokenizer {pre}: only llama with {known} is read")
    try:
        config, tokenizer, settings = _config(values), _tokenizer(values), _tokenizer_config(values)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise CheckpointError(f"{file} lacks a value of Llama's config or tokenizer: {first_line(error)}") from None
    config["tie_word_embeddings"] = "lm_head.weight" not in tensors
    for name, content in (("config.json", config), ("tokenizer_config.json", settings)):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    tokenizer.save(str(folder / "tokenizer.json"))
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    for name, tensor in tensors.items():
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            tensors[name] = in_halves(tensor, heads if "q_proj" in name else kv_heads)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def in_halves(matrix_OI: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Return a query or key matrix with each head's rows in the order in which transformers rotates them.

    llama.cpp rotates neighbouring rows (0 with 1), transformers those half a head apart (0 with O / heads / 2).
    Example: a head's rows 0 a 1 b 2 c become 0 1 2 a b c.

    Source: `LlamaModel.permute` of llama.cpp's `convert_hf_to_gguf.py`, of which this is the inverse.
    """
    rows, columns = matrix_OI.shape
    pairs = matrix_OI.reshape(heads, rows // heads // 2, 2, columns)
    return np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(rows, columns))


def _read(file: Path) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
    """Return a file's metadata, and its tensors in float32 under transformers' names."""
    try:
        from gguf import GGUFReader
        from gguf.quants import dequantize
    except ImportError:
        raise CheckpointError(f"{file} needs the package gguf: pip install gguf") from None
    try:
        reader = GGUFReader(file)
        values = {key: field.contents() for key, field in reader.fields.items()}
        tensors = {
            _our_name(tensor.name): dequantize(tensor.data, tensor.tensor_type).astype(np.float32, copy=False)
            for tensor in reader.tensors
        }
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror or first_line(error)}") from None
    except (ValueError, KeyError, IndexError, TypeError, NotImplementedError) as error:
        raise CheckpointError(f"{file} is no whole GGUF file of a Llama model: {first_line(error)}") from None
    return values, tensors


def _our_name(name: str) -> str:
    """Return transformers' name: `blk.3.attn_q.weight` -> `model.layers.3.self_attn.q_proj.weight`."""
    found = _NAME.fullmatch(name)
    place = _PLACES.get(found["part"]) if found else None
    if found is None or place is None:
        raise ValueError(f"a tensor {name} is not Llama's")
    return f"{place}.weight" if found["layer"] is None else f"model.layers.{found['layer']}.{place}.weight"


def _config(values: dict[str, Any]) -> dict[str, Any]:
    """Return the file's sizes as a config.json of transformers."""
    heads = int(values["llama.attention.head_count"])
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": int(values["llama.embedding_length"]),
        "intermediate_size": int(values["llama.feed_forward_length"]),
        "num_hidden_layers": int(values["llama.block_count"]),
        "num_attention_heads": heads,
        "num_key_value_heads": int(values.get("llama.attention.head_count_kv", heads)),
        "max_position_embeddings": int(values["llama.context_length"]),
        # A float32 in the file: 1e-5 is stored as 9.9999997e-06.
        "rms_norm_eps": float(f"{values['llama.attention.layer_norm_rms_epsilon']:.6g}"),
        "rope_parameters": {"rope_type": "default", "rope_theta": float(values["llama.rope.freq_base"])},
        "vocab_size": len(values["tokenizer.ggml.tokens"]),
        "hidden_act": "silu",
        "bos_token_id": values.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": values["tokenizer.ggml.eos_token_id"],
        "pad_token_id": values.get("tokenizer.ggml.padding_token_id"),
        "dtype": "float32",
    }


def _tokenizer(values: dict[str, Any]) -> Any:
    """Return the file's byte-level BPE as a `tokenizers.Tokenizer`."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens = values["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ", 1)) for merge in values["tokenizer.ggml.merges"]]
    made = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, merges))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    made.decoder = decoders.ByteLevel()
    kinds = values["tokenizer.ggml.token_type"]
    controls = [token for token, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL]
    made.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in controls])
    return made


def _tokenizer_config(values: dict[str, Any]) -> dict[str, Any]:
    """Return the names of the marks that models end and pad with; no mark begins a text unless the file says so."""
    tokens = values["tokenizer.ggml.tokens"]

    def named(key: str) -> str | None:
        number = values.get(f"tokenizer.ggml.{key}_token_id")
        return None if number is None else str(tokens[number])

    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": named("bos") if values.get("tokenizer.ggml.add_bos_token") else None,
        "eos_token": str(tokens[values["tokenizer.ggml.eos_token_id"]]),
        "pad_token": named("padding"),
        "unk_token": named("unknown"),
        "clean_up_tokenization_spaces": False,
        "chat_template": values.get("tokenizer.chat_template"),
    }
