"""Fine-tuning tiny random checkpoints on generated pictures and videos: the objective, the run, and what it leaves."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from m3video.config import Settings
from m3video.errors import UsageError
from m3video.model import answering, checkpoint, nested
from m3video.pipeline import ask
from m3video.scales import SCALES
from m3video.training import finetune as finetune_module
from m3video.training import loop
from m3video.training.conversations import Row, Skipped
from m3video.training.examples import Example, Loader
from m3video.training.finetune import Trained, choose_trained, make_optimizer, rate_at
from m3video.training.finetune_recipe import FineTune, load_finetune
from m3video.training.objective import answer_loss, backward, lay_out, micro_batches
from m3video.training.reading import Reading
from m3video.training.recipe import Stage
from m3video.training.train import train
from tests.model.tiny import save_original, save_tiny
from tests.video.clips import Clip, write

CONTEXT = 2048
SHIPPED = sorted((Path(__file__).parents[2] / "configs").glob("m3-llava*.yaml"))


def tiny(folder: Path, **more: Any) -> Path:
    """A random checkpoint with room for a picture at 576 tokens, and a head that is loud enough to say anything."""
    save_tiny(folder, max_context=CONTEXT, **more)
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] *= 20
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config["text_config"]["max_position_embeddings"] = CONTEXT
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def said(human: str, gpt: str) -> list[dict[str, str]]:
    return [{"from": "human", "value": human}, {"from": "gpt", "value": gpt}]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures, a video of 3 seconds, four rows that are fine, and a broken one of every kind."""
    folder = tmp_path_factory.mktemp("data")
    for name, colour in (("red.png", (250, 10, 10)), ("blue.png", (10, 10, 250))):
        Image.fromarray(np.full((40, 60, 3), colour, np.uint8)).save(folder / name)
    write(folder / "v.mp4", Clip(numbers=list(range(6)), times=[0, 12, 25, 37, 50, 62]))
    (folder / "cut.png").write_bytes((folder / "red.png").read_bytes()[:60])
    (folder / "no.mp4").write_bytes(b"this is no video" * 50)
    good = [
        {"id": "p", "image": "red.png", "conversations": said("<image>\nwhat is it", "red")},
        {"id": "q", "image": "blue.png", "conversations": said("what is it\n<image>", "it is")},
        {"id": "v", "video": "v.mp4", "conversations": said("<image>\nwhat is it", "red")},
        {"id": "t", "conversations": [*said("what", "it"), *said("is it red", "it is red")]},
    ]
    bad = [
        {"id": "cut", "image": "cut.png", "conversations": said("<image>\nwhat is it", "red")},
        {"id": "no", "video": "no.mp4", "conversations": said("<image>\nwhat is it", "red")},
        {"id": "gone", "image": "gone.png", "conversations": said("<image>\nwhat is it", "red")},
        {"id": "long", "conversations": said("what is it " * CONTEXT, "red")},
        {"id": "half", "conversations": said("what is it", "red")[:1]},
    ]
    (folder / "good.json").write_text(json.dumps(good))
    (folder / "all.json").write_text(json.dumps(good + bad))
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("models") / "tiny")


Make = Callable[..., Path]


@pytest.fixture
def recipe_file(tmp_path: Path, data: Path, base: Path) -> Make:
    def make(**more: Any) -> Path:
        values = {
            "base": str(base), "data": [{"conversations": str(data / "good.json"), "files": str(data)}],
            "batch": 4, "micro_batch": 2, "rate": 5e-3, "projector_rate": 5e-3, "tower_rate": 0, "epochs": 6,
            "precision": "float32", "save_dtype": "float32", "gradient_checkpointing": False, "max_frames": 3,
            "visual_tokens": 600, "workers": 1, "save_every": 2, **more,
        }  # fmt: skip
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(values), encoding="utf-8")
        return path

    return make


def recipe_of(base: Path, data: Path, **more: Any) -> FineTune:
    source = {"conversations": data / "good.json", "files": data}
    return FineTune(base=str(base), data=[source], max_frames=3, visual_tokens=600, workers=1, **more)


def load(base: Path) -> checkpoint.LoadedModel:
    return checkpoint.load(str(base), device="cpu", dtype="float32")


def video_row(data: Path) -> Row:
    return Row("v", (("what is it", "red"),), video=data / "v.mp4")


def picture_row(data: Path, name: str = "red.png") -> Row:
    return Row("p", (("<image>\nwhat is it", "red"),), images=(data / name,))


def example(loader: Loader, row: Row, step: int = 0) -> Example:
    made = loader(row, step)
    assert isinstance(made, Example), made
    return made


def gradients(loaded: checkpoint.LoadedModel) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in loaded.model.named_parameters() if p.grad is not None}


def test_a_video_is_shown_at_every_scale_and_as_the_planner_shows_it(base: Path, data: Path, tmp_path: Path) -> None:
    loader = Loader(load(base), recipe_of(base, data), tmp_path)
    mixed, budgets = set(), set()
    for step in range(12):
        made = example(loader, video_row(data), step)
        assert [one.name for one in made.passes] == ["1", "9", "36", "144", "576", "mixed"]
        assert [len(one.shown) for one in made.passes[:5]] == [3, 3, 3, 3, 1]
        assert [set(one.scales) for one in made.passes[:5]] == [{scale} for scale in SCALES]
        plan = made.passes[5]
        assert sum(plan.scales) <= 600
        assert list(plan.shown) == sorted(set(plan.shown))
        mixed.add(len(set(plan.scales)) > 1)
        budgets.add(sum(plan.scales))
    assert True in mixed
    assert len(budgets) > 1
    again = Loader(load(base), recipe_of(base, data), tmp_path)
    assert [one.scales for one in example(again, video_row(data), 11).passes] == [one.scales for one in made.passes]


def test_threads_share_a_video(base: Path, data: Path, tmp_path: Path) -> None:
    loader = Loader(load(base), recipe_of(base, data), tmp_path)
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda step: loader(video_row(data), step), range(8)))
    assert all(isinstance(one, Example) for one in made), made
    assert len(list(tmp_path.glob("*.parquet"))) == 1


def test_a_full_disk_is_no_fault_of_the_video(base: Path, data: Path, tmp_path: Path) -> None:
    loader = Loader(load(base), recipe_of(base, data), tmp_path / "stats")
    (tmp_path / "stats").rmdir()
    with pytest.raises(UsageError, match="cannot be written"):
        loader(video_row(data), 0)


def test_a_damaged_video_is_used_and_named(base: Path, data: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "d.mp4", Clip(numbers=list(range(60)), gop=5, b_frames=0))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 400] = b"\x55" * 400
    path.write_bytes(content)
    made = Loader(load(base), recipe_of(base, data), tmp_path)(Row("d", (("what", "it"),), video=path), 0)
    assert isinstance(made, Example), made
    assert made.note is not None
    assert "damaged" in made.note


def test_a_video_carries_its_true_times(base: Path, data: Path, tmp_path: Path) -> None:
    loader = Loader(load(base), recipe_of(base, data), tmp_path)
    made = example(loader, video_row(data)).passes[0]
    words = loader.loaded.codec.decode([token for token in made.told.ids if token >= 0])
    assert [word for word in words.split() if ":" in word] == ["0:00", "0:01", "0:02"]
    plain = Loader(load(base), recipe_of(base, data, timestamps=False), tmp_path)
    ids = example(plain, video_row(data)).passes[0].told.ids
    assert ":" not in plain.loaded.codec.decode([token for token in ids if token >= 0])


def test_several_pictures_are_shown_at_mixed_scales_too(base: Path, data: Path, tmp_path: Path) -> None:
    row = Row("s", (("<image> <image> what is it", "red"),), images=(data / "red.png", data / "blue.png"))
    loader = Loader(load(base), recipe_of(base, data), tmp_path)
    drawn = {example(loader, row, step).passes[-1].scales for step in range(8)}
    assert all(len(scales) == 2 for scales in drawn)
    assert any(len(set(scales)) == 2 for scales in drawn)


def test_the_loss_is_the_mean_over_the_five_scales(base: Path, data: Path, tmp_path: Path) -> None:
    """Each scale on its own by the product's own path, against one step of the objective."""
    loaded = load(base)
    made = example(Loader(loaded, recipe_of(base, data), tmp_path), picture_row(data))
    grids = loaded.model.visual_grids(made.pictures[0].pixels_P3HW)
    losses = []
    for one in made.passes:
        embeds = answering.embed(loaded, one.told.ids, answering.frame_blocks(loaded, nested.pack(grids, one.scales)))
        logits = loaded.model(inputs_embeds=embeds).logits[0, -3:]
        # The prompt's last token predicts "red", "red" predicts the end.
        assert one.told.labels[-3:] == [-100, loaded.codec.encode("red")[0], loaded.codec.eos_id]
        losses.append(torch.nn.functional.cross_entropy(logits[:2], torch.tensor(one.told.labels[-2:])))
    loss, metrics = with_gradients(loaded, [made])
    assert torch.allclose(loss, torch.stack(losses).mean(), atol=1e-5)
    assert list(metrics)[::2] == [f"loss {scale}" for scale in SCALES]


def with_gradients(
    loaded: checkpoint.LoadedModel, examples: Sequence[Example], **more: Any
) -> tuple[Tensor, dict[str, tuple[float, float]]]:
    loaded.model.requires_grad_(True).zero_grad(set_to_none=True)
    return backward(loaded, examples, **{"micro_batch": 1, "precision": torch.float32, **more})


def test_running_backward_in_pieces_gives_the_gradient_of_the_whole(base: Path, data: Path, tmp_path: Path) -> None:
    loaded = load(base)
    loader = Loader(loaded, recipe_of(base, data), tmp_path)
    made = example(loader, video_row(data))
    with_gradients(loaded, [made])
    pieces = gradients(loaded)
    loaded.model.zero_grad(set_to_none=True)
    grids = loaded.model.visual_grids(torch.cat([picture.pixels_P3HW for picture in made.pictures]))
    losses = []
    for one in made.passes:
        summed, _, count = answer_loss(loaded, [lay_out(loaded, made.pictures, one, [grid[None] for grid in grids])])
        losses.append(summed / count)
    torch.stack(losses).mean().backward()
    whole = gradients(loaded)
    assert pieces.keys() == whole.keys()
    assert any(name.startswith("model.vision_tower.") for name in whole)
    for name in whole:
        assert torch.allclose(pieces[name], whole[name], atol=1e-6), name


def test_padding_beside_a_longer_conversation_changes_nothing(base: Path, data: Path, tmp_path: Path) -> None:
    loaded = load(base)
    loader = Loader(loaded, recipe_of(base, data), tmp_path)
    texts = [Row("a", (("what", "it"),)), Row("b", (("what is it " * 9, "it is red"),))]
    made = [example(loader, row) for row in texts]
    alone = [answer_loss(loaded, [lay_out(loaded, (), one.passes[0], ())])[0] for one in made]
    both, _, _ = answer_loss(loaded, [lay_out(loaded, (), one.passes[0], ()) for one in made])
    assert torch.allclose(both, alone[0] + alone[1], atol=1e-4)


def test_gradient_checkpointing_changes_no_gradient(base: Path, data: Path, tmp_path: Path) -> None:
    found = []
    for wanted in (False, True):
        loaded = load(base)
        recipe = recipe_of(base, data, gradient_checkpointing=wanted)
        choose_trained(loaded, recipe, None)
        loaded.model.train()
        backward(
            loaded, [example(Loader(loaded, recipe, tmp_path), picture_row(data))], micro_batch=1,
            precision=torch.float32,
        )  # fmt: skip
        found.append(gradients(loaded))
    assert found[0].keys() == found[1].keys()
    assert all(torch.allclose(found[0][name], found[1][name], atol=1e-6) for name in found[0])


def test_a_micro_batch_counts_by_its_conversations(base: Path, data: Path, tmp_path: Path) -> None:
    loaded = load(base)
    loader = Loader(loaded, recipe_of(base, data), tmp_path)
    texts = [example(loader, Row("t", (("what", "it is red"),))), example(loader, Row("u", (("what", "red"),)))]
    made = [*texts, example(loader, picture_row(data))]
    alone = [with_gradients(loaded, part)[0] for part in (texts[:1], texts[1:], made[2:])]
    separate, _ = with_gradients(loaded, made, micro_batch=1)
    assert torch.allclose(separate, torch.stack(alone).mean(), atol=1e-5)
    together, _ = with_gradients(loaded, made, micro_batch=2)
    # Four answer tokens and two in one micro-batch: a mean over tokens, as in the reference.
    tokens = (alone[0] * 4 + alone[1] * 2) / 6
    assert torch.allclose(together, (2 * tokens + alone[2]) / 3, atol=1e-5)


def test_kinds_do_not_share_a_micro_batch(base: Path, data: Path, tmp_path: Path) -> None:
    loader = Loader(load(base), recipe_of(base, data), tmp_path)
    rows = [picture_row(data), Row("t", (("what", "it"),)), video_row(data), picture_row(data, "blue.png")]
    groups = micro_batches([example(loader, row) for row in rows], 2)
    assert [[one.kind for one in group] for group in groups] == [[1], [5, 5], [6]]


def test_a_tiled_checkpoint_gets_the_tokens_that_it_answers_with(data: Path, tmp_path: Path) -> None:
    pinpoints = [[336, 672], [672, 336]]
    folder = tiny(
        tmp_path / "next", image_aspect_ratio="anyres", use_image_newline=True, image_grid_pinpoints=pinpoints
    )
    loaded = load(folder)
    recipe = recipe_of(folder, data)
    loader = Loader(loaded, recipe, tmp_path / "stats")
    found = loader(picture_row(data), 0)
    assert isinstance(found, Example)
    picture = np.asarray(Image.open(data / "red.png").convert("RGB"))
    grids = [loaded.model.visual_grids(found.pictures[0].pixels_P3HW)]
    for one, scale in zip(found.passes, SCALES, strict=True):
        shown = answering.encode_image(loaded, picture, scale=scale)
        embeds, labels = lay_out(loaded, found.pictures, one, grids)
        at = one.told.ids.index(-200)
        assert torch.allclose(embeds[at : at + len(shown)], shown, atol=1e-5)
        assert len(labels) == len(one.told.ids) - 1 + len(shown)
    # Frames of a video are single tiles that end in the newline.
    one = example(loader, video_row(data)).passes[0]
    laid, _ = lay_out(loaded, example(loader, video_row(data)).pictures, one, [torch.zeros(1, 576, 16)] * 9)
    assert len(laid) == len(one.told.ids) + len(one.shown)


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
        "language_model", "multi_modal_projector", "vision_tower"
    }  # fmt: skip
    answer = ask(data / "v.mp4", "what is it", Settings(max_frames=3, budget=100, max_new_tokens=2), loaded=loaded)
    assert answer.text == "red"


def test_a_frozen_tower_stays_as_it_was(recipe_file: Make, tmp_path: Path, base: Path) -> None:
    out, _ = run(recipe_file(epochs=1, projector_rate=0), tmp_path / "run")
    before, after = load(base).model, load(out).model
    for name, parameter in before.named_parameters():
        frozen = name.startswith(("model.vision_tower.", "model.multi_modal_projector."))
        assert not frozen or torch.equal(parameter, after.get_parameter(name)), name
    assert not torch.equal(before.lm_head.weight, after.lm_head.weight)


def test_lora_learns_merges_and_keeps_its_adapter(
    recipe_file: Make, tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peft = pytest.importorskip("peft")
    monkeypatch.setattr(loop, "REPORT_EVERY", 1)
    recipe = recipe_file(epochs=12, rate=2e-2, lora={"rank": 4, "alpha": 8, "dropout": 0.1}, precision="bfloat16")
    out, log = run(recipe, tmp_path / "run")
    assert log[-1]["loss"] < 0.5 * log[0]["loss"]
    assert {p.name for p in (tmp_path / "run" / "adapter").iterdir()} >= {
        "adapter_config.json", "adapter_model.safetensors", "other_trained.safetensors"
    }  # fmt: skip
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
    drawn = Reading.__call__

    def killed(self: Reading, step: int) -> Any:
        if step == 3:
            raise Stopped
        return drawn(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(Reading, "__call__", killed)
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
        "cut": "broken image", "no": "broken video", "gone": "missing file", "long": "too long", "half": "malformed"
    }  # fmt: skip
    # Two epochs met each broken row twice; it is named once.
    assert len(named) == 5
    assert log[-1]["left out"] == pytest.approx(3 / 7, abs=1e-3)
    shown = capsys.readouterr().err
    assert "4 conversations" not in shown.splitlines()[0]
    assert (
        "conversations with a problem: 1 broken image, 1 broken video, 1 malformed, 1 missing file, 1 too long" in shown
    )
    assert all(line["reason"] in shown for line in named)


def test_no_usable_row_is_one_line(recipe_file: Make, tmp_path: Path) -> None:
    (tmp_path / "none.json").write_text(json.dumps([{"conversations": []}]))
    with pytest.raises(UsageError, match="no conversation of"):
        run(recipe_file(data=[{"conversations": str(tmp_path / "none.json"), "files": "."}]), tmp_path / "run")


def test_a_video_that_never_fits_is_too_long(base: Path, data: Path, tmp_path: Path) -> None:
    loader = Loader(load(base), recipe_of(base, data, max_length=580), tmp_path)
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
    recipe = load_finetune(path)
    assert (recipe.batch, recipe.epochs, recipe.max_length, recipe.precision) == (128, 1, 2048, "bfloat16")
    assert (recipe.projector_rate, recipe.tower_rate) == (2e-5, 2e-5)
    assert recipe.rate == (2e-5 if recipe.lora is None else 2e-4)
    assert recipe.lora is None or (recipe.lora.rank, recipe.lora.alpha) == (128, 256)


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"epoch": 2}, "epochs"), ({"rate": 0}, "rate"), ({"lora": {"ranc": 3}}, "rank"), ({"data": []}, "data"),
        ({"precision": "float8"}, "precision"),
    ],
)  # fmt: skip
def test_a_wrong_recipe_is_one_line_that_names_the_key(recipe_file: Make, more: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named) as failure:
        load_finetune(recipe_file(**more))
    assert "\n" not in str(failure.value)


def test_the_rate_warms_up_and_ends_at_nothing() -> None:
    stage = Stage(steps=100, batch=1, rate=1.0)
    rates = [rate_at(step, stage) for step in range(100)]
    assert rates[:4] == pytest.approx([1 / 3, 2 / 3, 1.0, 1.0])
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert rates[-1] < 1e-3
    assert rate_at(0, Stage(steps=1, batch=1, rate=1.0)) > 0


def test_every_part_has_its_own_rate(base: Path, data: Path) -> None:
    loaded = load(base)
    recipe = recipe_of(base, data, rate=1e-3, projector_rate=2e-3, tower_rate=5e-4)
    choose_trained(loaded, recipe, None)
    (optimizer,) = make_optimizer(Trained(loaded.model), recipe)
    sizes = {group["share"]: sum(p.numel() for p in group["params"]) for group in optimizer.param_groups}
    parts = {0.5: loaded.model.model.vision_tower, 2.0: loaded.model.model.multi_modal_projector}
    for share, part in parts.items():
        assert sizes.pop(share) == sum(p.numel() for p in part.parameters())
    assert list(sizes) == [1.0]
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0}


def test_every_epoch_shows_every_row_once(base: Path, data: Path, tmp_path: Path) -> None:
    rows = [Row(str(n), (("what", "it"),)) for n in range(10)]
    recipe = recipe_of(base, data, batch=4)
    with Reading(rows, Loader(load(base), recipe, tmp_path), recipe, steps=6) as reading:
        epochs = [[row.name for step in range(3) for row in reading.drawn(3 * epoch + step)] for epoch in range(2)]
        assert [one.name for one in reading(5)] == [row.name for row in reading.drawn(5)]
    assert sorted(epochs[0], key=int) == sorted(epochs[1], key=int) == [row.name for row in rows]
    assert epochs[0] != epochs[1]
