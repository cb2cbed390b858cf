"""Pair input files with output files, and divide the pairs into shares for several processes."""

import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from discrete_ae.data.files import by_threads, files_of
from discrete_ae.errors import DataError, UsageError
from discrete_ae.paths import Kind, Paths, kind_of, listed

# Variables set by torchrun and by srun. A batch script runs only once, but has SLURM_PROCID and SLURM_NTASKS too.
_VARIABLES = (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"))


class Job(NamedTuple):
    """A source file and its output."""

    source: Path
    target: Path


class Plan(NamedTuple):
    """The jobs, and the inputs with problems."""

    jobs: list[Job]
    """Jobs in the order of the inputs, sorted by path within a folder; targets are unique."""
    problems: list[tuple[Path, DataError]]
    """Inputs of which all or a part cannot be used."""
    folder: Path
    """Folder of all targets."""
    is_file: bool
    """True if the output is a single file, not a folder."""


@dataclass(frozen=True)
class Share:
    """The part of the work for one of `count` processes, `number` from 1 to `count`."""

    number: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> "Share":
        """Return the share named by a text such as 3/16.

        Raises:
            UsageError: the text is not a valid share.
        """
        number, _, count = text.partition("/")
        if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            raise UsageError(f"--share {text}: expected the number of a share and the number of shares, such as 3/16")
        return cls(int(number), int(count))

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> "Share":
        """Return the share of a process started by torchrun or srun; for any other process, the whole work."""
        for rank, size in _VARIABLES:
            if rank in environment and size in environment:
                return cls(int(environment[rank]) + 1, int(environment[size]))
        return cls()

    def of(self, jobs: Sequence[Job]) -> list[Job]:
        """Return the jobs of this share, in their order; every job is in exactly one share.

        The shares take turns in descending order of file size, so two shares differ by at most the largest file.
        """
        if self.count == 1:
            return list(jobs)
        sizes = dict(zip(jobs, by_threads(lambda job: _size(job.source), jobs), strict=True))
        ordered = sorted(jobs, key=lambda job: (-sizes[job], job.source))
        mine = set(ordered[self.number - 1 :: self.count])
        return [job for job in jobs if job in mine]


def plan(inputs: Paths, out: str | Path, source_suffixes: Collection[str], target_suffix: str) -> Plan:
    """Pair every input file with its output.

    The outputs keep the folder structure of the inputs (see `files_of`). If the only input is a folder, its file
    b/x.wav becomes out/b/x.npz. An input file x.wav becomes out/x.npz; or `out` itself, if `out` has the suffix of the
    outputs and is not a folder. Two files that would become the same output keep their suffixes: x.wav.npz and
    x.flac.npz.

    Args:
        inputs: files with any suffix, folders, and patterns.
        out: the output folder or file.
        source_suffixes: lower-case suffixes, dot included, of the files to take from a folder.
        target_suffix: suffix of the outputs, dot included.

    Raises:
        UsageError: two files would still become the same output, or `out` is a single file for several inputs.
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
        raise UsageError(
            f"-o {out}: expected a folder for several inputs or an input folder, got a file; give an output folder"
        )
    return Plan([Job(source, out) for source, _ in found], problems, out.parent, is_file=True)


def _without_collisions(found: Collection[tuple[Path, Path]], out: Path, suffix: str) -> list[Job]:
    """Name the outputs; outputs that would have the same name keep the suffixes of their sources."""
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
    except OSError:  # reported later, when the file is read
        return 0
