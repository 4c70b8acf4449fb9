"""Files of what requests bring: kept for follow-ups, gone when there are too many and when the server ends."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

from m3video.serve.chat_request import ChatRequest
from m3video.serve.files import VideoFolder
from m3video.serve.media import MediaStore

ASKED = ChatRequest(model="m", question="What?", video=None, pictures=(), changes={})


def with_data(data: bytes) -> ChatRequest:
    return replace(ASKED, video=f"data:video/mp4;base64,{base64.b64encode(data).decode()}")


def test_the_same_data_is_the_same_file_and_old_ones_go(tmp_path: Path) -> None:
    store = MediaStore(VideoFolder(tmp_path), None, most_bytes=250)
    with store.video_of(with_data(b"a" * 100)) as first:
        assert first.read_bytes() == b"a" * 100
        identity = first.stat().st_ino
    with store.video_of(with_data(b"a" * 100)) as again:
        assert (again, again.stat().st_ino) == (first, identity)
        with store.video_of(with_data(b"b" * 100)) as second:
            pass
        with store.video_of(with_data(b"c" * 100)) as third:
            pass
        assert again.exists(), "a file in use stays"
        assert (second.exists(), third.exists()) == (False, True), "the one used least recently goes"
    folder = first.parent
    store.close()
    assert not folder.exists()
