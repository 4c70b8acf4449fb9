"""Write a checkpoint of random weights at a real size, laid out as its authors publish it: shards, tower apart.

    python scripts/random_checkpoint.py OUT --like CHECKPOINT [--tower TOWER] [--shape llava-1.5-7b]

CHECKPOINT is any M3 checkpoint in the original layout, however small: its tokenizer and its config are taken, with the
sizes of SHAPE. TOWER is a CLIP tower's folder; its config and its picture format are taken in the same way. What the
result says is noise; what it loads, holds and takes is true: 12.6 GiB for a 7B, in OUT/llava and OUT/tower.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from random_model import SHAPES
from safetensors.torch import save_file

SHARD_BYTES = 2 << 30
"""Of a shard, before the tensor that would exceed it."""
VOCABULARY = 32000
"""Rows of the embedding; Vicuna's."""
PATCH, SIDE = 14, 24
COPIED = ("tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json")

Shape = tuple[int, ...]


def decoder_shapes(text: dict[str, int], vision_width: int) -> Iterator[tuple[str, Shape]]:
    """Yield the name and the shape of every tensor of decoder and projector, in the names of the original code."""
    width, inner = text["hidden_size"], text["intermediate_size"]
    kv = width * text.get("num_key_value_heads", text["num_attention_heads"]) // text["num_attention_heads"]
    yield "model.embed_tokens.weight", (VOCABULARY, width)
    for layer in range(text["num_hidden_layers"]):
        at = f"model.layers.{layer}"
        for name, rows in (("q", width), ("k", kv), ("v", kv), ("o", width)):
            yield f"{at}.self_attn.{name}_proj.weight", (rows, width)
        for name, shape in (("gate", (inner, width)), ("up", (inner, width)), ("down", (width, inner))):
            yield f"{at}.mlp.{name}_proj.weight", shape
        yield f"{at}.input_layernorm.weight", (width,)
        yield f"{at}.post_attention_layernorm.weight", (width,)
    yield "model.norm.weight", (width,)
    for number, columns in ((0, vision_width), (2, width)):
        yield f"model.mm_projector.{number}.weight", (width, columns)
        yield f"model.mm_projector.{number}.bias", (width,)
    yield "lm_head.weight", (VOCABULARY, width)


def tower_shapes(vision: dict[str, int]) -> Iterator[tuple[str, Shape]]:
    """Yield the name and the shape of every tensor of a CLIP vision tower."""
    width, inner, at = vision["hidden_size"], vision["intermediate_size"], "vision_model"
    yield f"{at}.embeddings.class_embedding", (width,)
    yield f"{at}.embeddings.patch_embedding.weight", (width, 3, PATCH, PATCH)
    yield f"{at}.embeddings.position_embedding.weight", (SIDE * SIDE + 1, width)
    norms = ["pre_layrnorm", "post_layernorm"]  # the misspelling is CLIP's
    for layer in range(vision["num_hidden_layers"]):
        own = f"encoder.layers.{layer}"
        norms += [f"{own}.layer_norm1", f"{own}.layer_norm2"]
        linear = {f"self_attn.{name}_proj": (width, width) for name in ("q", "k", "v", "out")}
        for name, (rows, columns) in {**linear, "mlp.fc1": (inner, width), "mlp.fc2": (width, inner)}.items():
            yield f"{at}.{own}.{name}.weight", (rows, columns)
            yield f"{at}.{own}.{name}.bias", (rows,)
    for name in norms:
        yield f"{at}.{name}.weight", (width,)
        yield f"{at}.{name}.bias", (width,)


def write_shards(folder: Path, shapes: Iterator[tuple[str, Shape]], dtype: torch.dtype) -> int:
    """Write random tensors as `model-00001-of-0000N.safetensors` with their index; return their bytes."""
    random = torch.Generator().manual_seed(0)
    shards: list[list[str]] = []
    held: dict[str, torch.Tensor] = {}
    total = in_shard = 0

    def write() -> None:
        save_file(held, folder / f"part-{len(shards)}.safetensors", metadata={"format": "pt"})
        shards.append(list(held))
        held.clear()

    for name, shape in shapes:
        tensor = torch.empty(shape, dtype=dtype)
        # Norms of one and small weights keep activations finite in half precision through 32 layers.
        tensor.fill_(1.0) if "norm" in name and name.endswith("weight") else tensor.normal_(0, 0.02, generator=random)
        if held and in_shard + tensor.nbytes > SHARD_BYTES:
            write()
            in_shard = 0
        held[name] = tensor
        in_shard += tensor.nbytes
        total += tensor.nbytes
    write()
    weight_map = {}
    for number, names in enumerate(shards):
        shard = f"model-{number + 1:05d}-of-{len(shards):05d}.safetensors"
        (folder / f"part-{number}.safetensors").rename(folder / shard)
        weight_map.update(dict.fromkeys(names, shard))
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")
    return total


def write_checkpoint(out: Path, shape: str, *, like: Path, tower: Path, dtype: torch.dtype) -> tuple[Path, Path]:
    """Write decoder and projector into `out`/llava and the tower into `out`/tower; return both folders.

    Raises:
        OSError: `like` or `tower` lacks a file, or `out` is not empty.
    """
    vision, text, _ = SHAPES[shape]
    folders = out / "llava", out / "tower"
    for folder in folders:
        folder.mkdir(parents=True)
    for name in COPIED:
        shutil.copyfile(like / name, folders[0] / name)
    shutil.copyfile(tower / "preprocessor_config.json", folders[1] / "preprocessor_config.json")
    config: dict[str, Any] = json.loads((like / "config.json").read_text(encoding="utf-8"))
    sizes = {"num_key_value_heads": text["num_attention_heads"], **text, "vocab_size": VOCABULARY}
    dtype_name = str(dtype).removeprefix("torch.")
    config |= {**sizes, "mm_hidden_size": vision["hidden_size"], "torch_dtype": dtype_name}
    (folders[0] / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    clip: dict[str, Any] = json.loads((tower / "config.json").read_text(encoding="utf-8"))
    clip["vision_config"] |= vision
    (folders[1] / "config.json").write_text(json.dumps(clip, indent=1), encoding="utf-8")
    bytes_ = write_shards(folders[0], decoder_shapes(text, vision["hidden_size"]), dtype)
    bytes_ += write_shards(folders[1], tower_shapes(vision), dtype)
    print(f"{out}: {bytes_ / 2**30:.1f} GiB of random {dtype_name} weights")
    return folders


def main() -> None:
    """Write one checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="new folder")
    parser.add_argument("--like", type=Path, required=True, help="an M3 checkpoint in the original layout")
    parser.add_argument("--tower", type=Path, required=True, help="a folder with a CLIP tower's config")
    parser.add_argument("--shape", choices=SHAPES, default="llava-1.5-7b", help="sizes (llava-1.5-7b)")
    parser.add_argument("--dtype", choices=("bfloat16", "float16"), default="bfloat16")
    args = parser.parse_args()
    try:
        write_checkpoint(args.out, args.shape, like=args.like, tower=args.tower, dtype=getattr(torch, args.dtype))
    except OSError as error:
        parser.error(f"{error}: name a checkpoint with tokenizer and config, and a new folder")


if __name__ == "__main__":
    main()
