"""Copies for players: every frame at its time, in a process that can be cancelled; the page plays them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from fastapi.testclient import TestClient

from m3video.config import Settings
from m3video.errors import VideoError
from m3video.inference.pipeline import open_for
from m3video.serve.app import create_app
from m3video.serve.files import UNFINISHED
from m3video.serve.guards import Access
from m3video.serve.proxies import PLACE, encode
from tests.paths import SAMPLE
from tests.serve.browser import chromium, needs_chromium, planned, served, until

SETTINGS = Settings(model="rendered")
GAPS = (40, 40, 500, 33, 34, 33, 900, 120, 7, 260)
"""Milliseconds between the frames of the clip."""

START_MS = 5_517


def write_clip(path: Path, *, sound_ms: int | None = START_MS, size: tuple[int, int] = (160, 98)) -> None:
    """Write a clip of uneven times that does not start at zero, in MPEG-4 Part 2, which no browser plays.

    Frame number n has the brightness 40 + 18 n. The sound begins at `sound_ms`; None for none.
    """
    with av.open(str(path), "w") as file:
        video = file.add_stream("mpeg4", rate=25)
        video.width, video.height = size
        video.pix_fmt, video.time_base = "yuv420p", Fraction(1, 1000)
        video.codec_context.time_base = Fraction(1, 1000)
        sound = None if sound_ms is None else file.add_stream("libopus", rate=48_000, layout="mono")
        at = START_MS
        for number, gap in enumerate((0, *GAPS)):
            at += gap
            picture = av.VideoFrame.from_ndarray(np.full((size[1], size[0], 3), 40 + 18 * number, np.uint8), "rgb24")
            picture.pts, picture.time_base = at, Fraction(1, 1000)
            file.mux(video.encode(picture))
        file.mux(video.encode(None))
        if sound is not None and sound_ms is not None:
            for block in range(100):
                samples = av.AudioFrame(format="s16", layout="mono", samples=960)
                samples.planes[0].update(np.full(960, 1000, np.int16).tobytes())
                samples.sample_rate, samples.time_base = 48_000, Fraction(1, 48_000)
                samples.pts = sound_ms * 48 + 960 * block
                file.mux(sound.encode(samples))
            file.mux(sound.encode(None))


def times(path: Path) -> list[float]:
    """Return the times of all frames, as players count them."""
    with open_for(str(path), SETTINGS) as reader:
        return [reader.info.pts_seconds(frame.pts) for frame in reader.frames()]


@pytest.mark.parametrize("sound_ms", [None, START_MS - 317, START_MS, START_MS + 250])
def test_every_frame_of_a_copy_has_its_time(tmp_path: Path, sound_ms: int | None) -> None:
    path, out = tmp_path / "clip.mkv", tmp_path / "copy.mp4"
    write_clip(path, sound_ms=sound_ms)
    *_, made = encode(str(path), SETTINGS, str(out))
    assert made == str(out)
    expected = times(path)
    assert len(expected) == len(GAPS) + 1
    assert np.diff(expected) * 1000 == pytest.approx(GAPS)
    assert times(out) == pytest.approx(expected, abs=1e-9)
    with av.open(str(out)) as file:
        assert [stream.type for stream in file.streams] == ["video"] + ["audio"] * (sound_ms is not None)
        assert (file.streams.video[0].codec.canonical_name, file.streams.video[0].height) == ("h264", 98)


def test_a_start_between_two_milliseconds_is_kept(tmp_path: Path) -> None:
    path, out = tmp_path / "clip.ts", tmp_path / "copy.mp4"
    with av.open(str(path), "w") as file:
        video, sound = file.add_stream("mpeg2video", rate=25), file.add_stream("mp2", rate=48_000, layout="stereo")
        video.width, video.height, video.pix_fmt = 160, 96, "yuv420p"
        for block in range(40):
            samples = av.AudioFrame(format="s16", layout="stereo", samples=1152)
            samples.planes[0].update(bytes(4 * 1152))
            samples.sample_rate, samples.time_base, samples.pts = 48_000, Fraction(1, 48_000), 1152 * block
            file.mux(sound.encode(samples))
        for number in range(10):
            picture = av.VideoFrame.from_ndarray(np.full((96, 160, 3), 20 * number, np.uint8), "rgb24")
            picture.pts, picture.time_base = number, Fraction(1, 25)
            for packet in video.encode(picture):
                packet.time_base, packet.pts, packet.dts = Fraction(1, 90_000), 12_345 + 3600 * number, None
                packet.dts = packet.pts
                file.mux(packet)
        file.mux(sound.encode(None))
    list(encode(str(path), SETTINGS, str(out)))
    expected = times(path)
    assert expected[0] * 1000 % 1 > 0.1
    assert times(out) == pytest.approx(expected, abs=1e-9)


def test_the_frames_of_a_copy_are_those_of_the_video(tmp_path: Path) -> None:
    out = tmp_path / "copy.mp4"
    list(encode(str(SAMPLE), SETTINGS, str(out)))
    assert times(out) == pytest.approx(times(SAMPLE), abs=1e-9)
    with open_for(str(out), SETTINGS) as copy, open_for(str(SAMPLE), SETTINGS) as video:
        for ours, theirs in zip(copy.frames(), video.frames(), strict=True):
            difference = ours.rgb_HW3.astype(float) - theirs.rgb_HW3
            assert np.abs(difference).mean() < 6  # colours are as they were, but for what a second encoder loses


def test_what_is_no_video_has_no_copy(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("no video")
    with pytest.raises(VideoError, match="not a readable video"):
        list(encode(str(tmp_path / "a.mp4"), SETTINGS, str(tmp_path / "out.mp4")))


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(create_app(tmp_path, SETTINGS, access=Access(host="testserver"))) as client:
        yield client


def wait_for(condition: Any) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_copy_is_made_once_and_again_when_the_file_changes(client: TestClient, tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mkv")
    body = {"video": "a.mkv"}
    assert client.get("/media", params={**body, "copy": True}).status_code == 404
    wait_for(lambda: client.post("/api/copy", json=body).json()["state"] == "ready")
    (copy,) = (tmp_path / PLACE).iterdir()
    response = client.get("/media", params={**body, "copy": True}, headers={"Range": "bytes=0-99"})
    assert (response.status_code, response.content) == (206, copy.read_bytes()[:100])
    assert list((tmp_path / UNFINISHED).iterdir()) == []
    assert client.get("/media", params={"video": str(copy.relative_to(tmp_path))}).status_code == 404
    assert [row["name"] for row in client.get("/api/videos").json()["videos"]] == ["a.mkv"]
    write_clip(tmp_path / "a.mkv", sound_ms=None)
    assert client.get("/media", params={**body, "copy": True}).status_code == 404
    wait_for(lambda: client.post("/api/copy", json=body).json()["state"] == "ready")
    assert [other != copy for other in (tmp_path / PLACE).iterdir()] == [True]


def test_a_cancelled_copy_leaves_nothing(client: TestClient, tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mkv")
    assert client.post("/api/copy", json={"video": "a.mkv"}).json()["state"] in ("waiting", "running")
    assert client.delete("/api/copy", params={"video": "a.mkv"}).json() == {"state": "cancelled"}
    wait_for(lambda: not list((tmp_path / UNFINISHED).iterdir()))
    assert client.get("/media", params={"video": "a.mkv", "copy": True}).status_code == 404
    (tmp_path / "b.mp4").write_text("no video")
    wait_for(lambda: client.post("/api/copy", json={"video": "b.mp4"}).status_code == 422)


@needs_chromium
def test_the_page_plays_a_copy_with_the_times_of_the_video(tmp_path: Path, loaded: Any) -> None:
    write_clip(tmp_path / "old.mkv", sound_ms=START_MS - 317, size=(320, 180))
    expected = times(tmp_path / "old.mkv")
    with served(tmp_path, SETTINGS, loaded=loaded) as address, chromium() as browser:
        page = browser.new_page()
        page.goto(f"{address}#old.mkv")
        until(page, "m3video.player.isCopy && m3video.player.isPlayable && m3video.player.element.readyState >= 2")
        planned(page)
        assert page.inner_text("#stage-notice") == ""
        for number, at in enumerate(expected[:-1]):
            for where in (at, at + 0.8 * GAPS[number] / 1000):
                page.evaluate(f"m3video.player.seek({where})")
                until(page, "!m3video.player.element.seeking && m3video.player.element.readyState >= 2")
                assert brightness(page) == pytest.approx(40 + 18 * number, abs=6), (number, where)
        page.evaluate("m3video.player.seek(0.5)")
        page.keyboard.press("k")
        until(page, "m3video.player.time > 1.2")
        page.reload()  # the copy is there
        until(page, "m3video.player.isCopy && m3video.player.element.readyState >= 2")
        page.close()


@needs_chromium
def test_a_copy_can_be_cancelled_on_the_page(tmp_path: Path, loaded: Any) -> None:
    write_clip(tmp_path / "old.mkv")
    with served(tmp_path, SETTINGS, loaded=loaded) as address, chromium() as browser:
        page = browser.new_page()
        running = {"state": "running", "stage": "frames", "done": 3, "total": 11}
        page.route("**/api/copy", lambda route: route.fulfill(json=running))  # one that takes long
        page.goto(f"{address}#old.mkv")
        page.wait_for_selector("#stage-notice progress")
        until(page, "document.querySelector('#stage-notice').textContent.includes('3 of 11 frames')")
        page.click("#stage-notice button")
        page.wait_for_selector("text=Make a copy that it can play")
        page.wait_for_selector("#still")
        page.unroute("**/api/copy")
        page.click("text=Make a copy that it can play")
        until(page, "m3video.player.isCopy && m3video.player.element.readyState >= 2")
        assert page.locator("#still").is_hidden()
        page.close()


def brightness(page: Any) -> int:
    """Return that of the picture in the player."""
    found: int = page.evaluate(
        """() => { const canvas = document.createElement("canvas"); canvas.width = canvas.height = 1;
        const context = canvas.getContext("2d"); context.drawImage(m3video.player.element, 20, 20, 1, 1, 0, 0, 1, 1);
        return context.getImageData(0, 0, 1, 1).data[1]; }"""
    )
    return found
