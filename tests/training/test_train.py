"""The recipe, the resumable loop, and the whole chain at its smallest."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from m3video.errors import NotFiniteError, UsageError
from m3video.model.m3 import checkpoint
from m3video.model.m3.checkpoint import find_device
from m3video.training import vision
from m3video.training.facts import local_facts
from m3video.training.features import Features, load_features
from m3video.training.footage import normalise_squares, sample_moments, shot_frames
from m3video.training.joint import start_projector
from m3video.training.loop import run_stage, training_rate
from m3video.training.recipe import SCRATCH_SMOKE, ScratchRecipe, Stage, load_scratch_recipe
from m3video.training.render import PAGE_CELL, SIGN_CELL, TABLE_CELL, draw
from m3video.training.rendered import build_model
from m3video.training.scenes import facts_at, sample_shot
from m3video.training.train import train
from m3video.training.vision import (
    CODE,
    DENSE,
    HEADS,
    TowerReader,
    cell_losses,
    cell_targets,
    draw_batch,
    say_loss,
    start_local,
    start_white,
    tower_features,
)
from m3video.training.words import COLOURS, SHAPES
from tests.paths import ROOT

CONFIG = ROOT / "configs" / "rendered.yaml"


def test_the_shipped_recipe_loads_and_builds_the_shipped_sizes() -> None:
    recipe = load_scratch_recipe(CONFIG)
    rendered = json.loads((CONFIG.parents[1] / "m3video" / "assets" / "rendered" / "config.json").read_text("utf-8"))
    built = build_model(recipe).config
    for part, names in (
        ("vision_config", ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")),
        ("text_config", ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "intermediate_size")),
    ):
        assert {n: getattr(getattr(built, part), n) for n in names} == {n: rendered[part][n] for n in names}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("sead: 1", "seed"),
        ("joint: {steps: 3, batch: 1, rate: 0.1, save_evry: 1}", "save_every"),
        ("seed: many", "seed"),
        ("joint: {steps: 0, batch: 1, rate: 0.1}", "steps"),
    ],
)
def test_a_wrong_recipe_is_one_line_that_names_the_key(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=named) as failure:
        load_scratch_recipe(path)
    assert "\n" not in str(failure.value)


def test_an_absent_device_is_refused() -> None:
    with pytest.raises(UsageError, match="auto, cpu, cuda"):
        find_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="sees 0 CUDA devices"):
            find_device("cuda")


def test_the_rate_warms_up_then_falls_to_a_twentieth() -> None:
    stage = Stage(steps=100, batch=1, rate=1.0)
    rates = [training_rate(step, stage) for step in range(100)]
    assert rates[0] < rates[1] < rates[2] <= 1.0
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert rates[-1] == pytest.approx(0.05, abs=0.01)


class Stopped(Exception):
    """The run was killed."""


def fit(folder: Path, *, stop_at: int | None = None) -> Tensor:
    torch.manual_seed(0)
    module = nn.Linear(3, 1)

    def step(number: int) -> tuple[Tensor, Mapping[str, tuple[float, float]]]:
        if number == stop_at:
            raise Stopped
        inputs = torch.randn(8, 3, generator=torch.Generator().manual_seed(number))
        return (module(inputs) - inputs.sum(1, keepdim=True)).square().mean(), {}

    run_stage("toy", Stage(steps=40, batch=8, rate=0.05, save_every=7), module, folder, resume=True, step=step)
    return module.weight.detach().clone()


def test_a_killed_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    expected = fit(whole)
    with pytest.raises(Stopped):
        fit(broken, stop_at=17)
    assert torch.load(broken / "toy.pt", weights_only=True)["step"] == 14
    assert torch.equal(fit(broken), expected)
    lines = [json.loads(line) for line in (broken / "metrics.jsonl").read_text("utf-8").splitlines()]
    assert lines[-1]["step"] == 40
    assert lines[-1]["loss"] < 0.5
    assert not list(broken.glob("*.part"))


@pytest.mark.parametrize("what", ["loss", "gradient"])
@pytest.mark.parametrize("at", [0, 9])
def test_a_step_that_is_not_finite_is_not_taken(what: str, at: int, tmp_path: Path) -> None:
    module = nn.Linear(3, 1)
    steps = []

    def step(number: int) -> tuple[Tensor, Mapping[str, tuple[float, float]]]:
        steps.append(number)
        said = module(torch.ones(2, 3)).square().mean()
        if number < at:
            return said, {}
        # The root of nothing is a fine number, its slope is infinite.
        return said * torch.nan if what == "loss" else (said * 0).sqrt(), {}

    with pytest.raises(NotFiniteError, match=rf"toy, step {at + 1}: the {what} \((nan|inf)\) is not finite"):
        run_stage("toy", Stage(steps=40, batch=2, rate=0.05, save_every=4), module, tmp_path, resume=True, step=step)
    assert steps == list(range(at + 1))
    assert all(parameter.isfinite().all() for parameter in module.parameters())
    if at:
        kept = torch.load(tmp_path / "toy.pt", weights_only=True)
        assert kept["step"] == 8
        assert all(tensor.isfinite().all() for tensor in kept["module"].values())


def test_what_a_stage_outdates_is_gone_before_its_first_step(tmp_path: Path) -> None:
    (tmp_path / "features").mkdir()
    (tmp_path / "next.pt").write_bytes(b"older")
    module = nn.Linear(1, 1)

    def killed(number: int) -> tuple[Tensor, Mapping[str, tuple[float, float]]]:
        raise Stopped

    def step(number: int) -> tuple[Tensor, Mapping[str, tuple[float, float]]]:
        return module(torch.ones(1, 1)).sum(), {}

    def go(step: Any) -> None:
        run_stage(
            "toy",
            Stage(steps=2, batch=1, rate=0.1),
            module,
            tmp_path,
            resume=True,
            step=step,
            outdates=("features", "next.pt"),
        )

    with pytest.raises(Stopped):
        go(killed)
    assert not (tmp_path / "features").exists()
    assert not (tmp_path / "next.pt").exists()
    go(step)
    (tmp_path / "next.pt").write_bytes(b"newer")
    go(killed)
    assert (tmp_path / "next.pt").read_bytes() == b"newer"


def test_a_fresh_tower_looks_at_neighbours() -> None:
    model = build_model(ScratchRecipe())
    tower = model.model.vision_tower
    tower.set_attn_implementation("eager")
    core = getattr(tower, "vision_model", tower)
    pixels = torch.randn(1, 3, 336, 336, generator=torch.Generator().manual_seed(0))

    def near() -> float:
        with torch.no_grad():
            hidden = core.pre_layrnorm(core.embeddings(pixels))
            layer = core.encoder.layers[0]
            weights = layer.self_attn(layer.layer_norm1(hidden), attention_mask=None)[1][0, 0, 1:, 1:]
        cells = torch.stack(torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij"), -1).reshape(-1, 2)
        return float((weights * (torch.cdist(cells, cells) <= 2.5)).sum(-1).mean())

    before = near()
    start_local(tower)
    assert before < 0.06
    assert near() > 5 * before


def test_facts_stand_beside_the_frame_they_are_true_of() -> None:
    for seed in range(6):
        squares, labels, facts = draw_batch(random.Random(seed), 6, dense=2)
        assert squares.shape == (6, 336, 336, 3)
        assert [frame is None for frame in facts] == [True, True, False, False, False, False]
        for label, frame in zip(labels, facts, strict=True):
            if frame is None:
                continue
            cells = zip(label.colour_GG.flat, label.shape_GG.flat, strict=True)
            drawn = {(COLOURS[colour - 1], SHAPES[shape - 1]) for colour, shape in cells if shape}
            assert drawn <= {(shape.colour, shape.kind) for shape in frame.shapes}
            assert bool(label.glyph_GG.any()) <= (frame.sign is not None or frame.page or frame.table is not None)
            assert (label.tile_GG.max() >= 0) == (frame.board is not None or frame.table is not None)
            assert (label.order_GG.max() > 0) == (frame.sign is not None)


def test_dense_frames_teach_shapes_letters_signs_and_digits() -> None:
    seen = set()
    for seed in range(3):
        _, labels, facts = draw_batch(random.Random(seed), 12, dense=12)
        assert facts == [None] * 12
        for label in labels:
            kinds = set(label.kind_GG.flat)
            content = {
                "table": TABLE_CELL in kinds,
                "page": PAGE_CELL in kinds,
                "street": SIGN_CELL in kinds,
                "crowd": len(np.unique(label.shape_GG[label.shape_GG > 0])) > 1,
            }
            assert sum(content.values()) == 1
            (name,) = (name for name, there in content.items() if there)
            seen.add(name)
            assert (label.order_GG.max() > 0) == (name == "street")
            assert (label.tile_GG.max() >= 0) == (name == "table")
            assert bool(label.glyph_GG.any()) == (name != "crowd")
    assert seen == set(DENSE)


def test_every_head_has_a_target_in_its_range_and_can_get_it_right() -> None:
    _, labels, _ = draw_batch(random.Random(1), 6, dense=4)
    targets = cell_targets(labels)
    assert set(targets) == set(HEADS)
    for head, target in targets.items():
        assert target.shape == (6 * 576,)
        assert 0 <= int(target.min()) <= int(target.max()) < HEADS[head]
    perfect = torch.cat([20 * nn.functional.one_hot(targets[head], size).float() for head, size in HEADS.items()], -1)
    loss, metrics = cell_losses(perfect, targets)
    assert float(loss) < 1e-3
    assert all(right == told > 0 for right, told in metrics.values())
    wrong, others = cell_losses(perfect.roll(1, -1), targets)
    assert float(wrong) > 50
    assert all(right < told for right, told in others.values())


def test_every_cell_must_say_its_symbol_or_nothing() -> None:
    reader = TowerReader(build_model(ScratchRecipe()))
    labels = [
        draw(sample_shot(random.Random(n), content=content), 0.5)[1]
        for n, content in enumerate(("board", "shapes", "page"))
    ]
    true = reader.symbols.cells(np.stack([local_facts(label) for label in labels]))
    reader.say = nn.Identity()
    assert float(say_loss(reader, true, labels)) < 1e-6
    # Half of what had to be said is a quarter of all that can be missed; less only where the symbol itself is quiet.
    assert 0.15 < float(say_loss(reader, true / 2, labels)) <= 0.25 + 1e-4
    assert float(say_loss(reader, true + 0.4, labels)) > 0.5
    # Nothing stands in a page's cells but letters of no sign: silence is right there, and a loss all the same.
    silent = say_loss(reader, torch.zeros(1, *true.shape[1:]), labels[2:])
    assert float(silent) == 0


def test_the_projector_begins_awake_on_loud_features() -> None:
    model = build_model(ScratchRecipe())
    loud = np.random.default_rng(0).normal(2.0, 5.0, (4, 576, 192)).astype(np.float16)
    cache = Features(loud, np.full((4, 576), -1, np.int16), (), 1)
    projector = model.model.multi_modal_projector

    def awake() -> float:
        with torch.no_grad():
            return float((projector.linear_1(torch.from_numpy(loud).float()) > 0).float().mean())

    start_projector(projector, cache)
    assert 0.4 < awake() < 0.6
    with torch.no_grad():
        assert 0.2 < float(projector(torch.from_numpy(loud).float()).std()) < 2.0


def test_training_reads_the_layer_that_the_product_reads() -> None:
    model = build_model(ScratchRecipe()).eval()
    pixels = torch.randn(1, 3, 336, 336, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours = model.model.multi_modal_projector(tower_features(model, pixels))
        assert torch.allclose(ours, model.visual_grids(pixels), atol=1e-5)


def test_the_patch_embedding_begins_white() -> None:
    tower = build_model(ScratchRecipe()).model.vision_tower
    core = getattr(tower, "vision_model", tower)
    squares = np.concatenate([shot_frames(random.Random(n), num_frames=1, h264=False)[0] for n in range(24)])
    pixels = torch.from_numpy(normalise_squares(squares))

    def spread() -> float:
        """Deviation of the weakest tenth of all directions over that of the strongest."""
        with torch.no_grad():
            seen = core.embeddings.patch_embedding(pixels).flatten(2).transpose(1, 2).flatten(0, 1)[:, :-CODE]
        values = torch.linalg.svdvals(seen.double())
        return float(values[-17] / values[0])

    before = spread()
    start_white(tower)
    assert spread() > 10 * before


@pytest.fixture(scope="module")
def quick_whitening() -> Iterator[None]:
    """Whitening on a few frames: the runs here show that the chain works; whitening has a test of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vision, "WHITE_FRAMES", 12)
        yield


@pytest.fixture(scope="module")
def smoke(quick_whitening: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole run; its model lies beside it."""
    run_dir = tmp_path_factory.mktemp("smoke") / "run"
    train(CONFIG, run_dir=run_dir, device="cpu", smoke=True, out=run_dir.parent / "model")
    return run_dir


def test_smoke_runs_all_stages_resumes_and_leaves_a_model_that_loads(smoke: Path, tmp_path: Path) -> None:
    run_dir = shutil.copytree(smoke, tmp_path / "run")
    stages = [json.loads(line)["stage"] for line in (run_dir / "metrics.jsonl").read_text("utf-8").splitlines()]
    assert stages == ["vision", "decoder", "align", "joint"]
    # The cells were read off when the shots were drawn, the facts are made again: both must be of the same frames.
    recipe = load_scratch_recipe(CONFIG, smoke=True)
    cache = load_features(recipe, run_dir / "features")
    for shot in range(recipe.cached_shots):
        rng = random.Random(f"{recipe.seed} features {shot}")
        recipe_of, moments = sample_moments(rng, num_frames=recipe.frames_per_shot)
        for number, moment in enumerate(moments):
            row = shot * recipe.frames_per_shot + number
            assert cache.facts_M[row] == facts_at(recipe_of, moment)
            assert np.array_equal(cache.cells_MC[row], local_facts(draw(recipe_of, moment)[1]))
    loaded = checkpoint.load(str(smoke.parent / "model"), device="cpu")
    assert loaded.config.prompt_style == "rendered"
    first = loaded.model.lm_head.weight.detach().clone()
    # Everything is done: a second run only exports again, to the same weights.
    again = train(CONFIG, run_dir=run_dir, device="cpu", smoke=True, out=tmp_path / "again")
    assert torch.equal(checkpoint.load(str(again), device="cpu").model.lm_head.weight, first)
    with pytest.raises(UsageError, match="another recipe"):
        train(CONFIG, run_dir=run_dir, device="cpu", smoke=False)


def test_a_finished_run_goes_on_when_its_recipe_names_more_steps(
    smoke: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = shutil.copytree(smoke, tmp_path / "run")
    features = run_dir / "features" / "shots-000000.npz"
    made = features.stat().st_mtime_ns
    monkeypatch.setitem(SCRATCH_SMOKE, "joint", {**SCRATCH_SMOKE["joint"], "steps": 3})
    train(CONFIG, run_dir=run_dir, device="cpu", smoke=True)
    logged = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text("utf-8").splitlines()]
    assert [(line["stage"], line["step"]) for line in logged[4:]] == [("joint", 3)]
    assert features.stat().st_mtime_ns == made
    # A longer vision stage makes everything after it again, from the new tower's features.
    monkeypatch.setitem(SCRATCH_SMOKE, "vision", {**SCRATCH_SMOKE["vision"], "steps": 3})
    train(CONFIG, run_dir=run_dir, device="cpu", smoke=True)
    logged = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text("utf-8").splitlines()]
    assert [(line["stage"], line["step"]) for line in logged[5:]] == [("vision", 3), ("align", 2), ("joint", 3)]
    assert features.stat().st_mtime_ns != made
    monkeypatch.setitem(SCRATCH_SMOKE, "questions", 5)
    with pytest.raises(UsageError, match="another recipe"):
        train(CONFIG, run_dir=run_dir, device="cpu", smoke=True)
