"""`discrete-ae decode`: turn files of codes into recordings."""

from pathlib import Path
from typing import Annotated, Literal, get_args

import typer

from discrete_ae.cli.live import decode_stream, is_stream
from discrete_ae.cli.options import (
    BATCH_SECONDS,
    BatchSecondsOption,
    CheckpointOption,
    DeterministicOption,
    DeviceOption,
    JobsOption,
    OutOption,
    SkipExistingOption,
    TrustOption,
    check_existing,
    check_stream,
    load_model,
)
from discrete_ae.paths import PRETRAINED

Format = Literal["wav", "flac"]
CodesArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT",
        help="Files of codes, folders of them, patterns such as 'codes/**/*.npz', or - for stdin.",
    ),
]


def decode(
    inputs: CodesArgument,
    out: OutOption,
    checkpoint: CheckpointOption = Path(PRETRAINED),
    format: Annotated[
        Format | None,
        typer.Option(show_default="from the suffix of OUT, otherwise wav", help="16-bit WAV or FLAC."),
    ] = None,
    trust: TrustOption = None,
    device: DeviceOption = "auto",
    jobs: JobsOption = None,
    batch_seconds: BatchSecondsOption = BATCH_SECONDS,
    deterministic: DeterministicOption = False,
    speaker: Annotated[
        bool,
        typer.Option("--speaker", help="Play codes from standard input on the loudspeaker; INPUT and OUT must be -."),
    ] = False,
    skip_existing: SkipExistingOption = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            "-f",
            help="Overwrite existing recordings. Decode codes of another model, with a warning.",
        ),
    ] = False,
) -> None:
    """Turn files of codes back into recordings with the original sample rate, length and channels.

    Folders keep their tree: a/x.npz in INPUT becomes OUT/a/x.wav. With several
    INPUTs, each folder keeps its name too. A file given as INPUT becomes
    OUT/x.wav. WAV files above 4 GiB are written as RF64.

    Codes must be decoded by the model that made them. --force accepts another
    model with the same codebooks, sample rate and frames. Bare codes (.npy) do
    not name their model; they are decoded to whole frames at the model's sample
    rate. A file that cannot be decoded is reported and skipped; the exit status
    is then 1.

    A stream of codes from encode --format stream on standard input is decoded
    frame by frame as it arrives: to a WAV stream on standard output, to a file,
    or to the loudspeaker.
    """
    from discrete_ae.cli.files import format_of, is_dash, piped, shown
    from discrete_ae.codec import decode_corpus
    from discrete_ae.inference import runner_of

    check_existing(skip_existing, force)
    audio_format = format_of(Path(out), format, get_args(Format), "decode")
    if is_stream(inputs) or speaker:
        check_stream(skip_existing, jobs, batch_seconds, deterministic)
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
