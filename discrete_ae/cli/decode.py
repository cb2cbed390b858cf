"""`discrete-ae decode`: files of codes to recordings."""

from collections import deque
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    from discrete_ae.codes import CodeFile
    from discrete_ae.data.reading import Audio
    from discrete_ae.model import DiscreteAutoencoder

# The lengths in a WAV file have 32 bits.
MAX_WAV_BYTES = 2**32 - 1
WAV_HEADER_BYTES = 44


class Format(StrEnum):
    """Formats of the recordings, both with samples of 16 bits."""

    WAV = "wav"
    FLAC = "flac"


def decode(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            show_default=False,
            help="Files of codes (.npz, .npy, .daec), folders of them, patterns, or - for stdin.",
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            "--out",
            "-o",
            metavar="OUT",
            show_default=False,
            help="The folder for the recordings; of one also a .wav or .flac file, or - for stdout.",
        ),
    ],
    checkpoint: CheckpointOption,
    format: Annotated[
        Format | None,
        typer.Option("--format", show_default="by the suffix of OUT, otherwise wav", help="16-bit WAV or FLAC."),
    ] = None,
    device: DeviceOption = Device.AUTO,
    jobs: JobsOption = None,
    batch_seconds: BatchSecondsOption = 120.0,
    deterministic: DeterministicOption = False,
    skip_existing: SkipExistingOption = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            "-f",
            metavar="",
            help="Overwrite recordings that exist; and decode codes of another model, with a warning.",
        ),
    ] = False,
) -> None:
    """Turn files of codes back into recordings of their own sample rate, length and channels.

    A folder keeps its tree: a/x.npz in INPUT becomes OUT/a/x.wav. Of several
    INPUTs, each folder keeps its name too. A file given by itself becomes
    OUT/x.wav. A WAV file beyond 4 GiB is written in its RF64 form.

    Only the model that made the codes decodes them; with --force, another one
    of the same codebooks, sample rate and frames. Bare codes (.npy) name no
    model, and become whole frames at the model's own sample rate. A file that
    cannot be decoded is named, the others are done, and the exit status is 1.
    """
    from discrete_ae.cli import batch
    from discrete_ae.cli.files import CODE_SUFFIXES, plan, refuse_other_suffix
    from discrete_ae.cli.pipes import is_dash, piped
    from discrete_ae.codec.codec import decode_files

    refuse_other_suffix(Path(out), "decode", [f".{known}" for known in Format])
    audio_format = _audio_format(Path(out), format)
    suffix = f".{audio_format}"
    with piped(inputs, out, suffix) as (sources, target):
        planned = plan(sources, target, CODE_SUFFIXES, suffix)
        model = load_model(checkpoint, device)
        tally = batch.Tally()
        for problem in planned.problems:
            tally.fail(problem)
        todo, there = batch.split(planned.jobs, tally, force=force)
        if skip_existing:
            tally.skipped = len(there)
        else:
            batch.refuse_existing(tally, there)
        runner = runner_of(model, model.decoder_window, jobs, batch_seconds, deterministic)
        waiting: deque[Job] = deque()

        def readable() -> "Iterator[CodeFile]":
            for job in todo:
                try:
                    code_file = _read(model, job.source, force=force)
                except DataError as error:
                    tally.fail(error)
                    continue
                waiting.append(job)
                yield code_file

        with (
            batch.progress_bar(tally, "decoding", todo, lambda path: _duration_s(model, path)) as progress,
            batch.interruptible(tally, "decoded"),
        ):
            for decoded in decode_files(model, readable(), force=force, runner=runner, progress=progress):
                job, code_file = waiting.popleft(), decoded.code_file
                try:
                    channels = len(code_file.codes) * model.channels
                    write_audio(
                        job.target,
                        decoded.blocks,
                        code_file.sample_rate,
                        channels,
                        code_file.num_samples,
                        audio_format,
                    )
                except DataError as error:
                    tally.fail(_named(job.source, error))
                    continue
                if code_file.model_hash != model.model_hash:
                    tally.warn(f"{job.source}: codes of another model, decoded all the same")
                nominal_bits = code_file.bits_per_frame * model.frame_rate_hz * code_file.duration_s
                tally.add(code_file.duration_s, nominal_bits, job.source.stat().st_size)
    typer.echo(tally.summary("decoded"), err=is_dash(out))
    if tally.failed:
        raise typer.Exit(1)


def _read(model: "DiscreteAutoencoder", path: Path, *, force: bool = True) -> "CodeFile":
    """Codes that fit the model.

    Raises:
        DataError: they cannot be read, or do not fit.
    """
    from discrete_ae.codec.fitting import bare_codes, check_fits
    from discrete_ae.codes import read_codes, read_npy

    is_bare = path.suffix.lower() == ".npy"
    code_file = None if is_bare else read_codes(path, model.entropy_model)
    try:
        code_file = code_file or bare_codes(model, read_npy(path))
        check_fits(model, code_file, force=force)
    except DataError as error:
        raise _named(path, error) from error
    return code_file


def _duration_s(model: "DiscreteAutoencoder", path: Path) -> float:
    from discrete_ae.codes import read_daec_header

    # Entropy decoding is most of the work of reading, and it would be done twice.
    return read_daec_header(path).duration_s if path.suffix.lower() == ".daec" else _read(model, path).duration_s


def write_audio(
    target: Path, blocks: "Iterable[Audio]", sample_rate: int, channels: int, num_samples: int, audio_format: Format
) -> None:
    """Write blocks (C, n) in 16 bits as they come, whole or not at all; what lies beyond full scale is clipped.

    A WAV file that would be too long for its own header becomes RF64, WAV with lengths of 64 bits.

    Raises:
        DataError: if the format cannot hold so many channels or such a sample rate, or the disk is full.
    """
    from discrete_ae.data.reading import recorded_whole

    too_long = 2 * num_samples * channels + WAV_HEADER_BYTES > MAX_WAV_BYTES
    name = "RF64" if audio_format is Format.WAV and too_long else audio_format.upper()
    with recorded_whole(target, sample_rate, channels, name) as write:
        for block in blocks:
            write(block)


def _audio_format(out: Path, chosen: Format | None) -> Format:
    from discrete_ae.cli.files import names_file

    if not names_file(out, [f".{known}" for known in Format]):
        return chosen or Format.WAV
    named = Format(out.suffix.lower()[1:])
    if chosen not in (None, named):
        raise UsageError(f"--format {chosen}, but -o {out}; make them agree")
    return named


def _named(path: Path, error: DataError) -> DataError:
    return DataError(f"{path}: {error}")
