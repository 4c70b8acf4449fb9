"""The page as a person walks it, in real Chromium: from the folder to an answer, a mark, an export, and back again."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from m3video.config import Settings
from m3video.serve.guards import Access
from tests.paths import SAMPLE
from tests.serve.browser import Faults, chromium, needs_chromium, planned, served, shown_time, until

pytestmark = needs_chromium

NAMES = (
    "Überwachungsaufzeichnung-Donaudampfschifffahrtsgesellschaftskapitänskajüte-Vorderansicht-Nachtschicht.mp4",
    "تسجيل كاميرا المراقبة رقم ٣.mp4",
    '🐈‍⬛ <img src=x onerror=alert(1)> & "quotes" #1 100%.mp4',
)
QUESTION = "What colour is the background at 0:03?"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, loaded: Any) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("videos")
    for name in ("sample.mp4", *NAMES):
        shutil.copy(SAMPLE, folder / name)
    write_avi(folder / "old.avi")
    with served(folder, loaded=loaded) as found:
        yield found


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1366, "height": 768}, accept_downloads=True)
    yield context.new_page()
    context.close()


def write_avi(path: Path) -> None:
    """Write two seconds of MPEG-4 Part 2 in AVI, which no browser plays: the left half is red from 0:01 on."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for number in range(20):
            picture = np.full((96, 160, 3), 200, np.uint8)
            if number >= 10:
                picture[:, :80] = (255, 0, 0)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode(None))


def test_from_the_folder_to_an_answer_and_back(page: Any, address: str) -> None:
    faults = Faults(page, address)
    page.goto(address)
    page.get_by_role("link", name="sample.mp4").click()
    planned(page)
    before = page.inner_text("#spent strong")
    assert before == "717 of 720 tokens"
    assert re.search(r"An answer takes about ([\d.]+ s and )?\d+ MiB of memory", page.inner_text("#spent"))

    # Drag the slider of the budget to the left.
    box = page.locator("#budget").bounding_box()
    page.mouse.move(box["x"] + 0.74 * box["width"], box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.55 * box["width"], box["y"] + box["height"] / 2, steps=8)
    page.mouse.up()
    until(
        page,
        "document.querySelector('#spent strong').textContent.endsWith(' ' + m3video.plan.settings.budget + ' tokens')",
    )
    budget = page.evaluate("m3video.plan.settings.budget")
    assert 20 < budget < 360
    assert page.input_value("#budget-number") == str(budget)
    shown = page.evaluate("m3video.timeline.frames.reduce((sum, frame) => sum + frame.scale, 0)")
    assert page.inner_text("#spent strong") == f"{shown} of {budget} tokens"

    page.fill("#question", QUESTION)
    page.press("#question", "Enter")
    page.wait_for_selector(".answer[data-id]", timeout=120_000)
    assert page.inner_text(".answer .text") == "green"
    assert f"{shown} visual tokens" in page.inner_text(".answer .cost")

    assert "Rests on these times; without that: “" in page.inner_text(".answer")
    chip = page.locator(".answer .chip").first
    cited = float(chip.get_attribute("data-time") or "nan")
    assert 3.0 <= cited < 6.0  # the shot of 0:03
    chip.click()
    assert shown_time(page) == pytest.approx(cited, abs=0.05)
    assert page.locator(".shown img").count() >= 1
    until(page, "[...document.querySelectorAll('.shown img')].every((one) => one.naturalWidth)")

    page.keyboard.press("m")
    page.keyboard.type("a grey star")
    page.keyboard.press("Enter")
    until(page, "m3video.notes.marks[0]?.text === 'a grey star'")

    page.select_option("#export-format", "json")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save").click()
    assert download.value.suggested_filename == "sample.notes.json"
    value = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))
    assert [one["answer"] for one in value["answers"]] == ["green"]
    assert sum(frame["scale"] for frame in value["answers"][0]["record"]["plan"]["frames"]) == shown
    ((start, text),) = [(one["start"], one["text"]) for one in value["marks"]]
    assert (start, text) == (pytest.approx(cited, abs=0.05), "a grey star")

    page.reload()
    planned(page)
    assert page.inner_text(".answer .text") == "green"
    assert page.input_value("#marks input[type=text]") == "a grey star"
    page.locator("#marks .chip").click()
    assert shown_time(page) == pytest.approx(start, abs=0.05)
    page.click("#home")
    row = page.locator(".video-row", has_text="sample.mp4").filter(has_text="answer")
    assert "1 answer, 1 mark" in row.inner_text()
    assert faults.found == []


def test_the_timeline_seeks_zooms_and_pans(page: Any, address: str) -> None:
    page.goto(f"{address}#sample.mp4")
    planned(page)
    timeline = page.locator("#timeline")
    box = timeline.bounding_box()
    x = page.evaluate("m3video.timeline.view.x(6.5)")
    page.mouse.click(box["x"] + x, box["y"] + 110)
    assert shown_time(page) == pytest.approx(6.5, abs=0.02)
    words = timeline.get_attribute("aria-valuetext")
    assert words.startswith("0:06.50 of 0:12, shot 3 of 4, latest frame shown at 0:06")
    assert float(timeline.get_attribute("aria-valuenow")) == pytest.approx(6.5, abs=0.02)

    page.mouse.wheel(0, -600)
    until(page, "m3video.timeline.view.seconds < 2")
    assert page.evaluate("m3video.timeline.view.x(6.5)") == pytest.approx(x, abs=2)
    start = page.evaluate("m3video.timeline.view.from")
    page.mouse.move(box["x"] + 500, box["y"] + 110)
    page.mouse.down()
    page.mouse.move(box["x"] + 400, box["y"] + 110, steps=4)
    page.mouse.up()
    assert page.evaluate("m3video.timeline.view.from") > start
    assert shown_time(page) == pytest.approx(6.5, abs=0.02)  # a drag is no click
    page.keyboard.press("0")
    assert page.evaluate("m3video.timeline.view.seconds") == pytest.approx(12)


def test_the_keyboard_does_everything(page: Any, address: str) -> None:
    page.goto(f"{address}#sample.mp4")
    planned(page)
    page.locator("#presets button", has_text="144").focus()
    page.keyboard.press("Enter")
    until(page, "m3video.timeline.plan.budget === 144")
    assert page.evaluate("document.activeElement.textContent") == "144"
    page.locator("#timeline").focus()
    for key, time in (("ArrowRight", 1), ("l", 11), ("j", 1), ("End", 12), ("Home", 0), (".", 1 / 15), (",", 0)):
        page.keyboard.press(key)
        assert page.evaluate("m3video.player.time") == pytest.approx(time, abs=0.01), key
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("i")
    page.keyboard.press("l")
    page.keyboard.press("j")
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("o")
    until(page, "m3video.timeline.plan.config.end > 5.9 && m3video.timeline.plan.config.start > 1.9")
    shown = page.evaluate("m3video.timeline.frames.map((frame) => frame.pts_seconds)")
    assert min(shown) >= 2
    assert max(shown) < 6.01
    page.keyboard.press("ArrowLeft")
    page.keyboard.press(".")
    page.keyboard.press(".")
    assert "none of the" in page.inner_text("#why")
    page.keyboard.press("p")
    until(page, "m3video.timeline.plan.config.at !== null")
    assert page.inner_text("#pins").startswith("pinned 0:05.13")
    assert re.fullmatch(r"This frame is shown, with \d+ tokens?: pinned\.", page.inner_text("#why"))
    page.keyboard.press("p")
    page.keyboard.press("x")
    until(page, "m3video.timeline.plan.config.at === null && m3video.timeline.plan.config.end === null")
    page.keyboard.press("k")
    until(page, "!m3video.player.element.paused && m3video.player.time > 5.3")
    page.keyboard.press(" ")
    until(page, "m3video.player.element.paused")
    page.keyboard.press("?")
    assert page.locator("#keys").is_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    page.keyboard.type("i am no key?")
    assert page.input_value("#question") == "i am no key?"


def test_the_range_is_dragged(page: Any, address: str) -> None:
    page.goto(f"{address}#sample.mp4")
    planned(page)
    box = page.locator("#timeline").bounding_box()

    def drag(start: float, end: float, *, shift: bool = False) -> None:
        xs = [box["x"] + page.evaluate(f"m3video.timeline.view.x({time})") for time in (start, end)]
        if shift:
            page.keyboard.down("Shift")
        page.mouse.move(xs[0], box["y"] + 130)
        page.mouse.down()
        page.mouse.move(xs[1], box["y"] + 130, steps=5)
        page.mouse.up()
        if shift:
            page.keyboard.up("Shift")

    drag(3, 6, shift=True)
    until(page, "m3video.timeline.plan.config.start > 2.9 && m3video.timeline.plan.config.end < 6.1")
    drag(6, 9)  # the edge
    until(page, "m3video.timeline.plan.config.end > 8.9")
    page.get_by_role("button", name="Whole range").click()
    until(page, "m3video.timeline.plan.config.start === null")


def test_a_file_that_the_browser_cannot_play_is_shown_by_its_frames(page: Any, address: str) -> None:
    waiting = {"state": "waiting", "stage": "", "done": 0, "total": None}
    page.route("**/api/copy", lambda route: route.fulfill(json=waiting))
    page.goto(f"{address}#old.avi")
    planned(page)
    assert "cannot play this file" in page.inner_text("#stage-notice")

    def red() -> int:
        found: int = page.evaluate(
            """() => { const canvas = document.createElement("canvas"); canvas.width = canvas.height = 1;
            const context = canvas.getContext("2d"); context.drawImage(m3video.player.still, 20, 20, 1, 1, 0, 0, 1, 1);
            const [r, g] = context.getImageData(0, 0, 1, 1).data; return r - g; }"""
        )
        return found

    until(page, "m3video.player.still.naturalWidth > 0")
    assert abs(red()) < 40
    page.locator("#timeline").focus()
    page.keyboard.press("l")
    until(page, "m3video.player.still.src.includes('at=2') && !m3video.player.stillBusy")
    assert red() > 150


def test_names_in_any_script_are_shown_searched_and_opened(page: Any, address: str) -> None:
    faults = Faults(page, address)
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(address)
    page.wait_for_selector(".video-row img")
    assert {line.split("\n")[0] for line in page.locator(".video-row .name").all_inner_texts()} >= set(NAMES[1:])
    page.fill("#search", "uberwach nacht")
    assert page.locator(".video-row:visible").count() == 1
    assert page.inner_text("#count") == "1 of 5 videos"
    page.fill("#search", "nothing of this")
    assert "No name has all these words" in page.inner_text("#library-notice")
    for name in NAMES:
        page.fill("#search", name)
        page.locator(".video-row:visible a").click()
        planned(page)
        assert page.inner_text("#title") == name
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        page.click("#home")
    assert faults.found == []


def test_a_busy_server_is_asked_again_and_an_error_is_one_line(page: Any, address: str) -> None:
    page.goto(f"{address}#sample.mp4")
    planned(page)
    answers = [
        {"status": 429, "headers": {"Retry-After": "1"}, "json": {"error": {"message": "busy", "code": None}}},
        {"status": 503, "json": {"error": {"message": "memory ran out: lower the budget", "code": None}}},
    ]
    page.route("**/v1/chat/completions", lambda route: route.fulfill(**answers.pop(0)))
    page.fill("#question", QUESTION)
    page.press("#question", "Enter")
    page.wait_for_selector("#ask-notice .busy")
    page.wait_for_selector("#ask-notice .bad")
    assert page.inner_text("#ask-notice") == "memory ran out: lower the budget"
    assert page.input_value("#question") == QUESTION
    assert page.locator(".answer.running").count() == 0
    page.route("**/api/plan", lambda route: route.abort())
    page.locator("#presets button", has_text="144").click()
    page.wait_for_selector("#plan-notice .bad")
    assert "The server does not answer" in page.inner_text("#plan-notice")


def test_what_cannot_be_read_is_told_and_what_is_damaged_too(browser: Any, tmp_path: Path, loaded: Any) -> None:
    (tmp_path / "broken.mp4").write_text("no video")
    whole = SAMPLE.read_bytes()
    (tmp_path / "damaged.mp4").write_bytes(whole[:30_000] + bytes(20_000) + whole[50_000:])
    with served(tmp_path, loaded=loaded) as address:
        page = browser.new_page()
        page.goto(address)
        page.wait_for_selector(".video-row .state.bad")
        page.goto(f"{address}#broken.mp4")
        page.wait_for_selector("#stage-notice button")
        assert "not a readable video" in page.inner_text("#stage-notice")
        page.goto(f"{address}#damaged.mp4")
        planned(page)
        assert "the file is damaged" in page.inner_text("#look")
        page.close()


def test_an_empty_folder_and_a_missing_video_say_what_to_do(browser: Any, tmp_path: Path, loaded: Any) -> None:
    with served(tmp_path, loaded=loaded) as address:
        page = browser.new_page()
        page.goto(address)
        page.wait_for_selector("#library-notice button")
        assert "No videos in this folder yet" in page.inner_text("#library-notice")
        shutil.copy(SAMPLE, tmp_path / "new.mp4")
        page.get_by_role("button", name="Read again").click()
        page.wait_for_selector(".video-row")
        page.goto(f"{address}#gone.mp4")
        page.wait_for_selector("#stage-notice .bad")
        assert "There is no video of this name" in page.inner_text("#stage-notice")
        page.close()


def test_a_server_with_a_key_asks_for_it_once(browser: Any, tmp_path: Path, loaded: Any) -> None:
    shutil.copy(SAMPLE, tmp_path / "sample.mp4")
    with served(tmp_path, loaded=loaded, access=Access(api_key="the key")) as address:
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{address}#sample.mp4")
        page.fill("#login-key", "wrong")
        page.press("#login-key", "Enter")
        page.wait_for_selector("#login-notice .bad")
        page.fill("#login-key", "the key")
        page.press("#login-key", "Enter")
        planned(page)
        assert shown_time(page) == 0
        context.close()


def test_the_page_begins_with_the_settings_of_the_server(browser: Any, tmp_path: Path, loaded: Any) -> None:
    shutil.copy(SAMPLE, tmp_path / "sample.mp4")
    settings = Settings(model="rendered", budget=200, every_shot=True, start=1.0)
    with served(tmp_path, settings, loaded=loaded) as address:
        page = browser.new_page()
        page.goto(f"{address}#sample.mp4")
        planned(page)
        assert page.input_value("#budget-number") == "200"
        assert page.evaluate("[m3video.plan.wanted(), m3video.timeline.range]") == [{}, {"start": 1}]
        page.locator("#more summary").click()
        assert page.is_checked("#every-shot")
        page.uncheck("#every-shot")
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Whole range").click()
        until(page, "m3video.timeline.plan.config.start === null && !m3video.timeline.plan.config.every_shot")
        assert page.evaluate("m3video.plan.forQuestion()") == {"every_shot": False, "start": None}
        page.fill("#question", QUESTION)
        page.press("#question", "Enter")
        page.wait_for_selector(".answer[data-id]", timeout=120_000)
        assert page.inner_text(".answer .text") == "green"
        page.close()
