"""The M3 objective: the mean over all ways a conversation is shown, in pieces that add up to the whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from m3video.model.m3 import checkpoint, inputs, pooling
from m3video.training.conversations import Conversation
from m3video.training.examples import Example, ExampleLoader
from m3video.training.finetune import choose_trained
from m3video.training.objective import answer_loss, backward, lay_out, micro_batches
from m3video.types import SCALES
from tests.training.tuning import example, gradients, load, picture_row, recipe_of, tiny, video_row


def test_the_loss_is_the_mean_over_the_five_scales(base: Path, data: Path, tmp_path: Path) -> None:
    """Each scale on its own by the product's own path, against one step of the objective."""
    loaded = load(base)
    made = example(ExampleLoader(loaded, recipe_of(base, data), tmp_path), picture_row(data))
    grids = loaded.model.visual_grids(made.pictures[0].pixels_P3HW)
    losses = []
    for one in made.passes:
        embeds = inputs.embed(loaded, one.labelled.ids, inputs.frame_blocks(loaded, pooling.pack(grids, one.scales)))
        logits = loaded.model(inputs_embeds=embeds).logits[0, -3:]
        # The prompt's last token predicts "red", "red" predicts the end.
        assert one.labelled.labels[-3:] == [-100, loaded.codec.encode("red")[0], loaded.codec.eos_id]
        losses.append(torch.nn.functional.cross_entropy(logits[:2], torch.tensor(one.labelled.labels[-2:])))
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
    loader = ExampleLoader(loaded, recipe_of(base, data), tmp_path)
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
    loader = ExampleLoader(loaded, recipe_of(base, data), tmp_path)
    texts = [Conversation("a", (("what", "it"),)), Conversation("b", (("what is it " * 9, "it is red"),))]
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
            loaded,
            [example(ExampleLoader(loaded, recipe, tmp_path), picture_row(data))],
            micro_batch=1,
            precision=torch.float32,
        )
        found.append(gradients(loaded))
    assert found[0].keys() == found[1].keys()
    assert all(torch.allclose(found[0][name], found[1][name], atol=1e-6) for name in found[0])


def test_a_micro_batch_counts_by_its_conversations(base: Path, data: Path, tmp_path: Path) -> None:
    loaded = load(base)
    loader = ExampleLoader(loaded, recipe_of(base, data), tmp_path)
    texts = [
        example(loader, Conversation("t", (("what", "it is red"),))),
        example(loader, Conversation("u", (("what", "red"),))),
    ]
    made = [*texts, example(loader, picture_row(data))]
    alone = [with_gradients(loaded, part)[0] for part in (texts[:1], texts[1:], made[2:])]
    separate, _ = with_gradients(loaded, made, micro_batch=1)
    assert torch.allclose(separate, torch.stack(alone).mean(), atol=1e-5)
    together, _ = with_gradients(loaded, made, micro_batch=2)
    # Four answer tokens and two in one micro-batch: a mean over tokens, as in the reference.
    tokens = (alone[0] * 4 + alone[1] * 2) / 6
    assert torch.allclose(together, (2 * tokens + alone[2]) / 3, atol=1e-5)


def test_kinds_do_not_share_a_micro_batch(base: Path, data: Path, tmp_path: Path) -> None:
    loader = ExampleLoader(load(base), recipe_of(base, data), tmp_path)
    rows = [picture_row(data), Conversation("t", (("what", "it"),)), video_row(data), picture_row(data, "blue.png")]
    groups = micro_batches([example(loader, row) for row in rows], 2)
    assert [[one.kind for one in group] for group in groups] == [[1], [5, 5], [6]]


def test_a_tiled_checkpoint_gets_the_tokens_that_it_answers_with(data: Path, tmp_path: Path) -> None:
    pinpoints = [[336, 672], [672, 336]]
    folder = tiny(
        tmp_path / "next", image_aspect_ratio="anyres", use_image_newline=True, image_grid_pinpoints=pinpoints
    )
    loaded = load(folder)
    recipe = recipe_of(folder, data)
    loader = ExampleLoader(loaded, recipe, tmp_path / "stats")
    found = loader(picture_row(data), 0)
    assert isinstance(found, Example)
    picture = np.asarray(Image.open(data / "red.png").convert("RGB"))
    grids = [loaded.model.visual_grids(found.pictures[0].pixels_P3HW)]
    for one, scale in zip(found.passes, SCALES, strict=True):
        shown = inputs.encode_image(loaded, picture, scale=scale)
        embeds, labels = lay_out(loaded, found.pictures, one, grids)
        at = one.labelled.ids.index(-200)
        assert torch.allclose(embeds[at : at + len(shown)], shown, atol=1e-5)
        assert len(labels) == len(one.labelled.ids) - 1 + len(shown)
    # Frames of a video are single tiles that end in the newline.
    one = example(loader, video_row(data)).passes[0]
    laid, _ = lay_out(loaded, example(loader, video_row(data)).pictures, one, [torch.zeros(1, 576, 16)] * 9)
    assert len(laid) == len(one.labelled.ids) + len(one.shown)
