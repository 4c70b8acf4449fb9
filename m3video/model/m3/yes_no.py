"""How surely a model says yes to a question about single frames: one run of the decoder for many frames, no answer.

Shape legend: B frames, D decoder width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import DynamicCache

from m3video.errors import UsageError
from m3video.model import generation
from m3video.model.m3 import inputs
from m3video.model.m3.checkpoint import LoadedModel
from m3video.model.m3.finite import DECODER, not_finite
from m3video.model.m3.pooling import pack_tokens
from m3video.model.out_of_memory import within_memory
from m3video.model.tokenizer import prompt_ids

MOST_POSITIONS = 2048
"""Of prompts in one run."""

_YES, _NO = ("Yes", "yes"), ("No", "no")


@torch.inference_mode()
def yes_nats(loaded: LoadedModel, blocks: Sequence[Tensor], question: str) -> list[float]:
    """Return for each frame by how many nats "yes" is likelier than "no" as the first word of the answer.

    Args:
        loaded: the model.
        blocks: the tokens [T, D] of each frame, which is shown alone and without a time.
        question: one that is answered by yes or no.

    Raises:
        DoesNotFitError: a prompt exceeds the context.
        NotFiniteError: the logits hold NaN or infinity.
        UsageError: the tokenizer has no word for yes or for no, or the question contains an image mark.
    """
    sides = [_first_ids(loaded, words) for words in (_YES, _NO)]
    prompt = inputs.frames_prompt(loaded, question, num_frames=1, times_seconds=None)
    ids = prompt_ids(loaded.codec, prompt)
    found: list[float] = []
    start = 0
    while start < len(blocks):
        most = max(1, MOST_POSITIONS // (len(ids) + len(blocks[start])))
        group = blocks[start : start + most]
        found += _group_nats(loaded, ids, group, sides)
        start += len(group)
    return found


def _group_nats(loaded: LoadedModel, ids: list[int], group: Sequence[Tensor], sides: Sequence[Tensor]) -> list[float]:
    shown = [inputs.frame_blocks(loaded, pack_tokens([block], [len(block)])) for block in group]
    for block, own in zip(group, shown, strict=True):
        text = len(ids) - 1 + len(own[0]) - len(block)
        inputs.refuse_beyond(loaded, visual=len(block), text=text, answer=1)
    rows = [inputs.embed(loaded, ids, own) for own in shown]
    longest = max(row.shape[1] for row in rows)
    # Padding stands behind everything that is looked at, so causal attention never sees it.
    embeds_BLD = torch.cat([F.pad(row, (0, 0, 0, longest - row.shape[1])) for row in rows])
    with within_memory(f"{len(rows)} prompts of {longest} tokens", "use a smaller --budget", step="answer"):
        cache = DynamicCache(config=loaded.config.text_config)
        hidden_BLD = generation.run_decoder(loaded, cache, inputs_embeds=embeds_BLD)
    last_B = torch.tensor([row.shape[1] - 1 for row in rows], device=hidden_BLD.device)
    logits_BV = loaded.model.lm_head(hidden_BLD[torch.arange(len(rows)), last_B]).float()
    yes_B, no_B = (logits_BV[:, side.to(logits_BV.device)].logsumexp(-1) for side in sides)
    nats_B = yes_B - no_B
    if not bool(nats_B.isfinite().all()):
        raise not_finite(loaded, DECODER)
    return [float(value) for value in nats_B]


def _first_ids(loaded: LoadedModel, words: Sequence[str]) -> Tensor:
    """Return the ids that an answer of one of these words begins with."""
    codec = loaded.codec
    known = {codec.encode(word)[0] for word in words if codec.encode(word) and not codec.unknown_words(word)}
    if not known:
        raise UsageError(f"{loaded.name} has no word for {words[1]}: ask another model")
    return torch.tensor(sorted(known))
