"""The stages of `small`: pictures are aligned with words, then asked about one by one, then in reels.

The tower stays as it is. What is trained is the projector, and a low-rank update of every matrix in the decoder.
"""

from __future__ import annotations

import random
import re
from collections import Counter
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
from m3video.training.natural.class_channels import name_directions
from m3video.training.natural.features import NaturalFeatures
from m3video.training.natural.packing import IGNORED, Packed, Sample, length, pack
from m3video.training.natural.recipe import SmallRecipe
from m3video.training.natural.start import PROMPT_STYLE, project
from m3video.training.recipe import Stage

ALIGN_SCALES = (1, 1, 9, 36)
ALIGN_WORDS = 400
_STOP = frozenset(
    """a an the is are in on of with and at to his her its their by from while for it two three four as out up into
    through near down other over one some next front off that very wearing has have be being there around another
    against this behind along across who he she they him them where above under each all or""".split()
)


def train_alignment(
    model: M3VideoForConditionalGeneration,
    codec: TextCodec,
    features: NaturalFeatures,
    things: Mapping[int, Sequence[str]],
    recipe: SmallRecipe,
    folder: Path,
    *,
    resume: bool,
) -> None:
    """Train the projector so that a picture's mean token is near the embeddings of the words that are true of it.

    Args:
        model: its projector is trained.
        codec: the decoder's tokenizer.
        features: of the pictures.
        things: row of each picture -> the words that are true of it.
        recipe: lengths and rates.
        folder: the run folder.
        resume: go on from its checkpoint.
    """
    table: Any = model.get_input_embeddings()
    words_VD = table.weight.float()
    words = sorted({word for found in things.values() for word in found})
    number_of = {word: number for number, word in enumerate(words)}
    words_KD = name_directions(codec, words_VD, words)
    mean_D, spread = words_VD.mean(0), words_VD.std(0).mean()
    part = _Alignment(model.model.multi_modal_projector, len(words))
    rows = sorted(things)

    def step(number: int) -> tuple[Tensor, Mapping[str, tuple[float, float]]]:
        rng = random.Random(f"{recipe.seed} align {number}")
        drawn = [rng.choice(rows) for _ in range(recipe.align.batch)]
        true_NK = torch.zeros(len(drawn), len(words), device=model.device)
        for row, of_row in zip(drawn, true_NK, strict=True):
            of_row[[number_of[word] for word in things[row]]] = 1
        scale = rng.choice(ALIGN_SCALES)
        with autocast(model.device):
            tokens = project(part.projector, *features.read(drawn, model.device), [scale] * len(drawn)).float()
        tokens_NSD = tokens.view(len(drawn), scale, -1)
        logits_NK = (tokens_NSD.mean(1) - mean_D) @ words_KD.T * part.scale.exp() + part.bias
        loud = (tokens_NSD.std(-1) / spread).log().square().mean()
        return F.binary_cross_entropy_with_logits(logits_NK, true_NK) + 0.01 * loud, {}

    run_stage("align", recipe.align, part, folder, resume=resume, step=step, outdates=("pictures.pt", "reels.pt"))


class _Alignment(nn.Module):
    """The projector, and a bias for each word and one scale, which are thrown away."""

    def __init__(self, projector: nn.Module, words: int) -> None:
        super().__init__()
        self.projector = projector
        self.bias = nn.Parameter(torch.full((words,), -4.0))
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.to(next(projector.parameters()).device)


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


def true_words(captions: Mapping[int, Sequence[str]]) -> dict[int, list[str]]:
    """Return for each picture the frequent words of its captions; pictures without any are left out.

    Args:
        captions: row -> the captions of a picture.
    """
    words = {row: {word for text in found for word in _content_words(text)} for row, found in captions.items()}
    counts = Counter(word for found in words.values() for word in sorted(found))
    known = {word for word, _ in counts.most_common(ALIGN_WORDS)}
    true = {row: sorted(found & known) for row, found in words.items()}
    return {row: found for row, found in true.items() if found}


def _content_words(text: str) -> set[str]:
    return {word for word in re.findall(r"[a-z]+", text.lower()) if len(word) > 2 and word not in _STOP}


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
