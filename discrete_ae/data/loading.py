"""Which samples make which batch, by the step and the rank alone; the loader that yields them, and its processes."""

import math
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader

from discrete_ae.errors import DataError

MAX_WORKERS = 16
"""More loading processes than this are only started where they are asked for."""


@dataclass(frozen=True)
class TrainingBatches:
    """Batch sampler of one endless stream of sample numbers, shared out between the ranks.

    Batch b of rank r of w holds the numbers from (b·w + r)·batch_size on. A resumed run begins at the batch `first`;
    the length is that of the whole run, from batch 0, because Lightning counts a resumed run on from where it was.
    """

    batch_size: int
    rank: int = 0
    world_size: int = 1
    first: int = 0
    total: int = sys.maxsize

    def __len__(self) -> int:
        return self.total

    def __iter__(self) -> Iterator[list[int]]:
        for batch in range(self.first, self.total):
            start = (batch * self.world_size + self.rank) * self.batch_size
            yield list(range(start, start + self.batch_size))


def validation_batches(num_segments: int, batch_size: int, rank: int, world_size: int) -> list[list[int]]:
    """Share the segments r, r + w, r + 2w, … of rank r into batches: each segment once, as many batches on each rank.

    Equal counts matter: a rank with one batch more would wait for the others in the first collective of that batch.
    The batches of a rank differ in size by one at most; one may exceed `batch_size` only where that is 1.

    Raises:
        DataError: fewer segments than ranks.
    """
    if num_segments < world_size:
        raise DataError(
            f"{num_segments} validation segments are fewer than the {world_size} devices; "
            "give more validation audio, a shorter data.crop_seconds, or fewer devices"
        )
    most = -(-num_segments // world_size)
    num_batches = min(-(-most // batch_size), num_segments // world_size)
    own = np.arange(rank, num_segments, world_size)
    return [batch.tolist() for batch in np.array_split(own, num_batches)]


class AudioLoader(DataLoader[Tensor]):
    """DataLoader of batches (B, C, N) that can be resumed and whose workers fail in one line.

    The place in the stream follows from the trainer's step, so there is no state to save; having the two methods
    tells Lightning that resuming in the middle is safe.
    """

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: see the class."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take nothing: see the class."""

    def __iter__(self) -> Iterator[Tensor]:  # type: ignore[override]
        try:
            yield from super().__iter__()
        except DataError as error:
            # An error that crosses from a worker process carries that process's traceback as its text.
            message = str(error).strip().splitlines()[-1]
            raise DataError(message.removeprefix("discrete_ae.errors.DataError: ")) from None


def loading_workers(processes: int) -> int:
    """Return how many loading processes each of a run's `processes` on this machine starts, 0 to `MAX_WORKERS`.

    A process has its share of the usable cores, and keeps one of them for itself.
    """
    return min(max(usable_cores() // processes - 1, 0), MAX_WORKERS)


def usable_cores(
    own_groups: Path = Path("/proc/self/cgroup"), groups: Path = Path("/sys/fs/cgroup"), affinity: int | None = None
) -> int:
    """Count the processors that this process may keep busy: those of its affinity, fewer by a container's quota.

    Args:
        own_groups: the file in which Linux says to which control groups the process belongs.
        groups: the folder at which they are mounted, version 2, or version 1 with its `cpu` below.
        affinity: processors on which the process may run; None asks the system.
    """
    if affinity is None:
        affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.floor(min([affinity, *_quotas(own_groups, groups)])))


def _quotas(own_groups: Path, groups: Path) -> Iterator[float]:
    """Yield how many processors each control group grants: the process's own, and all those above."""
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
