"""`small` before its first step: SmolLM2 as the decoder, EfficientNet-Lite0 as the tower, a fresh projector.

Shape legend: N pictures, W channels inside the projector, F fine and C coarse channels, D decoder width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlamaConfig

from m3video.errors import CheckpointError
from m3video.model.m3.checkpoint import restore_buffers
from m3video.model.m3.conv_tower import EfficientNetLiteModel
from m3video.model.m3.modeling import M3VideoConfig, M3VideoForConditionalGeneration
from m3video.model.m3.pooling import pack
from m3video.model.m3.state_dict import our_name, read_folder
from m3video.training.natural.class_channels import changed, class_layer, keep_classes
from m3video.training.natural.features import COARSE_SIDE, NaturalFeatures
from m3video.training.natural.packing import ATTENTION
from m3video.training.pretrained_tower import TowerHead

PROMPT_STYLE = "chatml"
SAMPLED = 256
"""Pictures from which the loudness of features is measured."""


def build_small(base: Path, tower: EfficientNetLiteModel, *, projector_width: int) -> M3VideoForConditionalGeneration:
    """Return the model in bfloat16, everything frozen but the projector, which is in float32 and not started yet.

    Args:
        base: folder with the language model in transformers' layout.
        tower: the vision tower, kept in its own number format.
        projector_width: channels between the projector's two layers.

    Raises:
        CheckpointError: the base lacks a tensor.
    """
    text = LlamaConfig.from_pretrained(base)
    config = M3VideoConfig(
        vision_config=tower.config,
        text_config=text,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        image_token_index=text.vocab_size,
        tie_word_embeddings=True,
        prompt_style=PROMPT_STYLE,
        max_context=text.max_position_embeddings,
        projector_width=projector_width,
        dtype=torch.float16,
        origin="SmolLM2-135M-Instruct and EfficientNet-Lite0, trained together by m3video",
    )
    config._attn_implementation = ATTENTION
    with torch.device("meta"):
        model = M3VideoForConditionalGeneration(config)
    named = ((our_name(name) or name, tensor.to(torch.bfloat16)) for name, tensor in read_folder(base))
    state = {name: tensor for name, tensor in named if name != "lm_head.weight"}
    lacking = model.load_state_dict(state, strict=False, assign=True).missing_keys
    decoder = [name for name in lacking if name.startswith("model.language_model.")]
    if decoder:
        raise CheckpointError(f"{base} lacks {len(decoder)} tensors of the decoder, e.g. {min(decoder)}")
    model.model.vision_tower = tower
    model.model.multi_modal_projector.to_empty(device="cpu")
    model.tie_weights()
    restore_buffers(model, torch.device("cpu"))
    model.requires_grad_(False)
    model.model.multi_modal_projector.requires_grad_(True)
    return model


@torch.no_grad()
def start_projector(
    projector: Any,
    head: TowerHead,
    features: NaturalFeatures,
    embeddings_VD: Tensor,
    classes: Sequence[int],
    directions_KD: Tensor,
    *,
    reading: tuple[int, int] = (0, 0),
) -> None:
    """Set a projector's weights: its first channels are the classes of the tower's own head, the others are random.

    So a picture's tokens start out near the embeddings of what the head would call it, and this part is kept.

    Args:
        projector: LLaVA's two layers, the first from fine and coarse channels, in this order.
        head: what the tower had above it when it was trained to name pictures.
        features: some of them are read, so that every random channel is awake.
        embeddings_VD: the decoder's words: tokens are made as large as these, around their mean.
        classes: numbers of the head's classes that have a name.
        directions_KD: of their names, see `name_directions`.
        reading: how many of the fine channels, the last ones, are for reading, and how many of the inner channels, the
            last ones too, see these and no others.
    """
    first, second = projector.linear_1, projector.linear_2
    count = len(features.row_of)
    fine, coarse = features.read(range(0, count, max(1, count // SAMPLED)), torch.device("cpu"))
    fine, coarse = fine.flatten(0, 2), coarse.flatten(0, 2)
    channels, named = fine.shape[1], len(classes)
    trunk, free = channels - reading[0], first.out_features - reading[1]
    first.weight.zero_()
    first.weight[:named, channels:], first.bias[:named] = class_layer(head, classes)
    for rows, columns, values in (
        (slice(named, free), slice(0, trunk), fine[:, :trunk]),
        (slice(named, free), slice(channels, None), coarse),
        (slice(free, None), slice(trunk, channels), fine[:, trunk:]),
    ):
        size = len(first.weight[rows]), values.shape[1]
        first.weight[rows, columns] = 0.7 * torch.randn(size) / (values.std(0) + 1e-3) / max(1, size[1]) ** 0.5
    means = torch.cat([fine.mean(0), coarse.mean(0)])
    first.bias[named:] = -first.weight[named:] @ means
    nn.init.normal_(second.weight, std=0.002)
    cells = projector.act(F.linear(coarse, first.weight[:named, channels:], first.bias[:named]))
    pictures = cells.view(-1, COARSE_SIDE * COARSE_SIDE, named).mean(1) @ directions_KD
    size = embeddings_VD.float().std(0).norm() / pictures.norm(dim=1).mean()
    second.weight[:, :named] = size * directions_KD.T
    second.bias.copy_(embeddings_VD.float().mean(0))
    keep_classes(projector, named)


def project(
    projector: Any,
    fine_NHWF: Tensor,
    coarse_NHWC: Tensor,
    scales: Sequence[int],
    *,
    classes: Sequence[int] = (),
    num_classes: int = 0,
) -> Tensor:
    """Return all frames' visual tokens, [T, D]: what the model's own projector and pooling give, at less cost.

    A coarse channel is the same in four cells, so that its product is computed once; pooling stands before the second
    layer, which is linear; no gradient is computed for the classes' channels, which are kept and see no fine channel.

    Args:
        projector: of the model.
        fine_NHWF, coarse_NHWC: features of N frames.
        scales: of the frames.
        classes: see `changed`; nothing is changed without them.
        num_classes: of the inner channels that are classes.
    """
    first = projector.linear_1
    channels = fine_NHWF.shape[-1]

    def pooled(rows: slice, *, see_fine: bool) -> Tensor:
        inner = F.linear(coarse_NHWC, first.weight[rows, channels:], first.bias[rows])
        inner = inner.repeat_interleave(2, 1).repeat_interleave(2, 2)
        if see_fine:
            inner = inner + F.linear(fine_NHWF, first.weight[rows, :channels])
        return pack(projector.act(inner).flatten(1, 2), scales).tokens_TD

    tokens_TW = pooled(slice(num_classes, None), see_fine=True)
    if num_classes:
        with torch.no_grad():
            named_TW = pooled(slice(num_classes), see_fine=False)
        if any(wanted >= 0 for wanted in classes):
            named_TW = changed(named_TW, scales, classes)
        tokens_TW = torch.cat([named_TW, tokens_TW], 1)
    return projector.linear_2(tokens_TW)
