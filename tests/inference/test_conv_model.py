"""A model with a convolutional tower through everything that answers: sessions, caches, int8, memory, batches."""

from __future__ import annotations

import importlib.util
import json
import shutil
import warnings
from pathlib import Path

import pytest
import torch

from m3video.config import Settings
from m3video.inference.memory.fit import fit_settings
from m3video.inference.offload import ask_batches, fetch_batch
from m3video.inference.pipeline import open_for, plan_details
from m3video.inference.session import VideoSession, ask
from m3video.model.m3 import checkpoint
from m3video.model.m3.dry_run import run_trial
from m3video.model.safetensors_headers import weights_digest
from tests.model.tiny import conv_settings, save_tiny
from tests.paths import SAMPLE

QUESTIONS = ("what is it in frame 1", "is it red")
SETTINGS = Settings(num_frames=3, budget=90, max_new_tokens=6, device="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("conv") / "m", **conv_settings())


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("M3VIDEO_CACHE_DIR", str(tmp_path / "cache"))


def settings_of(folder: Path, **more: object) -> Settings:
    return SETTINGS.model_copy(update={"model": str(folder), **more})


def test_follow_ups_and_a_second_process_say_what_one_question_alone_says(folder: Path) -> None:
    settings = settings_of(folder)
    alone = [ask(SAMPLE, question, settings_of(folder, cache=False)) for question in QUESTIONS]
    with VideoSession(SAMPLE, settings) as session:
        together = [session.ask(question) for question in QUESTIONS]
    again = ask(SAMPLE, QUESTIONS[0], settings)
    assert [one.text for one in together] == [one.text for one in alone]
    assert again.text == alone[0].text
    assert [one.cached_frames for one in (*together, again)] == [0, 3, 3]
    assert together[1].reused_tokens > together[1].visual_tokens
    assert alone[0].visual_tokens == sum(frame.scale for frame in alone[0].plan.frames) > 3


def test_a_process_without_the_model_sends_squares_of_its_size(folder: Path, tmp_path: Path) -> None:
    settings = settings_of(folder, cache=False)
    loaded = checkpoint.load_for(settings)

    def sent(settings: Settings) -> tuple[set[tuple[int, ...]], str]:
        with open_for(SAMPLE, settings) as reader:
            batch = fetch_batch(reader, plan_details(reader, settings))
        (generation,) = ask_batches(loaded, [(batch, lambda _: [QUESTIONS[0]])], settings)
        return {square.shape for square in batch.squares}, generation.answers[0].text

    shapes, said = sent(settings)
    assert shapes == {(384, 384, 3)}
    assert said == ask(SAMPLE, QUESTIONS[0], settings, loaded=loaded).text
    # Where the model is not on this machine its size is not known: whole frames are sent, and the answer is the same.
    shapes, again = sent(settings.model_copy(update={"model": str(tmp_path / "elsewhere")}))
    assert all(shape[:2] != (384, 384) and shape[:2] != (336, 336) for shape in shapes)
    assert again == said


def test_a_batch_knows_another_normalisation_as_another_model(folder: Path, tmp_path: Path) -> None:
    """Weights alone do not make an answer: a batch that goes on must not take answers of another mean."""
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    before = weights_digest(other)
    assert before == weights_digest(folder)
    config = json.loads((other / "config.json").read_text())
    config["vision_config"]["image_mean"] = [0.5, 0.5, 0.5]
    (other / "config.json").write_text(json.dumps(config))
    assert weights_digest(other) != before


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_int8_leaves_the_tower_as_it_is(folder: Path) -> None:
    if importlib.util.find_spec("torchao") is None:
        pytest.skip("torchao is not installed (extra quantize)")
    plain = checkpoint.load(str(folder), device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library warns of its own future while it is imported
        loaded = checkpoint.load(str(folder), device="cpu", quantize="int8")
        answer = ask(SAMPLE, QUESTIONS[0], settings_of(folder, cache=False), loaded=loaded)
    assert answer.answer_tokens > 0
    assert type(loaded.model.model.language_model.layers[0].mlp.gate_proj.weight) is not torch.nn.Parameter
    pixels = torch.rand(1, 3, 384, 384)
    with torch.inference_mode():
        assert torch.equal(loaded.model.visual_grids(pixels), plain.model.visual_grids(pixels))


def test_a_budget_is_fitted_and_tried_out(folder: Path) -> None:
    fit = fit_settings(settings_of(folder, memory="2GiB", num_frames=None, max_frames=4, budget=200))
    assert (fit.size.picture_side, fit.size.tower_places) == (384, 576)
    batch = fit.fit.shape.vision_batch
    assert fit.fit.estimate.vision > 4 * min(batch, 4) * (fit.size.conv_peak + 3 * 384**2)
    run_trial(checkpoint.load(str(folder), device="cpu"), frames=4, visual=40, text=20, vision_batch=2, group=4)
