"""Recordings to files of codes, one outcome for each; and what is said and kept of all."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import typer

from discrete_ae.cli.batch import Tally
from discrete_ae.cli.files import Job, already_there
from discrete_ae.cli.outcome import Outcome, outcome_of_existing
from discrete_ae.codec import encode_files
from discrete_ae.codes import write_codes
from discrete_ae.codes.entry import describe
from discrete_ae.codes.manifest import MANIFEST_NAME, Superseded, read_manifest, settle, update_manifest
from discrete_ae.codes.shards import ShardKind, keys_of, write_shards
from discrete_ae.errors import DataError
from discrete_ae.inference import Runner
from discrete_ae.model import DiscreteAutoencoder
from discrete_ae.writing import written_whole


class Settings(NamedTuple):
    """How recordings are coded, beside the model."""

    format: str
    codebooks: int | None
    runner: Runner
    chunk_seconds: float
    loudness_lufs: float | None
    folder: Path
    """That of the manifest, and of all files of codes."""


def encoded(
    model: DiscreteAutoencoder,
    jobs: Sequence[Job],
    settings: Settings,
    progress: Callable[[float], None] | None = None,
) -> Iterator[Outcome]:
    """Encode recordings and write their codes, each file whole, in the order of the jobs."""
    results = encode_files(
        model,
        (job.source for job in jobs),
        settings.codebooks,
        runner=settings.runner,
        chunk_seconds=settings.chunk_seconds,
        loudness_lufs=settings.loudness_lufs,
        progress=progress,
    )
    for job, result in zip(jobs, results, strict=True):
        if result.code_file is None:
            yield Outcome(job, None, str(result.error))
            continue
        try:
            with written_whole(job.target) as temporary:
                write_codes(result.code_file, temporary, settings.format, model.entropy_model)
            yield Outcome(job, describe(result.code_file, job.target, settings.folder, job.source), None)
        except DataError as error:
            yield Outcome(job, None, str(error))


def existing(model: DiscreteAutoencoder, settings: Settings, job: Job, *, keep: bool) -> Outcome:
    """The outcome of a job whose file of codes is there already, and is kept or in the way."""
    if keep:
        return outcome_of_existing(model, settings.codebooks, settings.folder, job)
    return Outcome(job, None, str(already_there(job.target)))


@dataclass
class Report:
    """Says of each outcome what a user must know, and at the end writes what there is one of."""

    model: DiscreteAutoencoder
    settings: Settings
    problems: Sequence[DataError]
    has_manifest: bool
    shards: ShardKind | None
    tally: Tally = field(default_factory=Tally)

    def check_shards(self, jobs: Sequence[Job]) -> None:
        """Before the work, refuse jobs whose codes could not be put together with those that are there already.

        Raises:
            DataError: two files would have one key, or the manifest cannot be read.
        """
        folder = self.settings.folder
        if self.shards is None:
            return
        earlier = read_manifest(folder) if (folder / MANIFEST_NAME).is_file() else []
        planned = {job.target.relative_to(folder).as_posix(): job.source.as_posix() for job in jobs}
        kept, _ = settle(folder, earlier, planned)
        keys_of(folder, [*(entry.path for entry in kept), *planned])

    def begin(self) -> None:
        """Name the inputs of which nothing could become."""
        for problem in self.problems:
            self.tally.fail(problem)

    def say(self, outcome: Outcome) -> Outcome:
        """Count an outcome, name a failure, and give it back."""
        entry = outcome.entry
        if entry is None:
            self.tally.fail(outcome.error)
        elif outcome.was_there:
            self.tally.skipped += 1
        else:
            nominal_bits = entry.bits_per_frame * self.model.frame_rate_hz * entry.duration_s
            self.tally.add(entry.duration_s, nominal_bits, entry.bytes)
        return outcome

    def finish(self, outcomes: Sequence[Outcome], *, to_stderr: bool = False) -> int:
        """Write manifest and shards, print the line about the whole, and return the exit status.

        Raises:
            DataError: if they cannot be written.
        """
        entries = [outcome.entry for outcome in outcomes if outcome.entry]
        if self.has_manifest and entries:
            self._warn_of(update_manifest(self.settings.folder, entries))
        if self.shards and entries:
            folder = self.settings.folder
            entropy_model = self.model.entropy_model
            write_shards(
                self.shards,
                folder,
                folder / "shards",
                read_manifest(folder),
                overwrite=True,
                entropy_model=entropy_model,
            )
        typer.echo(self.tally.summary("encoded"), err=to_stderr)
        return 1 if self.tally.failed else 0

    def _warn_of(self, superseded: Sequence[Superseded]) -> None:
        if superseded:
            first = superseded[0]
            recordings = "1 recording" if len(superseded) == 1 else f"{len(superseded)} recordings"
            self.tally.warn(
                f"{self.settings.folder}: holds {recordings} under two names, such as {first.entry.path} and "
                f"{first.by}; the manifest lists the latter, remove the former"
            )

    def whole(self, outcomes: Sequence[Outcome]) -> int:
        """All of it at once, for outcomes of other processes."""
        self.begin()
        return self.finish([self.say(outcome) for outcome in outcomes])
