"""What the package ships of `small`, and how it becomes a whole model: a LoRA of its base, with tower and projector.

The folder is a LoRA folder as any other, and may be merged by `m3video convert` too:

- config.json: of the whole model, an `M3VideoConfig`; its dtype is that of the merged weights;
- adapter_model.safetensors: two factors for each matrix of the decoder that changes, and whole tensors (tower,
  projector, norms), all under the names of the whole model;
- adapter_config.json: rank and alpha;
- base.json: the bases that it was made for, `{"accepted": [{"name", "of", "digest"}]}`; see `base_digests`.

Shape legend: O rows of a matrix, I its columns, R the rank of its update.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import GenerationConfig

from m3video.errors import CheckpointError, NotFiniteError
from m3video.model.gguf_file import unpack
from m3video.model.m3.config_json import read_config_json
from m3video.model.m3.lora import with_part
from m3video.model.m3.modeling import M3VideoConfig, M3VideoForConditionalGeneration
from m3video.model.m3.processor import write_processor
from m3video.model.m3.prompt import TURN_MARKS
from m3video.model.m3.small_base import ACCEPTED_BASES, INSTALL, REPOSITORY, BasePlace, OtherBaseError
from m3video.model.m3.state_dict import our_config, our_name, read_folder
from m3video.model.safetensors_headers import read_json
from m3video.model.tokenizer import load_text
from m3video.utils.cache import MADE_FROM
from m3video.utils.digest import digest_of

WEIGHTS, ADAPTER_CONFIG, ACCEPTED = "adapter_model.safetensors", "adapter_config.json", "base.json"
_DIGESTS = ("tensors", "norms")
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@contextmanager
def as_folder(base: BasePlace, *, beside: Path | None = None) -> Iterator[Path]:
    """Yield a base as a folder in transformers' layout; a GGUF file is unpacked for as long as the block runs.

    Args:
        base: where it lies.
        beside: it is unpacked next to this folder (0.5 GB); None is the folder for temporary files.

    Raises:
        CheckpointError: the file is damaged or of another kind of model.
    """
    if base.path.is_dir():
        yield base.path
        return
    with TemporaryDirectory(prefix=".small-base-", dir=None if beside is None else beside.parent) as folder:
        unpack(base.path, Path(folder))
        yield Path(folder)


def base_digests(folder: Path) -> dict[str, str]:
    """Return digests of a base's numbers, the same for every layout and number format that holds them exactly.

    Args:
        folder: a Llama model in transformers' layout.

    Returns:
        "tensors", of all; "norms", of the norms' weights alone: these are not quantized in a GGUF file, so that they
        tell the model where its matrices are stored in another precision.
    """
    lines = {}
    for name, tensor in read_folder(folder):
        ours = our_name(name)
        if ours is not None and ours != "lm_head.weight":  # SmolLM2's is its table of embeddings
            values = tensor.float().contiguous().numpy()
            lines[ours] = f"{ours} {list(values.shape)} {digest_of([values.reshape(-1).view('uint8').data])}\n".encode()
    norms = [line for name, line in sorted(lines.items()) if name.endswith("norm.weight")]
    return {"tensors": digest_of(line for _, line in sorted(lines.items())), "norms": digest_of(norms)}


def write_part(
    folder: Path,
    *,
    config: M3VideoConfig,
    whole: Mapping[str, Tensor],
    factors: Mapping[str, tuple[Tensor, Tensor]],
    accepted: Sequence[Mapping[str, str]] = ACCEPTED_BASES,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write what the package ships.

    Args:
        folder: exists.
        config: of the whole model; its `dtype` is the number format of the merged weights.
        whole: tensors of tower and projector, and those of the decoder that replace the base's, by the names of
            `M3VideoForConditionalGeneration`.
        factors: name of a matrix -> (up [O, R], down [R, I]): their product is added to the base's.
        accepted: bases that it was made for: "name" in words, "of" a key of `base_digests`, and its "digest".
        dtype: number format of what is written.
    """
    alpha = max((down.shape[0] for _, down in factors.values()), default=1)
    tensors = {name: tensor.to(dtype).contiguous() for name, tensor in whole.items()}
    for name, (up_OR, down_RI) in factors.items():
        module, rank = name.removesuffix(".weight"), len(down_RI)
        # Merging multiplies by alpha / rank.
        tensors[f"{module}.lora_B.weight"] = (up_OR.float() * (rank / alpha)).to(dtype).contiguous()
        tensors[f"{module}.lora_A.weight"] = down_RI.to(dtype).contiguous()
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    config.architectures = [M3VideoForConditionalGeneration.__name__]
    config.save_pretrained(folder)
    adapter = {"peft_type": "LORA", "r": alpha, "lora_alpha": alpha, "base_model_name_or_path": REPOSITORY}
    for file, content in ((ADAPTER_CONFIG, adapter), (ACCEPTED, {"accepted": [dict(one) for one in accepted]})):
        (folder / file).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def write_whole(part: Path, base: BasePlace, folder: Path) -> None:
    """Write the whole model as a converted folder, as `from_pretrained` and `checkpoint.load` read it.

    Args:
        part: as `write_part` wrote it.
        base: the language model.
        folder: exists, empty.

    Raises:
        OtherBaseError: the part was made for another base.
        CheckpointError: a file is missing or damaged, or part and base do not make a whole model.
        NotFiniteError: a weight is NaN or infinite.
        OSError: the folder cannot be written.
    """
    raw = read_config_json(part)
    with as_folder(base, beside=folder) as base_folder:
        taken = accepted_name(part, base, base_digests(base_folder))
        dtype = _DTYPES[str(raw.get("dtype") or "float16").removeprefix("torch.")]
        tensors = {name: tensor.to(dtype) for name, tensor in _merged(part, base_folder)}
        _check(tensors, our_config(part), part)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        if not (base_folder / "tokenizer.json").is_file():
            raise CheckpointError(f"{base.path} has no tokenizer.json, which the model small needs of its base")
        shutil.copyfile(base_folder / "tokenizer.json", folder / "tokenizer.json")
        text = _text_settings(base_folder)
    for name in ("config.json", "README.md"):
        if (part / name).is_file():
            shutil.copyfile(part / name, folder / name)
    origin = {"name": "small", "base": taken, "path": str(base.path)}
    for file, content in (("tokenizer_config.json", text), (MADE_FROM, origin)):
        (folder / file).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    _check_text(folder, base)
    write_processor(folder)
    _write_generation(folder)


def accepted_name(part: Path, base: BasePlace, digests: Mapping[str, str]) -> str:
    """Return the name under which a part's base.json accepts a base with these digests; OtherBaseError otherwise."""
    listed = read_json(part / ACCEPTED).get("accepted")
    for one in listed if isinstance(listed, list) else []:
        if isinstance(one, dict) and one.get("of") in _DIGESTS and digests[one["of"]] == one.get("digest"):
            return str(one.get("name", ""))
    names = [str(one.get("name")) for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    raise OtherBaseError(
        f"{base.path} is not the language model that small was trained on ({' or '.join(names) or 'none is listed'}): "
        f"{INSTALL} has it"
    )


def _merged(part: Path, base_folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Yield the whole model's tensors, without the second name of tied embeddings."""
    text: Any = our_config(part).text_config
    for name, tensor in with_part(part, base_folder, lambda name: True):
        if not (name == "lm_head.weight" and text.tie_word_embeddings):
            yield name, tensor


def _check(tensors: Mapping[str, Tensor], config: M3VideoConfig, part: Path) -> None:
    """Refuse tensors that are not those of a model with this config, and numbers that are not finite."""
    with torch.device("meta"):
        state = M3VideoForConditionalGeneration(config).state_dict()
    text: Any = config.text_config
    asked = {name: list(tensor.shape) for name, tensor in state.items()}
    if text.tie_word_embeddings:
        asked.pop("lm_head.weight", None)
    found = {name: list(tensor.shape) for name, tensor in tensors.items()}
    for name in sorted(asked.keys() | found.keys()):
        if asked.get(name) != found.get(name):
            raise CheckpointError(
                f"{part} and its base do not make a whole model: {name} has shape {found.get(name)}, "
                f"the config asks for {asked.get(name)}"
            )
    for name, tensor in tensors.items():
        # NaN is the least and the greatest of all that it is among.
        if not all(extreme.isfinite() for extreme in tensor.aminmax()):
            raise NotFiniteError(f"{part}: the weights of small are not finite: {name} holds NaN or infinity")


def _text_settings(base_folder: Path) -> dict[str, Any]:
    """Return the tokenizer_config.json of the whole model: no mark begins a text, the ChatML template has them all."""
    raw = read_json(base_folder / "tokenizer_config.json")
    marks = {key: raw.get(key) for key in ("eos_token", "pad_token", "unk_token")}
    named = {key: mark.get("content") if isinstance(mark, dict) else mark for key, mark in marks.items()}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": None,
        **named,
        "clean_up_tokenization_spaces": False,
    }


def _check_text(folder: Path, base: BasePlace) -> None:
    """Raise CheckpointError where the tokenizer does not know the marks of the prompt's turns as one token each."""
    codec = load_text(folder)
    text: Any = our_config(folder).text_config
    begin, end = map(codec.encode, TURN_MARKS)
    if len(begin) != 1 or begin == end or not end == [codec.eos_id] == [text.eos_token_id]:
        marks = f"{TURN_MARKS[0]} is {begin}, {TURN_MARKS[1]} is {end}, an answer ends with {codec.eos_id}"
        raise CheckpointError(f"{base.path}: its tokenizer is not that of the model small: {marks}")


def _write_generation(folder: Path) -> None:
    text: Any = our_config(folder).text_config
    eos, pad = text.eos_token_id, text.pad_token_id
    GenerationConfig(do_sample=False, eos_token_id=eos, pad_token_id=pad).save_pretrained(folder)
