"""The command line: one verb for each stage. stdout is data, stderr is progress and log."""

from __future__ import annotations

import errno
import re
import sys
from typing import Annotated, Any

from m3video.errors import EXIT_DOES_NOT_FIT, EXIT_DONE, EXIT_ERROR, EXIT_INTERRUPTED, EXIT_USAGE, M3VideoError

try:
    import typer

    from m3video import __version__
    from m3video.cli.analyze import analyze
    from m3video.cli.ask import ask
    from m3video.cli.batch import batch
    from m3video.cli.cache import app as cache
    from m3video.cli.chat import chat
    from m3video.cli.convert import convert
    from m3video.cli.eval_benchmark import app as evaluation
    from m3video.cli.eval_confidence import confidence
    from m3video.cli.find import find
    from m3video.cli.frames import frames
    from m3video.cli.mcp import mcp
    from m3video.cli.plan import plan
    from m3video.cli.probe import probe
    from m3video.cli.serve import serve
    from m3video.cli.summarize import summarize
    from m3video.cli.train import train
    from m3video.cli.tune import tune
except KeyboardInterrupt:  # these imports take most of the first second
    print("m3video: interrupted", file=sys.stderr)
    sys.exit(EXIT_INTERRUPTED)
from m3video.cli.streams import drop_stdout, flush_stdout, open_streams
from m3video.utils.text import printable

app = typer.Typer(
    name="m3video",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Two-pass rate control for video language models, with visual tokens as the bits.",
)
for _verb in (probe, analyze, plan, frames, ask, chat, find, summarize, serve, mcp, batch, tune, convert, train):
    app.command()(_verb)
evaluation.command()(confidence)
app.add_typer(evaluation)
app.add_typer(cache)

_ClickUsageError: Any = typer.BadParameter.__mro__[1]
"""Newer versions of typer contain their own click and do not export this class."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Errors of a full stdout; those of a file that was opened by name have its file name."""

_RAY_ADDRESS = re.compile(r"local|auto|(ray://)?[\w.-]+:\d+|(ray://)?\[[0-9a-f:]+\]:\d+")


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="print the version")] = False) -> None:
    if version:
        print(f"m3video {__version__}")
        raise typer.Exit


def _with_ray_address(arguments: list[str]) -> list[str]:
    """Return `arguments` with "local" after a `--ray` without an address: typer has no options with optional values."""
    for place, argument in enumerate(arguments):
        if argument == "--":
            break
        following = arguments[place + 1 : place + 2]
        if argument == "--ray" and not (following and _RAY_ADDRESS.fullmatch(following[0])):
            return [*arguments[: place + 1], "local", *arguments[place + 1 :]]
    return arguments


def main() -> None:
    """Run the command line: a user error is one line and an exit code, anything else shows its traceback."""
    open_streams()
    try:
        code = _run(_with_ray_address(sys.argv[1:]))
        flush_stdout()
    except KeyboardInterrupt:
        print("m3video: interrupted", file=sys.stderr)
        code = EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of stdout (head, less) has gone: that is no error, and output that fits into the pipe's buffer
        # ends with 0 as well.
        if not drop_stdout():
            raise
        code = EXIT_DONE
    except OSError as error:
        if error.errno not in _FULL or error.filename is not None:
            raise
        drop_stdout()
        print(f"m3video: error: output cannot be written: {error.strerror}", file=sys.stderr)
        code = EXIT_ERROR
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    """Run a verb, print an error that the user can fix, and return the exit code."""
    # Typer's own call would print usage errors in four lines, and turn Ctrl-C into an exit code without a message.
    command = typer.main.get_command(app)
    try:
        with command.make_context("m3video", arguments) as context:
            command.invoke(context)
    except typer.Exit as done:
        return done.exit_code
    except _ClickUsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()
        else:
            print(f"m3video: error: {_usage_text(error)}", file=sys.stderr)
        return EXIT_USAGE
    except M3VideoError as error:
        print(f"m3video: error: {error}", file=sys.stderr)
        return error.exit_code
    except MemoryError:
        print("m3video: error: the machine has no memory left; free some, or read less of the video", file=sys.stderr)
        return EXIT_DOES_NOT_FIT
    return EXIT_DONE


def _usage_text(error: Any) -> str:
    """Return what click says of a wrong argument as one line in the style of other errors."""
    text = printable(" ".join(error.format_message().split())).rstrip(".")
    verb = error.ctx.command_path if error.ctx is not None else "m3video"
    return f"{text[:1].lower()}{text[1:]} (see {verb} --help)"
