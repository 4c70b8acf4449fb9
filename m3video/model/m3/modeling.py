"""M3 as transformers classes: LLaVA's parts, nested pooling after the projector, one scale per frame.

Shape legend: N pictures, D decoder width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
)
from transformers.utils import logging as transformers_logging

from m3video.model.m3 import conv_tower  # noqa: F401 - registers the tower that a config may name
from m3video.model.m3.picture_format import PictureFormat, picture_format
from m3video.model.m3.pooling import pack
from m3video.model.m3.prompt import style_named
from m3video.types import FULL_SCALE, SCALES

MODEL_TYPE = "m3video"
PROMPT_STYLES = ("vicuna_v1", "llava_v1", "llava_v0", "plain", "chatml", "rendered")


class M3VideoConfig(LlavaConfig):
    """`LlavaConfig` and the settings of M3 on video.

    Attributes:
        token_scales: the token scales the model was trained on.
        prompt_style: one of `PROMPT_STYLES`.
        image_aspect_ratio: "pad" (LLaVA-1.5) or "anyres" (LLaVA-NeXT) for single pictures.
        image_grid_pinpoints: (width, height) sizes that anyres may choose, in the reference's order.
        use_image_newline: the model has a learned end-of-row token (LLaVA-NeXT).
        max_context: most positions of prompt and answer combined (`tokenizer_model_max_length` of the original).
        projector_width: channels between the projector's two layers; None for the decoder's width, as in LLaVA.
        m3_trained: False for a plain LLaVA: pooled tokens then cost it far more accuracy than an M3 model.
        origin: where the weights came from.
    """

    model_type = MODEL_TYPE

    token_scales: list[int] | tuple[int, ...] = SCALES
    prompt_style: str = "vicuna_v1"
    image_aspect_ratio: str = "pad"
    image_grid_pinpoints: list[Any] | None = None
    use_image_newline: bool = False
    max_context: int = 2048
    projector_width: int | None = None
    m3_trained: bool = True
    origin: str = ""

    def __post_init__(self, **kwargs: Any) -> None:
        self.prompt_style = style_named(self.prompt_style)
        super().__post_init__(**kwargs)

    @property
    def pictures(self) -> PictureFormat:
        """The pictures that the vision tower takes."""
        vision_config: Any = self.vision_config
        return picture_format(vision_config.to_dict())


class M3VideoForConditionalGeneration(LlavaForConditionalGeneration):
    """LLaVA whose visual tokens are pooled to a scale; parameters have the names of `LlavaForConditionalGeneration`."""

    config_class = M3VideoConfig
    config: M3VideoConfig

    def __init__(self, config: M3VideoConfig) -> None:
        super().__init__(config)
        if config.projector_width is not None:
            self._widen_projector(config.projector_width)
        text_config: Any = config.text_config
        if config.use_image_newline:
            self.model.image_newline = nn.Parameter(torch.empty(text_config.hidden_size))
            nn.init.normal_(self.model.image_newline, std=text_config.hidden_size**-0.5)

    def _widen_projector(self, inner: int) -> None:
        """Give the projector's two layers `inner` channels between them; its input and output stay."""
        projector = self.model.multi_modal_projector
        first, second, has_bias = projector.linear_1, projector.linear_2, projector.linear_1.bias is not None
        projector.linear_1 = nn.Linear(first.in_features, inner, bias=has_bias)
        projector.linear_2 = nn.Linear(inner, second.out_features, bias=has_bias)
        for layer in (projector.linear_1, projector.linear_2):
            self._init_weights(layer)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        newline = getattr(module, "image_newline", None)
        if isinstance(newline, nn.Parameter) and not getattr(newline, "_is_hf_initialized", False):
            nn.init.normal_(newline, std=len(newline) ** -0.5)

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        frame_scales: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """Run the model on the parent's inputs; with `pixel_values`, each picture may have its own scale.

        Args:
            input_ids: [1, L] with `image_token_index` as often as the scales add up to.
            pixel_values: [N, 3, H, W].
            inputs_embeds: [1, L, D] instead of both.
            frame_scales: [N] scales; 576 for every picture by default.
            attention_mask, position_ids, labels, logits_to_keep, kwargs: as for the parent.
        """
        if pixel_values is not None and input_ids is not None:
            # An original checkpoint has no row for the image token: its id lies beyond the table.
            slots = input_ids == self.config.image_token_index
            inputs_embeds = self.get_input_embeddings()(input_ids.masked_fill(slots, 0))
            grid_NSD = self.visual_grids(pixel_values)
            scales = [FULL_SCALE] * len(grid_NSD) if frame_scales is None else [int(scale) for scale in frame_scales]
            visual = pack(grid_NSD, scales).tokens_TD
            if int(slots.sum()) != len(visual):
                raise ValueError(f"{int(slots.sum())} image tokens in the prompt, {len(visual)} in the pictures")
            inputs_embeds = inputs_embeds.masked_scatter(slots[..., None], visual.to(inputs_embeds.dtype))
            input_ids = None
        return super().forward(
            input_ids=input_ids,
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            labels=labels,
            logits_to_keep=logits_to_keep,
            **kwargs,
        )

    def visual_grids(self, pixels_N3HW: Tensor, *, batch_size: int = 16) -> Tensor:
        """Return projected 24x24 grids of preprocessed pictures.

        Args:
            pixels_N3HW: [N, 3, H, W], normalised: see `M3VideoConfig.pictures`.
            batch_size: pictures in one run of the vision tower.

        Returns:
            [N, 576, D], row-major, not pooled.

        Source: reference `encode_images`: hidden state `vision_feature_layer` without CLIP's CLS, then the projector.
        """
        grids: list[Tensor] = []
        for batch in pixels_N3HW.split(batch_size):
            grids += self.get_image_features(pixel_values=batch.to(self.device, self.dtype)).pooler_output
        grid_NSD = torch.stack(grids)
        if grid_NSD.shape[1] != FULL_SCALE:
            raise ValueError(f"the vision tower gives {grid_NSD.shape[1]} tokens a picture; M3 needs {FULL_SCALE}")
        return grid_NSD


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """Keep transformers from drawing its own progress bars, which it does even into a log."""
    were_shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if were_shown:
            transformers_logging.enable_progress_bar()


AutoConfig.register(MODEL_TYPE, M3VideoConfig, exist_ok=True)
AutoModelForImageTextToText.register(M3VideoConfig, M3VideoForConditionalGeneration, exist_ok=True)
AutoModelForMultimodalLM.register(M3VideoConfig, M3VideoForConditionalGeneration, exist_ok=True)
