"""Stage "words": channels of the projector that each find a frequent word of the captions and turn into its embedding.

A picture's tokens start out as the names of what is there, and the decoder need not learn to see first. A channel is a
detector, cell by cell, whose mean over a picture tells whether people say the word of it; it is fitted as one, against
yes and no. To fit tokens to the words instead, through the decoder's embeddings, learned next to nothing: average
precision over 400 words on pictures of the part dev was .08 after 150 steps of it, .25 with this, and is .25 for a
linear layer on all channels, .04 for guessing.

Unlike the classes' channels these are trained on with the decoder.

Shape legend: N pictures, K words, F fine channels of the trunk, C coarse channels, M pictures that may be trained on.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from m3video.model.tokenizer import TextCodec
from m3video.training.loop import autocast, run_stage
from m3video.training.natural.class_channels import name_directions
from m3video.training.natural.features import NaturalFeatures
from m3video.training.natural.recipe import SmallRecipe

WORDS = 400
THRESHOLD = 2.0
"""Of a word's evidence in a cell, once trained: tokens are nearest to the words that are true of a picture with it."""
RIDGE = 1.0
"""Of the linear fit that training starts from, on channels of unit variance."""
RARE = 0.02
"""Words that fewer pictures have do not start out louder."""
SAMPLED = 100
"""Pictures that the size of the words' embeddings is set on."""
BATCH = 50
_STOP = frozenset(
    """a an the is are in on of with and at to his her its their by from while for it two three four as out up into
    through near down other over one some next front off that very wearing has have be being there around another
    against this behind along across who he she they him them where above under each all or""".split()
)


class WordChannels(nn.Module):
    """The part of the projector that finds words, on its own."""

    def __init__(self, words: int, trunk: int, coarse: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.weight = nn.Parameter(torch.zeros(words, trunk + coarse))
        self.bias = nn.Parameter(torch.zeros(words))
        self.word_bias = nn.Parameter(torch.zeros(words))

    def forward(self, fine_NHWF: Tensor, coarse_NHWC: Tensor, *, threshold: float = 0.0) -> Tensor:
        """Return how much of each word is in pictures, [N, K], as the projector gives it."""
        coarse = F.linear(coarse_NHWC, self.weight[:, self.trunk :], self.bias - threshold)
        fine = F.linear(fine_NHWF[..., : self.trunk], self.weight[:, : self.trunk])
        inner = coarse.repeat_interleave(2, 1).repeat_interleave(2, 2) + fine
        return F.gelu(inner).flatten(1, 2).mean(1)

    @torch.no_grad()
    def start(self, pooled_MF: Tensor, true_MK: Tensor) -> None:
        """Set the weights to a ridge regression on pictures' mean channels, in logits."""
        mean, spread = pooled_MF.mean(0), pooled_MF.std(0) + 1e-3
        inputs, share = (pooled_MF - mean) / spread, true_MK.mean(0)
        held = inputs.T @ inputs / len(inputs) + RIDGE * torch.eye(inputs.shape[1])
        slope = torch.linalg.solve(held, inputs.T @ (true_MK - share) / len(inputs))
        likely = share.clamp(min=RARE)
        self.weight.copy_((slope / (likely * (1 - likely))).T / spread)
        self.bias.copy_(-self.weight @ mean)
        self.word_bias.copy_(share.clamp(1e-4, 1 - 1e-4).logit())

    @torch.no_grad()
    def put_into(self, projector: Any, first: int, length: float, directions_KD: Tensor, shown_NK: Tensor) -> None:
        """Write the trained weights into a projector.

        Args:
            projector: of the model.
            first: the first of its inner channels that are words.
            length: of an embedding; that of the words of a picture, as mean.
            directions_KD: of the words' embeddings.
            shown_NK: how much of each word is in some pictures, above the threshold.
        """
        rows = slice(first, first + len(self.weight))
        columns = [*range(self.trunk), *range(projector.linear_1.in_features)[-self.coarse :]]
        projector.linear_1.weight[rows] = 0
        projector.linear_1.weight[rows, columns] = self.weight
        projector.linear_1.bias[rows] = self.bias - THRESHOLD
        size = length / (shown_NK @ directions_KD).norm(dim=1).mean()
        projector.linear_2.weight[:, rows] = size * directions_KD.T

    @property
    def coarse(self) -> int:
        """How many coarse channels there are."""
        return self.weight.shape[1] - self.trunk


def train_words(
    projector: Any,
    codec: TextCodec,
    embeddings_VD: Tensor,
    features: NaturalFeatures,
    captions: Mapping[int, Sequence[str]],
    recipe: SmallRecipe,
    folder: Path,
    *,
    classes: int,
    reading: tuple[int, int] = (0, 0),
    resume: bool,
) -> None:
    """Fit the channels that find words, and put them into the projector, after the classes' channels.

    Args:
        projector: of the model.
        codec: the decoder's tokenizer.
        embeddings_VD: of the decoder's tokens.
        features: of the pictures.
        captions: row of each picture -> its captions.
        recipe: its `words` is the stage; `batch` is pictures.
        folder: the run folder.
        classes: how many of the inner channels are classes.
        reading: as for `start_projector`.
        resume: go on from its checkpoint.
    """
    stage, device = recipe.words, projector.linear_1.weight.device
    words, true = true_words(captions, min(WORDS, projector.linear_1.out_features - reading[1] - classes))
    rows = sorted(true)
    trunk = features.fine_MHWF.shape[-1] - reading[0]
    part = WordChannels(len(words), trunk, projector.linear_1.in_features - trunk - reading[0])
    if not (resume and (folder / "words.pt").exists()):
        part.start(_pooled(features, rows, trunk), _truth([true[row] for row in rows], len(words)))
    part.to(device)

    def step(number: int) -> tuple[Tensor, Mapping[str, tuple[float, float]]]:
        rng = random.Random(f"{recipe.seed} words {number}")
        drawn = rng.sample(rows, min(stage.batch, len(rows)))
        with autocast(device):
            found_NK = part(*features.read(drawn, device)).float()
        logits_NK = found_NK + part.word_bias
        true_NK = _truth([true[row] for row in drawn], len(words)).to(device)
        loss = F.binary_cross_entropy_with_logits(logits_NK, true_NK)
        best = logits_NK.detach().topk(min(5, len(words))).indices
        return loss, {"right of 5": (float(true_NK.gather(1, best).mean()), 1.0)}

    run_stage("words", stage, part, folder, resume=resume, step=step, outdates=("pictures.pt", "reels.pt"))
    embeddings_VD = embeddings_VD.float()
    with torch.no_grad():
        shown_NK = part(*features.read(rows[:: max(1, len(rows) // SAMPLED)], device), threshold=THRESHOLD)
    length = float(embeddings_VD.std(0).norm())
    part.put_into(projector, classes, length, name_directions(codec, embeddings_VD, words).to(device), shown_NK)


def true_words(captions: Mapping[int, Sequence[str]], most: int) -> tuple[list[str], dict[int, list[int]]]:
    """Return the most frequent words, and for each picture the numbers of those that its captions have.

    Args:
        captions: row -> the captions of a picture.
        most: words at most.
    """
    said = {row: {word for text in found for word in _content_words(text)} for row, found in captions.items()}
    counts = Counter(word for found in said.values() for word in sorted(found))
    words = [word for word, _ in counts.most_common(most)]
    number_of = {word: number for number, word in enumerate(words)}
    return words, {row: sorted(number_of[word] for word in found & number_of.keys()) for row, found in said.items()}


def _content_words(text: str) -> set[str]:
    return {word for word in re.findall(r"[a-z]+", text.lower()) if len(word) > 2 and word not in _STOP}


def _truth(true: Sequence[Sequence[int]], words: int) -> Tensor:
    truth_NK = torch.zeros(len(true), words)
    for of_row, numbers in zip(truth_NK, true, strict=True):
        of_row[list(numbers)] = 1
    return truth_NK


def _pooled(features: NaturalFeatures, rows: Sequence[int], trunk: int) -> Tensor:
    """Return the mean channels of pictures, [M, F + C]."""

    def parts() -> Iterator[Tensor]:
        for start in range(0, len(rows), BATCH):
            fine, coarse = features.read(rows[start : start + BATCH], torch.device("cpu"))
            yield torch.cat([fine[..., :trunk].mean((1, 2)), coarse.mean((1, 2))], 1)

    return torch.cat(list(parts()))
