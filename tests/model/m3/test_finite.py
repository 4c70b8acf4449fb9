"""Numbers that are not finite: every way to an answer says so, and names the tensor or the part of the model."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from m3video.errors import NotFiniteError
from m3video.evaluation.asking import answer_many
from m3video.evaluation.frame_tokens import encode_frames
from m3video.model.m3 import checkpoint, encoding, inputs
from m3video.model.m3.answer import FramesQuestion, GeneratedAnswer, answer_batch, answer_prompt
from m3video.model.m3.checkpoint import LoadedModel
from m3video.model.m3.convert import convert
from m3video.model.m3.encoding import encode, encode_pooled
from m3video.model.m3.finite import is_finite
from m3video.model.m3.pooling import pack
from m3video.model.m3.prefix import Prefix
from m3video.model.m3.saliency import CoarseAttention
from tests.model.tiny import WORDS, load_tiny, save_original, save_tiny, tiny_config

PICTURES = list(np.random.default_rng(1).integers(0, 255, (3, 30, 40, 3), dtype=np.uint8))
TIMES = [1.0, 2.0, 3.0]
QUESTION = "what is it"

TOWER = "model.vision_tower.encoder.layers.0.mlp.fc1.weight"
PROJECTOR = "model.multi_modal_projector.linear_2.weight"
EMBEDDINGS = "model.language_model.embed_tokens.weight"
LAYER = "model.language_model.layers.1.mlp.down_proj.weight"
NORM = "model.language_model.norm.weight"
HEAD = "lm_head.weight"


def change(folder: Path, name: str, numbers: Callable[[torch.Tensor], object]) -> Path:
    """One tensor of a folder, by the end of its name, with other numbers; returns the file that it lies in."""
    for file in folder.glob("*.safetensors"):
        weights = load_file(file)
        for key in weights:
            if key.replace("language_model.model.", "language_model.").endswith(name.removeprefix("model.")):
                numbers(weights[key])
                save_file(weights, file, metadata={"format": "pt"})
                return file
    raise AssertionError(f"{folder} holds no {name}")


def put(value: float) -> Callable[[torch.Tensor], object]:
    """Sets one number in each row, so that no word can go round it."""
    return lambda weights: weights[..., -1].fill_(value)


def spoilt(folder: Path, name: str, value: float = math.nan) -> LoadedModel:
    change(save_tiny(folder), name, put(value))
    return checkpoint.load(str(folder), device="cpu", dtype="float32")


def session(loaded: LoadedModel) -> object:
    visual = pack(encode(loaded, PICTURES), [9, 36, 1])
    return Prefix(loaded, visual, times_seconds=TIMES).answer(QUESTION, max_new_tokens=4)


def batch(loaded: LoadedModel) -> object:
    visual = encode_pooled(loaded, PICTURES, [9, 36, 1])
    one, two = answer_batch(loaded, [FramesQuestion(visual, QUESTION, TIMES), FramesQuestion(visual, "is it", TIMES)])
    assert isinstance(two, NotFiniteError)
    assert isinstance(one, NotFiniteError)
    raise one


def evaluation(loaded: LoadedModel) -> object:
    frames = encode_frames(loaded, PICTURES)
    return answer_many(loaded, [frame.grid_SD[:9] for frame in frames], [QUESTION, "is it"], times_seconds=TIMES)


def image(loaded: LoadedModel) -> object:
    block = inputs.encode_image(loaded, PICTURES[0], scale=9)
    return answer_prompt(loaded, "frame <image> what", [block], max_new_tokens=4)


def first_look(loaded: LoadedModel) -> object:
    return CoarseAttention(loaded, pack(encode(loaded, PICTURES), [9, 9, 9]), times_seconds=TIMES).attend(QUESTION)


@pytest.mark.parametrize("name", [TOWER, PROJECTOR, EMBEDDINGS, LAYER, NORM, HEAD])
def test_a_damaged_tensor_is_named_on_every_way(name: str, tmp_path: Path) -> None:
    loaded = spoilt(tmp_path / "m", name)
    for way in (session, batch, evaluation, image, first_look):
        if way is first_look and name in (LAYER, NORM, HEAD):
            way(loaded)  # attention does not come by what stands after its last layer
            continue
        with pytest.raises(NotFiniteError, match=r"not finite: the weights are damaged \(tensor ") as failure:
            way(loaded)
        told = str(failure.value)
        assert name.removeprefix("model.language_model.") in told
        assert "model.safetensors" in told
        assert "\n" not in told
        assert failure.value.exit_code == 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", [PROJECTOR, NORM, HEAD])
def test_infinity_is_as_bad(name: str, value: float, tmp_path: Path) -> None:
    with pytest.raises(NotFiniteError, match="damaged"):
        session(spoilt(tmp_path / "m", name, value))


@pytest.mark.parametrize(("inside", "as_bin"), [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize("name", ["mm_projector.2.weight", "embeddings.patch_embedding.weight"])
def test_the_tensor_has_the_name_that_its_file_gives_it(name: str, inside: bool, as_bin: bool, tmp_path: Path) -> None:
    folder = save_original(tmp_path / "old", inside=inside, as_bin=as_bin)
    tower = None
    if inside:  # whose heads no tensor tells
        tower = str(tmp_path / "clip")
        (tmp_path / "clip").mkdir()
        (tmp_path / "clip" / "config.json").write_text(json.dumps(tiny_config().vision_config.to_dict()))
    place = tmp_path / "tower" if "patch" in name and not inside else folder
    if as_bin:
        weights = torch.load(folder / "pytorch_model.bin", weights_only=True)
        next(tensor for key, tensor in weights.items() if key.endswith(name))[0] = math.nan
        torch.save(weights, folder / "pytorch_model.bin")
        file = folder / "pytorch_model.bin"
    else:
        file = change(place, name, put(math.nan))
    with pytest.raises(NotFiniteError, match=rf"\(tensor \S*{name} of {file} "):
        session(checkpoint.load(str(folder), device="cpu", dtype="float32", vision_tower=tower))


def make_large(folder: Path, part: str, by: float) -> None:
    """Sums in `part` become some hundred times as large as `by`, which each of its weights is at most."""
    before, name = {
        "vision tower": ("vision_tower.encoder.layers.0.mlp.fc1.bias", "vision_tower.encoder.layers.0.mlp.fc2.weight"),
        "projector": ("multi_modal_projector.linear_1.bias", PROJECTOR),
        "language model": ("embed_tokens.weight", NORM),
    }[part]
    change(folder, before, lambda weights: weights[..., -1:].fill_(10.0))
    change(folder, name, lambda weights: weights.fill_(by))


@pytest.mark.parametrize("part", ["vision tower", "projector", "language model"])
def test_sums_beyond_float16_are_reported_by_their_part(part: str, tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "m")
    make_large(folder, part, 6e4)
    half = checkpoint.load(str(folder), device="cpu", dtype="float16")
    for way in (session, batch, evaluation, image):
        with pytest.raises(NotFiniteError, match=rf"sums in the {part} of .* exceed float16: use bfloat16 or float32"):
            way(half)
    for dtype in ("bfloat16", "float32"):
        session(checkpoint.load(str(folder), device="cpu", dtype=dtype))


def test_a_weight_beyond_float16_is_not_called_damaged(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "m")
    change(folder, NORM, lambda weights: weights.fill_(1e5))
    with pytest.raises(NotFiniteError, match=r"tensor \S*norm.weight of .* exceeds float16: use bfloat16 or float32"):
        session(checkpoint.load(str(folder), device="cpu", dtype="float16"))
    session(checkpoint.load(str(folder), device="cpu", dtype="float32"))


def test_float32_itself_can_be_too_small(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "m")
    make_large(folder, "projector", 3e38)
    with pytest.raises(NotFiniteError, match=r"projector of .* exceed float32, so its weights are damaged"):
        session(checkpoint.load(str(folder), device="cpu", dtype="float32"))


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_one_of_a_batch_does_not_spoil_the_others(bad: int, tmp_path: Path) -> None:
    whole = load_tiny(tmp_path / "m")
    visual = pack(encode(whole, PICTURES), [9, 36, 1])
    asked = [FramesQuestion(visual, "is it" if number != bad else "is it red", TIMES) for number in range(3)]
    good = answer_batch(whole, asked, max_new_tokens=6)
    with torch.inference_mode():
        whole.model.get_input_embeddings().weight[WORDS.index("red")] = math.nan
    said = answer_batch(whole, asked, max_new_tokens=6)
    assert isinstance(said[bad], NotFiniteError)
    assert "embed_tokens" in str(said[bad])
    for number in {0, 1, 2} - {bad}:
        assert isinstance(said[number], GeneratedAnswer)
        assert said[number] == good[number]


def test_a_row_that_has_ended_is_not_blamed_for_its_padding(tmp_path: Path) -> None:
    loaded = load_tiny(tmp_path / "m")
    visual = pack(encode(loaded, PICTURES), [9, 36, 1])
    asked = [FramesQuestion(visual, question, TIMES) for question in ("is it", "what is it red", "frame 3")]
    rows: list[list[int]] = [[7, 2], [7, 8, 9, 8], [2]]
    step = 0

    def speak(_module: object, _inputs: object, logits: torch.Tensor) -> torch.Tensor:
        """Each row says what `rows` has for it, and makes no sense when it has ended."""
        nonlocal step
        told = torch.full_like(logits, math.nan)
        for number, ids in enumerate(rows):
            if step < len(ids):
                told[number] = 0.0
                told[number, :, ids[step]] = 1.0
        step += 1
        return told

    hook = loaded.model.lm_head.register_forward_hook(speak)
    said = answer_batch(loaded, asked, max_new_tokens=4)
    hook.remove()
    assert [one.answer_tokens for one in said if isinstance(one, GeneratedAnswer)] == [1, 4, 0]


def test_numbers_that_go_wrong_later_end_the_answer(tmp_path: Path) -> None:
    loaded = load_tiny(tmp_path / "m")
    visual = pack(encode(loaded, PICTURES), [9, 36, 1])
    held = Prefix(loaded, visual, times_seconds=TIMES)
    expected = held.answer("is it", max_new_tokens=5)
    assert expected.answer_tokens == 5
    steps = 0

    def third(_module: object, _inputs: object, logits: torch.Tensor) -> torch.Tensor:
        nonlocal steps
        steps += 1
        return logits * math.nan if steps == 3 else logits

    hook = loaded.model.lm_head.register_forward_hook(third)
    with pytest.raises(NotFiniteError, match="sums in the language model"):
        held.answer("is it", max_new_tokens=40)
    hook.remove()
    assert steps <= 4, "nothing is generated beyond it"
    again = held.answer("is it", max_new_tokens=5)
    assert (again.text, again.reused_tokens) == (expected.text, 0)


def test_a_follow_up_is_reported_too_and_spoils_no_later_one(tmp_path: Path) -> None:
    loaded = load_tiny(tmp_path / "m")
    held = Prefix(loaded, pack(encode(loaded, PICTURES), [9, 36, 1]), times_seconds=TIMES)
    expected = held.answer("is it", max_new_tokens=4)
    with torch.inference_mode():
        loaded.model.get_input_embeddings().weight[WORDS.index("red")] = math.nan
    with pytest.raises(NotFiniteError):
        held.answer("is it red", max_new_tokens=4)
    assert held.answer("is it", max_new_tokens=4).text == expected.text


@pytest.mark.parametrize("bad", range(5))
def test_every_micro_batch_is_looked_at(bad: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, real, seen = load_tiny(tmp_path / "m"), encoding._grids, []

    def one_is_nan(loaded: LoadedModel, pixels: torch.Tensor) -> torch.Tensor:
        grids = real(loaded, pixels)
        if len(seen) == bad:
            grids[0, 575, 3] = math.nan
        seen.append(len(grids))
        return grids

    monkeypatch.setattr(encoding, "_grids", one_is_nan)
    for run in (
        lambda: encode(loaded, [PICTURES[0]] * 5, vision_batch=1),
        lambda: encode_pooled(loaded, [PICTURES[0]] * 5, [1] * 5, vision_batch=1),
    ):
        seen.clear()
        with pytest.raises(NotFiniteError):
            run()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_number_among_many_is_found(dtype: torch.dtype, value: float) -> None:
    numbers = torch.randn(3, 576, 65).to(dtype)
    assert is_finite(numbers)
    assert is_finite(torch.full((4,), torch.finfo(dtype).max, dtype=dtype))
    for place in (0, 576 * 65 + 7, numbers.numel() - 1):
        spoilt = numbers.clone()
        spoilt.view(-1)[place] = value
        assert not is_finite(spoilt)
    assert is_finite(torch.empty(0, 4))


@pytest.mark.parametrize("name", [TOWER, PROJECTOR, EMBEDDINGS, NORM, HEAD])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_convert_refuses_them_and_leaves_nothing(name: str, value: float, tmp_path: Path) -> None:
    source = save_tiny(tmp_path / "old")
    # A single number of a word that is never used: no answer would show it.
    change(source, name, lambda weights: weights.view(-1)[-1:].fill_(value))
    with pytest.raises(NotFiniteError, match=rf"damaged \(tensor \S+ of {source / 'model.safetensors'}") as failure:
        convert(source, tmp_path / "new")
    assert name.removeprefix("model.language_model.") in str(failure.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old"]


def test_convert_refuses_a_number_format_that_is_too_small(tmp_path: Path) -> None:
    source = save_tiny(tmp_path / "old")
    change(source, HEAD, lambda weights: weights.mul_(0).add_(7e4))
    with pytest.raises(NotFiniteError, match=r"tensor lm_head.weight of .* exceeds float16: use bfloat16 or float32"):
        convert(source, tmp_path / "new", dtype="float16")
    assert convert(source, tmp_path / "new", dtype="bfloat16").is_dir()


def test_files_that_are_gone_are_no_second_error(tmp_path: Path) -> None:
    loaded = spoilt(tmp_path / "m", NORM)
    (tmp_path / "m" / "model.safetensors").unlink()
    with pytest.raises(NotFiniteError, match=r"tensor model\.language_model\.norm\.weight of .*/m holds"):
        session(loaded)
