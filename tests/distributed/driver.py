"""A batch over a folder of made-up videos, in a process that a test can kill: folder, output, log, Ray's address."""

from __future__ import annotations

import sys
from pathlib import Path

from m3video.distributed.batch import check_all_done, run_batch
from m3video.distributed.crew import LocalCrew
from m3video.distributed.items import Folder, Questions
from m3video.distributed.ledger_url import open_ledger
from m3video.errors import M3VideoError
from tests.distributed.faults import Faulty


def main(folder: str, out: str, log: str, address: str = "") -> None:
    task = Faulty(log)
    with open_ledger(out) as ledger:
        if address:
            from m3video.distributed.crew_ray import RayCrew

            crew: LocalCrew | RayCrew = RayCrew(task, address=address, workers=2)
        else:
            crew = LocalCrew(task, workers=2)
        report = run_batch(Folder(Path(folder)), Questions(), task, ledger, crew)
        check_all_done(report, ledger)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except M3VideoError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
