"""Training `small` at a tiny size: what is packed together costs what it costs alone, and the chain ends in a model."""

from __future__ import annotations

import io
import json
import random
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from m3video.errors import UsageError
from m3video.model.m3 import checkpoint
from m3video.model.m3.conv_tower import EfficientNetLiteConfig, EfficientNetLiteModel
from m3video.model.m3.encoding import encode_pooled
from m3video.model.m3.inputs import frames_prompt
from m3video.model.m3.pooling import pack as pool_each
from m3video.model.m3.prefix import Prefix
from m3video.model.m3.small_base import BasePlace
from m3video.model.m3.small_part import base_digests, write_whole
from m3video.model.tokenizer import IMAGE_ID, load_text, prompt_ids
from m3video.training.finetune import TrainedParameters
from m3video.training.natural import train_small as module
from m3video.training.natural.features import NaturalFeatures
from m3video.training.natural.low_rank import add_low_rank, low_rank_factors
from m3video.training.natural.packing import IGNORED, Sample, lay_out, pack
from m3video.training.natural.recipe import SmallRecipe
from m3video.training.natural.samples import AT, SampleMaker
from m3video.training.natural.stages import answer_losses
from m3video.training.natural.start import PROMPT_STYLE, build_small, project
from m3video.training.pretrained_tower import TowerHead
from m3video.training.train import train
from tests.model import tiny_base
from tests.model.tiny import conv_settings

PICTURES = 8
NAMES = ("tench", "cab")
CAPTIONS = (
    "A brown dog runs through the snow .",
    "A dog is running in the snow .",
    "Two men sit on a bench .",
    "Two men are sitting on a wooden bench .",
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base.save_folder(tmp_path_factory.mktemp("base"))


def tower_of(seed: int = 4) -> tuple[EfficientNetLiteModel, TowerHead]:
    """A random tower, and a head of it."""
    config = conv_settings()["vision_config"]
    assert isinstance(config, EfficientNetLiteConfig)
    torch.manual_seed(seed)
    tower = EfficientNetLiteModel(config).eval()
    coarse = 12
    return tower, TowerHead(torch.randn(10, coarse), torch.randn(10), torch.randn(5, 10), torch.randn(5))


@pytest.fixture(scope="module")
def built(base: Path) -> Any:
    torch.manual_seed(0)
    model = build_small(base, tower_of()[0], projector_width=24)
    for parameter in model.model.multi_modal_projector.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.float()


@pytest.fixture(scope="module")
def features() -> NaturalFeatures:
    draw = np.random.default_rng(1)
    shapes = (PICTURES, 24, 24, 8), (PICTURES, 12, 12, 12)
    fine, coarse = (draw.normal(size=shape).astype(np.float16) for shape in shapes)
    return NaturalFeatures(fine, coarse, {("flickr8k", f"{n}.jpg"): n for n in range(PICTURES)})


REEL = Sample((1, 4, 2), (9, 1, 36), (0.0, 3.0, 75.0), (("What is it?", "a dog"), ("At 0:03?", "12"), ("user", "er")))
SINGLE = Sample((3,), (144,), None, (("What is shown?", "Two men."),))


@torch.no_grad()
def test_what_is_packed_costs_what_it_costs_alone(base: Path, built: Any, features: NaturalFeatures) -> None:
    codec = load_text(base)
    alone = []
    for sample in (REEL, SINGLE):
        for one in sample.questions:
            only = Sample(sample.rows, sample.scales, sample.times_seconds, (one,))
            alone.append(answer_losses(built, features, pack(codec, PROMPT_STYLE, [only], torch.device("cpu"))))
    together = answer_losses(built, features, pack(codec, PROMPT_STYLE, [REEL, SINGLE], torch.device("cpu")))
    assert torch.allclose(together, torch.cat(alone), atol=1e-4)
    assert together.std() > 0.1


def test_the_ids_are_those_of_the_prompt_that_is_answered(base: Path, built: Any) -> None:
    codec = load_text(base)
    loaded = checkpoint.LoadedModel(built, codec, "tiny", base, 512)
    prefix, branches = lay_out(codec, PROMPT_STYLE, REEL)
    assert prefix.count(IMAGE_ID) == sum(REEL.scales)
    for (question, reply), (asked, answered) in zip(REEL.questions, branches, strict=True):
        prompt = frames_prompt(loaded, question, num_frames=3, times_seconds=REEL.times_seconds)
        expected = iter(prompt_ids(codec, prompt))
        for scale in REEL.scales:
            for token in expected:
                if token == IMAGE_ID:
                    break
                assert prefix.pop(0) == token
            assert [prefix.pop(0) for _ in range(scale)] == [IMAGE_ID] * scale
        assert prefix == []
        assert asked == list(expected)
        assert answered == [*codec.encode(reply), codec.eos_id]
        prefix, _ = lay_out(codec, PROMPT_STYLE, REEL)


def test_labels_are_the_tokens_that_follow(base: Path) -> None:
    codec = load_text(base)
    packed = pack(codec, PROMPT_STYLE, [REEL, SINGLE], torch.device("cpu"))
    labels = packed.labels_L[packed.labels_L != IGNORED].tolist()
    answers = [reply for sample in (REEL, SINGLE) for _, reply in sample.questions]
    assert labels == [token for reply in answers for token in (*codec.encode(reply), codec.eos_id)]
    within = (packed.labels_L[:-1] != IGNORED) & (packed.labels_L[1:] != IGNORED)
    assert torch.equal(packed.labels_L[:-1][within], packed.ids_L[1:][within])


@torch.no_grad()
@pytest.mark.parametrize("scale", [1, 9, 36, 144, 576])
def test_the_short_way_to_tokens_gives_those_of_the_model(built: Any, features: NaturalFeatures, scale: int) -> None:
    fine, coarse = features.read([0, 5], torch.device("cpu"))
    cells = torch.cat([fine, coarse.repeat_interleave(2, 1).repeat_interleave(2, 2)], -1).flatten(1, 2)
    projector = built.model.multi_modal_projector
    expected = pool_each(projector(cells), [scale, scale]).tokens_TD
    assert torch.allclose(project(projector, fine, coarse, [scale, scale]), expected, atol=1e-4)


@pytest.fixture(scope="module")
def photo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    draw = np.random.default_rng(2)
    flickr = [
        {"image": f"{n}.jpg", "captions": list(CAPTIONS[2 * (n % 2) : 2 * (n % 2) + 2] * 2)} for n in range(PICTURES)
    ]
    sets: dict[str, list[dict[str, Any]]] = {
        "flickr8k/train.jsonl": flickr,
        "flickr8k/dev.jsonl": [],
        "imagenet/one-of-each.jsonl": [
            {"image": f"n{n}.jpg", "index": n, "wnid": f"n{n}", "name": name} for n, name in enumerate(NAMES)
        ],
        "daquar/questions.jsonl": [{"image": "image1.jpg", "question": "what is on the bed", "answer": "pillow"}],
    }
    for name, rows in sets.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        with tarfile.open(folder / name.replace(".jsonl", ".tar"), "w") as tar:
            for image in {row["image"] for row in rows}:
                stored = io.BytesIO()
                Image.fromarray(draw.integers(0, 256, (24, 32, 3), dtype=np.uint8)).save(stored, "JPEG")
                member = tarfile.TarInfo(image)
                member.size = len(stored.getvalue())
                tar.addfile(member, io.BytesIO(stored.getvalue()))
    return folder


@pytest.fixture
def recipe_file(photo_folder: Path, tmp_path: Path) -> Callable[..., Path]:
    def write(**changes: object) -> Path:
        path = tmp_path / "small.yaml"
        path.write_text(json.dumps({"photos": str(photo_folder), "projector_width": 24, "rank": 2, **changes}))
        return path

    return write


def test_the_chain_ends_in_a_part_that_becomes_a_model(
    recipe_file: Callable[..., Path], base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "load_pretrained_tower", tower_of)
    monkeypatch.setattr(module, "_base", lambda: BasePlace(base))
    accepted = [{"name": "tiny", "of": "tensors", "digest": base_digests(base)["tensors"]}]
    monkeypatch.setattr(module, "ACCEPTED_BASES", accepted)
    out = train(recipe_file(), run_dir=tmp_path / "run", device="cpu", smoke=True)
    again = train(recipe_file(), run_dir=tmp_path / "run", device="cpu", smoke=True, out=tmp_path / "again")
    name = "adapter_model.safetensors"
    assert (out / name).read_bytes() == (again / name).read_bytes()
    whole = tmp_path / "whole"
    whole.mkdir()
    write_whole(out, BasePlace(base), whole)
    loaded = checkpoint.load(str(whole), device="cpu")
    picture = np.zeros((30, 40, 3), np.uint8)
    visual = encode_pooled(loaded, [picture, picture], [9, 1])
    answer = Prefix(loaded, visual, times_seconds=[0.0, 2.0]).answer("What is it?", max_new_tokens=3)
    assert answer.visual_tokens == 10
    with pytest.raises(UsageError, match="holds a run of another recipe"):
        train(recipe_file(rank=3), run_dir=tmp_path / "run", device="cpu", smoke=True)


def test_projector_and_updates_are_trained_and_nothing_else(base: Path) -> None:
    model = build_small(base, tower_of()[0], projector_width=24)
    add_low_rank(model, 2)
    names = {name.replace("/", ".") for name, _ in TrainedParameters(model).named_parameters()}
    matrices = 7 * tiny_base.config().num_hidden_layers
    assert sum(name.startswith("model.multi_modal_projector.") for name in names) == 4
    assert sum("lora_" in name for name in names) == 2 * matrices == len(names) - 4
    assert len(low_rank_factors(model)) == matrices


def test_reels_ask_about_scenes_that_are_shown(photo_folder: Path, features: NaturalFeatures) -> None:
    maker = SampleMaker(SmallRecipe(photos=photo_folder, most_scenes=5, most_visual_tokens=64), features.row_of)
    kinds = set()
    for seed in range(60):
        reel = maker.reel(random.Random(seed))
        assert reel.times_seconds is not None
        assert list(reel.times_seconds) == sorted(set(reel.times_seconds))
        assert 2 <= len(reel.rows) == len(set(reel.rows)) == len(reel.scales) <= 5
        assert sum(reel.scales) <= 64
        clocks = [f"{int(t) // 60}:{int(t) % 60:02d}" for t in reel.times_seconds]
        by_time = dict(zip(clocks, reel.rows, strict=True))
        changed = {time: NAMES[number] for time, number in zip(clocks, reel.classes, strict=True) if number >= 0}
        for question, reply in reel.questions:
            described = [t for t in by_time for form in AT if question.lower().startswith(form.format(t).lower()[:-1])]
            if described:
                kinds.add("at")
                sentences = {c.replace(" .", ".") for c in CAPTIONS[2 * (by_time[described[0]] % 2) :][:2]}
                name = changed.get(described[0])
                if name is None:
                    assert reply in sentences
                else:
                    assert any(word in reply for word in (name, "fish", "vehicle"))
            elif reply in changed:
                kinds.add("when named")
                assert changed[reply] in question.lower()
            elif reply in by_time and not changed:  # one scene has a dog, all others have men; or the other way round
                kinds.add("when")
                other = [row % 2 for time, row in by_time.items() if time != reply]
                assert by_time[reply] % 2 not in other
    assert kinds == {"at", "when", "when named"}
