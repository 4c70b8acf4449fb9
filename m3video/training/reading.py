"""Read the conversations of each step in threads, one step ahead, and record every row that is left out."""

from __future__ import annotations

import contextlib
import json
import math
import random
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from m3video.errors import UsageError
from m3video.training.conversations import Conversation, Skipped, read_conversations, tally
from m3video.training.examples import Example, ExampleLoader
from m3video.training.finetune_recipe import FinetuneRecipe
from m3video.training.loop import say

NAMED = 20
"""Rows with a problem that are named on screen; the log names all."""


class ExamplePrefetcher:
    """Reads the examples of each step in threads, one step ahead; a context manager."""

    def __init__(
        self, rows: Sequence[Conversation], loader: ExampleLoader, recipe: FinetuneRecipe, *, steps: int
    ) -> None:
        self.rows, self.loader, self.recipe, self.steps = rows, loader, recipe, steps
        self.pool = ThreadPoolExecutor(recipe.workers)
        self.ahead: dict[int, list[Future[Example | Skipped]]] = {}
        self.order: tuple[int, list[int]] = (-1, [])

    def conversations_of(self, step: int) -> list[Conversation]:
        """Return the conversations of a step; each epoch has its own order, and its last step may be smaller."""
        epoch, place = divmod(step, math.ceil(len(self.rows) / self.recipe.batch))
        if self.order[0] != epoch:
            order = list(range(len(self.rows)))
            random.Random(f"{self.recipe.seed} epoch {epoch}").shuffle(order)
            self.order = epoch, order
        start = place * self.recipe.batch
        return [self.rows[k] for k in self.order[1][start : start + self.recipe.batch]]

    def __call__(self, step: int) -> list[Example | Skipped]:
        """Return the examples of a step, or why a row has none, in order."""
        for number in (step, step + 1):
            if number < self.steps and number not in self.ahead:
                self.ahead[number] = [
                    self.pool.submit(self.loader, row, number) for row in self.conversations_of(number)
                ]
        return [future.result() for future in self.ahead.pop(step)]

    def __enter__(self) -> ExamplePrefetcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown(cancel_futures=True)


class SkipLog:
    """Log of every row that was left out and every damaged video, once each: in a file, and the first ones on
    screen."""

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self.all: list[Skipped] = []
        for line in lines:
            # A killed run may leave half a line behind; its row comes up again.
            with contextlib.suppress(ValueError):
                self.all.append(Skipped(**json.loads(line)))
        if len(self.all) < len(lines):
            path.write_text("".join(map(_line, self.all)), encoding="utf-8")
        self.seen = set(self.all)

    def add(self, one: Skipped) -> None:
        if one in self.seen:
            return
        self.seen.add(one)
        self.all.append(one)
        with self.path.open("a", encoding="utf-8") as log:
            log.write(_line(one))
        if len(self.all) <= NAMED:
            say(f"{one.kind}: {one.name}: {one.reason}")
        elif len(self.all) == NAMED + 1:
            say(f"there are more; all are named in {self.path}")

    def summary(self) -> str:
        return tally(self.all) + (f" (named in {self.path})" if self.all else "")


def _line(one: Skipped) -> str:
    return json.dumps({"name": one.name, "kind": one.kind, "reason": one.reason}) + "\n"


def load_conversations(recipe: FinetuneRecipe, skips: SkipLog) -> list[Conversation]:
    """Return the usable rows of all data files in order; the others go to `skips`.

    Raises:
        UsageError: a file cannot be read, or no row of all of them can be used.
    """
    rows: list[Conversation] = []
    for source in recipe.data:
        good, bad, begun = read_conversations(source.conversations, source.files)
        for one in bad:
            skips.add(one)
        rows += good
        notes = [f"{source.conversations}: {len(good)} conversations"]
        if bad:
            notes.append(f"left out {tally(bad)}")
        if begun:
            notes.append(f"{begun} began with an answer, which is left out")
        say("; ".join(notes))
    if not rows:
        first = f", e.g. {skips.all[0].name}: {skips.all[0].reason}" if skips.all else ""
        raise UsageError(f"no conversation of {recipe.data[0].conversations} can be used{first}")
    return rows
