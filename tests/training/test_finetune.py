"""Fine-tuning tiny random checkpoints: the run, what it leaves, and what it refuses."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from m3video.config import Settings
from m3video.errors import NotFiniteError, UsageError
from m3video.inference.session import ask
from m3video.training import finetune as finetune_module
from m3video.training import loop
from m3video.training.conversations import Conversation, Skipped
from m3video.training.examples import ExampleLoader
from m3video.training.finetune import TrainedParameters, choose_trained, finetune_optimizer, finetune_rate
from m3video.training.finetune_recipe import load_finetune_recipe
from m3video.training.reading import ExamplePrefetcher
from m3video.training.recipe import Stage
from m3video.training.train import train
from m3video.types import SCALES
from tests.model.tiny import conv_settings, save_original
from tests.paths import ROOT
from tests.training.tuning import CONTEXT, Make, load, recipe_of, tiny, video_row

SHIPPED = sorted((ROOT / "configs").glob("m3-llava*.yaml"))


def run(recipe: Path, folder: Path, **more: Any) -> tuple[Path, list[dict[str, Any]]]:
    out = train(recipe, run_dir=folder, device="cpu", **more)
    return out, [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]


def test_full_fine_tuning_learns_and_the_folder_answers(
    recipe_file: Make, tmp_path: Path, base: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "REPORT_EVERY", 1)
    out, log = run(recipe_file(epochs=16, rate=2e-2, tower_rate=1e-3, gradient_checkpointing=True), tmp_path / "run")
    assert len(log) == 16
    names = {"loss", "left out", *(f"{m} {n}" for m in ("loss", "right") for n in ("text", "mixed", *SCALES))}
    assert names <= log[0].keys()
    assert log[-1]["loss"] < 0.5 * log[0]["loss"]
    assert log[-1]["loss mixed"] < 0.5 * log[0]["loss mixed"]
    # Two pictures, one question, two answers: who does not look is wrong about one of 7 tokens at least.
    assert all(log[-1][f"right {scale}"] > 0.9 for scale in SCALES)
    loaded, before = load(out), load(base)
    assert loaded.config.m3_trained
    assert loaded.config.token_scales == list(SCALES)
    changed = {n for n, p in before.model.named_parameters() if not torch.equal(p, loaded.model.get_parameter(n))}
    assert {name.split(".")[1] for name in changed if name != "lm_head.weight"} == {
        "language_model",
        "multi_modal_projector",
        "vision_tower",
    }
    answer = ask(data / "v.mp4", "what is it", Settings(max_frames=3, budget=100, max_new_tokens=2), loaded=loaded)
    assert answer.text == "red"


def test_a_frozen_tower_stays_as_it_was(recipe_file: Make, tmp_path: Path, base: Path) -> None:
    out, _ = run(recipe_file(epochs=1, projector_rate=0), tmp_path / "run")
    before, after = load(base).model, load(out).model
    for name, parameter in before.named_parameters():
        frozen = name.startswith(("model.vision_tower.", "model.multi_modal_projector."))
        assert not frozen or torch.equal(parameter, after.get_parameter(name)), name
    assert not torch.equal(before.lm_head.weight, after.lm_head.weight)


def test_a_convolutional_tower_learns_too(recipe_file: Make, tmp_path: Path) -> None:
    conv = tiny(tmp_path / "conv", **conv_settings())
    recipe = recipe_file(base=str(conv), epochs=2, tower_rate=1e-2, gradient_checkpointing=True)
    out, log = run(recipe, tmp_path / "run")
    assert all(entry["loss"] > 0 for entry in log)
    before, after = load(conv), load(out)
    same = [n for n, p in before.model.named_parameters() if torch.equal(p, after.model.get_parameter(n))]
    assert [name for name in same if name.startswith(("model.vision_tower.", "model.multi_modal_projector."))] == []
    assert after.config.pictures == before.config.pictures


def test_lora_learns_merges_and_keeps_its_adapter(
    recipe_file: Make, tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peft = pytest.importorskip("peft")
    monkeypatch.setattr(loop, "REPORT_EVERY", 1)
    recipe = recipe_file(epochs=12, rate=2e-2, lora={"rank": 4, "alpha": 8, "dropout": 0.1}, precision="bfloat16")
    out, log = run(recipe, tmp_path / "run")
    assert log[-1]["loss"] < 0.5 * log[0]["loss"]
    assert {p.name for p in (tmp_path / "run" / "adapter").iterdir()} >= {
        "adapter_config.json",
        "adapter_model.safetensors",
        "other_trained.safetensors",
    }
    before, after = load(base).model, load(out).model
    changed = {n for n, p in before.named_parameters() if not torch.allclose(p, after.get_parameter(n), atol=1e-2)}
    assert any(name.startswith("model.language_model.layers.") for name in changed)
    assert not any(name.startswith("model.vision_tower.") for name in changed)
    assert not any("norm" in name or "embed_tokens" in name for name in changed)
    # The base with the kept adapter and the other trained weights is the merged model.
    again = load(base).model
    again.load_state_dict(load_file(tmp_path / "run" / "adapter" / "other_trained.safetensors"), strict=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        merged = peft.PeftModel.from_pretrained(again, tmp_path / "run" / "adapter").merge_and_unload()
    for name, parameter in after.named_parameters():
        assert torch.allclose(parameter, merged.get_parameter(name), atol=1e-2), name
    kept = torch.load(tmp_path / "run" / "finetune.pt", weights_only=True)["module"]
    assert all("lora_" in name or "projector" in name for name in kept)


def test_lora_without_peft_is_one_line(recipe_file: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(finetune_module.importlib, "import_module", absent)
    with pytest.raises(UsageError, match=r"m3video\[finetune\]") as failure:
        run(recipe_file(lora={}), tmp_path / "run")
    assert "\n" not in str(failure.value)


class Stopped(Exception):
    """The run was killed."""


@pytest.mark.parametrize("lora", [False, True])
def test_a_killed_run_goes_on_to_the_same_weights(
    recipe_file: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lora: bool
) -> None:
    if lora:
        pytest.importorskip("peft")
    more: dict[str, Any] = {"lora": {"rank": 2, "alpha": 4, "dropout": 0.2}} if lora else {}
    recipe = recipe_file(epochs=5, batch=3, max_steps=5, precision="bfloat16", **more)
    whole, _ = run(recipe, tmp_path / "whole")
    drawn = ExamplePrefetcher.__call__

    def killed(self: ExamplePrefetcher, step: int) -> Any:
        if step == 3:
            raise Stopped
        return drawn(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(ExamplePrefetcher, "__call__", killed)
        with pytest.raises(Stopped):
            run(recipe, tmp_path / "broken")
    assert torch.load(tmp_path / "broken" / "finetune.pt", weights_only=True)["step"] == 2
    broken, _ = run(recipe, tmp_path / "broken")
    expected, found = load(whole).model, load(broken).model
    assert all(torch.equal(p, found.get_parameter(name)) for name, p in expected.named_parameters())


def test_what_cannot_be_used_is_left_out_counted_and_named(
    recipe_file: Make, tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = [{"conversations": str(data / "all.json"), "files": str(data)}]
    recipe = recipe_file(data=source, batch=7, epochs=2)
    _, log = run(recipe, tmp_path / "run")
    named = [json.loads(line) for line in (tmp_path / "run" / "skipped.jsonl").read_text("utf-8").splitlines()]
    kinds = {line["name"].split("(id ")[1].rstrip(")"): line["kind"] for line in named}
    assert kinds == {
        "cut": "broken image",
        "no": "broken video",
        "gone": "missing file",
        "long": "too long",
        "half": "malformed",
    }
    # Two epochs met each broken row twice; it is named once.
    assert len(named) == 5
    assert log[-1]["left out"] == pytest.approx(3 / 7, abs=1e-3)
    shown = capsys.readouterr().err
    assert "4 conversations" not in shown.splitlines()[0]
    assert (
        "conversations with a problem: 1 broken image, 1 broken video, 1 malformed, 1 missing file, 1 too long" in shown
    )
    assert all(line["reason"] in shown for line in named)


@pytest.mark.parametrize("lora", [False, True])
def test_a_damaged_base_is_reported_at_the_first_step(
    recipe_file: Make, tmp_path: Path, base: Path, lora: bool
) -> None:
    if lora:
        pytest.importorskip("peft")
    bad = tmp_path / "bad"
    shutil.copytree(base, bad)
    weights = load_file(bad / "model.safetensors")
    (name,) = (key for key in weights if "language" in key and key.endswith("layers.0.self_attn.q_proj.weight"))
    weights[name][0, 0] = torch.nan
    save_file(weights, bad / "model.safetensors", metadata={"format": "pt"})
    more: dict[str, Any] = {"lora": {"rank": 2, "alpha": 4}} if lora else {}
    with pytest.raises(NotFiniteError, match=rf"base's .* \(tensor {name} of {bad / 'model.safetensors'}"):
        run(recipe_file(base=str(bad), **more), tmp_path / "run")
    assert not (tmp_path / "run" / "model").exists()
    assert not (tmp_path / "run" / "finetune.pt").exists()


def test_a_rate_that_is_too_large_is_no_model(recipe_file: Make, tmp_path: Path) -> None:
    with pytest.raises(NotFiniteError, match=r"finetune, step \d+: the (loss|gradient) .* smaller rate \(--fresh\)"):
        run(recipe_file(epochs=20, rate=1e30), tmp_path / "run")
    assert not (tmp_path / "run" / "model").exists()


def test_no_usable_row_is_one_line(recipe_file: Make, tmp_path: Path) -> None:
    (tmp_path / "none.json").write_text(json.dumps([{"conversations": []}]))
    with pytest.raises(UsageError, match="no conversation of"):
        run(recipe_file(data=[{"conversations": str(tmp_path / "none.json"), "files": "."}]), tmp_path / "run")


def test_a_video_that_never_fits_is_too_long(base: Path, data: Path, tmp_path: Path) -> None:
    loader = ExampleLoader(load(base), recipe_of(base, data, max_length=580), tmp_path)
    found = loader(video_row(data), 0)
    assert isinstance(found, Skipped)
    assert (found.kind, "580 are possible" in found.reason) == ("too long", True)


def test_another_recipe_or_other_data_is_refused(recipe_file: Make, tmp_path: Path, data: Path) -> None:
    rows = tmp_path / "rows.json"
    rows.write_text((data / "good.json").read_text("utf-8"))
    source = [{"conversations": str(rows), "files": str(data)}]
    run(recipe_file(data=source), tmp_path / "run", smoke=True)
    # Everything is done: a second run only exports again, however often it would save.
    _, log = run(recipe_file(data=source, save_every=1), tmp_path / "run", smoke=True)
    assert len(log) == 1
    with pytest.raises(UsageError, match="another seed"):
        run(recipe_file(data=source, seed=1), tmp_path / "run", smoke=True)
    rows.write_text(json.dumps(json.loads(rows.read_text("utf-8"))[:2]))
    with pytest.raises(UsageError, match=r"another data \(its content\)"):
        run(recipe_file(data=source), tmp_path / "run", smoke=True)
    run(recipe_file(data=source), tmp_path / "run", smoke=True, resume=False)


def test_an_original_checkpoint_is_fine_tuned(recipe_file: Make, tmp_path: Path) -> None:
    folder = save_original(tmp_path / "models" / "old")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config |= {"max_position_embeddings": CONTEXT, "tokenizer_model_max_length": CONTEXT}
    del config["matryoshka_vis_token_scale"]
    (folder / "config.json").write_text(json.dumps(config))
    assert load(folder).warnings
    out, _ = run(recipe_file(base=str(folder)), tmp_path / "run", smoke=True)
    assert not load(out).warnings
    assert load(out).config.prompt_style == "vicuna_v1"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_shipped_recipes_are_the_papers(path: Path) -> None:
    recipe = load_finetune_recipe(path)
    assert (recipe.batch, recipe.epochs, recipe.max_length, recipe.precision) == (128, 1, 2048, "bfloat16")
    assert (recipe.projector_rate, recipe.tower_rate) == (2e-5, 2e-5)
    assert recipe.rate == (2e-5 if recipe.lora is None else 2e-4)
    assert recipe.lora is None or (recipe.lora.rank, recipe.lora.alpha) == (128, 256)


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"epoch": 2}, "epochs"),
        ({"rate": 0}, "rate"),
        ({"lora": {"ranc": 3}}, "rank"),
        ({"data": []}, "data"),
        ({"precision": "float8"}, "precision"),
    ],
)
def test_a_wrong_recipe_is_one_line_that_names_the_key(recipe_file: Make, more: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named) as failure:
        load_finetune_recipe(recipe_file(**more))
    assert "\n" not in str(failure.value)


def test_the_rate_warms_up_and_ends_at_nothing() -> None:
    stage = Stage(steps=100, batch=1, rate=1.0)
    rates = [finetune_rate(step, stage) for step in range(100)]
    assert rates[:4] == pytest.approx([1 / 3, 2 / 3, 1.0, 1.0])
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert rates[-1] < 1e-3
    assert finetune_rate(0, Stage(steps=1, batch=1, rate=1.0)) > 0


def test_every_part_has_its_own_rate(base: Path, data: Path) -> None:
    loaded = load(base)
    recipe = recipe_of(base, data, rate=1e-3, projector_rate=2e-3, tower_rate=5e-4)
    choose_trained(loaded, recipe, None)
    (optimizer,) = finetune_optimizer(TrainedParameters(loaded.model), recipe)
    sizes = {group["share"]: sum(p.numel() for p in group["params"]) for group in optimizer.param_groups}
    parts = {0.5: loaded.model.model.vision_tower, 2.0: loaded.model.model.multi_modal_projector}
    for share, part in parts.items():
        assert sizes.pop(share) == sum(p.numel() for p in part.parameters())
    assert list(sizes) == [1.0]
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0}


def test_every_epoch_shows_every_row_once(base: Path, data: Path, tmp_path: Path) -> None:
    rows = [Conversation(str(n), (("what", "it"),)) for n in range(10)]
    recipe = recipe_of(base, data, batch=4)
    with ExamplePrefetcher(rows, ExampleLoader(load(base), recipe, tmp_path), recipe, steps=6) as reading:
        epochs = [
            [row.name for step in range(3) for row in reading.conversations_of(3 * epoch + step)] for epoch in range(2)
        ]
        assert [one.name for one in reading(5)] == [row.name for row in reading.conversations_of(5)]
    assert sorted(epochs[0], key=int) == sorted(epochs[1], key=int) == [row.name for row in rows]
    assert epochs[0] != epochs[1]
