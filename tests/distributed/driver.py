"""A batch over a folder of made-up videos, in a process that a test can kill.

Arguments: folder, output, log, and the address of Ray if there is one.
"""

from __future__ import annotations

import sys
from pathlib import Path

from m3video.distributed import lease
from m3video.distributed.batch import check_all_done, run_batch
from m3video.distributed.items import BatchQuestions
from m3video.distributed.ledger_url import open_ledger
from m3video.distributed.sources import Folder
from m3video.distributed.worker_pool import LocalPool
from m3video.errors import M3VideoError
from tests.distributed.faults import Faulty


def main(folder: str, out: str, log: str, address: str = "") -> None:
    lease.SETTLE_SECONDS = 0.1  # nobody else begins at the same moment
    task = Faulty(log)
    with open_ledger(out) as ledger:
        if address:
            from m3video.distributed.ray_pool import RayPool

            pool: LocalPool | RayPool = RayPool(task, address=address, workers=2)
        else:
            pool = LocalPool(task, workers=2)
        counts = run_batch(Folder(Path(folder)), BatchQuestions(), task, ledger, pool)
        check_all_done(counts, ledger)


def below(pid: int) -> list[int]:
    """Every process that descends from `pid`."""
    found = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for child in (thread / "children").read_text().split():
            found += [int(child), *below(int(child))]
    return found


def is_alive(pid: int) -> bool:
    """Whether it runs; what is dead and not yet reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except M3VideoError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
