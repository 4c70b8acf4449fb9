"""The pictures that a vision tower takes: their size and normalisation. Loads no torch.

CLIP's are constants of its preprocessing; a convolutional tower's are in its config.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from m3video.model.m3.config_rules import IMAGE_SIDE
from m3video.model.m3.conv_sizes import EFFICIENTNET_LITE, LITE0


@dataclass(frozen=True, slots=True)
class PictureFormat:
    """How a picture becomes a vision tower's input.

    Attributes:
        side: of the square picture, pixels.
        mean, std: of red, green and blue as shares of 255: a grey level g becomes (g / 255 - mean) / std.
    """

    side: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def padding_rgb(self) -> tuple[int, ...]:
        """The mean colour in grey levels, which stands around a picture that is not square: near 0 once normalised.

        Truncated as in the reference. A mean of 127 / 255 must not become 126, whatever its last bit.
        """
        return tuple(int(share * 255 + 1e-6) for share in self.mean)

    @property
    def values(self) -> int:
        """Numbers in one picture."""
        return 3 * self.side**2


CLIP_PICTURES = PictureFormat(IMAGE_SIDE, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
"""What LLaVA-1.5 was trained on. Black borders or a centre crop give other answers."""


def picture_format(vision: Mapping[str, Any]) -> PictureFormat:
    """Return the pictures of a vision tower with this config; what it leaves out has its default."""
    if vision.get("model_type") != EFFICIENTNET_LITE:
        return CLIP_PICTURES
    whole = {**LITE0, **vision}
    return PictureFormat(whole["image_size"], _numbers(whole["image_mean"]), _numbers(whole["image_std"]))


def _numbers(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
