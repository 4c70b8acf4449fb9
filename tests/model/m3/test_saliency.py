"""Attention of the last position without full attention: what eager attention says, with grouped heads too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig

from m3video.errors import UsageError
from m3video.model.generation import prefill
from m3video.model.m3 import inputs
from m3video.model.m3.checkpoint import LoadedModel, load
from m3video.model.m3.modeling import M3VideoForConditionalGeneration
from m3video.model.m3.pooling import pack
from m3video.model.m3.saliency import NEUTRAL, CoarseAttention, last_row
from m3video.model.tokenizer import IMAGE_ID, prompt_ids
from tests.model.tiny import WORDS, save_words, tiny_config

SCALES = (1, 9, 1)
TIMES = (0.0, 3.0, 7.0)


@pytest.fixture(scope="module", params=[4, 2, 1], ids=lambda heads: f"{heads} key-value heads")
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    config = tiny_config()
    config.text_config = LlamaConfig(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=request.param,
        vocab_size=len(WORDS),
        intermediate_size=32,
        max_position_embeddings=256,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    torch.manual_seed(5)
    folder = tmp_path_factory.mktemp("grouped")
    model = M3VideoForConditionalGeneration(config).eval()
    with torch.no_grad():
        for layer in model.model.language_model.layers:
            # Queries and keys far from zero: else attention is flat, and any mistake looks right.
            layer.self_attn.q_proj.weight.normal_(std=1.0)
            layer.self_attn.k_proj.weight.normal_(std=1.0)
    model.save_pretrained(folder)
    save_words(folder)
    return load(str(folder), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def grids() -> torch.Tensor:
    return torch.randn(3, 576, 32, generator=torch.Generator().manual_seed(1))


def test_one_row_equals_eager_attention(loaded: LoadedModel, grids: torch.Tensor) -> None:
    blocks = inputs.frame_blocks(loaded, pack(grids, SCALES))
    ids = prompt_ids(loaded.codec, inputs.frames_prompt(loaded, "what is red", num_frames=3, times_seconds=TIMES))
    spans = inputs.frame_spans(ids, blocks)
    assert [end - start for start, end in spans] == list(SCALES)
    cut = len(ids) - 4
    assert IMAGE_ID not in ids[cut:]
    whole = inputs.embed(loaded, ids, blocks)
    cache = prefill(loaded, inputs.embed(loaded, ids[:cut], blocks))
    with torch.inference_mode():
        found = last_row(loaded, inputs.embed(loaded, ids[cut:], []), cache, spans)
        decoder = loaded.model.model.language_model
        decoder.set_attn_implementation("eager")
        attention = decoder(inputs_embeds=whole, output_attentions=True).attentions
        decoder.set_attn_implementation("sdpa")
    expected = [[float(layer[0, :, -1, a:b].sum(-1).mean()) for a, b in spans] for layer in attention]
    assert found == pytest.approx(np.array(expected), abs=1e-5)
    assert np.ptp(found) > 0.01


def test_another_question_is_read_as_if_it_were_the_first(loaded: LoadedModel, grids: torch.Tensor) -> None:
    def coarse() -> CoarseAttention:
        return CoarseAttention(loaded, pack(grids, SCALES), times_seconds=TIMES)

    used = coarse()
    used.attend("what is 3")
    again, fresh = used.attend("is it red 4 5"), coarse().attend("is it red 4 5")
    assert (again.relevance_N == fresh.relevance_N).all()
    assert again.moved == fresh.moved
    assert again.relevance_N.sum() == pytest.approx(1)
    assert 0 < again.moved <= 1


def test_a_neutral_question_moves_nothing(loaded: LoadedModel, grids: torch.Tensor) -> None:
    look = CoarseAttention(loaded, pack(grids, SCALES), times_seconds=TIMES).attend(NEUTRAL)
    assert look.moved == 0
    assert look.relevance_N.tolist() == [1 / 3] * 3


def test_hooks_are_taken_off(loaded: LoadedModel, grids: torch.Tensor) -> None:
    CoarseAttention(loaded, pack(grids, SCALES), times_seconds=TIMES).attend("is it red")
    layers = loaded.model.model.language_model.layers
    assert not any(layer.self_attn._forward_pre_hooks for layer in layers)


def test_a_model_with_other_parts_is_refused(loaded: LoadedModel, grids: torch.Tensor) -> None:
    layer = loaded.model.model.language_model.layers[1].self_attn
    layer.q_norm = torch.nn.Identity()
    try:
        with pytest.raises(UsageError, match="--saliency attention cannot watch"):
            CoarseAttention(loaded, pack(grids, SCALES), times_seconds=TIMES).attend("is it red")
    finally:
        del layer.q_norm
    assert not any(layer.self_attn._forward_pre_hooks for layer in loaded.model.model.language_model.layers)


def test_shares_of_a_real_question(tmp_path: Path) -> None:
    """The rendered model looks at the frame whose time is named."""
    rendered = load("rendered", device="cpu")
    grids = torch.randn(4, 576, rendered.config.text_config.hidden_size, generator=torch.Generator().manual_seed(2))
    look = CoarseAttention(rendered, pack(grids, [9] * 4), times_seconds=[0, 2, 5, 8]).attend(
        "what colour is the background at 0:05"
    )
    assert int(look.relevance_N.argmax()) == 2
