"""The stage that teaches the tower to read: its loss, what it trains, what it leaves alone, how it is measured."""

from __future__ import annotations

import io
import json
import random
import tarfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFont

from m3video.errors import UsageError
from m3video.model.m3.conv_tower import EfficientNetLiteConfig, EfficientNetLiteModel
from m3video.training.natural.overlaid_text import fonts
from m3video.training.natural.page_words import NONE, NUM_CLASSES, classes_of
from m3video.training.natural.reading_tower import (
    DEV_FAMILIES,
    CellTargets,
    PageReader,
    accuracy_by_height,
    load_tower,
    page_maker,
    read_pictures,
    reading_loss,
    reading_rate,
    train_reading_tower,
    with_reading,
)
from m3video.training.natural.recipe import SmallRecipe
from m3video.training.natural.text_pages import CellTexts, cell_texts
from m3video.training.recipe import Stage
from tests.model.tiny import conv_settings
from tests.training.natural.drawing import fonts_installed

WORDS = ("exit", "hotel", "river", "garden", "market", "snow", "bench")


pytestmark = pytest.mark.skipif(not fonts_installed(), reason="needs fonts: matplotlib brings some")


@pytest.fixture(scope="module")
def photo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos") / "flickr8k"
    folder.mkdir()
    for part, count in (("train", 3), ("dev", 2)):
        rows = [{"image": f"{part}{n}.jpg", "captions": ["A dog ."]} for n in range(count)]
        (folder / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        with tarfile.open(folder / f"{part}-0.tar", "w") as tar:
            for row in rows:
                stored = io.BytesIO()
                Image.new("RGB", (64, 48), (90, 120, 60)).save(stored, "JPEG")
                member = tarfile.TarInfo(str(row["image"]))
                member.size = len(stored.getvalue())
                tar.addfile(member, io.BytesIO(stored.getvalue()))
    return folder.parent


def trunk() -> EfficientNetLiteModel:
    config = conv_settings(reading_width=8, reading_depths=[1, 1])["vision_config"]
    assert isinstance(config, EfficientNetLiteConfig)
    torch.manual_seed(2)
    return EfficientNetLiteModel(config).eval()


def texts_of(letters: str, slots: int = 3) -> CellTexts:
    """Its letters stand in the first cell, in order."""
    classes, upper = np.zeros((1, 1, slots), np.int64), np.zeros((1, 1, slots), bool)
    classes[0, 0, : len(letters)] = classes_of(letters)
    upper[0, 0, : len(letters)] = [letter.isupper() for letter in letters]
    return CellTexts(classes, upper, np.zeros_like(upper), np.where(classes > 0, 0.05, 0.0))


def logits_for(letters: str, sure: float = 20.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What a reader says that is sure of these letters, and that no word begins."""
    texts = texts_of(letters)
    classes = torch.nn.functional.one_hot(torch.from_numpy(texts.classes_GGS), NUM_CLASSES) * sure
    upper = (torch.from_numpy(texts.upper_GGS) * 2.0 - 1) * sure
    return classes[None].float(), upper[None], torch.full(upper[None].shape, -sure)


def test_the_loss_counts_what_is_right() -> None:
    target = CellTargets.of([texts_of("aB")], torch.device("cpu"))
    right, metrics = reading_loss(logits_for("aB"), target)
    assert right < 1e-4
    assert metrics == {"letters": (2, 2), "exact": (2, 2), "starts": (2, 2), "phantoms": (0, 1)}
    wrong_case, metrics = reading_loss(logits_for("ab"), target)
    assert wrong_case > 1
    assert (metrics["letters"], metrics["exact"]) == ((2, 2), (1, 2))
    swapped, metrics = reading_loss(logits_for("Ba"), target)
    assert swapped > wrong_case, "order counts"
    assert metrics["letters"] == (0, 2)
    _, metrics = reading_loss(logits_for("aBc"), target)
    assert metrics["phantoms"] == (1, 1)
    nothing, metrics = reading_loss(logits_for(""), CellTargets.of([texts_of("")], torch.device("cpu")))
    assert nothing < 1e-4
    assert metrics["letters"] == (0, 0)


def test_the_rate_is_held_and_then_falls() -> None:
    stage = Stage(steps=1000, batch=1, rate=2.0)
    rates = [reading_rate(step, stage) for step in range(1000)]
    assert rates[0] == pytest.approx(0.02)
    assert rates[100:750] == [2.0] * 650
    assert all(earlier >= later for earlier, later in pairwise(rates[750:]))
    assert rates[-1] == pytest.approx(0.1)
    longer = Stage(steps=4000, batch=1, rate=2.0)
    assert [reading_rate(step, longer) for step in range(750)] == rates[:750], "a run can be made longer"


def test_dev_pages_have_other_fonts_photographs_and_words(photo_folder: Path) -> None:
    if not any(family in DEV_FAMILIES for family, _ in fonts("train")):
        with pytest.raises(UsageError, match="pip install font-caladea"):
            page_maker(photo_folder, "dev", WORDS)
        pytest.skip(f"no font of {DEV_FAMILIES} is installed")
    train, dev = (page_maker(photo_folder, part, WORDS) for part in ("train", "dev"))
    of_train, of_dev = ({ImageFont.truetype(path).getname()[0] for path in maker.fonts} for maker in (train, dev))
    assert not of_train & set(DEV_FAMILIES)
    assert of_dev <= set(DEV_FAMILIES)
    assert (len(train.photographs), len(dev.photographs)) == (3, 2)
    assert not set(train.words.words) & set(dev.words.words)


def test_a_branch_is_added_beside_the_same_trunk() -> None:
    tower = trunk()
    both = with_reading(tower, 6)
    pixels = torch.randn(1, 3, 384, 384)
    with torch.inference_mode():
        fine, coarse = tower.feature_maps(pixels)
        more, same = both.feature_maps(pixels)
    assert torch.equal(more[:, : fine.shape[1]], fine)
    assert torch.equal(same, coarse)
    assert more.shape[1] == fine.shape[1] + 6
    assert tower.reading is None


def test_training_changes_the_branch_alone_and_goes_on_where_it_stopped(photo_folder: Path, tmp_path: Path) -> None:
    def run(folder: Path, steps: int) -> EfficientNetLiteModel:
        torch.manual_seed(1)
        tower = with_reading(trunk(), 16)
        stage = Stage(steps=steps, batch=2, rate=3e-3, save_every=2)
        recipe = SmallRecipe(photos=photo_folder, reading_tower=stage, reading_channels=16)
        folder.mkdir(exist_ok=True)
        train_reading_tower(tower, WORDS, recipe, folder, device=torch.device("cpu"), resume=True)
        return tower

    once = run(tmp_path / "once", 4)
    run(tmp_path / "twice", 2)
    twice = run(tmp_path / "twice", 4)
    before = with_reading(trunk(), 16).state_dict()
    for name, weight in once.state_dict().items():
        assert torch.equal(weight, before[name]) == ("reading" not in name), name
    loaded, reader = load_tower(tmp_path / "once" / "reading_tower.pt", trunk())
    assert all(torch.equal(weight, loaded.state_dict()[name]) for name, weight in once.state_dict().items())
    assert reader.reading is loaded.reading
    for name, weight in twice.state_dict().items():
        assert torch.allclose(weight, once.state_dict()[name], atol=1e-6), name
    other = tmp_path / "readme.txt"
    other.write_text("no weights")
    with pytest.raises(UsageError, match=r"readme\.txt is no checkpoint of the stage reading_tower"):
        load_tower(other, trunk())


def test_measuring_reads_pages_cell_by_cell(photo_folder: Path) -> None:
    tower = with_reading(trunk(), 16)
    maker = page_maker(photo_folder, "train", WORDS)
    pages = [maker.page(random.Random(seed)) for seed in range(3)]
    perfect = [(text.classes_GGS, text.upper_GGS) for text in map(cell_texts, pages)]
    low, high = accuracy_by_height(perfect, pages, (0.0, 0.05, 1.0))
    assert low[:2] == high[:2] == (1.0, 1.0)
    assert low[2] + high[2] == sum(int((classes != NONE).sum()) for classes, _ in perfect)
    empty = [(np.zeros_like(classes), upper) for classes, upper in perfect]
    assert accuracy_by_height(empty, pages, (0.0, 1.0))[0][:2] == (0.0, 0.0)
    assert tower.reading is not None
    found = list(read_pictures(tower, PageReader(tower.reading, 16), [page.picture for page in pages], batch=2))
    assert [classes.shape for classes, _ in found] == [(24, 24, 3)] * 3
