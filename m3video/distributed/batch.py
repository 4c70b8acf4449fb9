"""The loop of a batch: open items go to free workers, and each outcome goes into the ledger once.

In memory are the items in progress and the failures, never the whole archive.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from m3video.distributed.counts import BatchCounts
from m3video.distributed.failures import Failure
from m3video.distributed.items import BatchQuestions, Item, items_of
from m3video.distributed.ledger import Ledger, now
from m3video.distributed.messages import Failed, Finished, Identified, Outcome, PoolEvent, Task, VideoJob, WorkerPool
from m3video.distributed.sources import Source
from m3video.errors import EXIT_INTERRUPTED, EXIT_SOME_FAILED, DiskFullError, M3VideoError, UsageError
from m3video.utils.json_lines import RELATIVE
from m3video.video.path_checks import absolute

ATTEMPTS = {"input": 1, "changed": 1, "bug": 1, "memory": 2, "silent": 2, "crash": 3}
"""How often an item is tried, by kind of failure: it is tried again only where another try may succeed."""

_WAIT_SECONDS = 0.5


class SomeFailedError(M3VideoError):
    """The batch is finished, and some items failed."""

    exit_code = EXIT_SOME_FAILED


class InterruptedBatchError(M3VideoError):
    """The batch was interrupted with Ctrl-C; what is finished is kept."""

    exit_code = EXIT_INTERRUPTED


@dataclass(slots=True)
class VideoAttempt:
    """One attempt at the open items of a video."""

    video: str
    items: list[Item]
    number: int = 1
    begun: float = 0.0
    identities: list[str] = field(default_factory=list)
    fingerprint: str = ""


def run_batch(
    source: Source,
    questions: BatchQuestions,
    task: Task,
    ledger: Ledger,
    pool: WorkerPool,
    *,
    retry_failed: bool = False,
    limit: int | None = None,
    counts: BatchCounts | None = None,
) -> BatchCounts:
    """Work on every open item of `source`.

    Args:
        source: the videos.
        questions: what is asked of each.
        task: what is done with each.
        ledger: says what is done already, and takes the results.
        pool: workers and model; it is closed at the end, also after an error.
        retry_failed: also work on items that failed in an earlier run.
        limit: largest number of items to begin.
        counts: what is counted and shown.

    Returns:
        The counts.

    Raises:
        InterruptedBatchError: it was interrupted with Ctrl-C.
        DiskFullError: results or files cannot be written; no item counts as failed for that.
    """
    loop = _Loop(source, questions, task, ledger, pool, retry_failed, limit, counts or BatchCounts())
    try:
        loop.run()
    except KeyboardInterrupt:
        raise InterruptedBatchError(
            f"interrupted: {loop.counts.done} items were done this time and are kept in {ledger.printable}; the same "
            "command goes on from there"
        ) from None
    finally:
        pool.close()
        loop.counts.close()
    return loop.counts


class _Loop:
    """The state of `run_batch`."""

    def __init__(
        self,
        source: Source,
        questions: BatchQuestions,
        task: Task,
        ledger: Ledger,
        pool: WorkerPool,
        retry_failed: bool,
        limit: int | None,
        counts: BatchCounts,
    ) -> None:
        self.source, self.questions, self.task, self.ledger, self.pool = source, questions, task, ledger, pool
        self.retry_failed, self.limit, self.counts = retry_failed, limit, counts
        self.running: dict[int, VideoAttempt] = {}
        self.retries: deque[VideoAttempt] = deque()
        self.copies: dict[str, list[Item]] = {}  # identity in progress -> other items of the same content
        self.number = 0

    def run(self) -> None:
        # This also finds a folder that cannot be read before anything begins.
        self.counts.total = sum(len(self.questions.of(video)) for video in self.source)
        if not self.counts.total:
            raise UsageError(
                f"there is nothing to do: no video was found, or no question is about one that was ({RELATIVE})"
            )
        attempts = self._open_attempts()
        more = True
        while True:
            while self.pool.num_free and (self.retries or more):
                attempt = self.retries.popleft() if self.retries else next(attempts, None)
                if attempt is None:
                    more = False
                else:
                    self._begin(attempt)
            if not self.running and not self.retries and not more:
                return
            for event in self.pool.wait(_WAIT_SECONDS):
                self._handle(event)
            self.counts.show(running=sum(len(attempt.items) for attempt in self.running.values()))

    def _open_attempts(self) -> Iterator[VideoAttempt]:
        begun = 0
        for video in self.source:
            open_items: list[Item] = []
            for item in items_of(video, self.questions.of(video), task=self.task.name, config=self.task.config):
                if self.ledger.is_done(item):
                    self.ledger.settle(item)
                    self.counts.done_before += 1
                elif self.ledger.has_failed(item) and not self.retry_failed:
                    self.counts.failed_before += 1
                elif self.limit is not None and begun >= self.limit:
                    if open_items:
                        yield VideoAttempt(video, open_items)
                    return
                else:
                    open_items.append(item)
                    begun += 1
            if open_items:
                yield VideoAttempt(video, open_items)

    def _begin(self, attempt: VideoAttempt) -> None:
        self.number += 1
        attempt.begun = time.monotonic()
        self.running[self.number] = attempt
        self.pool.identify(self.number, absolute(attempt.video))

    def _handle(self, event: PoolEvent) -> None:
        match event:
            case Identified(number, fingerprint):
                self._identified(number, fingerprint)
            case Finished(number, outcomes):
                self._finished(self.running.pop(number), outcomes)
            case Failed(number, failure):
                self._failed(self.running.pop(number), failure)

    def _identified(self, number: int, fingerprint: str) -> None:
        attempt = self.running[number]
        attempt.fingerprint = fingerprint
        open_items, identities = [], []
        for item in attempt.items:
            identity = item.identity(fingerprint, self.task.config)
            if self.ledger.has(identity):
                self.ledger.add_copy(item, identity)
                self.counts.copies += 1
            elif identity in self.copies:
                self.copies[identity].append(item)
            else:
                self.copies[identity] = []
                open_items.append(item)
                identities.append(identity)
        attempt.items, attempt.identities = open_items, identities
        if not open_items:
            del self.running[number]
            self.pool.release(number)
            return
        folders = tuple(f"{self.ledger.root}/items/{name[:2]}/{name}" for name in identities)
        questions = tuple(item.question for item in open_items)
        self.pool.carry_out(number, VideoJob(absolute(attempt.video), questions, folders))

    def _finished(self, attempt: VideoAttempt, outcomes: list[Outcome]) -> None:
        seconds = round((time.monotonic() - attempt.begun) / len(attempt.items), 3)
        for item, identity, outcome in zip(attempt.items, attempt.identities, outcomes, strict=True):
            copies = self.copies.pop(identity)
            if (
                not isinstance(outcome, Failure)
                and outcome.get("fingerprint", attempt.fingerprint) != attempt.fingerprint
            ):
                # The outcome is of other content; copies of the content before are read themselves.
                outcome = Failure("changed", "the file changed while it was read: run the same command again")
                self.retries.extend(VideoAttempt(copy.video, [copy]) for copy in copies)
                copies = []
            if isinstance(outcome, Failure):
                self._give_up([item, *copies], outcome, attempt.number)
                continue
            extra = {"busy_seconds": seconds, "attempts": attempt.number, "finished_at": now()}
            self.ledger.add_result(item, identity, {**outcome, **extra})
            self.counts.add(outcome)
            for copy in copies:
                self.ledger.add_copy(copy, identity)
                self.counts.copies += 1
        self.counts.add_video([outcome for outcome in outcomes if not isinstance(outcome, Failure)])

    def _failed(self, attempt: VideoAttempt, failure: Failure) -> None:
        if failure.kind == "disk":
            raise DiskFullError(
                f"{self.ledger.printable} is full ({failure.message}): what is finished is kept; make room and run the "
                "same command again"
            )
        copies = [copy for identity in attempt.identities for copy in self.copies.pop(identity)]
        if attempt.number < ATTEMPTS[failure.kind]:
            self.retries.append(VideoAttempt(attempt.video, attempt.items, number=attempt.number + 1))
        elif failure.kind == "changed":  # only this file: others of the same content are read themselves
            self._give_up(attempt.items, failure, attempt.number)
        else:
            self._give_up([*attempt.items, *copies], failure, attempt.number)
            return
        self.retries.extend(VideoAttempt(copy.video, [copy]) for copy in copies)

    def _give_up(self, items: list[Item], failure: Failure, attempts: int) -> None:
        for item in items:
            self.ledger.add_error(
                item,
                {
                    "task": self.task.name,
                    "question": item.question.text,
                    "question_id": item.question.id,
                    "kind": failure.kind,
                    "error": failure.message,
                    "detail": failure.detail,
                    "attempts": attempts,
                    "failed_at": now(),
                },
            )
            self.counts.failed += 1
            self.counts.changed += failure.kind == "changed"


def check_all_done(counts: BatchCounts, ledger: Ledger) -> None:
    """Raise SomeFailedError when items of this batch failed, now or before."""
    failed = counts.failed + counts.failed_before
    if failed:
        total = counts.done + counts.done_before + counts.copies + failed
        growing = f" ({counts.changed} still being written: the same command tries again)" if counts.changed else ""
        raise SomeFailedError(
            f"{failed} of {total} items failed{growing}; {ledger.printable}/errors.jsonl says which and why, "
            "--retry-failed tries again"
        )
