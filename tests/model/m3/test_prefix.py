"""Follow-up questions over kept KV caches: the tokens of a cold run, on every model at hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import MistralConfig

from m3video.model import generation
from m3video.model.m3 import checkpoint, inputs
from m3video.model.m3.checkpoint import LoadedModel
from m3video.model.m3.encoding import encode
from m3video.model.m3.pooling import VisualTokens, pack
from m3video.model.m3.prefix import Prefix, common_length
from m3video.model.tokenizer import prompt_ids
from tests.model import parity
from tests.model.tiny import load_tiny, tiny_config

QUESTIONS = (
    "what colour is the background in frame 1",
    "is it day or night in frame 3",
    "what is it",
    "what colour is the background in frame 1",
)
TIMES = [0.4, 1.4, 2.4]
LOGITS = 1e-4


def shown(loaded: LoadedModel, scales: tuple[int, ...] = (36, 144, 9)) -> VisualTokens:
    made = torch.Generator().manual_seed(2)
    pixels = torch.rand(len(scales), 60, 80, 3, generator=made)
    return pack(encode(loaded, [(picture * 255).byte().numpy() for picture in pixels]), scales)


def one_pass(loaded: LoadedModel, visual: VisualTokens, question: str) -> tuple[list[int], torch.Tensor]:
    """Ids and first-step logits of a prompt that is read in one piece, without any of `Prefix`."""
    words = inputs.frames_prompt(loaded, question, num_frames=len(visual), times_seconds=TIMES)
    ids = prompt_ids(loaded.codec, words)
    with torch.inference_mode():
        embeds = inputs.embed(loaded, ids, inputs.frame_blocks(loaded, visual))
        logits = loaded.model.model(inputs_embeds=embeds).last_hidden_state[0, -1] @ loaded.model.lm_head.weight.T
        return generation.generate(loaded, embeds, max_new_tokens=8).ids, logits


class Spy:
    """The ids that `Prefix` generates, and its first logits."""

    def __init__(self, loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ids: list[list[int]] = []
        self.logits: list[torch.Tensor] = []
        real = generation.generate

        def generate(*args: Any, **more: Any) -> generation.Decoded:
            decoded = real(*args, **more)
            self.ids.append(decoded.ids)
            return decoded

        monkeypatch.setattr(generation, "generate", generate)
        self.hook = loaded.model.lm_head.register_forward_hook(lambda _m, _i, out: self.logits.append(out[0, -1]))


def check_equal(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> float:
    """Follow-ups equal cold ones bit for bit, one-pass ones token by token; returns the difference to their logits."""
    visual = shown(loaded)
    cold = [one_pass(loaded, visual, question) for question in QUESTIONS]
    spy = Spy(loaded, monkeypatch)
    try:
        held, firsts, reused = Prefix(loaded, visual, times_seconds=TIMES), [], []
        for question in QUESTIONS:
            before = len(spy.logits)
            reused.append(held.answer(question, max_new_tokens=8).reused_tokens)
            firsts.append(spy.logits[before])
            before = len(spy.logits)
            Prefix(loaded, visual, times_seconds=TIMES).answer(question, max_new_tokens=8)
            assert torch.equal(spy.logits[before], firsts[-1]), "a follow-up does the sums of a first question"
    finally:
        spy.hook.remove()
    assert spy.ids[0::2] == spy.ids[1::2] == [ids for ids, _ in cold]
    assert reused[0] == 0
    assert min(reused[1:]) >= len(visual.tokens_TD), "all frames are read once"
    return max(float((one - two).abs().max()) for one, (_, two) in zip(firsts, cold, strict=True))


def test_follow_ups_of_the_rendered_model(monkeypatch: pytest.MonkeyPatch) -> None:
    difference = check_equal(checkpoint.load("rendered", device="cpu"), monkeypatch)
    assert difference < LOGITS


@pytest.mark.skipif(not parity.GOLDENS.is_dir(), reason=parity.ABSENT)
@pytest.mark.parametrize("name", parity.checkpoints())
def test_follow_ups_of_parity_checkpoints(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    difference = check_equal(parity.loaded(name), monkeypatch)
    print(f"{name}: first-step logits differ from one pass by at most {difference:.1e}")
    assert difference < LOGITS


@pytest.mark.parametrize("style", ["rendered", "vicuna_v1", "llava_v0", "plain"])
def test_every_template_keeps_its_frames(style: str, tmp_path: Path) -> None:
    loaded = load_tiny(tmp_path / "m", prompt_style=style)
    held = Prefix(loaded, shown(loaded), times_seconds=TIMES)
    held.answer("what", max_new_tokens=2)
    assert held.answer("is it red", max_new_tokens=2).reused_tokens >= 189


def test_a_question_before_the_frames_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing assumes where the question stands: then the part before it is kept, and the answer is still the same."""
    monkeypatch.setattr(
        inputs, "build_prompt", lambda _s, question, *, num_frames, times_seconds: f"frame {question} <image> answer"
    )
    loaded = load_tiny(tmp_path / "m")
    visual = shown(loaded, (9,))
    held = Prefix(loaded, visual, times_seconds=None)
    held.answer("what is it", max_new_tokens=4)
    again = held.answer("is it red", max_new_tokens=4)
    assert again.reused_tokens == 2  # <s> frame
    assert "puts the question before frames" in again.warnings[-1]
    assert again.text == Prefix(loaded, visual, times_seconds=None).answer("is it red", max_new_tokens=4).text


def test_a_cache_that_cannot_be_cropped_is_not_kept(tmp_path: Path) -> None:
    text: Any = MistralConfig(
        **{
            name: getattr(tiny_config().text_config, name)
            for name in (
                "hidden_size",
                "num_hidden_layers",
                "num_attention_heads",
                "num_key_value_heads",
                "intermediate_size",
                "vocab_size",
                "max_position_embeddings",
                "bos_token_id",
                "eos_token_id",
                "pad_token_id",
            )
        },
        sliding_window=16,
    )
    from m3video.model.m3.modeling import M3VideoForConditionalGeneration
    from tests.model.tiny import save_words

    torch.manual_seed(1)
    config = tiny_config()
    config.text_config = text
    M3VideoForConditionalGeneration(config).eval().save_pretrained(tmp_path)
    save_words(tmp_path)
    loaded = checkpoint.load(str(tmp_path), device="cpu", dtype="float32")
    visual = shown(loaded)
    held = Prefix(loaded, visual, times_seconds=TIMES)
    for question in QUESTIONS:
        said = held.answer(question, max_new_tokens=4)
        assert said.reused_tokens == 0
        assert "cannot be cropped" in said.warnings[-1]
        assert said.text == Prefix(loaded, visual, times_seconds=TIMES).answer(question, max_new_tokens=4).text


def test_an_interrupted_answer_spoils_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_tiny(tmp_path / "m")
    held = Prefix(loaded, shown(loaded), times_seconds=TIMES)
    expected = held.answer("what is it", max_new_tokens=6)
    layer = loaded.model.model.language_model.layers[1]

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    hook = layer.register_forward_pre_hook(interrupt)  # the first layer's cache has grown, the second's has not
    with pytest.raises(KeyboardInterrupt):
        held.answer("what", max_new_tokens=6)
    hook.remove()
    again = held.answer("what is it", max_new_tokens=6)
    assert again.text == expected.text
    assert again.reused_tokens == 0


def test_common_length() -> None:
    assert common_length([1, 2, 3], [1, 2, 4, 5]) == 2
    assert common_length([1, 2], [1, 2, 3]) == 2
    assert common_length([], [1]) == 0
