"""The page of a plan: one file, well formed, safe whatever the file is called, complete without scripts."""

from __future__ import annotations

import base64
import io
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from m3video.errors import PlanError
from m3video.inference.decision import PlanDetails
from m3video.report.plan_page import MOST_IN_PAGE, page, save_page
from m3video.report.plan_text import plan_facts
from m3video.report.thumbnails import telling
from tests.report.test_plan_plot import long_details, sample_details

VOID = {"meta", "img", "br", "link"}
EVIL = "/x/--><script>alert(1)</script>\"'&<b>.mp4"


class Seen(HTMLParser):
    """Tags with attributes, text, and a check that every element is closed in its turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def sample() -> tuple[PlanDetails, dict[int, Any]]:
    return sample_details(budget=300)


def seen(details: PlanDetails, thumbnails: dict[int, Any]) -> Seen:
    return Seen(page(details, plan_facts(details.plan, []), thumbnails))


def test_it_needs_nothing_but_itself(sample: tuple[PlanDetails, dict[int, Any]]) -> None:
    found = seen(*sample)
    assert found.all("script") == found.all("link") == found.all("iframe") == []
    for tag, attributes in found.tags:
        for name, value in attributes.items():
            if name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
                assert value.startswith(("data:image/jpeg;base64,", "#")), (tag, name, value)
            assert not name.startswith("on")
            if not name.startswith("xmlns"):
                assert "://" not in value
    assert "@import" not in "".join(found.text)
    assert "://" not in "".join(found.text)


def test_every_frame_has_a_picture_and_a_row(sample: tuple[PlanDetails, dict[int, Any]]) -> None:
    details, thumbnails = sample
    found = seen(details, thumbnails)
    pictures = found.all("img")
    assert len(pictures) == len(details.plan.frames)
    for attributes, frame in zip(pictures, details.plan.frames, strict=True):
        data = base64.b64decode(attributes["src"].partition(",")[2])
        with Image.open(io.BytesIO(data)) as picture:
            assert np.abs(np.asarray(picture, float) - thumbnails[frame.pts]).mean() < 12
        assert f"{frame.scale} token" in attributes["alt"]
    assert len(found.all("tr")) == len(details.plan.frames) + 1
    assert str(details.plan.frames[-1].pts) in found.text
    # The facts stand there in words, and the drawing says what it is to those who do not see it.
    assert all(text in found.text for fact in plan_facts(details.plan, []) for text in fact)
    assert found.all("svg")[0]["role"] == "img"
    assert found.all("svg")[0]["aria-label"]
    assert not any("pictures of" in text.lower() for text in found.text)


def test_ids_are_used_once(sample: tuple[PlanDetails, dict[int, Any]]) -> None:
    ids = Counter(attributes["id"] for _, attributes in seen(*sample).tags if "id" in attributes)
    assert max(ids.values()) == 1


def test_a_long_video_says_which_frames_are_pictured() -> None:
    details = long_details(budget=3000, max_frames=400)
    frames = telling(details.plan.frames, MOST_IN_PAGE)
    found = seen(details, {frame.pts: np.zeros((4, 8, 3), np.uint8) for frame in frames})
    assert len(found.all("img")) == MOST_IN_PAGE < len(details.plan.frames)
    assert any(f"Pictures of {MOST_IN_PAGE} of the {len(details.plan.frames)} frames shown" in t for t in found.text)
    assert len(found.all("tr")) == len(details.plan.frames) + 1
    assert any("shots have no candidate" in text for text in found.text)


def test_a_hostile_name_is_only_a_name(tmp_path: Path) -> None:
    details = long_details(hours=0.01, num_shots=2, path=EVIL)
    found = seen(details, {})
    assert found.all("script") == found.all("b") == []
    assert any(Path(EVIL).name in text for text in found.text)
    save_page(details, plan_facts(details.plan), {}, tmp_path / "plan.html")
    assert (tmp_path / "plan.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_names_that_are_no_utf8_and_places_that_do_not_exist(tmp_path: Path) -> None:
    details = long_details(hours=0.01, num_shots=2, path="/x/\udcff.mp4")
    save_page(details, plan_facts(details.plan), {}, tmp_path / "plan.html")
    (tmp_path / "plan.html").read_text(encoding="utf-8")
    with pytest.raises(PlanError, match="cannot be written"):
        save_page(details, plan_facts(details.plan), {}, tmp_path / "none" / "plan.html")
