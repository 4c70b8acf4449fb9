"""Frames pooled in their own micro-batch: the same tokens, and never more grids or pictures than one batch holds."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from m3video.model.m3.checkpoint import LoadedModel
from m3video.model.m3.encoding import encode, encode_pooled, grid_batches
from m3video.model.m3.images import normalise, pad_pixels, to_pixels
from m3video.model.m3.pooling import pack
from m3video.model.m3.square import as_square, pad_to_square
from tests.model.tiny import load_tiny

SCALES = [576, 1, 9, 144, 36, 576, 1]


class Picture(np.ndarray):
    """An array that can be watched."""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_tiny(tmp_path_factory.mktemp("encoding") / "m")


def frames(n: int) -> list[np.ndarray]:
    return list(np.random.default_rng(n).integers(0, 255, (n, 30, 40, 3), dtype=np.uint8))


@pytest.mark.parametrize("vision_batch", [1, 3, 7, 16])
def test_the_tokens_are_those_of_whole_grids(loaded: LoadedModel, vision_batch: int) -> None:
    done: list[int] = []
    ours = encode_pooled(loaded, iter(frames(7)), SCALES, vision_batch=vision_batch, on_batch=done.append)
    whole = pack(encode(loaded, frames(7), vision_batch=vision_batch), SCALES)
    assert torch.equal(ours.tokens_TD, whole.tokens_TD)
    assert (ours.offsets_N, ours.scale_N) == (whole.offsets_N, whole.scale_N)
    assert done == [*range(vision_batch, 7, vision_batch), 7]


def test_one_micro_batch_of_grids_is_alive_and_its_pictures(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    born: dict[str, list[Any]] = {"grids": [], "pictures": []}
    most = {"grids": 0, "pictures": 0}

    def count(what: str, thing: Any) -> None:
        born[what].append(weakref.ref(thing))
        most[what] = max(most[what], sum(ref() is not None for ref in born[what]))

    def watched(pixels: Tensor, *, batch_size: int) -> Tensor:
        gc.collect()
        made = plain(pixels, batch_size=batch_size)
        count("grids", made)
        return made

    def decoded() -> Iterator[np.ndarray]:
        for picture in frames(12):
            shown = picture.view(Picture)
            count("pictures", shown)
            yield shown
            del shown

    plain = loaded.model.visual_grids
    monkeypatch.setattr(loaded.model, "visual_grids", watched)
    visual = encode_pooled(loaded, decoded(), [1, 9] * 6, vision_batch=4)
    assert most["grids"] == 1
    # Those of the batch, and the one that is being decoded.
    assert most["pictures"] <= 5
    assert visual.tokens_TD.untyped_storage().nbytes() == 60 * 16 * 4


@pytest.mark.parametrize(("pictures", "scales"), [(2, [1]), (1, [1, 9]), (0, []), (0, [1])])
def test_pictures_and_scales_that_do_not_match(loaded: LoadedModel, pictures: int, scales: list[int]) -> None:
    with pytest.raises(ValueError, match="scales"):
        encode_pooled(loaded, iter(frames(pictures)), scales)


def test_a_decoder_that_fails_says_so(loaded: LoadedModel) -> None:
    def broken() -> Iterator[np.ndarray]:
        yield frames(1)[0]
        raise OSError("broken file")

    with pytest.raises(OSError, match="broken file"):
        encode_pooled(loaded, broken(), [1, 1])


@pytest.mark.parametrize("size", [(30, 40), (336, 336), (1, 700), (900, 50)])
def test_squares_are_what_clips_own_preprocessing_gives(size: tuple[int, int]) -> None:
    pictures = list(np.random.default_rng(1).integers(0, 255, (2, *size, 3), dtype=np.uint8))
    theirs = to_pixels([pad_to_square(Image.fromarray(picture)) for picture in pictures])
    assert torch.equal(pad_pixels(pictures), theirs)
    with torch.inference_mode():
        assert torch.equal(normalise(torch.from_numpy(np.stack([as_square(p) for p in pictures]))), theirs)
    assert not pad_pixels(pictures).is_inference()


def test_grids_come_in_batches(loaded: LoadedModel) -> None:
    batches = list(grid_batches(loaded, iter(frames(5)), vision_batch=2))
    assert [len(batch) for batch in batches] == [2, 2, 1]
    assert torch.equal(torch.cat(batches), encode(loaded, frames(5), vision_batch=2))
