"""How many processors a run may use, and how many of them load."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

MAX_WORKERS = 16
"""More loading processes than this are only started where they are asked for."""


def loading_workers(processes: int) -> int:
    """How many loading processes each of a run's `processes` on this machine starts: at least 0, at most `MAX_WORKERS`.

    A process has its share of the usable cores, and keeps one of them for itself.
    """
    return min(max(usable_cores() // processes - 1, 0), MAX_WORKERS)


def usable_cores(
    own_groups: Path = Path("/proc/self/cgroup"), groups: Path = Path("/sys/fs/cgroup"), affinity: int | None = None
) -> int:
    """How many processors this process may keep busy, at least 1: those of its affinity, fewer by a container's quota.

    Args:
        own_groups: the file in which Linux says to which control groups the process belongs.
        groups: the folder at which they are mounted, version 2, or version 1 with its `cpu` below.
        affinity: processors on which the process may run; None asks the system.
    """
    if affinity is None:
        affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.floor(min([affinity, *_quotas(own_groups, groups)])))


def _quotas(own_groups: Path, groups: Path) -> Iterator[float]:
    """How many processors each control group grants to what is in it: the process's own, and all those above."""
    for line in own_groups.read_text().splitlines() if own_groups.exists() else ():
        _, controllers, name = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = groups / "cpu" if controllers else groups
        group = root / name.lstrip("/")
        for folder in (group, *group.parents[: len(group.parts) - len(root.parts)]):
            yield from _quota(folder)


def _quota(folder: Path) -> Iterator[float]:
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            quota, period = " ".join((folder / name).read_text() for name in names).split()
        except OSError:  # the other version's, or the root, which has no quota
            continue
        if quota not in ("max", "-1"):
            yield int(quota) / int(period)
