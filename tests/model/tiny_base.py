"""A language model of a few kilobytes with ChatML's marks, as a folder of transformers and as a GGUF file."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import torch
from gguf.quants import quantize
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

MARKS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = [("u", "s"), ("us", "er"), ("e", "r"), ("Ġ", "a"), ("1", "2")]
HEADS, KV_HEADS = 4, 2


def tokens() -> list[str]:
    """The vocabulary: marks, the 256 bytes, what merging makes."""
    return [*MARKS, *sorted(pre_tokenizers.ByteLevel.alphabet()), "er", "us", "user", "Ġa", "12"]


def tokenizer() -> PreTrainedTokenizerFast:
    """SmolLM2's kind of tokenizer: byte-level BPE that splits at each digit."""
    merges = sorted(MERGES, key=lambda pair: tokens().index("".join(pair)))
    raw = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens())}, merges))
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in MARKS])
    marks = {"bos_token": MARKS[1], "eos_token": MARKS[2], "pad_token": MARKS[2], "unk_token": MARKS[0]}
    return PreTrainedTokenizerFast(tokenizer_object=raw, **marks)


def config() -> LlamaConfig:
    return LlamaConfig(
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        vocab_size=len(tokens()),
        max_position_embeddings=512,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 100000.0},
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )


def model(seed: int = 5) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    made = LlamaForCausalLM(config()).eval()
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name.endswith("norm.weight"):
                parameter += 0.1 * torch.randn_like(parameter)
    return made


def save_folder(folder: Path, seed: int = 5) -> Path:
    model(seed).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def as_llama_cpp(matrix: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Order the rows as llama.cpp's converter does (`LlamaModel.permute`)."""
    rows, columns = matrix.shape
    return matrix.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


PARTS = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def save_gguf(
    file: Path, *, kind: gguf.GGMLQuantizationType | None = None, architecture: str = "llama", seed: int = 5
) -> Path:
    """Write the model of `model(seed)`, its matrices quantized as `kind` says."""
    writer = gguf.GGUFWriter(file, architecture)
    made = config()
    writer.add_block_count(made.num_hidden_layers)
    writer.add_context_length(made.max_position_embeddings)
    writer.add_embedding_length(made.hidden_size)
    writer.add_feed_forward_length(made.intermediate_size)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(100000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens())
    writer.add_token_types([3 if token in MARKS else 1 for token in tokens()])
    writer.add_token_merges([" ".join(pair) for pair in sorted(MERGES, key=lambda p: tokens().index("".join(p)))])
    for add, number in ((writer.add_bos_token_id, 1), (writer.add_eos_token_id, 2), (writer.add_pad_token_id, 2)):
        add(number)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(False)
    for name, tensor in model(seed).state_dict().items():
        if name != "lm_head.weight":
            stored, values = gguf_name(name), tensor.numpy()
            if "attn_q" in stored or "attn_k" in stored:
                values = as_llama_cpp(values, HEADS if "attn_q" in stored else KV_HEADS)
            if kind is not None and values.ndim == 2:
                writer.add_tensor(stored, quantize(values, kind), raw_dtype=kind)
            else:
                writer.add_tensor(stored, np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def gguf_name(name: str) -> str:
    name = name.removeprefix("model.")
    if not name.startswith("layers."):
        return {"embed_tokens.weight": "token_embd.weight", "norm.weight": "output_norm.weight"}[name]
    _, layer, part = name.split(".", 2)
    return f"blk.{layer}.{PARTS[part.removesuffix('.weight')]}.weight"
