"""What the package ships beside its code: each file has a line of origin, and the natural clip is what it says."""

from __future__ import annotations

from m3video.config import Settings
from m3video.inference.first_pass import analyze_video
from m3video.inference.pipeline import open_for
from m3video.planning.shots import find_shots
from tests.paths import ROOT

ASSETS = ROOT / "m3video" / "assets"
CLIP = ASSETS / "natural.mp4"


def test_every_file_has_a_line_of_origin() -> None:
    text = (ASSETS / "README.md").read_text(encoding="utf-8")
    shipped = {path.name + "/" * path.is_dir() for path in ASSETS.iterdir()} - {"README.md", "__pycache__/"}
    assert {name for name in shipped if f"`{name}`" not in text} == set()


def test_the_natural_clip_is_short_small_and_has_four_shots() -> None:
    assert CLIP.stat().st_size <= 1_000_000
    with open_for(CLIP, Settings()) as reader:
        info, stats = reader.info, analyze_video(reader)
    assert (info.duration_seconds, info.partial) == (12.0, False)
    starts = [info.pts_seconds(int(stats.pts_N[row])) for row in find_shots(stats)]
    assert starts == [0.0, 3.0, 6.0, 9.0]
