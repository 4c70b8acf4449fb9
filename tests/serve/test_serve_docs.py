"""docs/serve.md: every curl line and the Python are run as written, but for the address and the folder."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.paths import ROOT
from tests.serve.running import served
from tests.test_docs import blocks

PAGE = (ROOT / "docs" / "serve.md").read_text(encoding="utf-8")
LINES = [block for kind in ("bash", "sh") for block in blocks(PAGE, kind) if block.startswith("curl")]


def here(words: str, url: str, folder: Path) -> str:
    assert "http://127.0.0.1:8000" in words
    return words.replace("http://127.0.0.1:8000", url).replace("/films/", f"{folder}/")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("line", LINES, ids=lambda line: line.splitlines()[0][:60])
def test_curl_lines_answer(line: str, url: str, folder: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", here(line, url, folder)], capture_output=True, text=True, timeout=60, check=True
    )
    if "/metrics" in line:
        assert "m3video_waiting_requests 0.0" in done.stdout
    elif '"stream": true' in line:
        events = done.stdout.split("\n\n")
        assert events[-2:] == ["data: [DONE]", ""]
        said = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
        assert "".join(one["choices"][0]["delta"].get("content", "") for one in said[:-1]) == "night"
        assert said[-1]["usage"]["completion_tokens"] == 1
        assert len(said[-2]["m3video"]["plan"]["frames"]) == 6
    else:
        found = json.loads(done.stdout)
        assert "error" not in found
        if "/chat/" in line:
            assert found["choices"][0]["message"]["content"] == "green"
            assert found["m3video"]["plan"]["budget"] == 180


def test_the_python_of_the_page_runs(url: str, folder: Path) -> None:
    (block,) = blocks(PAGE, "python")
    printed = io.StringIO()
    names: dict[str, Any] = {"__name__": "page"}
    with contextlib.redirect_stdout(printed):
        exec(compile(here(block, url, folder), "<serve.md>", "exec"), names)
    names["client"].close()
    first, second = printed.getvalue().splitlines()
    assert first.startswith("green ")
    assert second.startswith("[{'start_seconds': ")


def paths_of(routes: Iterable[Any]) -> Iterator[str]:
    """Yield the paths of routes, and of those in routers that were included."""
    for route in routes:
        yield from [path] if (path := getattr(route, "path", "")) else []
        yield from paths_of(getattr(getattr(route, "original_router", None), "routes", []))


def test_every_endpoint_is_on_the_page_with_a_curl_line(app: Any) -> None:
    paths = set(paths_of(app.routes))
    ours = {path for path in paths if path.startswith(("/v1", "/health", "/metrics"))}
    assert len(ours) == 5, paths
    for path in ours:
        shown = path.replace("{name:path}", "NAME")
        assert f" {shown}`" in PAGE
        assert any(path.replace("{name:path}", "rendered") in line for line in LINES), path


def test_counts(url: str, app: Any, folder: Path) -> None:
    def count(line: str) -> float:
        text = httpx.get(f"{url}/metrics").text
        return next((float(row.rpartition(" ")[2]) for row in text.splitlines() if row.startswith(f"{line} ")), 0.0)

    names = {
        "ok": 'm3video_requests_total{path="/v1/chat/completions",status="200"}',
        "bad": 'm3video_requests_total{path="/v1/chat/completions",status="400"}',
        "none": 'm3video_requests_total{path="other",status="404"}',
        "visual": 'm3video_tokens_total{kind="visual"}',
        "reused": 'm3video_tokens_total{kind="reused"}',
        "answers": 'm3video_stage_seconds_count{stage="answer"}',
        "cache": 'm3video_frames_total{from="cache"}',
        "open": 'm3video_sessions_used_total{found="open"}',
    }
    question = [
        {"type": "video_url", "video_url": {"url": (folder / "sample.mp4").as_uri()}},
        {"type": "text", "text": "Is it day or night at 0:03?"},
    ]
    asked = {"model": "rendered", "messages": [{"role": "user", "content": question}]}
    first = httpx.post(f"{url}/v1/chat/completions", json=asked, timeout=60).json()
    before = {name: count(line) for name, line in names.items()}
    again = httpx.post(f"{url}/v1/chat/completions", json=asked, timeout=60).json()
    httpx.post(f"{url}/v1/chat/completions", json={})
    httpx.get(f"{url}/none")
    more = {name: count(line) - before[name] for name, line in names.items()}
    assert more == {
        "ok": 1,
        "bad": 1,
        "none": 1,
        "visual": first["m3video"]["tokens"]["visual"],
        "reused": again["m3video"]["tokens"]["reused"],
        "answers": 1,
        "cache": len(again["m3video"]["plan"]["frames"]),
        "open": 1,
    }
    assert more["reused"] > more["visual"] > 0
    assert count("m3video_sessions") == len(served(app).engine.sessions) > 0
    assert count("m3video_sessions_bytes") > 0
    health = httpx.get(f"{url}/health").json()
    assert (health["status"], health["model"], health["waiting"]) == ("ok", "rendered", 0)
    assert count("m3video_waiting_requests") == 0
