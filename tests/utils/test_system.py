"""What memory is free, read from made-up kernels."""

from __future__ import annotations

from pathlib import Path

from m3video.utils.system import free_host_memory, reset_peak_memory, resident_bytes
from m3video.utils.units import GIB, MIB


def kernel(root: Path, groups: str, files: dict[str, str]) -> tuple[Path, Path]:
    proc, cgroups = root / "proc", root / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\n")
    (proc / "self" / "cgroup").write_text(groups)
    for name, text in files.items():
        (cgroups / name).parent.mkdir(parents=True, exist_ok=True)
        (cgroups / name).write_text(text)
    return proc, cgroups


def test_without_a_limit_it_is_what_the_kernel_calls_available(tmp_path: Path) -> None:
    proc, cgroups = kernel(tmp_path, "0::/a\n", {"a/memory.max": "max\n", "a/memory.current": "5\n"})
    assert free_host_memory(proc=proc, cgroups=cgroups) == 8 * GIB


def test_version_2_the_smallest_group_above_binds_and_cached_files_do_not_count(tmp_path: Path) -> None:
    files = {
        "a/b/memory.max": f"{4 * GIB}\n",
        "a/b/memory.current": f"{GIB}\n",
        "a/memory.max": f"{3 * GIB}\n",
        "a/memory.current": f"{2 * GIB}\n",
        "a/memory.stat": f"anon 1\ninactive_file {512 * MIB}\n",
        "a/b/memory.stat": "anon 1\n",
    }
    proc, cgroups = kernel(tmp_path, "0::/a/b\n", files)
    assert free_host_memory(proc=proc, cgroups=cgroups) == GIB + 512 * MIB


def test_version_1(tmp_path: Path) -> None:
    files = {
        "memory/x/memory.limit_in_bytes": f"{2 * GIB}\n",
        "memory/x/memory.usage_in_bytes": f"{GIB}\n",
        "memory/x/memory.stat": "total_inactive_file 0\n",
    }
    proc, cgroups = kernel(tmp_path, "5:cpuset:/x\n4:memory:/x\n0::/\n", files)
    assert free_host_memory(proc=proc, cgroups=cgroups) == GIB


def test_this_machine() -> None:
    assert 0 < free_host_memory() < 2**50
    assert 0 < resident_bytes() <= resident_bytes("VmHWM")


def test_the_peak_is_forgotten() -> None:
    block = bytearray(64 * MIB)
    high = resident_bytes("VmHWM")
    del block
    assert reset_peak_memory()
    assert resident_bytes("VmHWM") < high - 32 * MIB
