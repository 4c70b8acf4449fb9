"""The command line: one verb for each stage. stdout is data, stderr is progress and log."""

from m3video.cli.app import main

__all__ = ["main"]
