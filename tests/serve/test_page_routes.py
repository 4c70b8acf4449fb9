"""The routes of the page over HTTP: library, pictures, first passes, plans, notes and exports."""

from __future__ import annotations

import io
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from m3video.config import Settings
from m3video.inference.memory.fit import fit_settings, plan_memory
from m3video.inference.pipeline import plan_video
from m3video.serve.app import create_app
from m3video.serve.guards import Access
from m3video.serve.notes import Notes
from m3video.utils.units import size_text
from tests.paths import SAMPLE

NAME = "ما هذا 🎬 & Überwachung #1 100%.mp4"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("videos")
    shutil.copy(SAMPLE, made / "sample.mp4")
    shutil.copy(SAMPLE, made / NAME)
    (made / "broken.mp4").write_bytes(b"no video at all")
    (made / "notes.txt").write_text("no video")
    shutil.copy(SAMPLE, made / ".hidden.mp4")
    Notes(made).add_mark("of another day.mp4", 1.0, None, "")
    return made


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[TestClient]:
    app = create_app(folder, Settings(model="rendered"), access=Access(host="testserver"))
    with TestClient(app) as client:
        yield client


def looked(client: TestClient, video: str) -> None:
    """Wait until a video was looked at."""
    until = time.monotonic() + 60
    while client.post("/api/look", json={"video": video}).json()["state"] != "ready":
        assert time.monotonic() < until
        time.sleep(0.05)


def message(response: Any, status: int) -> str:
    assert response.status_code == status, response.text
    text: str = response.json()["error"]["message"]
    assert "\n" not in text
    return text


def test_the_page_and_its_files_come_with_a_strict_policy(client: TestClient) -> None:
    page = client.get("/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert "style=" not in page.text
    assert page.text.count("<script") == page.text.count('<script type="module" src="/page/') == 1
    assert "<style" not in page.text
    assert client.get("/page/main.js").headers["content-type"].startswith("text/javascript")
    assert client.get("/page/%2e%2e/app.py").status_code == 404


def test_no_file_of_the_page_names_another_server(client: TestClient) -> None:
    files = [path for path in (Path(__file__).parents[2] / "m3video/serve/page").iterdir() if path.suffix != ".svg"]
    assert len(files) > 10
    assert [path.name for path in files if "://" in path.read_text(encoding="utf-8")] == []


def test_the_library_lists_videos_by_name_and_says_their_state(client: TestClient) -> None:
    found = client.get("/api/videos").json()
    assert [row["name"] for row in found["videos"]] == ["broken.mp4", "sample.mp4", NAME]
    assert {row["state"] for row in found["videos"] if row["name"] == NAME} == {"not looked at"}
    header = client.get("/api/video", params={"video": NAME}).json()
    assert (header["seconds"], header["width"], header["height"]) == (12.0, 480, 270)
    assert "not a readable video" in message(client.get("/api/video", params={"video": "broken.mp4"}), 422)


def test_a_thumbnail_is_small_and_kept_by_the_browser(client: TestClient) -> None:
    response = client.get("/api/thumbnail", params={"video": NAME})
    assert max(Image.open(io.BytesIO(response.content)).size) == 240
    assert "immutable" in response.headers["cache-control"]


@pytest.mark.parametrize(
    "video", ["../sample.mp4", "/etc/passwd", "nothing.mp4", ".m3video/notes.sqlite3", ".hidden.mp4", "notes.txt", ""]
)
@pytest.mark.parametrize("path", ["/media", "/api/thumbnail", "/api/frame", "/api/video", "/api/notes"])
def test_only_videos_of_the_folder_are_given(client: TestClient, folder: Path, path: str, video: str) -> None:
    assert client.get(path, params={"video": str(folder / "sample.mp4")}).status_code == 404  # by its name only
    assert "no such file" in message(client.get(path, params={"video": video}), 404)


def test_the_player_gets_any_range_of_the_file(client: TestClient) -> None:
    whole = SAMPLE.read_bytes()
    for wanted, expected in (("bytes=100-199", whole[100:200]), ("bytes=-50", whole[-50:])):
        response = client.get("/media", params={"video": NAME}, headers={"Range": wanted})
        assert (response.status_code, response.content) == (206, expected)
    assert client.get("/media", params={"video": NAME}, headers={"Range": "bytes=999999-"}).status_code == 416


def test_a_frame_is_the_one_on_screen_and_as_coarse_as_a_scale(client: TestClient) -> None:
    response = client.get("/api/frame", params={"video": NAME, "at": 3.05, "side": 480})
    assert float(response.headers["x-frame-seconds"]) == 3.0
    by_pts = client.get("/api/frame", params={"video": NAME, "pts": response.headers["x-frame-pts"], "side": 480})
    assert by_pts.content == response.content
    coarse = client.get("/api/frame", params={"video": NAME, "at": 3.05, "side": 480, "scale": 9})
    picture = np.asarray(Image.open(io.BytesIO(coarse.content)).convert("L"), np.float64)
    assert picture.shape == (270, 480)
    # The square of 480 has three rows of cells, 160 pixels each: the picture shows 55, 160 and 55 pixels of them.
    for rows in (slice(0, 48), slice(64, 208), slice(224, 270)):
        for columns in (slice(8, 152), slice(168, 312), slice(328, 472)):
            assert np.ptp(picture[rows, columns]) < 8
    assert "scale (10) must be one of" in message(client.get("/api/frame", params={"video": NAME, "scale": 10}), 400)
    assert "no frame of this video" in message(client.get("/api/frame", params={"video": NAME, "pts": 7}), 422)


def test_a_plan_needs_a_look_and_is_then_that_of_the_command(client: TestClient) -> None:
    refused = client.post("/api/plan", json={"video": "sample.mp4"})
    assert "look first" in message(refused, 409)
    assert refused.json()["error"]["code"] == "not_looked_at"
    looked(client, "sample.mp4")
    changes = {"budget": 180, "start": 1.0, "at": "3.0=144"}
    found = client.post("/api/plan", json={"video": "sample.mp4", "settings": changes}).json()
    expected = plan_video(SAMPLE, Settings(model="rendered"), **changes)
    frames = [(frame["pts"], frame["scale"]) for frame in found["plan"]["frames"]]
    assert frames == [(frame.pts, frame.scale) for frame in expected.frames]
    assert {limit["name"] for limit in found["limits"]} == {"--budget 180", "--at"}
    candidates = len(found["left_out"]) + len(frames)
    assert candidates == expected.num_candidates
    assert {one["reason"] for one in found["left_out"]} <= {"shot", "change"}
    row = next(row for row in client.get("/api/videos").json()["videos"] if row["name"] == "sample.mp4")
    assert row["state"] == "planned"


def test_a_plan_says_what_memory_its_answer_takes(client: TestClient) -> None:
    looked(client, "sample.mp4")
    found = client.post("/api/plan", json={"video": "sample.mp4", "settings": {"budget": 720}}).json()
    shown = found["plan"]["frames"]
    settings = Settings(model="rendered", budget=720)
    expected = plan_memory(settings, frames=len(shown), visual=sum(frame["scale"] for frame in shown))
    assert found["memory"] == size_text(expected.total)
    fitted = fit_settings(settings.model_copy(update={"memory": "1GiB"}))
    assert fitted is not None
    largest = plan_memory(settings, frames=fitted.fit.shape.frames, visual=fitted.fit.shape.visual)
    assert largest.total == pytest.approx(fitted.fit.estimate.total, rel=0.01)  # of the largest budget that fits


def test_more_tokens_than_are_useful_change_nothing(client: TestClient) -> None:
    looked(client, "sample.mp4")

    def plan(budget: int) -> dict[str, Any]:
        found: dict[str, Any] = client.post(
            "/api/plan", json={"video": "sample.mp4", "settings": {"budget": budget}}
        ).json()
        return found

    most = plan(1)["most_tokens"]
    assert plan(most)["plan"]["total_tokens"] == plan(100 * most)["plan"]["total_tokens"] == most
    assert plan(most - 1)["plan"]["total_tokens"] < most


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"bugdet": 3}, "did you mean budget?"),
        ({"budget": 0}, "budget (0)"),
        ({"model": "x"}, "setting model cannot be changed"),
        ({"start": 5, "end": 4}, "--end (4 s) must be after"),
    ],
)
def test_a_wrong_setting_is_one_line(client: TestClient, settings: dict[str, Any], words: str) -> None:
    looked(client, "sample.mp4")
    assert words in message(client.post("/api/plan", json={"video": "sample.mp4", "settings": settings}), 400)


def test_the_timeline_has_shots_and_a_curve_for_each_scale(client: TestClient) -> None:
    looked(client, "sample.mp4")
    found = client.get("/api/timeline", params={"video": "sample.mp4"}).json()
    assert found["shots"] == [0.0, 3.0, 5.8, 9.0]
    assert (found["start"], found["end"], found["unseen"]) == (0.0, 12.0, [])
    assert {name: len(curve) for name, curve in found["lost"].items()} == dict.fromkeys(["1", "9", "36", "144"], 180)


def test_a_file_that_is_no_video_fails_in_one_line_and_may_be_tried_again(client: TestClient) -> None:
    until = time.monotonic() + 60
    while (response := client.post("/api/look", json={"video": "broken.mp4"})).status_code == 200:
        assert time.monotonic() < until
        time.sleep(0.05)
    assert "broken.mp4" in message(response, 422)
    assert client.post("/api/look", json={"video": "broken.mp4"}).json()["state"] in ("waiting", "running")


def test_a_look_can_be_cancelled(client: TestClient) -> None:
    assert client.post("/api/look", json={"video": NAME}).json()["state"] in ("waiting", "running")
    assert client.delete("/api/look", params={"video": NAME}).json() == {"state": "cancelled"}
    assert client.post("/api/plan", json={"video": NAME}).status_code == 409
    looked(client, NAME)  # the turn is free again


def test_notes_are_kept_changed_removed_and_exported(client: TestClient) -> None:
    mark = client.post("/api/marks", json={"video": NAME, "start": 3, "until": 5, "text": "star"}).json()["id"]
    client.put(f"/api/marks/{mark}", json={"text": "a star"})
    record = {"model": "rendered", "tokens": {"visual": 9}, "evidence": None, "plan": {"frames": []}}
    new = {"video": NAME, "question": "What?", "answer": "green", "record": record}
    answer = client.post("/api/answers", json=new).json()["id"]
    kept = client.get("/api/notes", params={"video": NAME}).json()
    assert [(one["start"], one["until"], one["text"]) for one in kept["marks"]] == [(3.0, 5.0, "a star")]
    assert [(one["question"], one["answer"], one["record"]) for one in kept["answers"]] == [("What?", "green", record)]
    response = client.get("/api/export", params={"video": NAME, "format": "json", "only": f"m{mark}"})
    assert json.loads(response.content)["answers"] == []
    assert response.headers["content-disposition"].startswith("attachment; filename*=UTF-8''%D9%85")
    assert "must be one of json" in message(client.get("/api/export", params={"video": NAME, "format": "zip"}), 400)
    wrong = {"video": NAME, "format": "json", "only": "a999"}
    assert "does not have" in message(client.get("/api/export", params=wrong), 404)
    assert client.delete(f"/api/answers/{answer}").status_code == client.delete(f"/api/marks/{mark}").status_code == 200
    assert "there is no mark" in message(client.delete(f"/api/marks/{mark}"), 404)
    assert client.get("/api/notes", params={"video": NAME}).json() == {"answers": [], "marks": []}


def test_a_mark_that_ends_before_it_starts_is_refused(client: TestClient) -> None:
    refused = client.post("/api/marks", json={"video": NAME, "start": 3, "until": 3})
    assert "until (3 s) must be after start (3 s)" in message(refused, 400)


def test_a_browser_that_was_given_the_key_is_let_in(folder: Path) -> None:
    access = Access(host="testserver", api_key="the key")
    with TestClient(create_app(folder, Settings(model="rendered"), access=access)) as client:
        assert client.get("/").status_code == client.get("/page/main.js").status_code == 200
        for path in ("/api/videos", f"/media?video={NAME}", "/api/notes?video=sample.mp4", "/page", "/v1/models"):
            assert "API key" in message(client.get(path), 401)
        assert "not the API key" in message(client.post("/api/login", json={"key": "the kex"}), 401)
        client.cookies.set("m3video-page", "the key")
        assert client.get("/api/videos").status_code == 401
        client.cookies.clear()
        given = client.post("/api/login", json={"key": "the key"}).headers["set-cookie"]
        assert "HttpOnly" in given
        assert "samesite=strict" in given.lower()
        assert "the key" not in given
        assert client.get("/api/videos").status_code == client.get("/v1/models").status_code == 200


def test_without_a_key_there_is_nothing_to_log_in_to(client: TestClient) -> None:
    assert client.post("/api/login", json={"key": ""}).status_code == 401


def test_an_answer_to_keep_has_a_size(client: TestClient) -> None:
    new = {"video": NAME, "question": "", "answer": "", "record": {"text": "x" * (8 << 20)}}
    assert "more than 8388608 bytes" in message(client.post("/api/answers", json=new), 413)
    assert "question" in message(client.post("/api/answers", json={**new, "record": {}, "question": "x" * 20_001}), 400)
