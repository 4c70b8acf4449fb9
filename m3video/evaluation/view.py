"""One clip as the methods see it: its frames' times and its measurements; no model is involved, so it loads no torch.

Shape legend: N frames, S the five scales.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from m3video.config import Settings
from m3video.inference.decision import PlanDetails
from m3video.inference.pipeline import plan_details
from m3video.planning.sample import sample
from m3video.planning.utility import RENDERED, utility
from m3video.types import FrameStats, Selection, TokenPlan, VideoInfo
from m3video.utils.clock import clock_times

if TYPE_CHECKING:
    from m3video.evaluation.records import Record
    from m3video.model.m3.saliency import QuestionAttention


class ClipView:
    """What every method may know of a clip before the model runs: times and measurements, no truth.

    Attributes:
        info: the file.
        stats: the analyzed frames.
        max_frames: most frames that any method may show.
        model: name of the one that answers; it decides the planner's calibration.
        moments: seconds the clip's questions name; only methods that are told where to look read them.
        attend: question, pts and scales to where the question directs the attention; None where no
            model is at hand. Only methods that read the question use it.
    """

    def __init__(
        self,
        info: VideoInfo,
        stats: FrameStats,
        *,
        max_frames: int,
        model: str = RENDERED,
        moments: Sequence[float] = (),
    ) -> None:
        self.info, self.stats, self.max_frames, self.model = info, stats, max_frames, model
        self.moments = tuple(sorted(set(moments)))
        self.attend: Callable[[Record, Sequence[int], Sequence[int]], QuestionAttention] | None = None
        self._details: dict[str, PlanDetails] = {}
        self._even: dict[int, tuple[int, ...]] = {}

    def evenly(self, number: int) -> tuple[int, ...]:
        """Return the pts of at most `number` frames, even in time; fewer when the clip has fewer."""
        if number < 1:
            return ()
        number = min(number, self.max_frames)
        if number not in self._even:
            chosen = sample(self.stats, max_frames=number, method="uniform")
            self._even[number] = tuple(int(p) for p in chosen.pts_N)
        return self._even[number]

    @functools.cached_property
    def candidates(self) -> Selection:
        """The planner's candidates."""
        return sample(self.stats, max_frames=self.max_frames)

    @functools.cached_property
    def utility_NS(self) -> NDArray[np.float64]:
        """The planner's utility of each candidate at each scale."""
        return utility(self.stats, self.candidates, model=self.model)

    def planned(self, budget: int) -> TokenPlan:
        """Return the product's own plan for a budget."""
        return self.details(budget).plan

    def details(self, budget: int, **changes: str) -> PlanDetails:
        """Return that plan with all that it was decided from; `changes` are further settings, e.g. `at`."""
        settings = Settings(budget=budget, max_frames=self.max_frames, model=self.model, **changes)
        key = settings.model_dump_json()
        if key not in self._details:
            self._details[key] = plan_details(self.info, settings, stats=self.stats)
        return self._details[key]

    def nearest(self, moment: float, among: Sequence[int] | None = None) -> int:
        """Return the pts nearest to `moment` seconds, of all frames or of `among`."""
        pts = self.stats.pts_N if among is None else np.asarray(among, np.int64)
        times = clock_times(pts, self.info.time_base, self.info.origin)
        return int(pts[np.abs(times - moment).argmin()])

    def shot_of(self, pts: int) -> int:
        """Return the number of the detected shot that holds `pts`."""
        starts = [start for start, _ in self.candidates.shots]
        return max(0, int(np.searchsorted(starts, pts, side="right")) - 1)

    def seconds(self, pts: Iterable[int]) -> list[float]:
        """Return each pts in seconds, as `VideoInfo.pts_seconds` does."""
        return [self.info.pts_seconds(p) for p in pts]
