"""Pairs of a file and the one to be made of it, from inputs and OUT, and the share of them that a process takes."""

import heapq
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from discrete_ae.data.files import files_of
from discrete_ae.errors import DataError, UsageError
from discrete_ae.paths import Kind, Paths, kind_of, listed

# Of torchrun, and of a step that srun starts. A batch script has SLURM_PROCID and SLURM_NTASKS too, but runs once.
_VARIABLES = (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"))


class Job(NamedTuple):
    """One file to be made of another."""

    source: Path
    target: Path


class Plan(NamedTuple):
    """The jobs, and the inputs that make none."""

    jobs: list[Job]
    """In the order of the inputs, those of a folder sorted by path; no two with the same target."""
    problems: list[tuple[Path, DataError]]
    """The inputs of which nothing, or not everything, can be made."""
    folder: Path
    """Of all targets."""
    is_file: bool
    """Whether the output is one file, not a folder."""


@dataclass(frozen=True)
class Share:
    """The part of a work that one of `count` processes does, `number` from 1 to `count`."""

    number: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> "Share":
        """Return the share that a text such as 3/16 names.

        Raises:
            UsageError: it names none.
        """
        number, _, count = text.partition("/")
        if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            raise UsageError(f"--share {text}: expected a number of a share and how many there are, such as 3/16")
        return cls(int(number), int(count))

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> "Share":
        """Return the share of a process that torchrun or srun has started; of any other, all."""
        for rank, size in _VARIABLES:
            if rank in environment and size in environment:
                return cls(int(environment[rank]) + 1, int(environment[size]))
        return cls()

    def of(self, jobs: Sequence[Job]) -> list[Job]:
        """Return the jobs of this share, in their order; every job is in one share of `count`.

        The largest recording goes to the share with the fewest bytes, and so on. No share then has more than 4/3 of
        what the best sharing would give it (Graham 1969, "Bounds on multiprocessing timing anomalies").
        """
        if self.count == 1:
            return list(jobs)
        # On a network file system, threads are worth a factor.
        with ThreadPoolExecutor(16) as pool:
            sizes = dict(zip(jobs, pool.map(lambda job: _size(job.source), jobs), strict=True))
        loads = [(0, 0, number) for number in range(1, self.count + 1)]  # bytes, jobs, share
        mine = set()
        for job in sorted(jobs, key=lambda job: (-sizes[job], job.source)):
            load, count, number = heapq.heappop(loads)
            if number == self.number:
                mine.add(job)
            heapq.heappush(loads, (load + sizes[job], count + 1, number))
        return [job for job in jobs if job in mine]


def plan(inputs: Paths, out: str | Path, source_suffixes: Collection[str], target_suffix: str) -> Plan:
    """Pair every input file with its output.

    The inputs' trees are kept in `out`, as `files_of` has them: of a folder given alone, b/x.wav in it becomes
    out/b/x.npz. A file becomes out/x.npz, or `out` itself where that ends in the suffix and is no folder. Where two
    files would become the same one, they keep their suffixes: x.wav.npz and x.flac.npz.

    Args:
        inputs: files, of any suffix, folders, and patterns.
        out: the folder, or the file, to be written.
        source_suffixes: lower-case, dot included; which files of a folder are taken.
        target_suffix: dot included.

    Raises:
        UsageError: two files would become the same one all the same, or `out` names one file for several.
    """
    paths, out = listed(inputs), Path(out)
    found: dict[tuple[Path, Path], None] = {}  # (source, its folder below `out`), each once, in order
    problems: list[tuple[Path, DataError]] = []
    for path in paths:
        errors: list[DataError] = []
        try:
            found |= dict.fromkeys(files_of(path, source_suffixes, errors, alone=len(paths) == 1))
        except DataError as error:
            errors.append(error)
        problems += [(path, error) for error in errors]
    if out.suffix.lower() != target_suffix or out.is_dir():
        return Plan(_without_collisions(found, out, target_suffix), problems, out, is_file=False)
    if len(paths) > 1 or (found and kind_of(paths[0]) is Kind.FOLDER):
        raise UsageError(f"-o {out}: one file, for several inputs or a folder; give a folder")
    return Plan([Job(source, out) for source, _ in found], problems, out.parent, is_file=True)


def _without_collisions(found: Collection[tuple[Path, Path]], out: Path, suffix: str) -> list[Job]:
    """Name the outputs: those that would coincide keep the suffix of their source."""
    keep: set[Path] = set()
    while True:
        jobs = [
            Job(source, out / folder / f"{source.name if source in keep else source.stem}{suffix}")
            for source, folder in found
        ]
        counts = Counter(job.target for job in jobs)
        clashing = [job for job in jobs if counts[job.target] > 1]
        if not clashing:
            return jobs
        longer = {job.source for job in clashing} - keep
        if not longer:
            first, second = [job.source for job in clashing if job.target == clashing[0].target][:2]
            raise UsageError(
                f"{first} and {second} would both become {clashing[0].target}; "
                "give the folder that holds them, or run twice with different outputs"
            )
        keep |= longer


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # which is met again, and named, when it is read
        return 0
