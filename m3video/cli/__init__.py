"""The command line: one verb per stage. stdout is data, stderr is progress and log."""

from m3video.cli.app import main

__all__ = ["main"]
