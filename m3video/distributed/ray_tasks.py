"""The mapper over Ray core tasks, and the connection to a cluster.

Ray's own retries are off: it would retry an out-of-memory kill for ever, and here every mapper counts deaths alike.
A task runs in a child process, which is kept for the next task: only a child can be killed when a decoder hangs.
"""

from __future__ import annotations

import logging
import os
import socket
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import m3video
from m3video.distributed.failures import FailedError, Failure
from m3video.distributed.mapping import Crashes, ItemFunction, ItemResult, Mapper, run_item
from m3video.distributed.worker_process import DEADLINE_SECONDS, WorkerProcess
from m3video.errors import M3VideoError, UsageError, WorkerError
from m3video.utils.text import first_line

R = TypeVar("R")

LOCAL = "local"
"""The address that means: start Ray on this machine, and stop it at the end."""

_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
CONNECT_SECONDS = 10.0
"""Longest wait for a connection to an address."""

_LOCAL_STORE_BYTES = 256 * 2**20


def ray_tasks(
    address: str = LOCAL, *, num_workers: int | None = None, deadline: float = DEADLINE_SECONDS
) -> Mapper[Any]:
    """Return a mapper over Ray tasks of one CPU each.

    Args:
        address: "local" to start Ray on this machine, "auto" for the cluster that this machine belongs to, HOST:PORT
            for one of several, or ray://HOST:PORT for one that it does not belong to (needs `ray[client]`).
        num_workers: most tasks at a time; None for as many as there are CPUs.
        deadline: seconds without a `heartbeat` after which a worker is killed.
    """

    def run(function: ItemFunction[R], shared: Any, items: Sequence[Any]) -> Generator[ItemResult[R], None, None]:
        with connected(address, num_cpus=num_workers) as ray:
            task = ray.remote(num_cpus=1, max_retries=0)(_in_child)
            shared_ref = ray.put(shared)
            todo, crashes = deque(range(len(items))), Crashes({})
            running: dict[Any, int] = {}
            try:
                while todo or running:
                    while todo and (num_workers is None or len(running) < num_workers):
                        number = todo.popleft()
                        running[task.remote(function, shared_ref, items[number], deadline, address != LOCAL)] = number
                    (reference,), _ = ray.wait(list(running), num_returns=1)
                    number = running.pop(reference)
                    try:
                        outcome = ray.get(reference)
                    except _deaths(ray) as death:
                        crashes.add(number, first_line(death, limit=160))
                        todo.appendleft(number)
                        continue
                    except ray.exceptions.RayTaskError as failure:
                        raise WorkerError(
                            f"a Ray worker cannot run m3video ({first_line(failure.cause, limit=160)}); install "
                            "m3video's requirements on every node"
                        ) from None
                    except ray.exceptions.RayError as failure:
                        raise WorkerError(f"Ray gave up: {first_line(failure, limit=160)}") from None
                    if isinstance(outcome, Failure):
                        crashes.add_failure(number, outcome)
                        todo.appendleft(number)
                        continue
                    value, error = outcome
                    if error is not None:
                        raise error
                    yield crashes.result(number, value)
            finally:
                for reference in running:
                    # By force: a soft cancel does not stop native code, and a forced one after it has no effect.
                    ray.cancel(reference, force=True)

    return run


@contextmanager
def connected(address: str, *, num_cpus: int | None = None) -> Iterator[Any]:
    """Connect to Ray at `address`; use an existing connection, and leave it open.

    Raises:
        UsageError: ray is not installed, or connected to another cluster.
        WorkerError: there is no cluster at `address`.
    """
    ray = _load()
    if ray.is_initialized():
        current = ray.get_runtime_context().gcs_address
        if address not in (LOCAL, "auto", current):
            raise UsageError(f"Ray is connected to {current} already, not to {address}: call ray.shutdown() first")
        yield ray
        return
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == LOCAL:
        options |= {"num_cpus": num_cpus, "include_dashboard": False, "object_store_memory": _LOCAL_STORE_BYTES}
    else:
        # The nodes of a cluster that somebody else started need not have m3video, and must not have another version.
        options["runtime_env"] = {"py_modules": [str(Path(m3video.__file__).parent)]}
    with _silent(ray):
        try:
            ray.init(address=_find(ray, address), **options)
        except Exception as error:  # Ray raises many kinds, some of them plain `Exception`
            ray.shutdown()
            reason = first_line(error, limit=160).partition(". ")[0]
            if address == LOCAL:
                raise WorkerError(f"Ray does not start here ({reason}); use --workers") from None
            raise WorkerError(f"no Ray cluster at {address} ({reason}); see `ray status`") from None
        try:
            yield ray
        finally:
            ray.shutdown()


def _find(ray: Any, address: str) -> str:
    """Return the address of the cluster that `address` means, or "local".

    Ray itself tries for 14 minutes where nothing or something else listens, and for "auto" also where a cluster has
    just died.

    Raises:
        ConnectionError: no cluster answers there.
    """
    services = ray._private.services
    found = str(services.get_ray_address_from_environment(address, None)) if address == "auto" else address
    if found == LOCAL:  # RAY_ADDRESS may say so too
        return found
    is_client = found.startswith("ray://")
    if not is_client:
        found = str(services.canonicalize_bootstrap_address(found))
    host, colon, port = found.removeprefix("ray://").rpartition(":")
    try:
        if colon and port.isdigit():
            socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
        if not is_client:
            ray._raylet.GcsClient(
                address=found
            )  # one try of at most 40 s, by Ray's time-outs in RAY_py_gcs_connect_timeout_s and others
    except Exception as error:
        raise ConnectionError(f"{first_line(error, limit=160)} at {found}") from None
    return found


@contextmanager
def _silent(ray: Any) -> Iterator[None]:
    """Keep Ray from reporting dead workers on stdout, as it does whatever `log_to_driver` is; our notes report them."""
    printer = ray._private.worker
    printer._worker_logs_enabled = False
    try:
        yield
    finally:
        printer._worker_logs_enabled = True


_child = WorkerProcess()
"""The child of a Ray worker process, whose tasks come one after the other."""


def _in_child(
    function: ItemFunction[R], shared: Any, item: Any, deadline: float, on_cluster: bool
) -> tuple[R | None, Exception | None] | Failure:
    """Run an item as a Ray task; on a cluster, add to an error the node where it was raised."""
    _child.deadline = deadline
    try:
        ((value, error),) = _child.run(run_item, function, shared, item)
    except FailedError as failed:
        return failed.failure
    if on_cluster and isinstance(error, M3VideoError):
        error = type(error)(f"{error} (seen from {socket.gethostname()})")
    return value, error


def _load() -> Any:
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise UsageError(f'Ray does not import ({error}): pip install "m3video[ray]", or use --workers') from None
    return ray


def _deaths(ray: ModuleType) -> tuple[type[Exception], ...]:
    """Return the errors of a killed task: its process, its node, or the node with its result died."""
    errors = ray.exceptions
    return (
        errors.WorkerCrashedError,
        errors.NodeDiedError,
        errors.OutOfMemoryError,
        errors.ObjectLostError,
        errors.LocalRayletDiedError,
    )
