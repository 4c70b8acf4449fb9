"""Answers about real clips, planned and shown as the product does it: a table to be read by a person."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from m3video.errors import M3VideoError, UsageError
from m3video.inference.session import VideoSession
from m3video.model.m3.checkpoint import LoadedModel

QUESTIONS = ("Describe the video.", "What is shown at 0:01?", "Is there a person?")
FRAMES, BUDGET = 8, 288
ENDINGS = frozenset((".mp4", ".mkv", ".mov", ".webm", ".avi"))


def find_clips(folders: Sequence[Path]) -> list[Path]:
    """Return the videos of folders, in order; raise UsageError where a folder has none."""
    found = []
    for folder in folders:
        own = sorted(path for path in folder.glob("*") if path.suffix.lower() in ENDINGS)
        if not own:
            raise UsageError(f"{folder} holds no video ({', '.join(sorted(ENDINGS))})")
        found += own
    return found


def clip_answers(loaded: LoadedModel, clip: Path, questions: Sequence[str] = QUESTIONS) -> list[str]:
    """Return the answers to questions about a clip, each as if it were the only one; or the error in one line."""
    try:
        how: dict[str, Any] = {"budget": BUDGET, "max_frames": FRAMES, "cache": False}
        with VideoSession(clip, loaded=loaded, keeps_looking=False, **how) as session:
            plan = session.plan()
            return [session.ask(question, plan=plan).text for question in questions]
    except M3VideoError as error:
        return [f"({error})"] * len(questions)


def clips_table(loaded: LoadedModel, clips: Sequence[Path], *, limit: int | None = None) -> str:
    """Return a Markdown table of all answers."""
    lines = ["| clip | " + " | ".join(QUESTIONS) + " |", "|---" * (len(QUESTIONS) + 1) + "|"]
    for clip in clips[:limit]:
        answers = [text.replace("|", "/").replace("\n", " ") for text in clip_answers(loaded, clip)]
        lines.append(f"| {clip.stem} | " + " | ".join(answers) + " |")
    return "\n".join(lines)
