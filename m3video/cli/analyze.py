"""`m3video analyze`: the first pass over a video, in one process, in several, or on Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from m3video.cli.options import VIDEO, GivenSettings, Json, Quiet, Video, with_settings
from m3video.cli.outputs import check_outputs, check_stats_name, output_or_stdout

Workers = Annotated[int | None, typer.Option(min=1, help="read with this many processes; with --ray, tasks at a time")]
Ray = Annotated[
    str | None,
    typer.Option(metavar="[ADDRESS]", help="read on Ray: started here, or auto, HOST:PORT, ray://HOST:PORT"),
]


@with_settings(VIDEO)
def analyze(
    video: Video,
    *,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="write stats (Parquet, - is stdout)")] = None,
    workers: Workers = None,
    ray: Ray = None,
    given: GivenSettings,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure frames: loss at each token scale, and change.

    Of a long video, those that a plan looks at; --scan full measures every frame. It can be read by several processes,
    or on a Ray cluster; the result is the same to the last bit.

    Example: m3video analyze film.mp4 -o stats.parquet
    """
    from m3video.cli.terminal import make_progress, print_json, print_notes
    from m3video.distributed.analysis import analyze_long
    from m3video.distributed.mapping import in_process
    from m3video.distributed.processes import processes
    from m3video.distributed.ray_tasks import ray_tasks
    from m3video.planning.shots import find_shots
    from m3video.planning.stats_file import save_stats
    from m3video.report.video_text import info_record, stats_record, stats_text

    output, is_printed = output_or_stdout(output, json=json)
    check_outputs(video, {"-o": output})
    check_stats_name(output, is_printed=is_printed)
    settings = given.resolve()
    if ray is not None:
        mapper = ray_tasks(ray, num_workers=workers)
    else:
        mapper = in_process if workers is None else processes(workers)
    found = analyze_long(
        video, settings, mapper=mapper, count=1 if mapper is in_process else None, progress=make_progress(quiet=quiet)
    )
    info, stats = found.info, found.stats
    if output is not None:
        save_stats(stats, info_record(info), output)
    record = stats_record(info, stats, shots=len(find_shots(stats)))
    notes = [*info.notes, *found.notes]
    if json:
        print_json({**record, "notes": notes})
    else:
        if not is_printed:
            print(stats_text(record))
        print_notes([] if quiet else notes)
