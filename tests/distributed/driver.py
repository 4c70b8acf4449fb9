"""A batch over a folder of made-up videos, in a process that a test can kill."""

from __future__ import annotations

import sys
from pathlib import Path

from m3video.distributed.batch import check_all_done, run_batch
from m3video.distributed.crew import LocalCrew
from m3video.distributed.items import Folder, Questions
from m3video.distributed.ledger import Ledger
from m3video.errors import M3VideoError
from tests.distributed.faults import Faulty


def main(folder: Path, out: Path) -> None:
    task = Faulty(str(out.with_suffix(".log")))
    with Ledger(out) as ledger:
        report = run_batch(Folder(folder), Questions(), task, ledger, LocalCrew(task, workers=2))
        check_all_done(report, ledger)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except M3VideoError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
