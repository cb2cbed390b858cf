"""`discrete-ae decode`: files of codes to recordings."""

from pathlib import Path
from typing import Annotated, Literal, get_args

import typer

from discrete_ae.cli.live import decode_stream, is_stream
from discrete_ae.cli.options import (
    BatchSecondsOption,
    CheckpointOption,
    DeterministicOption,
    DeviceOption,
    InputsArgument,
    JobsOption,
    OutOption,
    SkipExistingOption,
    TrustOption,
    load_model,
)

Format = Literal["wav", "flac"]


def decode(
    inputs: InputsArgument,
    out: OutOption,
    checkpoint: CheckpointOption,
    format: Annotated[
        Format | None,
        typer.Option(show_default="by the suffix of OUT, otherwise wav", help="16-bit WAV or FLAC."),
    ] = None,
    trust: TrustOption = None,
    device: DeviceOption = "auto",
    jobs: JobsOption = None,
    batch_seconds: BatchSecondsOption = 120.0,
    deterministic: DeterministicOption = False,
    speaker: Annotated[
        bool, typer.Option("--speaker", metavar="", help="Let -o - be the loudspeaker, of codes that come as a stream.")
    ] = False,
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

    The stream of codes of encode --format stream, on standard input, is decoded
    frame by frame as it comes: to a WAV stream on standard output, to a file, or
    to the loudspeaker.
    """
    from discrete_ae.cli.files import format_of, is_dash, piped, shown
    from discrete_ae.codec import decode_corpus
    from discrete_ae.inference import runner_of

    audio_format = format_of(Path(out), format, get_args(Format), "decode")
    if is_stream(inputs) or speaker:
        decode_stream(inputs, out, lambda: load_model(checkpoint, device, trust), audio_format, speaker, force)
        return
    with piped(inputs, out, f".{audio_format}") as (sources, target):
        model = load_model(checkpoint, device, trust)
        line, failed = shown(
            lambda watch: decode_corpus(
                model,
                sources,
                target,
                format=audio_format,
                existing="replace" if force else "skip" if skip_existing else "refuse",
                force=force,
                runner=runner_of(model, jobs, batch_seconds, deterministic),
                watch=watch,
            ),
            "decoded",
        )
    typer.echo(line, err=is_dash(out))
    raise typer.Exit(1 if failed else 0)
