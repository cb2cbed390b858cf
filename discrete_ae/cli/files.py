"""Which file becomes which: inputs and OUT to pairs of paths, before any work is done."""

import os
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from discrete_ae.data.files import SUFFIXES, files_of
from discrete_ae.errors import DataError, UsageError
from discrete_ae.paths import Kind, kind_of
from discrete_ae.writing import unwritable

CODE_SUFFIXES = (".npz", ".npy", ".daec")
PICTURES = ("png", "svg", "pdf")


class Job(NamedTuple):
    """One file to be made of another."""

    source: Path
    target: Path


class Plan(NamedTuple):
    """What is to be done, and what cannot be."""

    jobs: list[Job]
    """In the order of the inputs, those of a folder sorted by path; no two with the same target."""
    problems: list[DataError]
    """The inputs that are not there, or hold nothing to be done, and the folders in them that cannot be read."""


def plan(inputs: Sequence[Path], out: Path, source_suffixes: Collection[str], target_suffix: str) -> Plan:
    """Pair every input file with its output.

    The inputs' trees are kept in `out`, as `files_of` has them: of a folder given alone, b/x.wav in it becomes
    out/b/x.npz. A file becomes out/x.npz, or `out` itself where that ends in the suffix and is no folder. Where two
    files would become the same one, they keep their suffixes: x.wav.npz and x.flac.npz.

    Args:
        inputs: files, of any suffix, and folders.
        out: the folder, or the file, to be written.
        source_suffixes: lower-case, dot included; which files of a folder are taken.
        target_suffix: dot included.

    Raises:
        UsageError: two files would become the same one all the same, or `out` names one file for several.
        DataError: nothing can be written at `out`.
    """
    found: dict[tuple[Path, Path], None] = {}  # (source, its folder below `out`), each once, in order
    problems: list[DataError] = []
    for path in inputs:
        try:
            found |= dict.fromkeys(files_of(path, source_suffixes, problems, alone=len(inputs) == 1))
        except DataError as error:
            problems.append(error)

    is_file = names_file(out, [target_suffix])
    if is_file and (len(inputs) > 1 or (inputs and _is_folder(inputs[0]))):
        raise UsageError(f"-o {out}: one file, for several inputs or a folder; give a folder")
    check_out(out, [target_suffix])
    jobs = [Job(source, out) for source, _ in found] if is_file else _without_collisions(found, out, target_suffix)
    return Plan(jobs, problems)


def check_out(out: Path, suffixes: Collection[str]) -> None:
    """Refuse an OUT that cannot be made, before an hour of work is done for it.

    Args:
        out: the folder to be written, or the file, if it ends in one of the suffixes and is no folder.
        suffixes: lower-case, dot included.

    Raises:
        DataError: nothing can be written there.
    """
    folder = out.parent if names_file(out, suffixes) else out
    try:
        nearest = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    except OSError as error:
        raise unwritable(out, error.strerror) from error
    if not nearest.is_dir():
        raise unwritable(out, f"{nearest} is not a folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise unwritable(out, f"no permission to write in {nearest}")


def names_file(out: Path, suffixes: Collection[str]) -> bool:
    """Whether `out` is the one file to be written, not a folder: by its suffix, unless there is such a folder.

    Raises:
        DataError: its name is impossible.
    """
    try:
        return out.suffix.lower() in suffixes and not out.is_dir()
    except OSError as error:
        raise unwritable(out, error.strerror) from error


def refuse_other_suffix(out: Path, command: str, suffixes: Sequence[str]) -> None:
    """Refuse an `out` that a user takes for a file, by its suffix, and that would become a folder of this name.

    Args:
        out: as it was given.
        command: its name.
        suffixes: of the files that it writes, lower-case, dot included.

    Raises:
        UsageError: it has the suffix of other recordings or codes, and is no folder that exists.
        DataError: its name is impossible.
    """
    if names_file(out, (SUFFIXES | set(CODE_SUFFIXES)) - set(suffixes)):
        *others, last = suffixes
        raise UsageError(f"-o {out}: {command} writes {', '.join(others)} or {last}; give one of these, or a folder")


def is_there(target: Path) -> bool:
    """Whether an output exists.

    Raises:
        DataError: its name is impossible.
    """
    try:
        return target.exists()
    except OSError as error:
        raise unwritable(target, error.strerror) from error


def already_there(target: Path) -> DataError:
    """The error of an output that exists, and is not to be overwritten."""
    return DataError(f"{target}: exists already; use --force to overwrite it")


def check_free(target: Path) -> None:
    """Refuse an output that exists.

    Raises:
        DataError: it does, or its name is impossible.
    """
    if is_there(target):
        raise already_there(target)


def _is_folder(path: Path) -> bool:
    try:
        return kind_of(path) is Kind.FOLDER
    except DataError:  # which is among the problems
        return False


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


def picture_format(path: Path) -> str:
    """The format that the name of a picture asks for: png, svg or pdf.

    Raises:
        UsageError: for another suffix.
    """
    found = path.suffix[1:].lower()
    if found not in PICTURES:
        raise UsageError(f"-o {path}: expected a picture that ends in {', '.join(f'.{name}' for name in PICTURES)}")
    return found
