"""The tools as the client of the official package sees them, in this process and over stdin and stdout."""

from __future__ import annotations

import asyncio
import base64
import io
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import httpx2
import numpy as np
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from PIL import Image

from m3video.config import Settings
from m3video.inference.find import find
from m3video.inference.pipeline import plan_video
from m3video.inference.session import VideoSession, ask
from m3video.inference.summary.summarize import summarize
from m3video.serve.guards import Access
from m3video.serve.mcp_tools import create_server, http_app
from m3video.video.reader import open_video
from tests import command
from tests.serve.running import COLOUR, running

LAST = ("summarize_video", "get_frame")
SETTINGS = Settings(model="rendered")


def with_client(folder: Path, loaded: Any, use: Callable[[Client], Awaitable[None]]) -> None:
    async def run() -> None:
        async with Client(create_server(folder, SETTINGS, loaded=loaded)) as client:
            await use(client)

    asyncio.run(run())


def test_answers_plans_and_facts_are_those_of_the_commands(folder: Path, loaded: Any) -> None:
    path = folder / "sample.mp4"
    known = ask(path, COLOUR, SETTINGS, loaded=loaded, budget=180)
    plan = plan_video(path, SETTINGS, budget=180, start=2.0)

    async def use(client: Client) -> None:
        answer = await client.call_tool("ask_video", {"video": "sample.mp4", "question": COLOUR, "budget": 180})
        found = answer.structured_content
        assert (found["answer"], found["visual_tokens"]) == (known.text, known.visual_tokens)
        assert known.evidence is not None
        assert found["verdict"] == known.evidence.verdict
        assert [one["start_seconds"] for one in found["evidence"]] == [
            one.start_seconds for one in known.evidence.ranges
        ]
        assert found["warnings"] == list(known.warnings)
        planned = await client.call_tool("plan_video", {"video": "sample.mp4", "budget": 180, "start": 2.0})
        found = planned.structured_content
        assert found["total_tokens"] == plan.total_tokens
        assert [frame["tokens"] for frame in found["frames"]] == [frame.scale for frame in plan.frames]
        facts = (await client.call_tool("probe_video", {"video": "more/natürlich 1.mp4"})).structured_content
        with open_video(folder / "more" / "natürlich 1.mp4") as reader:
            assert (facts["width"], facts["frames"]) == (reader.info.width, reader.info.num_frames)

    with_client(folder, loaded, use)


def test_what_is_found_is_that_of_the_command(folder: Path, loaded: Any) -> None:
    with VideoSession(folder / "sample.mp4", SETTINGS, loaded=loaded, keeps_looking=False) as session:
        known = find(session, "a shape", budget=500)

    async def use(client: Client) -> None:
        asked = {"video": "sample.mp4", "query": "a shape", "budget": 500}
        found = (await client.call_tool("find_in_video", asked)).structured_content
        assert [one["start_seconds"] for one in found["ranges"]] == [one.start_seconds for one in known.ranges]
        assert found["ranges"]
        assert found["visual_tokens"] == known.visual_tokens <= 500
        refused = await client.call_tool("find_in_video", {**asked, "query": " "})
        assert "the query is empty" in refused.content[0].text

    with_client(folder, loaded, use)


def test_a_summary_is_that_of_the_command(folder: Path, loaded: Any) -> None:
    known = summarize(folder / "sample.mp4", SETTINGS, loaded=loaded)

    async def use(client: Client) -> None:
        made = (await client.call_tool("summarize_video", {"video": "sample.mp4"})).structured_content
        assert made["summary"] == known.text
        assert [part["caption"] for part in made["chapters"]] == [part.caption for part in known.chapters]

    with_client(folder, loaded, use)


def test_a_frame_is_a_picture_with_its_time(folder: Path, loaded: Any) -> None:
    with open_video(folder / "sample.mp4") as reader:
        index, info = reader.index, reader.info
        before = max(int(pts) for pts in index.pts_N if info.pts_seconds(int(pts)) <= 3.01)
        last = int(index.pts_N[-1])
        known = [reader.fetch([pts])[0].rgb_HW3 for pts in (before, last)]

    async def use(client: Client) -> None:
        for seconds, pts, rgb in ((3.01, before, known[0]), (1e6, last, known[1])):
            got = await client.call_tool("get_frame", {"video": "sample.mp4", "seconds": seconds})
            assert got.structured_content["seconds"] == info.pts_seconds(pts)
            picture, text = got.content
            assert (picture.type, picture.mime_type) == ("image", "image/jpeg")
            assert text.text.startswith("sample.mp4 at 0:")
            shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.data))), np.int16)
            assert shown.shape == rgb.shape
            assert np.abs(shown - rgb).mean() < 6, "the same picture, but for what JPEG changes"

    with_client(folder, loaded, use)


def test_tools_say_what_they_take_and_give(folder: Path, loaded: Any) -> None:
    async def use(client: Client) -> None:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert list(tools) == ["probe_video", "plan_video", "ask_video", "find_in_video", *LAST]
        for tool in tools.values():
            assert tool.description
            assert "video" in tool.input_schema["required"]
            assert tool.output_schema is not None
            assert tool.annotations is not None
            assert tool.annotations.read_only_hint
        assert "sample.mp4" in (client.instructions or "")

    with_client(folder, loaded, use)


@pytest.mark.parametrize(
    ("tool", "arguments", "words"),
    [
        ("probe_video", {"video": "none.mp4"}, "none.mp4: no such file in the folder that is served"),
        ("probe_video", {"video": "/etc/passwd"}, "/etc/passwd: no such file in the folder that is served"),
        ("ask_video", {"video": "sample.mp4", "question": " "}, "the question is empty: give one in quotes"),
        ("plan_video", {"video": "sample.mp4", "start": 5, "end": 2}, "--end (2 s) must be after --start (5 s)"),
        ("plan_video", {"video": "text.mp4"}, "text.mp4"),
        ("ask_video", {"video": "sample.mp4", "question": "x", "budget": 0}, "greater than or equal to 1"),
    ],
)
def test_errors_are_told_in_one_line(
    folder: Path, loaded: Any, tool: str, arguments: dict[str, Any], words: str
) -> None:
    (folder / "text.mp4").write_text("no video")

    async def use(client: Client) -> None:
        refused = await client.call_tool(tool, arguments)
        assert refused.is_error
        assert words in refused.content[0].text
        assert "Traceback" not in refused.content[0].text

    with_client(folder, loaded, use)


def test_over_http_with_the_guards_of_the_server(folder: Path, loaded: Any) -> None:
    app = http_app(create_server(folder, SETTINGS, loaded=loaded), Access(api_key="secret"))
    with running(app) as url:

        async def ask_twice() -> None:
            for _ in range(2):  # the end of one client is not the end of the engine
                async with (
                    httpx2.AsyncClient(headers={"Authorization": "Bearer secret"}, timeout=60) as sends,
                    Client(streamable_http_client(f"{url}/mcp", http_client=sends)) as client,
                ):
                    answer = await client.call_tool("ask_video", {"video": "sample.mp4", "question": COLOUR})
                    assert answer.structured_content["answer"] == "green"

        asyncio.run(ask_twice())
        hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}}
        for headers, status in (
            ({}, 401),
            ({"Authorization": "Bearer wrong"}, 401),
            ({"Authorization": "Bearer secret", "Host": "evil.example"}, 403),
            ({"Authorization": "Bearer secret", "Origin": "http://evil.example"}, 403),
        ):
            assert httpx.post(f"{url}/mcp", json=hello, headers=headers).status_code == status


def test_the_command_listens_where_it_says(folder: Path) -> None:
    start = [sys.executable, "-m", "m3video.cli", "mcp", str(folder), "--model", "rendered"]
    with command.Popen([*start, "--http", "--port", "0"], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        url = said.split()[5]
        assert said == f"m3video: the tools are at {url} (Ctrl-C ends it)\n"

        async def probe() -> None:
            async with Client(url) as client:
                facts = await client.call_tool("probe_video", {"video": "sample.mp4"})
                assert facts.structured_content["path"] == "sample.mp4"

        asyncio.run(probe())
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    for more, words in (
        (["--port", "9"], "--host, --port and --insecure are for --http"),
        (["--http", "--host", "0.0.0.0"], "--host 0.0.0.0 lets other machines ask"),
    ):
        refused = command.run([*start, *more], capture_output=True, text=True)
        assert refused.returncode == 2
        assert words in refused.stderr


def test_ctrl_c_and_the_end_of_input_end_it(folder: Path) -> None:
    for interrupt, code, said in ((True, 130, "m3video: interrupted\n"), (False, 0, "")):
        with command.Popen(
            [sys.executable, "-m", "m3video.cli", "mcp", str(folder), "--model", "rendered"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write('{"jsonrpc": "2.0", "id": 1, "method": "nonsense"}\n')
            process.stdin.flush()
            assert "Method not found" in process.stdout.readline()
            if interrupt:
                process.send_signal(signal.SIGINT)
            else:
                process.stdin.close()
            assert process.wait(20) == code
            assert process.stderr is not None
            assert process.stderr.read() == said


def test_over_stdin_and_stdout(folder: Path, tmp_path: Path) -> None:
    parameters = StdioServerParameters(
        command=sys.executable,
        args=["-m", "m3video.cli", "mcp", str(folder), "--model", "rendered"],
        env=dict(os.environ),
    )

    async def run() -> None:
        async with Client(parameters) as client:
            answer = await client.call_tool("ask_video", {"video": "sample.mp4", "question": COLOUR})
            assert answer.structured_content["answer"] == "green"

    asyncio.run(run())
