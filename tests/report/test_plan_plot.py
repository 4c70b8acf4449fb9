"""Pictures of plans: what is drawn is what was planned, and it can be read."""

from __future__ import annotations

import builtins
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image

from m3video.config import Settings
from m3video.errors import PlanError, UsageError
from m3video.inference.decision import PlanDetails, binding_limits
from m3video.inference.pipeline import open_for, plan_details
from m3video.report.picture_file import check_drawable, save_picture
from m3video.report.plan_plot import (
    COLOURS,
    COLUMNS,
    MOST_IN_PLOT,
    SMALL,
    column_starts,
    draw_plan,
    time_ticks,
)
from m3video.report.plan_text import plan_facts
from m3video.report.thumbnails import fetch_thumbnails, telling
from m3video.types import SCALES, FrameStats, VideoInfo
from tests.paths import SAMPLE

FPS, TICKS = 25, 3600


def sample_details(**settings: Any) -> tuple[PlanDetails, dict[int, Any]]:
    with open_for(SAMPLE, Settings()) as reader:
        details = plan_details(reader, Settings(**settings))
        return details, fetch_thumbnails(reader, details.plan, most=MOST_IN_PLOT)


def long_details(
    *, hours: float = 2, num_shots: int = 900, start_seconds: int = 0, path: str = "film.mkv", **settings: Any
) -> PlanDetails:
    """Hours of made-up stats: every shot has its own complexity and colours."""
    rng = np.random.default_rng(3)
    n = round(hours * 3600 * FPS)
    shot_N = np.searchsorted(np.sort(rng.choice(n, num_shots - 1, replace=False)), np.arange(n))
    peak_NS = rng.gamma(1.5, 1500, num_shots)[shot_N, None] * np.array([1, 0.8, 0.55, 0.3, 0])
    change_N = np.where(np.diff(shot_N, prepend=0) > 0, 60.0, 1.0)
    stats = FrameStats(
        pts_N=(np.arange(n) + start_seconds * FPS) * TICKS,
        loss_NS=peak_NS / 4,
        peak_NS=peak_NS,
        change_N=change_N,
        sharpness_N=np.ones(n),
        luma_N=np.full(n, 100),
        signature_NK=rng.integers(0, 255, (num_shots, 108))[shot_N],
        flags_N=np.zeros(n),
        strokes_NC=np.zeros((n, 144)),
        pattern_NC=np.zeros((n, 144)),
        edge_2HW=np.zeros((2, 81, 144)),
        time_base=(1, FPS * TICKS),
    )
    info = VideoInfo(
        path=path,
        fingerprint="x",
        backend="pyav",
        container="mkv",
        codec="h264",
        pixel_format="yuv420p",
        width=1920,
        height=800,
        rotation=0,
        time_base=stats.time_base,
        start_pts=int(stats.pts_N[0]),
        end_pts=int(stats.pts_N[-1]),
        last_duration=TICKS,
        num_frames=n,
        num_keyframes=1,
    )
    return plan_details(info, Settings(**settings), stats=stats)


def plain_thumbnails(details: PlanDetails, *, height: int = 100, width: int = 240) -> dict[int, Any]:
    frames = telling(details.plan.frames, MOST_IN_PLOT)
    return {frame.pts: np.full((height, width, 3), i * 10, np.uint8) for i, frame in enumerate(frames)}


@pytest.fixture(scope="module")
def short() -> tuple[PlanDetails, dict[int, Any]]:
    return sample_details(budget=300)


@pytest.fixture(scope="module")
def long() -> PlanDetails:
    return long_details(budget=16000, max_frames=800, max_gap=60)


@pytest.fixture(scope="module")
def pictures(short: tuple[PlanDetails, dict[int, Any]], long: PlanDetails) -> list[tuple[PlanDetails, Any]]:
    """Both plans as drawn, with thumbnails."""
    return [(short[0], drawn(*short)), (long, drawn(long, plain_thumbnails(long)))]


def drawn(details: PlanDetails, thumbnails: dict[int, Any]) -> Any:
    return draw_plan(details, plan_facts(details.plan, binding_limits(details)), thumbnails)


def axis(figure: Any, label: str) -> Any:
    return next(one for one in figure.axes if one.get_label() == label)


def texts(figure: Any) -> list[Any]:
    """Every visible text that is not empty."""
    FigureCanvasAgg(figure).draw()
    found = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    return [text for text in found if text.axes is None or text.axes.axison or text in text.axes.texts]


def overlaps(figure: Any) -> list[tuple[str, str]]:
    """Pairs of texts of which one stands on the other."""
    boxes: Sequence[tuple[str, Bbox]] = [(text.get_text(), text.get_window_extent()) for text in texts(figure)]
    return [
        (first, other)
        for (first, a), (other, b) in itertools.combinations(boxes, 2)
        if min(a.x1, b.x1) - max(a.x0, b.x0) > 1 and min(a.y1, b.y1) - max(a.y0, b.y0) > 1
    ]


def test_every_shown_frame_has_a_bar_as_high_as_its_scale(pictures: list[tuple[PlanDetails, Any]]) -> None:
    for details, figure in pictures:
        plan = details.plan
        bars = axis(figure, "scales").containers[0].patches
        found = sorted((bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in bars)
        true = [(plan.video.pts_seconds(frame.pts), frame.scale) for frame in plan.frames]
        assert len(bars) == len(plan.frames)
        assert np.allclose(found, true)


def test_bars_of_different_scales_differ_in_colour_and_height(pictures: list[tuple[PlanDetails, Any]]) -> None:
    figure = pictures[0][1]
    bars = axis(figure, "scales").containers[0].patches
    assert len({bar.get_facecolor() for bar in bars}) == len({bar.get_height() for bar in bars}) > 2
    # In pixels: the side of the grid, so that one token is still seen beside 144.
    height = {bar.get_height(): bar.get_window_extent().height for bar in bars}
    assert height[144] / height[1] == pytest.approx(12, rel=0.05)
    assert height[1] >= 5


def test_colours_separate() -> None:
    rgb = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in COLOURS.values()], float)
    apart = np.linalg.norm(rgb[:, None] - rgb[None], axis=-1)[~np.eye(len(rgb), dtype=bool)]
    assert apart.min() > 90
    assert tuple(COLOURS) == SCALES


def test_curves_end_at_what_was_spent_and_gained(pictures: list[tuple[PlanDetails, Any]]) -> None:
    for details, figure in pictures:
        tokens, utility, _ = axis(figure, "spent").lines
        assert tokens.get_ydata()[-1] == pytest.approx(100 * details.plan.total_tokens / details.plan.budget)
        assert utility.get_ydata()[-1] == pytest.approx(100 * details.plan.utility / details.plan.bound)
        assert all((np.diff(line.get_ydata()) >= 0).all() for line in (tokens, utility))


def test_complexity_is_the_worst_of_each_column(pictures: list[tuple[PlanDetails, Any]]) -> None:
    for details, figure in pictures:
        areas = axis(figure, "complexity").collections
        assert [area.get_label() for area in areas] == ["1", "9", "36", "144"]
        for area, column in zip(areas, range(4), strict=True):
            top = area.get_paths()[0].vertices[:, 1].max()
            assert top == pytest.approx(np.sqrt(details.stats.peak_NS[:, column].max()), rel=1e-5)
            assert len(area.get_paths()[0].vertices) < 5 * COLUMNS


def test_shots_are_bands_and_candidates_left_out_are_ticks() -> None:
    details, _ = sample_details(budget=20, max_frames=32)
    scales = axis(drawn(details, {}), "scales")
    out = next(line for line in scales.lines if line.get_label() == "left out").get_xdata()
    shown = [details.plan.video.pts_seconds(frame.pts) for frame in details.plan.frames]
    assert len(out) == 32 - len(shown) > 0
    assert not set(out) & set(shown)
    bands = next(found for found in scales.collections if found.get_label() == "shots").get_paths()
    edges = [(band.vertices[:, 0].min(), band.vertices[:, 0].max()) for band in bands]
    assert np.allclose(
        edges, [[details.plan.video.pts_seconds(pts) for pts in shot] for shot in details.plan.shots[1::2]]
    )


@pytest.mark.parametrize("kind", ["short", "long", "one frame", "portrait", "all scales", "clock starts at ten hours"])
def test_no_text_stands_on_another_or_is_tiny_or_cut_off(
    kind: str, short: tuple[PlanDetails, dict[int, Any]], long: PlanDetails
) -> None:
    if kind == "short":
        details, thumbnails = short
    elif kind == "long":
        details, thumbnails = long, plain_thumbnails(long)
    elif kind == "one frame":
        details, thumbnails = sample_details(num_frames=1)
    elif kind == "portrait":
        details = short[0]
        thumbnails = plain_thumbnails(details, height=240, width=135)
    elif kind == "all scales":
        details, thumbnails = sample_details(budget=1200, at="0:01=1,0:02=9,0:04=36,0:05=144,0:07=576", detail="low")
    else:
        details = long_details(hours=0.3, num_shots=30, start_seconds=36000, budget=2000, max_frames=64, start=36060.5)
        thumbnails = plain_thumbnails(details)
    figure = drawn(details, thumbnails)
    assert overlaps(figure) == []
    assert min(text.get_fontsize() for text in texts(figure)) >= SMALL
    for text in texts(figure):
        box = text.get_window_extent()
        assert box.x0 >= 0, text
        assert box.x1 <= 1440, text
        assert box.y0 >= 0, text
        assert box.y1 <= 900, text


def test_thumbnails_are_the_frames_shown_in_order_and_joined_to_their_bars(
    short: tuple[PlanDetails, dict[int, Any]], pictures: list[tuple[PlanDetails, Any]]
) -> None:
    (details, thumbnails), figure = short, pictures[0][1]
    strip, scales = axis(figure, "thumbnails"), axis(figure, "scales")
    assert len(strip.images) == len(details.plan.frames) == len(thumbnails)
    left = [image.get_extent()[0] for image in strip.images]
    assert left == sorted(left)
    for image, frame in zip(strip.images, details.plan.frames, strict=True):
        assert np.array_equal(image.get_array(), thumbnails[frame.pts])
        x0, x1, y0, y1 = image.get_extent()
        height, width = thumbnails[frame.pts].shape[:2]
        assert (x1 - x0) / (y1 - y0) == pytest.approx(width / height, rel=0.01)
    ends = [line.get_xydata()[-1] for line in strip.lines if len(line.get_xdata()) == 3]
    pixels = strip.transData.transform(ends)[:, 0]
    times = [[details.plan.video.pts_seconds(frame.pts), 1] for frame in details.plan.frames]
    assert np.allclose(pixels, scales.transData.transform(times)[:, 0], atol=0.5)


def test_a_subset_of_thumbnails_is_called_one(pictures: list[tuple[PlanDetails, Any]]) -> None:
    (_, whole), (details, part) = pictures
    assert len(axis(part, "thumbnails").images) == MOST_IN_PLOT < len(details.plan.frames)
    assert any(f"pictures of {MOST_IN_PLOT} frames" in text.get_text() for text in part.texts)
    assert not any("pictures of" in text.get_text() for text in whole.texts)


@pytest.mark.parametrize(("start", "end"), [(0, 0.1), (0, 12), (7, 61), (-3, 4000), (36000, 43200), (0, 360000.5)])
def test_ticks_are_round_and_neither_few_nor_many(start: float, end: float) -> None:
    ticks = time_ticks(start, end)
    assert 4 <= len(ticks) <= 12
    assert start <= ticks[0] + 1e-9
    assert ticks[-1] <= end + 1e-9
    assert np.allclose(np.diff(ticks), ticks[1] - ticks[0])


def test_columns_hold_every_frame_once() -> None:
    times = np.sort(np.random.default_rng(0).uniform(5, 9, 3000))
    first = column_starts(times, (5, 9), most=50)
    assert first[0] == 0
    assert len(first) == 50
    assert len(column_starts(np.array([5.0, 8.0]), (5, 9), most=50)) == 2


def test_names_that_no_font_can_draw_are_drawn_all_the_same() -> None:
    details = long_details(hours=0.01, num_shots=2, path="/x/日本 $x^2$ \x07" + "long " * 60 + ".mp4")
    figure = drawn(details, {})
    FigureCanvasAgg(figure).draw()  # a missing glyph would warn
    assert figure.texts[0].get_text().startswith("?? $x^2$ ?long long")
    assert figure.texts[0].get_window_extent().x1 < 1440


def test_formats_and_unwritable_places(pictures: list[tuple[PlanDetails, Any]], tmp_path: Path) -> None:
    figure = pictures[0][1]
    save_picture(figure, tmp_path / "plan.png")
    with Image.open(tmp_path / "plan.png") as picture:
        assert picture.size == (1440, 900)  # a laptop screen
    save_picture(figure, tmp_path / "plan.SVG")
    assert "<svg" in (tmp_path / "plan.SVG").read_text()
    with pytest.raises(PlanError, match="cannot be written"):
        save_picture(figure, tmp_path / "none" / "plan.png")
    with pytest.raises(UsageError, match=r"must end in \.png, \.svg or \.pdf"):
        check_drawable(tmp_path / "plan.jpg", None)
    with pytest.raises(UsageError, match=r"--html .* there is no folder"):
        check_drawable(None, tmp_path / "none" / "plan.html")
    check_drawable(tmp_path / "plan.png", tmp_path / "plan.html")


def test_without_matplotlib_one_line_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] == "matplotlib":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(UsageError, match=r"m3video\[plots\]"):
        check_drawable(tmp_path / "plan.png", None)
    check_drawable(None, None)


def test_a_range_is_drawn_as_wide_as_it_is() -> None:
    details, _ = sample_details(start=3, end=6)
    low, high = axis(drawn(details, {}), "scales").get_xlim()
    assert (low, high) == (pytest.approx(3, abs=0.1), pytest.approx(6, abs=0.1))


def test_the_overlap_test_can_fail() -> None:
    from matplotlib.figure import Figure

    figure = Figure()
    figure.text(0.5, 0.5, "one")
    figure.text(0.51, 0.5, "other")
    assert overlaps(figure) == [("one", "other")]
