"""Pictures of plans: where a video is hard, what is shown of it at which scale, and what that spends.

Everything stands on one time axis: thumbnails of frames shown, each joined to its moment; the scale of every frame
shown as a bar, over the shots; complexity; tokens and utility as they add up. A video of hours has more frames than a
screen has columns: thumbnails are subsampled, curves are drawn as the greatest value of each column, and the picture
says so.

Legend: N analyzed frames, C candidates, K columns, S scales, H W picture. Positions in pixels from the lower left.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m3video.inference.decision import PlanDetails
from m3video.planning.sample import on_screen, rows_in_range
from m3video.report.picture_file import DPI
from m3video.report.plan_text import Row, scale_rows
from m3video.report.thumbnails import Thumbnails, telling
from m3video.types import SCALES, TokenPlan
from m3video.utils.clock import clock

Span = tuple[float, float]
"""Start and end, in seconds."""

MOST_IN_PLOT, PER_ROW = 16, 8
"""Most thumbnails in the picture, and in a row."""

WIDTH, HEIGHT = 1440, 900
"""Size of the figure in pixels: a laptop screen."""

LEFT, RIGHT, SIDE = 72, 1120, 1148
"""Where the time axis begins and ends, and where the column of words begins."""

EDGE = 0.006
"""Share of the time axis that is left free at both ends, so that a bar there is whole."""

STRIP, BARS, COMPLEXITY, SPENT = (612, 826), (392, 608), (208, 346), (48, 164)
"""Lower and upper edge of each panel."""

SMALL, USUAL, LARGE = 9.0, 10.0, 13.0
"""Font sizes in points; 9 points are 12.5 pixels."""

WORDS_WIDTH = 36
"""Characters in a line of the side column."""

NUMBER_ROOM = 28
"""Pixels a shot needs for its number."""

WIDE_SHOTS = 120
"""With more shots the bands are no wider than bars."""

COLUMNS = 400
"""Points of a curve; a screen cannot show more."""

COLOURS = {1: "#9ecae1", 9: "#3182bd", 36: "#31a354", 144: "#fd8d3c", 576: "#a50f15"}
"""Scale -> colour."""


def draw_plan(details: PlanDetails, facts: Sequence[Row], thumbnails: Thumbnails) -> Any:
    """Draw the plan on its time axis, 1440 pixels wide (and 900 high with thumbnails).

    Args:
        details: the plan and what it was decided from.
        facts: rows of words for the side column, as `plan_text.plan_facts` makes them.
        thumbnails: of at least the most telling frames; without any the strip is left out.

    Returns:
        A matplotlib figure with axes labelled "thumbnails" (where there are any), "scales", "complexity", "spent"
        and "words".
    """
    from matplotlib.figure import Figure

    plan = details.plan
    top = STRIP[1] if thumbnails else BARS[1]
    height = top + HEIGHT - STRIP[1]
    figure = Figure(figsize=(WIDTH / DPI, height / DPI), dpi=DPI)
    title = f"{Path(plan.video.path).name}, {clock(plan.video.duration_seconds)}"
    for y, text, style in (
        (32, _cut(_drawable(title), 90), {"fontsize": LARGE, "fontweight": "bold"}),
        (56, _legend(details, len(thumbnails)), {"fontsize": USUAL}),
    ):
        figure.text(LEFT / WIDTH, 1 - y / height, text, parse_math=False, **style)

    def panel(label: str, edges: tuple[int, int], left: int = LEFT, right: int = RIGHT) -> Any:
        low, high = edges
        axis = figure.add_axes((left / WIDTH, low / height, (right - left) / WIDTH, (high - low) / height), label=label)
        axis.tick_params(labelsize=SMALL)
        return axis

    span = _span(details)
    view = (span[0] - EDGE * (span[1] - span[0]), span[1] + EDGE * (span[1] - span[0]))
    if thumbnails:
        _draw_thumbnails(panel("thumbnails", STRIP), plan, thumbnails, view)
    scales, complexity, spent = (
        panel(label, edges) for label, edges in (("scales", BARS), ("complexity", COMPLEXITY), ("spent", SPENT))
    )
    for axis in (scales, complexity, spent):
        _time_axis(axis, span, view)
    _draw_scales(scales, details, span)
    _draw_complexity(complexity, details, span)
    _draw_spent(spent, details, span)
    _draw_words(panel("words", (SPENT[0], top), SIDE, WIDTH - 12), plan, facts)
    return figure


def _span(details: PlanDetails) -> Span:
    """Return the first and last second drawn: the analyzed range."""
    stats, settings = details.stats, details.settings
    seen = on_screen(stats, settings.start, settings.end)
    base = stats.pts_seconds(int(stats.pts_N[0]))
    return base + seen.begin, base + seen.end


def _time_axis(axis: Any, span: Span, view: Span) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter

    axis.set_xlim(*view)
    axis.xaxis.set_major_locator(FixedLocator(time_ticks(*span)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: clock(value)))
    axis.spines[["top", "right"]].set_visible(False)


def time_ticks(start: float, end: float, *, most: int = 12) -> list[float]:
    """Return round clock times in the range, at most `most` of them."""
    steps = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200]
    step = next((step for step in steps if (end - start) / step <= most - 1), steps[-1] * most)
    while (end - start) / step > most - 1:
        step *= 2
    return [i * step for i in range(int(np.ceil(start / step - 1e-9)), int(np.floor(end / step + 1e-9)) + 1)]


def _draw_scales(axis: Any, details: PlanDetails, span: Span) -> None:
    """Draw bars of tokens over alternating bands of shots; the side of the token grid is the height of a bar."""
    plan = details.plan
    top = 1.3 * max([36, *(frame.scale for frame in plan.frames)])
    axis.set_yscale("function", functions=(lambda y: np.sqrt(np.maximum(y, 0)), np.square))
    axis.set_ylim(0, top)
    ticks = [scale for scale in SCALES if scale < top]
    axis.set_yticks(ticks, [str(scale) for scale in ticks], fontsize=SMALL)
    axis.set_ylabel("tokens of a frame", fontsize=USUAL)
    axis.grid(axis="y", alpha=0.25)
    axis.set_axisbelow(True)
    _draw_shots(axis, plan, span)
    # Low bars stand in front, so that none is hidden where bars are wider than the time between them.
    frames = sorted(plan.frames, key=lambda frame: -frame.scale)
    axis.bar(
        [_seen(frame.pts, plan, span) for frame in frames],
        [frame.scale for frame in frames],
        width=_bar_width(plan, span),
        color=[COLOURS[frame.scale] for frame in frames],
        label="frames shown",
        zorder=2,
    )
    left_out = details.selection.pts_N[details.allocation.scale_N == 0]
    axis.plot(
        [_seen(int(pts), plan, span) for pts in left_out],
        np.zeros(len(left_out)),
        linestyle="none",
        marker="|",
        markersize=9,
        color="#7b3294",
        clip_on=False,
        zorder=3,
        label="left out",
    )


def _seen(pts: int, plan: TokenPlan, span: Span) -> float:
    """Return when a frame begins to be on screen in the range."""
    return max(span[0], plan.video.pts_seconds(pts))


def _draw_shots(axis: Any, plan: TokenPlan, span: Span) -> None:
    """Draw every other shot as a grey band, and the number of each where there is room."""
    shots = [tuple(plan.video.pts_seconds(pts) for pts in shot) for shot in plan.shots]
    # Many shots would be a hatching behind the bars: they stand above them then.
    lowest = 0.0 if len(shots) <= WIDE_SHOTS else 0.94
    in_view = axis.get_xaxis_transform()
    axis.broken_barh(
        [(low, high - low) for low, high in shots[1::2]],
        (lowest, 1 - lowest),
        transform=in_view,
        color="#000000",
        alpha=0.08,
        linewidth=0,
        zorder=0,
        label="shots",
    )
    for number, (begin, end) in enumerate(shots, 1):
        low, high = max(begin, span[0]), min(end, span[1])
        if (high - low) / (span[1] - span[0]) * (RIGHT - LEFT) >= NUMBER_ROOM:
            axis.text(
                (low + high) / 2,
                0.985,
                str(number),
                transform=in_view,
                fontsize=SMALL,
                ha="center",
                va="top",
                color="#555555",
            )


def _legend(details: PlanDetails, num_thumbnails: int) -> str:
    """Return the caption of the upper half: what is seen in it."""
    plan = details.plan
    shots = "one shot" if len(plan.shots) == 1 else f"{len(plan.shots)} shots, in turn white and grey"
    words = [f"tokens of each of {len(plan.frames)} frames shown", shots]
    left_out = len(details.selection) - len(plan.frames)
    if left_out:
        words.append(f"purple ticks: {left_out} candidates left out")
    pictured = min(num_thumbnails, MOST_IN_PLOT)
    if 0 < pictured < len(plan.frames):
        words.append(f"pictures of {pictured} frames, of each stretch the one with the most tokens")
    return "; ".join(words)


def _bar_width(plan: TokenPlan, span: Span) -> float:
    """Return the width of a bar in seconds: as wide as most frames have room for, never less than two pixels."""
    whole = span[1] - span[0]
    times = [_seen(frame.pts, plan, span) for frame in plan.frames]
    room = 0.8 * float(np.quantile(np.diff(times), 0.1)) if len(times) > 1 else whole
    return min(whole / 90, max(room, 2 * whole / (RIGHT - LEFT)))


def _draw_complexity(axis: Any, details: PlanDetails, span: Span) -> None:
    """Draw what is lost at each coarser scale where it hurts most, one area before the other."""
    stats = details.stats
    rows = rows_in_range(stats, details.settings.start, details.settings.end)
    times = np.maximum(stats.times_N[rows], span[0])
    first = column_starts(times, span, most=COLUMNS)
    edges = np.append(times[first], span[1])
    for column, scale in enumerate(SCALES[:-1]):
        lost = np.sqrt(np.maximum.reduceat(stats.peak_NS[rows, column], first))
        axis.fill_between(
            edges, np.append(lost, lost[-1]), step="post", color=COLOURS[scale], linewidth=0, label=f"{scale}"
        )
    axis.set_ylim(bottom=0)
    axis.set_ylabel("grey levels", fontsize=USUAL)
    thinned = "" if len(first) == len(rows) else f"; {len(rows)} frames, the worst of each column"
    _caption(axis, f"complexity: lost in the worst 5% of a frame at 1, 9, 36 and 144 tokens{thinned}")


def column_starts(times_N: NDArray[np.floating], span: Span, *, most: int) -> NDArray[np.int64]:
    """Return the first frame of each column of time that holds a frame, of `most` equal columns, int64 [K]."""
    column = np.floor((times_N - span[0]) / (span[1] - span[0]) * most)
    return np.flatnonzero(np.diff(column, prepend=-1))


def _draw_spent(axis: Any, details: PlanDetails, span: Span) -> None:
    """Draw tokens as a share of the budget and utility as a share of its bound, as they add up over the video."""
    plan = details.plan
    shown = np.flatnonzero(details.allocation.scale_N)
    scale = details.allocation.scale_N[shown]
    times = [span[0], *(_seen(frame.pts, plan, span) for frame in plan.frames), span[1]]
    utility_F = details.utility_CS[shown, np.searchsorted(SCALES, scale)]
    for label, parts, whole, colour in (
        ("tokens spent, of the budget", scale, plan.budget, "#222222"),
        ("utility, of its bound", utility_F, plan.bound, "#c51b7d"),
    ):
        share = 100 * np.cumsum([0.0, *parts, 0.0]) / (whole or 1)
        label = f"{label}: {share[-1]:.4g}%"
        axis.plot(times, share, drawstyle="steps-post", color=colour, linewidth=1.8, label=label)
    axis.axhline(100, color="#888888", linewidth=1, linestyle="--")
    axis.set_ylim(0, 112)
    axis.set_yticks([0, 50, 100])
    axis.set_ylabel("per cent", fontsize=USUAL)
    axis.legend(loc="lower right", fontsize=SMALL, frameon=False, ncols=1)
    _caption(axis, f"added up: {plan.total_tokens} tokens of a budget of {plan.budget}, and the utility they buy")


def _caption(axis: Any, text: str) -> None:
    axis.set_title(text, fontsize=USUAL, loc="left", pad=5)


def _draw_thumbnails(axis: Any, plan: TokenPlan, thumbnails: Thumbnails, span: Span) -> None:
    """Place the thumbnails in one row, or in two staggered rows, between which lines can pass."""
    width, height = RIGHT - LEFT, STRIP[1] - STRIP[0]
    axis.set(xlim=(0, width), ylim=(0, height))
    axis.axis("off")
    frames = telling([frame for frame in plan.frames if frame.pts in thumbnails], MOST_IN_PLOT)
    num_rows = 1 if len(frames) <= PER_ROW else 2
    caption, lines = 22, 26
    slot = width / (len(frames) if num_rows == 1 else (len(frames) + 1) / 2)
    room = ((height - lines) / num_rows - caption, slot - 8)
    for i, frame in enumerate(frames):
        middle = slot * (i + 1 if num_rows == 2 else i + 0.5) * (0.5 if num_rows == 2 else 1)
        base = lines if num_rows == 1 or i % 2 else lines + (height - lines) / 2
        picture = thumbnails[frame.pts]
        share = min(room[0] / picture.shape[0], room[1] / picture.shape[1])
        tall, wide = picture.shape[0] * share, picture.shape[1] * share
        axis.imshow(
            picture,
            extent=(middle - wide / 2, middle + wide / 2, base, base + tall),
            aspect="auto",
            interpolation="antialiased",
            zorder=2,
        )
        colour = COLOURS[frame.scale]
        axis.plot(
            [middle - wide / 2, middle + wide / 2],
            [base - 1.5] * 2,
            color=colour,
            linewidth=3,
            zorder=3,
            solid_capstyle="butt",
        )
        seconds = plan.video.pts_seconds(frame.pts)
        axis.text(
            middle,
            base + tall + 3,
            f"{_short(seconds, span)} · {frame.scale}",
            fontsize=SMALL,
            ha="center",
            va="bottom",
        )
        at = width * (max(span[0], seconds) - span[0]) / (span[1] - span[0])
        axis.plot([middle, middle, at], [base, lines, 0], color="#999999", linewidth=0.8, zorder=1)
    axis.set(xlim=(0, width), ylim=(0, height))


def _short(seconds: float, span: Span) -> str:
    """Return a clock time; hundredths matter only in a short video."""
    return clock(seconds if span[1] - span[0] < 600 else round(seconds))


def _draw_words(axis: Any, plan: TokenPlan, facts: Sequence[Row]) -> None:
    """Draw the table of scales, which is the legend of all colours, and the facts that the terminal shows."""
    from matplotlib.patches import Rectangle

    height = axis.get_window_extent().height
    axis.set(xlim=(0, 280), ylim=(-height, 0))
    axis.axis("off")
    step, y = 18, -14
    for x, word in ((90, "tokens"), (165, "frames"), (250, "together")):
        axis.text(x, y, word, fontsize=USUAL, ha="right", va="center", fontweight="bold")
    for scale, count, together in scale_rows(plan, all_scales=True):
        y -= step
        axis.add_patch(Rectangle((0, y - 6), 34, 12, color=COLOURS[scale], linewidth=0))
        for x, number in ((90, scale), (165, count), (250, together)):
            axis.text(x, y, f"{number}", fontsize=USUAL, ha="right", va="center")
    y -= 12
    for label, text in facts:
        y -= step + 4
        axis.text(0, y, label, fontsize=USUAL, va="center", fontweight="bold")
        for line in textwrap.wrap(_drawable(text), WORDS_WIDTH):
            y -= step - 2
            axis.text(0, y, line, fontsize=USUAL, va="center", parse_math=False)


def _cut(text: str, most: int) -> str:
    """Return a long name with its middle left out."""
    return text if len(text) <= most else text[: most // 2 - 1] + "…" + text[-most // 2 :]


def _drawable(text: str) -> str:
    """Return a text with question marks where the font has no sign; the page and the terminal show it as it is."""
    from matplotlib.font_manager import findfont, get_font

    font = get_font(findfont("DejaVu Sans"))
    return "".join(c if c.isprintable() and font.get_char_index(ord(c)) else "?" for c in text)
