"""`m3video chat`: many questions about one video, from a terminal or a pipe."""

from __future__ import annotations

import io
import shutil
import sys
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from m3video.cli.options import (
    ANSWERING,
    PLANNING,
    VIDEO,
    Evidence,
    GivenSettings,
    Quiet,
    SavedPlan,
    Video,
    refuse_decided,
    with_settings,
)
from m3video.errors import EXIT_INTERRUPTED, EXIT_SOME_FAILED, M3VideoError, UsageError
from m3video.types import Answer, TokenPlan
from m3video.utils.text import json_text

if TYPE_CHECKING:
    from m3video.inference.session import VideoSession

COMMANDS = (
    "/plan shows which frames are used, /budget N changes the token budget, /refresh plans with what a closer look at "
    "a long video has found, /quit ends the chat"
)


@with_settings(PLANNING, "saliency", ANSWERING, "abstain", "scan_seconds", VIDEO, "cache")
def chat(
    video: Video,
    *,
    plan: SavedPlan = None,
    evidence: Evidence = True,
    given: GivenSettings,
    json: Annotated[bool, typer.Option("--json", help="one JSON object a line for each question")] = False,
    quiet: Quiet = False,
) -> None:
    """Ask many questions about one video, which is read only once.

    Questions come from the terminal or a pipe, one a line. Each is answered as if it were the only one: the model
    does not remember earlier questions or answers. /plan shows which frames it sees, /budget N changes the token
    budget, /refresh plans with what a closer look at a long video has found meanwhile, /quit or the end of input ends
    the chat. Exit code 3 says that some questions of a pipe had no answer.

    Example: m3video chat film.mp4 < questions.txt
    """
    from m3video.cli.terminal import make_progress
    from m3video.inference.session import VideoSession
    from m3video.planning.plan_file import load_plan

    refuse_decided(plan, given)
    settings = given.resolve()
    if settings.layout == "grid":
        raise UsageError("layout grid is for single questions: use m3video ask")
    with VideoSession(video, settings, progress=make_progress(quiet=quiet)) as session:
        saved = None if plan is None else load_plan(plan)
        conversation = _Chat(session, saved, evidence=evidence, json=json, quiet=quiet)
        try:
            conversation.run()
        except KeyboardInterrupt:
            print("m3video: interrupted", file=sys.stderr)
            raise typer.Exit(EXIT_INTERRUPTED) from None
    if conversation.failed and not conversation.is_terminal:
        raise typer.Exit(EXIT_SOME_FAILED)


class _Chat:
    """One session with its plan: reads lines from stdin and prints answers."""

    def __init__(
        self, session: VideoSession, plan: TokenPlan | None, *, evidence: bool, json: bool, quiet: bool
    ) -> None:
        from m3video.planning.plan_file import for_video

        plan = None if plan is None else for_video(plan, session.info)
        self.session, self.plan, self.json, self.quiet = session, plan, json, quiet
        self.evidence = evidence
        self.saved_plan = plan
        self.changes: dict[str, Any] = {}
        self.failed = 0
        self.is_terminal = sys.stdin.isatty()
        self.printed_notes: set[str] = set()

    def run(self) -> None:
        """Answer until the input ends.

        Raises:
            M3VideoError: the video, the plan or the model cannot be used; raised before the first question is read.
        """
        self.session.check_model()
        self.plan = self.session.plan() if self.plan is None else self.plan
        self.session.check(self.plan)
        if self.is_terminal and not self.quiet:
            self._inform(f"{len(self.plan.frames)} frames, {self.plan.total_tokens} tokens. {COMMANDS}.")
        for line in _lines(is_terminal=self.is_terminal):
            if line == "/quit":
                return
            try:
                self._answer_line(line)
            except M3VideoError as error:
                self.failed += 1
                print(f"m3video: error: {error}", file=sys.stderr)
                if self.json:
                    _print_line({"question": line, "error": str(error)})
            except KeyboardInterrupt:
                if not self.is_terminal:
                    raise
                print("\nm3video: note: interrupted; the next question can be asked", file=sys.stderr)

    def _answer_line(self, line: str) -> None:
        from m3video.planning.plan_file import to_json
        from m3video.report.answer_text import answer_record
        from m3video.report.plan_text import plan_text

        assert self.plan is not None
        if "\ufffd" in line:
            raise UsageError(f"question ({line}) is not UTF-8")
        command, _, argument = line.partition(" ")
        if command == "/plan" and not argument:
            if self.json:
                _print_line({"plan": to_json(self.plan)})
            else:
                print(plan_text(self.plan) + "\n", flush=True)
        elif command == "/budget":
            if not argument.strip().isdecimal() or int(argument) < 1:
                raise UsageError(f"/budget ({argument}) must be a number of tokens from 1 on")
            changes = {"budget": int(argument)}
            self.plan = self.session.plan(**changes)
            self.changes, self.saved_plan = changes, None
            self._inform(f"{len(self.plan.frames)} frames, {self.plan.total_tokens} tokens")
        elif command == "/refresh" and not argument:
            if self.session.refresh():
                self.plan, self.saved_plan = self.session.plan(**self.changes), None
                self._inform(f"{len(self.plan.frames)} frames, {self.plan.total_tokens} tokens")
            else:
                self._inform("nothing new is known yet")
        elif command.startswith("/"):
            raise UsageError(f"command ({command}) is unknown: {COMMANDS}")
        else:
            answer = self.session.ask(line, plan=self.saved_plan, evidence=False, **self.changes)
            self.plan = answer.plan
            if not self.json:
                print(answer.text, flush=True)  # before it is tested what the answer rests on
            answer = self.session.with_evidence(answer) if self.evidence else answer
            if self.json:
                record = answer_record(answer)
                _print_line({name: value for name, value in record.items() if name not in ("plan", "config")})
            else:
                print(_details(answer) + "\n", flush=True)
                self._print_notes(answer)

    def _print_notes(self, answer: Answer) -> None:
        """Print notes that were not printed yet: most are the same for every question."""
        from m3video.cli.terminal import print_notes

        notes = [*answer.plan.video.notes, *answer.warnings]
        print_notes([] if self.quiet else [note for note in notes if note not in self.printed_notes])
        self.printed_notes |= set(notes)

    def _inform(self, text: str) -> None:
        if not self.quiet:
            print(_wrapped(text), file=sys.stderr)


def _lines(*, is_terminal: bool) -> Iterator[str]:
    """Yield lines of stdin that are not blank; a terminal shows a prompt, which must not get into data on stdout."""
    if not is_terminal:
        for raw in sys.stdin.buffer:
            line = raw.decode("utf-8", "replace").strip().removeprefix("\ufeff")
            if line:
                yield line
        return
    import readline  # noqa: F401 - gives input() line editing

    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    while True:
        try:
            if sys.stdout.isatty():
                line = input("> ")
            else:
                print("> ", end="", file=sys.stderr, flush=True)
                line = input()
        except EOFError:
            print(file=sys.stderr)
            return
        if line.strip():
            yield line.strip()


def _details(answer: Answer) -> str:
    """Return the confidence of an answer, its evidence and its cost."""
    from m3video.report.answer_text import confidence_lines, cost_lines, evidence_lines

    rests = [] if answer.evidence is None else evidence_lines(answer.evidence, answer.text)
    return "\n".join(
        _wrapped(line.strip(), indent="  ") for line in [*confidence_lines(answer), *rests, *cost_lines(answer)]
    )


def _wrapped(text: str, *, indent: str = "") -> str:
    width = max(20, min(100, shutil.get_terminal_size().columns))
    return textwrap.fill(text, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)


def _print_line(value: dict[str, Any]) -> None:
    print(json_text(value), flush=True)
