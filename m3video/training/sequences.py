"""Clips with many questions as token sequences: every question sees the clip, no question sees another.

That mask is what makes training cheap: a clip's visual tokens are paid for once and answer dozens of questions.
Shape legend: B clips of a batch, L positions, T visual tokens of all clips, D width.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from m3video.training.facts import CLEAR, shares
from m3video.training.questions import Question
from m3video.training.words import BOS, EOS, IMAGE, PAD, vocabulary
from m3video.utils.clock import whole_clock

BINDER_WEIGHT, POINTER_WEIGHT = 0.05, 0.2
LOOKUP_LAYER, LOOKUP_HEADS = 2, 2
"""The decoder layer, and how many of its heads, that are taught to look at the tokens that show the answer."""


@functools.cache
def word_ids() -> dict[str, int]:
    """Return the vocabulary as word -> id."""
    return {word: number for number, word in enumerate(vocabulary())}


@dataclass(frozen=True, slots=True)
class TrainingClip:
    """One training clip: the shown frames' times and scales, its questions, and the local facts of each frame's cells
    (int16 [576]), where the decoder shall be taught which tokens to look at."""

    seconds: tuple[float, ...]
    scales: tuple[int, ...]
    questions: tuple[Question, ...]
    cells: tuple[NDArray[np.int16], ...] = ()


def clip_words(seconds: Sequence[float], scales: Sequence[int]) -> list[str]:
    """Return the prefix of a prompt: `<s> frame 1 0:03 <image>... frame 2 ...`."""
    words = [BOS]
    for number, (time, scale) in enumerate(zip(seconds, scales, strict=True), 1):
        words += ["frame", str(number), whole_clock(time), *[IMAGE] * scale]
    return words


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """ids_BL, positions_BL, labels_BL (-100 = not an answer token; already shifted), group_BL (question number,
    0 = clip, -1 = padding), number_BL and time_BL (the frame number and time that a position is bound to, as word ids;
    -1 = none), `family_of[b][g]` of question g, and `looks[b]`: the positions of clip b that predict an answer's token
    [A] and which positions each of them should look at, bool [A, longest prefix]."""

    ids_BL: Tensor
    positions_BL: Tensor
    labels_BL: Tensor
    group_BL: Tensor
    number_BL: Tensor
    time_BL: Tensor
    family_of: tuple[tuple[str, ...], ...]
    looks: tuple[tuple[Tensor, Tensor], ...]

    def mask(self) -> Tensor:
        """Return bool [B, 1, L, L], True where the row may attend to the column."""
        group = self.group_BL
        causal = torch.ones(group.shape[1], group.shape[1], dtype=torch.bool, device=group.device).tril()
        seen = (group[:, None, :] == 0) | (group[:, None, :] == group[:, :, None])
        return (seen & causal)[:, None]


def make_batch(clips: Sequence[TrainingClip], device: torch.device) -> Batch:
    """Lay out the clips' prefixes and questions, padded on the right."""
    ids_of = word_ids()
    rows: list[tuple[list[int], ...]] = []
    families, looks = [], []
    for clip in clips:
        ids = [ids_of[word] for word in clip_words(clip.seconds, clip.scales)]
        prefix = len(ids)
        positions, labels, group = list(range(prefix)), [-100] * prefix, [0] * prefix
        numbers, times = [-1], [-1]
        rows_A: list[int] = []
        starts = []
        for number, (time, scale) in enumerate(zip(clip.seconds, clip.scales, strict=True), 1):
            numbers += [-1] * 3 + [ids_of[str(number)]] * scale
            times += [-1] * 3 + [ids_of[whole_clock(time)]] * scale
            starts.append(len(times) - scale)
        for number, question in enumerate(clip.questions, 1):
            words = ("question", *question.question.split(), "answer")
            asked = [ids_of[word] for word in words]
            answer = [ids_of[word] for word in (*question.answer.split(), EOS)]
            ids += asked + answer[:-1]
            labels += [-100] * (len(asked) - 1) + answer
            length = len(asked) + len(answer) - 1
            positions += range(prefix, prefix + length)
            group += [number] * length
            named_number, named_time = referred(words)
            last = len(asked) - 1
            numbers += [-1] * last + [ids_of.get(named_number, -1)] + [-1] * (length - last - 1)
            times += [-1] * last + [ids_of.get(named_time, -1)] + [-1] * (length - last - 1)
            rows_A += range(len(ids) - length + last, len(ids))
        rows.append((ids, positions, labels, group, numbers, times))
        looks.append((torch.tensor(rows_A, dtype=torch.long, device=device), _targets(clip, starts, prefix).to(device)))
        families.append(("", *(question.family for question in clip.questions)))
    longest = max(len(row[0]) for row in rows)
    fills = (ids_of[PAD], 0, -100, -1, -1, -1)
    columns = [
        torch.tensor([row[c] + [fill] * (longest - len(row[c])) for row in rows], device=device)
        for c, fill in enumerate(fills)
    ]
    ids_BL, positions_BL, labels_BL, group_BL, number_BL, time_BL = columns
    return Batch(ids_BL, positions_BL, labels_BL, group_BL, number_BL, time_BL, tuple(families), tuple(looks))


def _targets(clip: TrainingClip, starts: Sequence[int], prefix: int) -> Tensor:
    """Return for every token of every answer (its end too) the positions of the prefix that show it: bool [A,
    prefix]."""
    rows = []
    for question in clip.questions:
        start, scale = starts[question.frame], clip.scales[question.frame]
        whole = np.zeros(prefix, np.bool_)
        whole[start : start + scale] = True
        words = len(question.answer.split())
        for number in range(words + 1):
            row = whole
            if clip.cells and scale > 1 and number < len(question.looks):
                found = shares(question.looks[number], clip.cells[question.frame], scale)
                if found.max() >= CLEAR[str(question.looks[number][0])]:
                    row = np.zeros(prefix, np.bool_)
                    row[start : start + scale] = found >= found.max() / 2
            rows.append(row)
    return torch.from_numpy(np.stack(rows)) if rows else torch.zeros(0, prefix, dtype=torch.bool)


def referred(words: Sequence[str]) -> tuple[str, str]:
    """Return the frame number and the time that a question names ("in frame 5", "at 0:07"), "" where it names none."""
    pairs = list(pairwise(words))
    number = next((b for a, b in pairs if a == "frame" and b.isdigit()), "")
    time = next((b for a, b in pairs if a == "at" and ":" in b), "")
    return number, time


class Binder(nn.Module):
    """Two helpers that are thrown away: half-way up the decoder, a visual token must name the frame number and the time
    that stand before its frame, and the word "answer" the frame or time that the question asks about.

    Without them a small decoder answered from the bag of all frames and looked none up after 460,000 questions.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.number, self.time = nn.Linear(width, width), nn.Linear(width, width)

    def forward(
        self, hidden_BLD: Tensor, table_WD: Tensor, batch: Batch
    ) -> tuple[Tensor, dict[str, tuple[float, float]]]:
        """Return the mean cross-entropy of naming, over the words' own embeddings `table_WD`, and metrics."""
        losses, metrics = [], {}
        for name, head, named_BL in (("number", self.number, batch.number_BL), ("time", self.time, batch.time_BL)):
            named = named_BL >= 0
            logits = (head(hidden_BLD[named]) @ table_WD.T).float()
            losses.append(F.cross_entropy(logits, named_BL[named]))
            metrics[f"bound {name}"] = (float((logits.argmax(-1) == named_BL[named]).sum()), float(named.sum()))
        return torch.stack(losses).mean(), metrics


def pointer_loss(decoder: Any, middle_BLD: Tensor, batch: Batch) -> tuple[Tensor, tuple[float, float]]:
    """Measure how little of `LOOKUP_LAYER`'s attention falls on the tokens that show an answer while it is generated.

    Returns:
        Mean negative log of that share over all positions that predict an answer's token, and (how many of them give
        those tokens more than half, how many there are).
    """
    layer = decoder.layers[LOOKUP_LAYER]
    normed = layer.input_layernorm(middle_BLD)
    width = layer.self_attn.head_dim
    cos, sin = decoder.rotary_emb(normed, batch.positions_BL)
    query, key = (
        projection(normed).unflatten(-1, (-1, width)).transpose(1, 2)
        for projection in (layer.self_attn.q_proj, layer.self_attn.k_proj)
    )
    query, key = apply_rotary_pos_emb(query, key, cos, sin)
    lost, found, count = middle_BLD.new_zeros((), dtype=torch.float32), 0.0, 0
    seen_BLL = batch.mask()[:, 0]
    for row, (rows_A, here_AP) in enumerate(batch.looks):
        if not len(rows_A):
            continue
        scores = (query[row, :LOOKUP_HEADS][:, rows_A] @ key[row, :LOOKUP_HEADS].transpose(1, 2)).float()
        scores = (scores / width**0.5).masked_fill(~seen_BLL[row][rows_A], -torch.inf)
        shown = scores[..., : here_AP.shape[1]].masked_fill(~here_AP, -torch.inf)
        share = torch.logsumexp(shown, -1) - torch.logsumexp(scores, -1)
        lost = lost - share.mean(0).sum()
        found += float((share.detach().mean(0) > -0.6931).sum())
        count += len(rows_A)
    return lost / max(1, count), (found, float(count))


def clip_loss(
    decoder: Any, head: nn.Module, binder: Binder, batch: Batch, visual_TD: Tensor
) -> tuple[Tensor, dict[str, tuple[float, float]]]:
    """Return the mean cross-entropy of the answers' tokens plus the binder's, and how many answers of each family are
    right.

    Args:
        decoder: a Llama model that takes `inputs_embeds`.
        head: hidden states to logits.
        binder: helper loss on the decoder's middle layer.
        batch: the sequences; its `<image>` positions are filled with `visual_TD` in order.
        visual_TD: as many rows as there are `<image>` ids in the batch.
    """
    embeds = decoder.get_input_embeddings()(batch.ids_BL)
    slots = batch.ids_BL == word_ids()[IMAGE]
    embeds = embeds.masked_scatter(slots[..., None], visual_TD.to(embeds.dtype))
    out = decoder(
        inputs_embeds=embeds,
        attention_mask=batch.mask(),
        position_ids=batch.positions_BL,
        use_cache=False,
        output_hidden_states=True,
    )
    hidden, middle = out.last_hidden_state, out.hidden_states[LOOKUP_LAYER]
    pointing, pointed = pointer_loss(decoder, middle, batch)
    binding, bound = binder(middle, decoder.get_input_embeddings().weight, batch)
    asked = batch.labels_BL != -100
    logits = head(hidden[asked]).float()
    labels = batch.labels_BL[asked]
    loss = F.cross_entropy(logits, labels)
    wrong = torch.zeros_like(batch.labels_BL, dtype=torch.bool)
    wrong[asked] = logits.detach().argmax(-1) != labels
    return loss + BINDER_WEIGHT * binding + POINTER_WEIGHT * pointing, {
        "answers": (float(loss.detach()), 1.0),
        **bound,
        "looked up": pointed,
        **_family_accuracy(batch, wrong),
    }


@torch.inference_mode()
def answers_right(decoder: Any, head: nn.Module, batch: Batch, visual_TD: Tensor) -> list[bool]:
    """Return for each question of a one-clip batch whether every token of its answer is the likeliest one.

    That is what greedy decoding would say: it goes wrong at the first token that is not the likeliest.
    """
    embeds = decoder.get_input_embeddings()(batch.ids_BL)
    slots = batch.ids_BL == word_ids()[IMAGE]
    embeds = embeds.masked_scatter(slots[..., None], visual_TD.to(embeds.dtype))
    hidden = decoder(
        inputs_embeds=embeds, attention_mask=batch.mask(), position_ids=batch.positions_BL, use_cache=False
    )
    wrong_L = (head(hidden.last_hidden_state[0]).argmax(-1) != batch.labels_BL[0]) & (batch.labels_BL[0] != -100)
    failed = set(batch.group_BL[0][wrong_L].tolist())
    return [number not in failed for number in range(1, len(batch.family_of[0]))]


def _family_accuracy(batch: Batch, wrong_BL: Tensor) -> dict[str, tuple[float, float]]:
    right: dict[str, list[float]] = {}
    groups, wrongs = batch.group_BL.cpu(), wrong_BL.cpu()
    for row, families in enumerate(batch.family_of):
        failed = set(groups[row][wrongs[row]].tolist())
        for number in range(1, len(families)):
            tally = right.setdefault(families[number], [0.0, 0.0])
            tally[0] += number not in failed
            tally[1] += 1
    return {family: (tally[0], tally[1]) for family, tally in sorted(right.items())}
