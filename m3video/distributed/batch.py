"""The loop of a batch: what is open goes to a free worker, what comes back goes into the ledger, once.

It holds the items that are being worked on and the failures, never the archive.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from m3video.distributed.failures import Failure
from m3video.distributed.items import Item, Questions, items_of
from m3video.distributed.ledger import Ledger, now
from m3video.distributed.messages import Event, Failed, Finished, Identified, Outcome, Task, Work, WorkerPool
from m3video.distributed.progress import Report
from m3video.distributed.sources import Source
from m3video.errors import EXIT_INTERRUPTED, EXIT_SOME_FAILED, DiskFullError, M3VideoError, UsageError
from m3video.utils.json_lines import RELATIVE
from m3video.video.path_checks import absolute

ATTEMPTS = {"input": 1, "changed": 1, "bug": 1, "memory": 2, "silent": 2, "crash": 3}
"""How often an item is tried, by what went wrong: only what may go better by itself is tried again."""

_WAIT_SECONDS = 0.5


class SomeFailedError(M3VideoError):
    """The batch is through, and some items failed."""

    exit_code = EXIT_SOME_FAILED


class InterruptedBatchError(M3VideoError):
    """Ctrl-C: what is finished is kept."""

    exit_code = EXIT_INTERRUPTED


@dataclass(slots=True)
class Job:
    """Open items of one video, on their way through the crew."""

    video: str
    items: list[Item]
    attempt: int = 1
    begun: float = 0.0
    identities: list[str] = field(default_factory=list)
    fingerprint: str = ""


def run_batch(
    source: Source,
    questions: Questions,
    task: Task,
    ledger: Ledger,
    crew: WorkerPool,
    *,
    retry_failed: bool = False,
    limit: int | None = None,
    report: Report | None = None,
) -> Report:
    """Work on every open item of `source`.

    Args:
        source: the videos.
        questions: what is asked of each.
        task: what is done with each.
        ledger: what is done already; takes the results.
        crew: workers and model; closed at the end, whatever happens.
        retry_failed: also work on items that failed in an earlier run.
        limit: most items to begin.
        report: counts, and shows them.

    Returns:
        The counts.

    Raises:
        InterruptedBatchError: Ctrl-C.
        DiskFullError: results or files cannot be written; nothing is recorded as failed for that.
    """
    loop = _Loop(source, questions, task, ledger, crew, retry_failed, limit, report or Report())
    try:
        loop.run()
    except KeyboardInterrupt:
        counts = loop.report
        raise InterruptedBatchError(
            f"interrupted: {counts.done} items were done this time and are kept in {ledger.shown}; the same command "
            "goes on from there"
        ) from None
    finally:
        crew.close()
        loop.report.close()
    return loop.report


class _Loop:
    def __init__(
        self,
        source: Source,
        questions: Questions,
        task: Task,
        ledger: Ledger,
        crew: WorkerPool,
        retry_failed: bool,
        limit: int | None,
        report: Report,
    ) -> None:
        self.source, self.questions, self.task, self.ledger, self.crew = source, questions, task, ledger, crew
        self.retry_failed, self.limit, self.report = retry_failed, limit, report
        self.running: dict[int, Job] = {}
        self.again: deque[Job] = deque()
        self.copies: dict[str, list[Item]] = {}  # identity being worked on -> other items of the same content
        self.number = 0

    def run(self) -> None:
        # Also finds, before anything begins, a folder that cannot be read.
        self.report.total = sum(len(self.questions.of(video)) for video in self.source)
        if not self.report.total:
            raise UsageError(
                f"there is nothing to do: no video was found, or no question is about one that was ({RELATIVE})"
            )
        jobs = self._open_jobs()
        more = True
        while True:
            while self.crew.num_free and (self.again or more):
                job = self.again.popleft() if self.again else next(jobs, None)
                if job is None:
                    more = False
                else:
                    self._begin(job)
            if not self.running and not self.again and not more:
                return
            for event in self.crew.wait(_WAIT_SECONDS):
                self._handle(event)
            self.report.show(running=sum(len(job.items) for job in self.running.values()))

    def _open_jobs(self) -> Iterator[Job]:
        begun = 0
        for video in self.source:
            open_items: list[Item] = []
            for item in items_of(video, self.questions.of(video), task=self.task.name, config=self.task.config):
                if self.ledger.is_done(item):
                    self.ledger.settle(item)
                    self.report.done_before += 1
                elif self.ledger.has_failed(item) and not self.retry_failed:
                    self.report.failed_before += 1
                elif self.limit is not None and begun >= self.limit:
                    if open_items:
                        yield Job(video, open_items)
                    return
                else:
                    open_items.append(item)
                    begun += 1
            if open_items:
                yield Job(video, open_items)

    def _begin(self, job: Job) -> None:
        self.number += 1
        job.begun = time.monotonic()
        self.running[self.number] = job
        self.crew.identify(self.number, absolute(job.video))

    def _handle(self, event: Event) -> None:
        match event:
            case Identified(number, fingerprint):
                self._identified(number, fingerprint)
            case Finished(number, outcomes):
                self._finished(self.running.pop(number), outcomes)
            case Failed(number, failure):
                self._failed(self.running.pop(number), failure)

    def _identified(self, number: int, fingerprint: str) -> None:
        job = self.running[number]
        job.fingerprint = fingerprint
        open_items, identities = [], []
        for item in job.items:
            identity = item.identity(fingerprint, self.task.config)
            if self.ledger.has(identity):
                self.ledger.add_copy(item, identity)
                self.report.copies += 1
            elif identity in self.copies:
                self.copies[identity].append(item)
            else:
                self.copies[identity] = []
                open_items.append(item)
                identities.append(identity)
        job.items, job.identities = open_items, identities
        if not open_items:
            del self.running[number]
            self.crew.release(number)
            return
        folders = tuple(f"{self.ledger.root}/items/{name[:2]}/{name}" for name in identities)
        questions = tuple(item.question for item in open_items)
        self.crew.carry_out(number, Work(absolute(job.video), questions, folders))

    def _finished(self, job: Job, outcomes: list[Outcome]) -> None:
        seconds = round((time.monotonic() - job.begun) / len(job.items), 3)
        for item, identity, outcome in zip(job.items, job.identities, outcomes, strict=True):
            copies = self.copies.pop(identity)
            if not isinstance(outcome, Failure) and outcome.get("fingerprint", job.fingerprint) != job.fingerprint:
                # What was found is true of other content; files of the same content as before are read themselves.
                outcome = Failure("changed", "the file changed while it was read: run the same command again")
                self.again.extend(Job(copy.video, [copy]) for copy in copies)
                copies = []
            if isinstance(outcome, Failure):
                self._give_up([item, *copies], outcome, job.attempt)
                continue
            extra = {"busy_seconds": seconds, "attempts": job.attempt, "finished_at": now()}
            self.ledger.add_result(item, identity, {**outcome, **extra})
            self.report.add(outcome)
            for copy in copies:
                self.ledger.add_copy(copy, identity)
                self.report.copies += 1
        self.report.add_video([outcome for outcome in outcomes if not isinstance(outcome, Failure)])

    def _failed(self, job: Job, failure: Failure) -> None:
        if failure.kind == "disk":
            raise DiskFullError(
                f"{self.ledger.shown} is full ({failure.message}): what is finished is kept; make room and run the "
                "same command again"
            )
        copies = [copy for identity in job.identities for copy in self.copies.pop(identity)]
        if job.attempt < ATTEMPTS[failure.kind]:
            self.again.append(Job(job.video, job.items, attempt=job.attempt + 1))
        elif failure.kind == "changed":  # one file did: others of the same content are read themselves
            self._give_up(job.items, failure, job.attempt)
        else:
            self._give_up([*job.items, *copies], failure, job.attempt)
            return
        self.again.extend(Job(copy.video, [copy]) for copy in copies)

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
            self.report.failed += 1
            self.report.changed += failure.kind == "changed"


def check_all_done(report: Report, ledger: Ledger) -> None:
    """SomeFailedError when items of this batch failed, now or before."""
    failed = report.failed + report.failed_before
    if failed:
        known = report.done + report.done_before + report.copies + failed
        growing = f" ({report.changed} still being written: the same command tries again)" if report.changed else ""
        raise SomeFailedError(
            f"{failed} of {known} items failed{growing}; {ledger.shown}/errors.jsonl says which and why, "
            "--retry-failed tries again"
        )
