"""Which of the shown frames an answer rests on: they are left out, and what becomes of the answer is measured.

It is looked for from the whole video down. All frames are split in time into a few parts, first between shots. Each
part and each two neighbours are masked, all in one pass over the kept prefix, and the parts without which the answer
loses its support are split again. Neighbours together, because a frame is not missed where the next one shows the same.
What is found is then left out for good: the prompt is read again without it. And it is shown alone, at its own and at
fewer tokens.

Support is in nats: by how much the odds of the answer against the likeliest other one fall, summed over its tokens.

Legend: N shown frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from m3video.model.m3 import ablation
from m3video.model.m3.ablation import Reading
from m3video.model.m3.checkpoint import LoadedModel
from m3video.model.m3.prefix import Asked, Prefix
from m3video.types import SCALES

LEAST_NATS = 0.5
"""Less support is none: hiding a frame that has nothing to do with an answer changes its odds by a tenth of this."""

LEAST_SHARE = 0.5
"""Of the support of the best part: parts with less are not cited beside it. And of the support of a part that is split:
where no smaller one has as much, it is cited whole."""

MOST_PARTS = 8
"""That a stretch of frames is split into."""

MOST_SPLITS = 4
"""Enough for 8 x 8 x 8 x 8 frames."""

Frames = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Support:
    """What an answer rests on.

    Attributes:
        groups: cited frames, one tuple for each group, in order; none where no group carries the answer.
        group_nats: support of each, by masking.
        nats: support of all of them together, by reading the prompt again without them.
        masked_nats: the same by masking.
        instead: the greedy answer without them.
        stands_alone: the answer is the same when nothing else is shown.
        needs_tokens: the fewest tokens for each cited frame at which it then is; None where it is not.
        stands_on_nothing: the answer is the same when no frame is shown.
        tested_nats: frame -> support of the smallest group with it that was masked.
        passes: runs of the decoder.
        read_tokens: positions that these runs read.
    """

    groups: tuple[tuple[int, ...], ...]
    group_nats: tuple[float, ...]
    nats: float
    masked_nats: float
    instead: str
    stands_alone: bool
    needs_tokens: int | None
    stands_on_nothing: bool
    tested_nats: dict[int, float]
    passes: int
    read_tokens: int


class _Tester:
    """Runs the tests of one answer, and counts them."""

    def __init__(self, loaded: LoadedModel, prefix: Prefix, asked: Asked) -> None:
        self.loaded, self.prefix, self.asked = loaded, prefix, asked
        self.passes = self.read_tokens = 0
        self.tested: dict[int, float] = {}
        self._question = len(asked.ids) - asked.cut + len(asked.answer_ids)

    def hide(self, groups: Sequence[Sequence[int]]) -> list[Reading]:
        """Mask each group, all in one pass."""
        self.passes += 1
        self.read_tokens += self._question * len(groups)
        return ablation.masked(self.loaded, self.asked, groups)

    def leave_out(self, frames: Sequence[int], max_new_tokens: int) -> tuple[Reading, str]:
        """Read the prompt again without `frames`."""
        self.passes += 1
        found, text, read = ablation.without(self.loaded, self.asked, frames, max_new_tokens=max_new_tokens)
        self.read_tokens += read
        return found, text

    def show_only(self, shown: Sequence[tuple[Sequence[int], int | None]]) -> list[Reading]:
        """Show only some frames with at most some tokens each: each pair is a prompt of its own."""
        self.passes += 1
        prompts = [self.prefix.showing(frames, scale=scale) for frames, scale in shown]
        self.read_tokens += sum(len(ids) + sum(map(len, blocks)) - len(blocks) for ids, blocks in prompts)
        return ablation.only(self.loaded, self.asked, prompts)


def find_support(loaded: LoadedModel, prefix: Prefix, shot_N: Sequence[int], *, max_new_tokens: int) -> Support | None:
    """Test which frames the latest answer of `prefix` rests on; the kept prefix and the answer stay as they are.

    Args:
        loaded: the model.
        prefix: what was asked.
        shot_N: the shot of each shown frame, increasing: frames of a shot are split last.
        max_new_tokens: longest answer without the cited frames.

    Returns:
        None where the prefix keeps nothing that could be tested: prompts with frames after the question, and models
        whose KV cache cannot be cropped.
    """
    asked = prefix.asked
    if asked is None:
        return None
    tester = _Tester(loaded, prefix, asked)
    everything = tuple(range(len(shot_N)))
    full, hidden = tester.hide([(), everything])
    all_nats = odds_lost(full, hidden)
    cited = _narrowed(tester, full, everything, all_nats, shot_N)
    frames = sorted({frame for part, _ in cited for frame in part})
    nats = masked = all_nats
    instead = ""
    alone: list[Reading] = []
    smaller: list[int] = []
    if frames:
        masked = cited[0][1] if len(cited) == 1 else odds_lost(full, tester.hide([frames])[0])
        again, instead = tester.leave_out(frames, max_new_tokens)
        nats = odds_lost(full, again)
        if nats < LEAST_NATS:
            frames, cited, instead = [], [], ""
    if frames:
        smaller = [scale for scale in SCALES if scale < max(prefix.scale_N[n] for n in frames)]
        nothing, *alone = tester.show_only([((), None), (frames, None), *((frames, scale) for scale in smaller)])
    else:
        (nothing,) = tester.show_only([((), None)])
    stands_alone = bool(alone) and alone[0].stands
    needs = None
    if stands_alone:
        enough = [scale for scale, one in zip(smaller, alone[1:], strict=True) if one.stands]
        needs = min(enough, default=max(prefix.scale_N[n] for n in frames))
    return Support(
        groups=tuple(part for part, _ in cited),
        group_nats=tuple(nats for _, nats in cited),
        nats=nats,
        masked_nats=masked,
        instead=instead,
        stands_alone=stands_alone,
        needs_tokens=needs,
        stands_on_nothing=nothing.stands,
        tested_nats=dict(sorted(tester.tested.items())),
        passes=tester.passes,
        read_tokens=tester.read_tokens,
    )


def odds_lost(full: Reading, ablated: Reading) -> float:
    """Return the support of what was left out: nats of odds that the answer has lost, summed over its tokens."""
    return sum(full.odds_A) - sum(ablated.odds_A)


def _narrowed(
    tester: _Tester, full: Reading, frames: Frames, nats: float, shot_N: Sequence[int]
) -> list[tuple[Frames, float]]:
    """Split `frames` while parts of them carry the support; return the smallest that do, with their support, in order.

    Empty where no part of all frames carries any: then it is spread over them.
    """
    done: list[tuple[Frames, float]] = []
    left = [(frames, nats)]
    for depth in range(MOST_SPLITS):
        parts_of = [split(part, shot_N) for part, _ in left]
        wanted = [one for parts in parts_of for one in (*parts, *_pairs(parts))]
        if not wanted:
            break
        lost = iter([odds_lost(full, one) for one in tester.hide(wanted)])
        following: list[tuple[Frames, float]] = []
        for (whole, of_whole), parts in zip(left, parts_of, strict=True):
            single = [(part, next(lost)) for part in parts]
            paired = [(pair, next(lost)) for pair in _pairs(parts)]
            for part, of_part in single:
                tester.tested.update(dict.fromkeys(part, of_part))
            least = max(LEAST_NATS, LEAST_SHARE * of_whole if depth else 0)
            found = next((ones for ones in (single, paired) if max((n for _, n in ones), default=0) >= least), None)
            if found is None:
                done += [(whole, of_whole)] if depth else []
                continue
            best = max(of_part for _, of_part in found)
            following += _apart([one for one in found if one[1] >= max(LEAST_NATS, LEAST_SHARE * best)])
        left = following
    return sorted([*done, *left])


def split(frames: Frames, shot_N: Sequence[int]) -> list[Frames]:
    """Return `frames` in at most `MOST_PARTS` parts of nearly equal length, cut between shots where there are several;
    nothing where there is nothing to split."""
    starts = [0, *(n for n in range(1, len(frames)) if shot_N[frames[n]] != shot_N[frames[n - 1]])]
    if len(starts) == 1:
        starts = list(range(len(frames)))
    if len(starts) < 2:
        return []
    count = min(MOST_PARTS, len(starts))
    cuts = [starts[len(starts) * part // count] for part in range(count)]
    return [frames[cut:stop] for cut, stop in zip(cuts, [*cuts[1:], len(frames)], strict=True)]


def _pairs(parts: Sequence[Frames]) -> list[Frames]:
    """Return each two neighbours together, where that is less than all."""
    return [one + other for one, other in pairwise(parts)] if len(parts) > 2 else []


def _apart(found: Sequence[tuple[Frames, float]]) -> list[tuple[Frames, float]]:
    """Return those with most support of which none shares frames with another."""
    chosen: list[tuple[Frames, float]] = []
    for part, nats in sorted(found, key=lambda one: -one[1]):
        if not any(set(part) & set(other) for other, _ in chosen):
            chosen.append((part, nats))
    return chosen
