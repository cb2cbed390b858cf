"""`discrete-ae encode`: recordings to files of codes."""

from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from discrete_ae.cli.options import (
    BatchSecondsOption,
    CheckpointOption,
    DeterministicOption,
    Device,
    DeviceOption,
    JobsOption,
    SkipExistingOption,
    load_model,
    runner_of,
)
from discrete_ae.errors import DataError, UsageError

if TYPE_CHECKING:
    from discrete_ae.cli.files import Job
    from discrete_ae.codec import CodeFile
    from discrete_ae.model import DiscreteAutoencoder, Runner


class Format(StrEnum):
    """Formats of files of codes."""

    NPZ = "npz"
    NPY = "npy"
    DAEC = "daec"


def encode(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            show_default=False,
            help="Recordings, folders of them, patterns such as 'corpus/**/*.wav', or - for standard input.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="OUT",
            show_default=False,
            help="The folder for the codes; for one recording also a file, .npz, .npy or .daec, or - for standard output.",
        ),
    ],
    checkpoint: CheckpointOption,
    format: Annotated[
        Format | None,
        typer.Option(
            "--format",
            show_default="by the suffix of OUT, otherwise npz",
            help="[bold]npz[/] and [bold]npy[/] open with numpy, npy holds the bare codes; [bold]daec[/] is the smallest.",
        ),
    ] = None,
    codebooks: Annotated[
        int | None,
        typer.Option(
            "--codebooks",
            "--num-codebooks",
            min=1,
            show_default="all",
            help="Use only the first codebooks of a residual quantizer, for a lower bitrate.",
        ),
    ] = None,
    device: DeviceOption = Device.AUTO,
    jobs: JobsOption = None,
    batch_seconds: BatchSecondsOption = 120.0,
    chunk_seconds: Annotated[
        float, typer.Option(min=0.1, help="So much of a recording is read ahead; the codes do not depend on it.")
    ] = 30.0,
    deterministic: DeterministicOption = False,
    skip_existing: SkipExistingOption = False,
    force: Annotated[bool, typer.Option("--force", "-f", help="Overwrite files of codes that exist.")] = False,
) -> None:
    """Turn recordings into files of integer codes.

    A folder keeps its tree: a/x.wav in INPUT becomes OUT/a/x.npz. Of several
    INPUTs, each folder keeps its name too. A file given by itself becomes
    OUT/x.npz. Where x.wav and x.flac lie in one folder, they become x.wav.npz
    and x.flac.npz.

    Any sample rate, length and format that libsndfile reads will do, in bounded
    memory. A mono model codes the channels of a recording one by one. A
    recording that cannot be coded is named, the others are done, and the exit
    status is 1.
    """
    from discrete_ae.cli import batch
    from discrete_ae.cli.files import plan
    from discrete_ae.cli.pipes import DASH, piped
    from discrete_ae.data.files import SUFFIXES, probe

    code_format = _format(out, format)
    suffix = f".{code_format}"
    with piped([Path(name) for name in inputs], out, suffix) as (sources, target):
        planned = plan(sources, target, SUFFIXES, suffix)
        model = load_model(checkpoint, device)
        _check_count(model, codebooks)
        tally = batch.Tally()
        todo = batch.to_do(planned, tally, force=force, skip_existing=skip_existing)
        settings = Settings(
            code_format, codebooks, runner_of(model, model.encoder_window, jobs, batch_seconds, deterministic), chunk_seconds
        )
        with batch.progress_bar(tally, "encoding", todo, lambda path: probe(path).duration_s) as progress:
            for outcome in encoded(model, todo, settings, progress):
                if outcome.code_file is None:
                    tally.fail(outcome.error or DataError(f"{outcome.job.source}: cannot be coded"))
                    continue
                nominal_bits = outcome.code_file.bits_per_frame * model.frame_rate_hz * outcome.code_file.duration_s
                tally.add(outcome.code_file.duration_s, nominal_bits, outcome.job.target.stat().st_size)
    batch.finish(tally, "encoded", to_stderr=out == DASH)


class Settings(NamedTuple):
    """How recordings are coded, beside the model."""

    format: Format
    codebooks: int | None
    runner: "Runner"
    chunk_seconds: float


class Outcome(NamedTuple):
    """What became of a job."""

    job: "Job"
    code_file: "CodeFile | None"
    """What was written, None where it failed."""
    error: DataError | None


def encoded(
    model: "DiscreteAutoencoder", jobs: Sequence["Job"], settings: Settings, progress: Callable[[float], None]
) -> Iterator[Outcome]:
    """Encode recordings and write their codes, each file whole, in the order of the jobs."""
    from discrete_ae.codec import encode_files, write_codes
    from discrete_ae.writing import written_whole

    results = encode_files(
        model,
        (job.source for job in jobs),
        settings.codebooks,
        runner=settings.runner,
        chunk_seconds=settings.chunk_seconds,
        progress=progress,
    )
    for job, result in zip(jobs, results, strict=True):
        error = result.error
        if result.code_file is not None:
            try:
                with written_whole(job.target) as temporary:
                    write_codes(result.code_file, temporary, settings.format, model.entropy_model)
            except DataError as failure:
                error = failure
        yield Outcome(job, None if error else result.code_file, error)


def _format(out: Path, chosen: Format | None) -> Format:
    from discrete_ae.cli.files import names_file

    if not names_file(out, [f".{known}" for known in Format]):
        return chosen or Format.NPZ
    named = Format(out.suffix.lower()[1:])
    if chosen not in (None, named):
        raise UsageError(f"--format {chosen}, but -o {out}; make them agree")
    return named


def _check_count(model: "DiscreteAutoencoder", codebooks: int | None) -> None:
    if codebooks not in (None, *model.quantizer.decodable_counts):
        counts = ", ".join(map(str, model.quantizer.decodable_counts))
        raise UsageError(
            f"--codebooks {codebooks}: this model decodes from {counts}; only a residual quantizer, such as "
            "that of a run with quantizer=rvq, decodes from fewer than all"
        )
