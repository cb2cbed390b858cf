"""The number of processors that a process may use."""

import contextlib
import os
from pathlib import Path


def usable_cores(groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the number of processors that this process may use, by its affinity and its container's quota.

    Args:
        groups: folder of the container's control group, either version 2, or version 1 with the subfolder `cpu`.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        with contextlib.suppress(OSError, ValueError):  # the files are of the other version, or the quota is "max"
            quota, period = (int(number) for name in names for number in (groups / name).read_text().split())
            if quota > 0:
                cores = min(cores, quota // period)
    return max(1, cores)
