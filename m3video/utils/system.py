"""Free memory of this machine and memory use of this process. Linux only; does not load torch."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")
_M_MMAP_THRESHOLD = -3  # of mallopt(3)
_LARGE_BLOCK_BYTES = 256 * 1024


def free_host_memory(*, proc: Path = _PROC, cgroups: Path = _CGROUPS) -> int:
    """Return the bytes that can be allocated now: available memory, or less where a control group has a limit.

    Args:
        proc, cgroups: folders in which the kernel reports it; tests use others.
    """
    lines = (proc / "meminfo").read_text(encoding="utf-8").splitlines()
    available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    return min([available, *_left_in_groups(proc, cgroups)])


def _left_in_groups(proc: Path, cgroups: Path) -> list[int]:
    """Return the bytes left under each limit of a control group (of both versions) above this process."""
    left = []
    for line in (proc / "self" / "cgroup").read_text(encoding="utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, limit, used, cache = cgroups, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            base, limit, used = cgroups / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            cache = "total_inactive_file"
        else:
            continue
        group = base / path.lstrip("/")
        for folder in (group, *(parent for parent in group.parents if parent == base or base in parent.parents)):
            found = _left(folder / limit, folder / used, folder / "memory.stat", cache)
            left += [] if found is None else [found]
    return left


def _left(limit: Path, used: Path, stat: Path, cache: str) -> int | None:
    """Return the bytes left in one group; None where it has no limit (its files are then missing, or contain "max")."""
    try:
        most = int(limit.read_text(encoding="ascii"))
        taken = int(used.read_text(encoding="ascii"))
        # Cached file pages count as used but are evicted first.
        rows = dict(row.split() for row in stat.read_text(encoding="ascii").splitlines())
        return max(0, most - taken + int(rows.get(cache, 0)))
    except (OSError, ValueError):
        return None


def has_nvidia() -> bool:
    """Return whether the driver of NVIDIA GPUs is loaded; checked before torch is imported, which takes seconds."""
    return os.path.exists("/proc/driver/nvidia/version")


def resident_bytes(name: str = "VmRSS") -> int:
    """Return a memory size of this process by its name in `/proc/self/status`: VmRSS now, VmHWM the peak."""
    lines = (_PROC / "self" / "status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def reset_peak_memory() -> bool:
    """Restart the peak that `peak_memory_bytes` and VmHWM report; False where this machine does not allow it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
        return True
    try:
        (_PROC / "self" / "clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def return_freed_memory() -> None:
    """Make the C library return every freed block of 256 KiB or more to the system at once, in the whole process.

    glibc raises that limit by itself, up to 32 MiB, whenever a larger block is freed; the activations of one layer
    then leave holes that stay with the process (the rendered model's peak was 162 instead of 104 MiB, at the same
    speed). Other C libraries have no such setting and are left alone.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK_BYTES)
