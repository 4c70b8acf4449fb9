"""Training `small` at a tiny size: what is packed together costs what it costs alone, and the chain ends in a model."""

from __future__ import annotations

import copy
import io
import json
import random
import re
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
from m3video.training.natural.reel_frames import draw_scales
from m3video.training.natural.reels import AT, PICTURE_WORDS
from m3video.training.natural.samples import SampleMaker
from m3video.training.natural.stages import answer_losses
from m3video.training.natural.start import PROMPT_STYLE, build_small, project
from m3video.training.natural.text_pictures import TextAnswers
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
SINGLE = Sample((3,), (144,), None, (("What is shown?", "Two men."), ("What is shown?", "a dog"), ("user", "er")))


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
    for (question, reply), (asked, (answered,)) in zip(REEL.questions, branches, strict=True):
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
    within = (packed.labels_L[:-1] != IGNORED) & (packed.positions_L[1:] == packed.positions_L[:-1] + 1)
    assert torch.equal(packed.labels_L[:-1][within], packed.ids_L[1:][within])


@torch.no_grad()
@pytest.mark.parametrize("num_classes", [0, 7])
@pytest.mark.parametrize("scale", [1, 9, 36, 144, 576])
def test_the_short_way_to_tokens_gives_those_of_the_model(
    built: Any, features: NaturalFeatures, scale: int, num_classes: int
) -> None:
    fine, coarse = features.read([0, 5], torch.device("cpu"))
    cells = torch.cat([fine, coarse.repeat_interleave(2, 1).repeat_interleave(2, 2)], -1).flatten(1, 2)
    projector = copy.deepcopy(built.model.multi_modal_projector)
    projector.linear_1.weight[:num_classes, : fine.shape[-1]] = 0  # classes are channels of the head alone
    expected = pool_each(projector(cells), [scale, scale]).tokens_TD
    found = project(projector, fine, coarse, [scale, scale], num_classes=num_classes)
    assert torch.allclose(found, expected, atol=1e-4)


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
    recipe = SmallRecipe(photos=photo_folder, most_scenes=5, most_frames=7, most_visual_tokens=64)
    maker = SampleMaker(recipe, features.row_of)
    kinds = set()
    for seed in range(120):
        reel = maker.reels.reel(random.Random(seed))
        times = reel.times_seconds
        assert times is not None
        assert list(times) == sorted(set(times))
        assert 2 <= len(reel.rows) == len(reel.scales) == len(times) <= 7
        shown = list(zip(reel.rows, reel.classes, strict=True))
        scenes = [one for number, one in enumerate(shown) if number == 0 or one != shown[number - 1]]
        assert 2 <= len(scenes) == len(set(scenes)) <= 5
        assert sum(reel.scales) <= recipe.long_visual_tokens
        for question, reply in reel.questions:
            about = re.search(r"\d+:\d\d", question)
            if about and question.lower().rstrip("?.") in {form.format(about[0]).lower().rstrip("?.") for form in AT}:
                minutes, seconds = about[0].split(":")
                asked = 60 * int(minutes) + int(seconds)
                row, number = shown[min(range(len(times)), key=lambda n: abs(times[n] - asked))]
                kinds.add("at")
                if number >= 0:
                    assert NAMES[number] in reply
                else:
                    assert reply in {c.replace(" .", ".") for c in CAPTIONS[2 * (row % 2) :][:2]}
            elif re.fullmatch(r"\d+:\d\d", reply):
                frame = [f"{int(t) // 60}:{int(t) % 60:02d}" for t in times].index(reply)
                row, number = shown[frame]
                assert frame == 0 or shown[frame - 1] != shown[frame], "not the scene's first frame"
                if number >= 0:
                    kinds.add("when named")
                    assert NAMES[number] in question.lower()
                else:  # one scene has a dog, all others have men; or the other way round
                    kinds.add("when")
                    assert row % 2 not in {other % 2 for other, _ in scenes if other != row}
            elif reply.isdigit():
                kinds.add("count")
                assert int(reply) == len(scenes)
    assert kinds == {"at", "when", "when named", "count"}


def test_a_question_without_a_time_is_about_what_one_scene_alone_shows(
    photo_folder: Path, features: NaturalFeatures
) -> None:
    recipe = SmallRecipe(photos=photo_folder, most_scenes=4, most_frames=8, most_visual_tokens=64)
    maker = SampleMaker(recipe, features.row_of)
    kinds = set()
    for seed in range(300):
        reel = maker.reels.reel(random.Random(seed))
        scenes = set(zip(reel.rows, reel.classes, strict=True))
        dogs = sum(number < 0 and row % 2 == 0 for row, number in scenes)
        men = sum(number < 0 and row % 2 == 1 for row, number in scenes)
        fish = sum(number >= 0 for _, number in scenes)  # both classes by their numbers
        for question, reply in reel.questions:
            if re.search(r"\d:\d\d|first|earlier|after", question + reply) or reply.startswith(("Yes", "No")):
                continue
            if "animal" in question:
                kinds.add("fish" if "fish" in reply else "dog")
                assert "fish" in reply or "dog" in reply
                assert dogs + fish == 1
            elif re.search(r"\b(man|men)\b", question):
                kinds.add("men")
                assert men == 1
    assert {"dog", "men"} <= kinds


def test_a_text_in_a_reel_is_asked_for_by_its_time(photo_folder: Path, features: NaturalFeatures) -> None:
    page, overlay = PICTURES - 2, PICTURES - 1
    written = ("exit", "12")
    texts = {page: TextAnswers("page", written, 0.09), overlay: TextAnswers("overlay", written, 0.09, "sign")}
    shown = {key: row for key, row in features.row_of.items() if row not in texts}
    recipe = SmallRecipe(photos=photo_folder, most_scenes=4, most_visual_tokens=700)
    maker = SampleMaker(recipe, shown, texts=texts)
    asked = 0
    for seed in range(100):
        reel = maker.reels.reel(random.Random(seed))
        assert page not in reel.rows
        frames = [number for number, row in enumerate(reel.rows) if row == overlay]
        assert all(reel.scales[frame] >= 36 for frame in frames), "too coarse to read"
        for question, reply in reel.questions:
            if "exit 12" not in reply:
                continue
            asked += 1
            minutes, seconds = re.findall(r"(\d+):(\d\d)", question)[0]
            times = [abs(time - 60 * int(minutes) - int(seconds)) for time in reel.times_seconds or ()]
            assert times.index(min(times)) in frames
    assert asked > 10


def test_a_clip_is_one_scene_and_its_questions_speak_of_a_video(photo_folder: Path, features: NaturalFeatures) -> None:
    maker = SampleMaker(SmallRecipe(photos=photo_folder), features.row_of)
    for seed in range(40):
        clip = maker.reels.clip(random.Random(seed))
        assert len(set(zip(clip.rows, clip.classes, strict=True))) == 1
        assert 1 <= len(clip.rows) == len(clip.times_seconds or ()) <= 16
        assert not any(word in f"{question} {reply}" for question, reply in clip.questions for word in PICTURE_WORDS)


@pytest.mark.parametrize("most", [20, 64, 700, 4500])
def test_scales_spend_up_to_the_most_and_one_token_at_least(most: int) -> None:
    sums = [sum(draw_scales(random.Random(seed), 20, most)) for seed in range(60)]
    assert 20 <= min(sums) <= max(sums) <= most
    assert most == 20 or max(sums) > 0.6 * most
