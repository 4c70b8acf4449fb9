"""The M3 objective on a checkpoint: the language loss of a conversation, averaged over all its passes.

Shape legend: P tiles of a picture, S 576 tokens, L positions, D decoder width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional as F

from m3video.errors import DoesNotFitError
from m3video.model.m3.checkpoint import LoadedModel
from m3video.model.m3.images import merge_tiles
from m3video.model.m3.inputs import embed
from m3video.model.m3.pooling import pool
from m3video.model.tokenizer import IMAGE_ID
from m3video.training.conversations import UNLEARNED
from m3video.training.examples import Example, ExamplePicture, Pass

Metrics = dict[str, tuple[float, float]]


def micro_batches(examples: Sequence[Example], size: int) -> list[list[Example]]:
    """Group examples of one kind and of similar length, at most `size` together, as the reference does."""
    groups: list[list[Example]] = []
    for kind in sorted({example.kind for example in examples}):
        alike = sorted((example for example in examples if example.kind == kind), key=lambda example: example.length)
        groups += [alike[start : start + size] for start in range(0, len(alike), size)]
    return groups


def backward(
    loaded: LoadedModel, examples: Sequence[Example], *, micro_batch: int, precision: torch.dtype
) -> tuple[Tensor, Metrics]:
    """Run one optimizer step's examples forward and backward, a micro-batch and a pass at a time.

    A micro-batch's loss is the mean over its answer tokens, averaged over its passes; the step's loss is the mean over
    micro-batches, each counting by its conversations.

    Args:
        loaded: the model; gradients are added to its parameters.
        examples: all conversations of the step.
        micro_batch: how many share a forward pass.
        precision: bfloat16 runs under autocast, float32 does not.

    Returns:
        The loss without its graph, and {metric: (sum, count)}.

    Raises:
        DoesNotFitError: a micro-batch exceeds the GPU's memory.
    """
    total = torch.zeros((), device=loaded.model.device)
    metrics: Metrics = {}
    for group in micro_batches(examples, micro_batch):
        with _within_memory(len(group)):
            loss, found = _micro_backward(loaded, group, share=len(group) / len(examples), precision=precision)
        total += loss * len(group) / len(examples)
        for name, (value, count) in found.items():
            before = metrics.get(name, (0.0, 0.0))
            metrics[name] = (before[0] + value, before[1] + count)
    return total, metrics


@contextmanager
def _within_memory(rows: int) -> Iterator[None]:
    try:
        yield
    except torch.cuda.OutOfMemoryError:
        way_out = "lower micro_batch" if rows > 1 else "lower max_length or visual_tokens, or train with lora"
        raise DoesNotFitError(f"a micro-batch of {rows} needs more GPU memory than there is: {way_out}") from None


def _micro_backward(
    loaded: LoadedModel, group: Sequence[Example], *, share: float, precision: torch.dtype
) -> tuple[Tensor, Metrics]:
    """Run vision tower and projector once, and the decoder for each pass, which adds its gradient to the grids."""
    device = loaded.model.device
    cast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == torch.bfloat16)
    pixels = [picture.pixels_P3HW for example in group for picture in example.pictures]
    grids = leaf = torch.empty(0, device=device)
    if pixels:
        with cast:
            grids = loaded.model.visual_grids(torch.cat(pixels))
        leaf = grids.detach().requires_grad_(grids.requires_grad)
    names = list(dict.fromkeys(one.name for example in group for one in example.passes))
    loss, metrics = torch.zeros((), device=device), {}
    for name in names:
        with cast:
            laid = _lay_out(loaded, group, name, leaf)
            summed, right, count = answer_loss(loaded, laid)
            mean = summed / count
        (mean * share / len(names)).backward()
        loss += mean.detach() / len(names)
        metrics[f"loss {name}"] = (float(summed.detach()), float(count))
        metrics[f"right {name}"] = (float(right), float(count))
    if leaf.grad is not None:
        grids.backward(leaf.grad)
    return loss, metrics


def _lay_out(loaded: LoadedModel, group: Sequence[Example], name: str, grids: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return input embeddings [L, D] and labels [L] of every example that has the pass."""
    laid, start = [], 0
    for example in group:
        own: list[Tensor] = []
        for picture in example.pictures:
            own.append(grids[start : start + len(picture.pixels_P3HW)])
            start += len(picture.pixels_P3HW)
        laid += [lay_out(loaded, example.pictures, one, own) for one in example.passes if one.name == name]
    return laid


def lay_out(
    loaded: LoadedModel, pictures: Sequence[ExamplePicture], one: Pass, grids: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Return one pass of one example as embeddings and labels.

    Args:
        loaded: the model.
        pictures: the example's pictures.
        one: which of them are shown, at which scales, and the words.
        grids: the projected grid [P, 576, D] of each picture.

    Returns:
        [L, D] embeddings, and [L] labels that are -100 at every visual token.
    """
    blocks = [block(loaded, pictures[k], grids[k], scale) for k, scale in zip(one.shown, one.scales, strict=True)]
    embeds = embed(loaded, one.labelled.ids, blocks)[0]
    labels: list[int] = []
    lengths = iter([len(tokens) for tokens in blocks])
    for token, learned in zip(one.labelled.ids, one.labelled.labels, strict=True):
        labels += [UNLEARNED] * next(lengths) if token == IMAGE_ID else [learned]
    assert len(labels) == len(embeds)
    return embeds, torch.tensor(labels, device=embeds.device)


def block(loaded: LoadedModel, picture: ExamplePicture, grid_PSD: Tensor, scale: int) -> Tensor:
    """Return a picture's tokens as in the prompt (see `encode_image` and `frame_blocks`), with their graph."""
    tokens = pool(grid_PSD, scale)
    config = loaded.config
    if picture.tiled_wh is not None:
        newline = loaded.model.model.image_newline
        return merge_tiles(tokens, picture.tiled_wh, config.image_grid_pinpoints or [], newline)
    if config.use_image_newline:
        return torch.cat([tokens[0], loaded.model.model.image_newline[None].to(tokens.dtype)])
    return tokens[0]


def answer_loss(loaded: LoadedModel, laid: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, int, int]:
    """Return the summed cross-entropy of the answers' tokens, how many are the likeliest, and how many there are.

    Rows are padded on the right, where a causal decoder cannot look; logits are taken only where something is learned.
    """
    longest = max(len(labels) for _, labels in laid)
    embeds_BLD = torch.stack([F.pad(embeds, (0, 0, 0, longest - len(embeds))) for embeds, _ in laid])
    labels_BL = torch.stack([F.pad(labels, (0, longest - len(labels)), value=UNLEARNED) for _, labels in laid])
    lengths_B1 = torch.tensor([[len(labels)] for _, labels in laid], device=labels_BL.device)
    mask_BL = (torch.arange(longest, device=labels_BL.device)[None] < lengths_B1).long()
    decoder = loaded.model.model.language_model
    hidden_BLD = decoder(inputs_embeds=embeds_BLD, attention_mask=mask_BL, use_cache=False).last_hidden_state
    asked_BL = labels_BL[:, 1:] != UNLEARNED
    logits = loaded.model.lm_head(hidden_BLD[:, :-1][asked_BL]).float()
    learned = labels_BL[:, 1:][asked_BL]
    summed = F.cross_entropy(logits, learned, reduction="sum")
    return summed, int((logits.detach().argmax(-1) == learned).sum()), len(learned)
