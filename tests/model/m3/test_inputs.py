"""Frames to an answer on a tiny random model; refusals before anything runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from m3video.errors import DoesNotFitError, UsageError
from m3video.model import generation
from m3video.model.m3 import checkpoint, inputs
from m3video.model.m3.checkpoint import LoadedModel
from m3video.model.m3.encoding import encode
from m3video.model.m3.pooling import pack
from m3video.model.m3.prefix import Prefix
from m3video.model.m3.processor import M3VideoProcessor, write_processor
from tests.model.tiny import load_tiny


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_tiny(tmp_path_factory.mktemp("inputs") / "m")


def frames(n: int) -> list[np.ndarray]:
    return list(np.random.default_rng(n).integers(0, 255, (n, 30, 40, 3), dtype=np.uint8))


def test_encoding_reports_progress_and_batches_do_not_matter(loaded: LoadedModel) -> None:
    done: list[int] = []
    grids = encode(loaded, frames(3), vision_batch=2, on_batch=done.append)
    assert grids.shape == (3, 576, 16)
    assert done == [2, 3]
    torch.testing.assert_close(grids, encode(loaded, frames(3), vision_batch=3), atol=1e-5, rtol=0)


def test_an_answer_counts_its_tokens(loaded: LoadedModel) -> None:
    visual = pack(encode(loaded, frames(2)), [9, 1])
    said = Prefix(loaded, visual, times_seconds=[0.0, 3.2]).answer("What is it?", max_new_tokens=5)
    assert said.visual_tokens == 10
    # <s> frame 1 0:00 frame 2 0:03 question what is it answer
    assert said.text_tokens == 12
    assert said.text_tokens == inputs.text_tokens(loaded, "What is it?", num_frames=2, times_seconds=[0.0, 3.2])
    assert said.prompt_tokens == 22
    assert said.answer_tokens <= 5
    assert said.warnings == ()
    assert Prefix(loaded, visual, times_seconds=[0.0, 3.2]).answer("What is it?", max_new_tokens=5) == said


def test_times_change_what_the_model_reads(loaded: LoadedModel) -> None:
    counts = [
        inputs.text_tokens(loaded, "what", num_frames=2, times_seconds=[1, 2], timestamps=wanted)
        for wanted in (False, True, "auto")
    ]
    assert counts == [counts[0], counts[0] + 2, counts[0] + 2]
    with pytest.raises(UsageError, match="times"):
        inputs.frames_prompt(loaded, "what", num_frames=1, times_seconds=None, timestamps=True)


def test_unknown_words_are_named(loaded: LoadedModel) -> None:
    visual = pack(encode(loaded, frames(1)), [1])
    said = Prefix(loaded, visual, times_seconds=[700.0]).answer("what is a zebra?", max_new_tokens=1)
    assert "zebra" in said.warnings[0]
    assert "0:11:40" in said.warnings[0]
    assert "what" not in said.warnings[0].split(": ", 1)[1]


def test_what_does_not_fit_is_refused_with_numbers(loaded: LoadedModel) -> None:
    text = inputs.text_tokens(loaded, "what", num_frames=2, times_seconds=[1, 2])
    fits = {"question": "what", "times_seconds": [1.0, 2.0]}
    inputs.check_fits(loaded, scales=[144, 36], max_new_tokens=256 - 180 - text, **fits)
    with pytest.raises(DoesNotFitError, match=rf"257 tokens \(180 visual \+ {text} text .*256: use --budget 179"):
        inputs.check_fits(loaded, scales=[144, 36], max_new_tokens=257 - 180 - text, **fits)
    with pytest.raises(DoesNotFitError, match="shorter question"):
        inputs.check_fits(loaded, scales=[1], max_new_tokens=256, question="what")


def test_the_refusal_comes_before_the_model_runs(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    visual = pack(encode(loaded, frames(1)), [576])
    monkeypatch.setattr(generation, "generate", lambda *args, **kwargs: pytest.fail("the model ran"))
    with pytest.raises(DoesNotFitError, match="576 visual"):
        Prefix(loaded, visual, times_seconds=None).answer("what")


def test_next_frames_end_with_their_newline(tmp_path: Path) -> None:
    model = load_tiny(tmp_path / "n", use_image_newline=True)
    visual = pack(encode(model, frames(2)), [9, 1])
    blocks = inputs.frame_blocks(model, visual)
    assert [len(block) for block in blocks] == [10, 2]
    assert torch.equal(blocks[1][1], model.model.model.image_newline)
    said = Prefix(model, visual, times_seconds=None).answer("what", max_new_tokens=1)
    assert said.visual_tokens == 10
    assert said.text_tokens == inputs.text_tokens(model, "what", num_frames=2, timestamps=False)


def test_anyres_picture_has_the_counted_tokens(tmp_path: Path) -> None:
    pinpoints = [[336, 672], [672, 336], [672, 672]]
    model = load_tiny(
        tmp_path / "a", use_image_newline=True, image_aspect_ratio="anyres", image_grid_pinpoints=pinpoints
    )
    picture = frames(1)[0]
    for scale in (1, 9, 36):
        count = inputs.image_tokens(model, size_wh=(40, 30), scale=scale)
        assert len(inputs.encode_image(model, picture, scale=scale)) == count


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_stays_close(loaded: LoadedModel, dtype: str) -> None:
    half = checkpoint.load(str(loaded.folder), device="cpu", dtype=dtype)
    grids = encode(half, frames(2))
    torch.testing.assert_close(grids.float(), encode(loaded, frames(2)), atol=0.05, rtol=0.05)
    said = Prefix(half, pack(grids, [1, 9]), times_seconds=[1, 2]).answer("what is it", max_new_tokens=3)
    assert 0 <= said.answer_tokens <= 3


def test_processor_and_model_alone_give_the_same_answer(loaded: LoadedModel) -> None:
    from transformers import AutoProcessor

    write_processor(loaded.folder)
    processor = AutoProcessor.from_pretrained(loaded.folder)
    assert isinstance(processor, M3VideoProcessor)
    inputs = processor(
        videos=frames(2), text="what is it", frame_scales=[9, 1], times_seconds=[1.0, 2.0], return_tensors="pt"
    )
    visual = pack(encode(loaded, frames(2)), [9, 1])
    said = loaded.model.generate(**inputs, max_new_tokens=6, do_sample=False, eos_token_id=2, pad_token_id=0)
    ours = Prefix(loaded, visual, times_seconds=[1.0, 2.0]).answer("what is it", max_new_tokens=6)
    new = said[0, inputs["input_ids"].shape[1] :].tolist()
    assert loaded.codec.decode([token for token in new if token != 2]) == ours.text
    with pytest.raises(ValueError, match="image tokens in the prompt"):
        loaded.model(**{**inputs, "frame_scales": torch.tensor([9, 9])})
