"""The transformers processor: frames and text to the inputs of `M3VideoForConditionalGeneration`.

It needs no torchvision and no video decoder: the caller decodes frames and passes them as arrays, with their times.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    AutoProcessor,
    AutoTokenizer,
    BatchFeature,
    LlamaTokenizer,
    ProcessorMixin,
)

from m3video.errors import CheckpointError
from m3video.model.m3.images import image_processor as image_processor_of
from m3video.model.m3.images import pad_pixels
from m3video.model.m3.modeling import M3VideoConfig
from m3video.model.m3.picture_format import CLIP_PICTURES, PictureFormat
from m3video.model.m3.prompt import IMAGE, build_prompt, style_named
from m3video.types import FULL_SCALE, check_scale
from m3video.utils.text import first_line


class M3VideoProcessor(ProcessorMixin):
    """A processor of frames, their scales and times, and a question, into model inputs.

    Example: `processor(videos=frames, text=question, frame_scales=[36, 9], times_seconds=[0.5, 4.0])`
    """

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        image_token_id: int = 32000,
        prompt_style: str = "vicuna_v1",
        **kwargs: Any,
    ) -> None:
        self.image_token_id = image_token_id
        self.prompt_style = style_named(prompt_style)
        super().__init__(image_processor, tokenizer, **kwargs)

    def frames_text(self, frame_scales: Sequence[int], times_seconds: Sequence[float] | None, text: str) -> str:
        """Return the whole prompt, each frame as `scale` image marks after its time."""
        prompt = build_prompt(self.prompt_style, text, num_frames=len(frame_scales), times_seconds=times_seconds)
        pieces = prompt.split(IMAGE)
        marks = [IMAGE * check_scale(scale) for scale in frame_scales]
        return "".join(piece + mark for piece, mark in zip(pieces, [*marks, ""], strict=True))

    def __call__(
        self,
        images: Any = None,
        text: str | None = None,
        videos: Sequence[NDArray[np.uint8]] | None = None,
        *,
        frame_scales: Sequence[int] | None = None,
        times_seconds: Sequence[float] | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Return inputs for one question about a video (or about pictures, which are treated as its frames).

        Args:
            images: N pictures; give these or `videos`.
            text: the question, without a template.
            videos: N RGB uint8 [H, W, 3] frames of one video.
            frame_scales: N scales; 576 for all by default.
            times_seconds: N times to write before the frames; none by default.

        Returns:
            input_ids and attention_mask [1, L], pixel_values [N, 3, H, W], frame_scales [N].

        Raises:
            ValueError: no text, frames given twice or not at all, or lists of different lengths.
        """
        kwargs.pop("return_tensors", None)
        if kwargs:
            raise ValueError(f"{', '.join(kwargs)} is not known here: frames, text, frame_scales and times_seconds are")
        if (images is None) == (videos is None) or text is None:
            raise ValueError("give text, and either images or videos")
        frames = list(images if videos is None else videos)
        scales = [FULL_SCALE] * len(frames) if frame_scales is None else list(frame_scales)
        if len(scales) != len(frames) or not frames:
            raise ValueError(f"{len(frames)} frames with {len(scales)} scales: one for each, and at least one frame")
        ids = self._ids(self.frames_text(scales, times_seconds, text))
        return BatchFeature(
            {
                "input_ids": torch.tensor([ids]),
                "attention_mask": torch.ones(1, len(ids), dtype=torch.long),
                "pixel_values": pad_pixels(frames, self.pictures),
                "frame_scales": torch.tensor(scales),
            }
        )

    @property
    def pictures(self) -> PictureFormat:
        """The pictures that the vision tower takes, as `preprocessor_config.json` says."""
        read = self.image_processor
        if read is None:
            return CLIP_PICTURES
        return PictureFormat(int(read.crop_size["height"]), tuple(read.image_mean), tuple(read.image_std))

    def _ids(self, prompt: str) -> list[int]:
        """Tokenize each piece between image marks alone, as the reference does."""
        ids = [] if self.tokenizer.bos_token_id is None else [self.tokenizer.bos_token_id]
        for number, piece in enumerate(prompt.split(IMAGE)):
            if number:
                ids.append(self.image_token_id)
            if piece:
                # transformers 5 drops the leading mark of a piece that begins with a space; sentencepiece does not.
                doubled = f" {piece}" if piece.startswith(" ") else piece
                ids += self.tokenizer.encode(doubled, add_special_tokens=False)
        return ids

    @property
    def model_input_names(self) -> list[str]:
        return ["input_ids", "attention_mask", "pixel_values", "frame_scales"]


def read_tokenizer(folder: Path) -> Any:
    """Read a folder's tokenizer as a transformers tokenizer.

    A `tokenizer.model` is converted to a fast tokenizer here: transformers itself would need protobuf for it.
    """
    if (folder / "tokenizer.json").is_file() or not (folder / "tokenizer.model").is_file():
        return AutoTokenizer.from_pretrained(folder)
    import sentencepiece

    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    vocab = {pieces.id_to_piece(i): i for i in range(pieces.get_piece_size())}
    unknown, begin, end = (pieces.id_to_piece(i) for i in (pieces.unk_id(), pieces.bos_id(), pieces.eos_id()))
    return LlamaTokenizer(
        vocab=vocab,
        merges=merges_of(vocab),
        unk_token=unknown,
        bos_token=begin,
        eos_token=end,
        pad_token=unknown,
        legacy=False,
    )


def merges_of(vocab: Mapping[str, int]) -> list[tuple[str, str]]:
    """Return the merges of a BPE vocabulary: a piece's id is its rank, and any two pieces that spell it make it."""
    found = []
    for piece, rank in vocab.items():
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in vocab and right in vocab:
                found.append((rank, vocab[left], vocab[right], left, right))
    return [(left, right) for *_, left, right in sorted(found)]


def write_processor(folder: Path) -> None:
    """Add the processor's files to a folder that holds a config and a tokenizer.

    Raises:
        CheckpointError: transformers cannot read the tokenizer.
    """
    config = M3VideoConfig.from_pretrained(folder)
    try:
        tokenizer = read_tokenizer(folder)
    except (OSError, ValueError, ImportError) as error:
        raise CheckpointError(f"{folder} has no tokenizer that transformers can read: {first_line(error)}") from None
    processor = M3VideoProcessor(
        image_processor_of(config.pictures),
        tokenizer,
        image_token_id=config.image_token_index,
        prompt_style=config.prompt_style,
    )
    originals = {file.name: file.read_bytes() for file in folder.glob("tokenizer*")}
    processor.save_pretrained(folder)
    # The tokenizer's own files stay what they were: they decide the ids.
    for name, content in originals.items():
        (folder / name).write_bytes(content)


AutoProcessor.register(M3VideoConfig, M3VideoProcessor, exist_ok=True)
