"""A plan as one page for a browser: everything is inside the file, and it needs neither scripts nor a network."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from m3video import __version__
from m3video.errors import PlanError
from m3video.inference.decision import PlanDetails
from m3video.report.plan_plot import COLOURS, draw_plan
from m3video.report.plan_text import Row
from m3video.report.thumbnails import Thumbnails, jpeg, telling
from m3video.types import TokenPlan
from m3video.utils.clock import clock
from m3video.utils.files import replacing

MOST_IN_PAGE = 120
"""Most thumbnails in a page, about 6 KB each."""

STYLE = """
body { font: 16px/1.45 system-ui, sans-serif; margin: 1.5rem auto; padding: 0 1rem; max-width: 90rem; color: #222;
       background: #fff; }
h1 { font-size: 1.4rem; overflow-wrap: anywhere; } h2 { font-size: 1.1rem; margin-top: 2rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; }
dt { font-weight: 600; } dd { margin: 0; }
svg { width: 100%; height: auto; }
.frames { display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: 1rem; }
.frames figure { margin: 0; } .frames img { width: 100%; height: 9rem; object-fit: contain; background: #eee;
       border-bottom: 5px solid; }
figcaption { font-size: .9rem; }
table { border-collapse: collapse; } td, th { padding: .1rem .8rem; text-align: right; }
tr:nth-child(even) { background: #f4f4f4; }
"""


def save_page(details: PlanDetails, facts: Sequence[Row], thumbnails: Thumbnails, path: Path) -> None:
    """Write the page of a plan; an existing file is replaced only on success.

    Raises:
        PlanError: the file cannot be written.
    """
    text = page(details, facts, thumbnails)
    try:
        with replacing(path) as part:
            part.write_text(text, encoding="utf-8", errors="xmlcharrefreplace")
    except OSError as error:
        raise PlanError(f"page {path} cannot be written: {error.strerror}") from None


def page(details: PlanDetails, facts: Sequence[Row], thumbnails: Thumbnails) -> str:
    """Return the page of a plan as HTML.

    Args:
        details: the plan with its stats, candidates and utilities.
        facts: labelled rows, from `plan_text.plan_facts`.
        thumbnails: of the frames shown; when some are missing, the page says so.
    """
    plan = details.plan
    name = escape(f"{Path(plan.video.path).name}, {clock(plan.video.duration_seconds)}")
    notes = [*plan.video.notes, *plan.warnings]
    parts = [
        "<!doctype html>",
        '<html lang="en">',
        '<head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Plan: {name}</title>",
        f"<style>{STYLE}</style></head>",
        f"<body><h1>{name}</h1>",
        "<dl>",
        *(f"<dt>{escape(label)}</dt><dd>{escape(text)}</dd>" for label, text in facts),
        "</dl>",
        *(["<h2>Notes</h2><ul>", *(f"<li>{escape(note)}</li>" for note in notes), "</ul>"] if notes else []),
        "<h2>Over time</h2>",
        _drawing(details, facts),
        "<h2>Frames shown</h2>",
        *_gallery(plan, thumbnails),
        *_table(plan),
        f"<p>m3video {escape(__version__)}</p></body></html>",
    ]
    return "\n".join(parts) + "\n"


def _drawing(details: PlanDetails, facts: Sequence[Row]) -> str:
    """Return the figure of the plan without thumbnails, as inline SVG."""
    buffer = io.StringIO()
    # Metadata would put URLs into a page that needs no network.
    no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    draw_plan(details, facts, {}).savefig(buffer, format="svg", metadata=no_metadata)
    text = buffer.getvalue()
    words = "The scale of every frame shown, complexity, and tokens and utility added up, over time; in words above."
    return text[text.index("<svg") :].replace("<svg", f'<svg role="img" aria-label="{words}"', 1)


def _gallery(plan: TokenPlan, thumbnails: Thumbnails) -> Iterable[str]:
    frames = telling([frame for frame in plan.frames if frame.pts in thumbnails], MOST_IN_PAGE)
    if len(frames) < len(plan.frames):
        yield (
            f"<p>Pictures of {len(frames)} of the {len(plan.frames)} frames shown: of each stretch the one with the "
            "most tokens.</p>"
        )
    yield '<div class="frames">'
    for frame in frames:
        words = f"{clock(plan.video.pts_seconds(frame.pts))}: {_tokens(frame.scale)}, shot {frame.shot + 1}"
        yield (
            f'<figure><img alt="Frame at {words}" style="border-color: {COLOURS[frame.scale]}" '
            f'src="data:image/jpeg;base64,{base64.b64encode(jpeg(thumbnails[frame.pts])).decode()}"><figcaption>{words}</figcaption></figure>'
        )
    yield "</div>"


def _tokens(scale: int) -> str:
    return "1 token" if scale == 1 else f"{scale} tokens"


def _table(plan: TokenPlan) -> Iterable[str]:
    yield f"<details><summary>All {len(plan.frames)} frames as a table</summary><table>"
    yield "<thead><tr><th>time</th><th>pts</th><th>shot</th><th>tokens</th><th>chosen as</th></tr></thead><tbody>"
    for frame in plan.frames:
        cells = (clock(plan.video.pts_seconds(frame.pts)), frame.pts, frame.shot + 1, frame.scale, escape(frame.reason))
        yield "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
    yield "</tbody></table></details>"
