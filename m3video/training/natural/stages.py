"""The stages of `small` that train it on answers, first about single pictures, then about reels.

The tower stays as it is. What is trained is the projector, and a low-rank update of every matrix in the decoder.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from m3video.model.m3.modeling import M3VideoForConditionalGeneration
from m3video.model.tokenizer import IMAGE_ID, TextCodec
from m3video.training.finetune import TrainedParameters
from m3video.training.loop import autocast, run_stage
from m3video.training.natural.features import NaturalFeatures
from m3video.training.natural.packing import IGNORED, Packed, Sample, length, pack
from m3video.training.natural.recipe import SmallRecipe
from m3video.training.natural.start import PROMPT_STYLE, project
from m3video.training.recipe import Stage


def train_answers(
    name: str,
    stage: Stage,
    model: M3VideoForConditionalGeneration,
    codec: TextCodec,
    features: NaturalFeatures,
    draw: Callable[[random.Random], Sample],
    num_classes: int,
    recipe: SmallRecipe,
    folder: Path,
    *,
    resume: bool,
    outdates: Sequence[str] = (),
) -> None:
    """Train projector and low-rank updates on the answers to drawn samples; arguments as for `run_stage`."""

    def step(number: int) -> tuple[Tensor, Mapping[str, tuple[float, float]]]:
        packed = pack(codec, PROMPT_STYLE, _drawn(name, number, stage, codec, draw, recipe), model.device)
        with autocast(model.device):
            losses = answer_losses(model, features, packed, num_classes)
        return losses.mean(), {"positions": (float(len(packed.ids_L)), 1.0)}

    run_stage(
        name,
        stage,
        TrainedParameters(model),
        folder,
        resume=resume,
        step=step,
        make=lambda module: [_optimizer(module, recipe.projector_rate / stage.rate)],
        outdates=outdates,
    )


def answer_losses(
    model: M3VideoForConditionalGeneration,
    features: NaturalFeatures,
    packed: Packed,
    num_classes: int = 0,
) -> Tensor:
    """Return the cross-entropy of each token of all answers, float32, in order.

    Args:
        model: with attention within samples.
        features: of the frames.
        packed: frames, questions and answers.
        num_classes: of the tower's classes, where frames are changed to another class.
    """
    projector = model.model.multi_modal_projector
    fine, coarse = features.read(packed.rows, model.device)
    tokens_TD = project(projector, fine, coarse, packed.scales, classes=packed.classes, num_classes=num_classes)
    table: Any = model.get_input_embeddings()
    slots_L = packed.ids_L == IMAGE_ID
    embeds_LD = table(packed.ids_L.masked_fill(slots_L, 0)).to(tokens_TD.dtype)
    decoder: Any = model.model.language_model
    hidden = decoder(
        inputs_embeds=embeds_LD.masked_scatter(slots_L[:, None], tokens_TD)[None],
        # Whatever mask transformers would make is not used; one that is there already it does not make.
        attention_mask=torch.ones(1, 1, 1, 1, dtype=torch.bool, device=model.device),
        masks=packed.masks,
        position_ids=packed.positions_L[None],
        use_cache=False,
    ).last_hidden_state[0]
    asked = packed.labels_L != IGNORED
    logits = F.linear(hidden[asked], table.weight.to(hidden.dtype)).float()
    return F.cross_entropy(logits, packed.labels_L[asked], reduction="none")


def _drawn(
    name: str,
    number: int,
    stage: Stage,
    codec: TextCodec,
    draw: Callable[[random.Random], Sample],
    recipe: SmallRecipe,
) -> list[Sample]:
    """Return samples that fill a packed sequence of about `stage.batch` positions."""
    rng = random.Random(f"{recipe.seed} {name} {number}")
    samples: list[Sample] = []
    size = 0
    while size < stage.batch:
        sample = draw(rng)
        if sample.questions:
            samples.append(sample)
            size += length(codec, PROMPT_STYLE, sample)
    return samples


def _optimizer(module: nn.Module, projector_share: float) -> torch.optim.Optimizer:
    groups: dict[float, list[nn.Parameter]] = {projector_share: [], 1.0: []}
    for name, parameter in module.named_parameters():
        groups[1.0 if "lora_" in name else projector_share].append(parameter)
    return torch.optim.AdamW(
        [{"params": found, "share": share} for share, found in groups.items()], betas=(0.9, 0.98), weight_decay=0.01
    )
