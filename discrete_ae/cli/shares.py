"""Who encodes what: recordings to ranks by duration, and each rank's share to groups. The same on every rank."""

import heapq
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import NamedTuple

from discrete_ae.cli.files import Job, is_there
from discrete_ae.data.files import probe
from discrete_ae.errors import DataError

GROUP_SECONDS = 600.0
GROUP_JOBS = 64


class Measured(NamedTuple):
    """What is to be known of a job before it is given to a rank."""

    job: Job
    duration_s: float
    """Of the recording by its header; 0 for one that cannot be read, or need not be."""
    is_done: bool
    """Whether its file of codes is there, and stays."""


def measure(jobs: Sequence[Job], *, keep_existing: bool) -> list[Measured]:
    """Look at the recordings, and at which of them are done, by threads: it is the disk that takes the time."""

    def one(job: Job) -> Measured:
        try:
            if keep_existing and is_there(job.target):
                return Measured(job, 0.0, is_done=True)
            return Measured(job, probe(job.source).duration_s, is_done=False)
        except (DataError, OSError):  # it is met again, and named, when it is encoded or written
            return Measured(job, 0.0, is_done=False)

    with ThreadPoolExecutor(max_workers=16) as pool:
        return list(pool.map(one, jobs))


def share_out(measured: Sequence[Measured], num_ranks: int) -> list[list[Measured]]:
    """Give the longest recording that is left to the rank with the least to do, again and again.

    No share is then longer than 4/3 of what the best sharing would have (Graham 1969, "Bounds on multiprocessing timing
    anomalies"), and with many recordings all are nearly equal. Among equals, the first goes to the first.
    """
    shares: list[list[Measured]] = [[] for _ in range(num_ranks)]
    # Beside seconds their number counts, so that those of no known length are shared out too.
    loads = [(0.0, 0, rank) for rank in range(num_ranks)]
    for found in sorted(measured, key=lambda found: -found.duration_s):
        load, count, rank = heapq.heappop(loads)
        shares[rank].append(found)
        heapq.heappush(loads, (load + found.duration_s, count + 1, rank))
    return shares


def in_groups(share: Sequence[Measured], max_seconds: float = GROUP_SECONDS) -> list[list[Measured]]:
    """Cut a share into groups of at most `max_seconds`, or one recording, and of at most GROUP_JOBS."""
    groups: list[list[Measured]] = []
    seconds = 0.0
    for found in share:
        if not groups or len(groups[-1]) == GROUP_JOBS or seconds + found.duration_s > max_seconds:
            groups.append([])
            seconds = 0.0
        groups[-1].append(found)
        seconds += found.duration_s
    return groups


def in_turn(parts: Sequence[Sequence[Measured]]) -> list[Measured]:
    """Put together again what the ranks measured: rank r the jobs r, r + w, r + 2w, …"""
    width = max((len(part) for part in parts), default=0)
    return list(chain.from_iterable([part[i] for part in parts if i < len(part)] for i in range(width)))
