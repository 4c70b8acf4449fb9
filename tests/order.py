"""In which order the files of tests are run."""

from __future__ import annotations

from typing import Any


def rank(stem: str, module: Any) -> int:
    """Tell how long a file may take by its name and by what it imports.

    Returns:
        0 for Ray, which is one group (see conftest.py); 1 for files that start processes; 2 for those that run a model;
        3 for all others.
    """
    if "ray" in stem:
        return 0
    names = set() if module is None else vars(module).keys()
    return 1 if names & {"command", "subprocess"} else 2 if names & {"torch", "checkpoint"} else 3
