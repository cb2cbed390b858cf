"""`discrete-ae encode`: turn recordings into files of codes."""

import os
from pathlib import Path
from typing import Annotated, Literal, get_args

import typer

from discrete_ae.cli.live import encode_stream
from discrete_ae.cli.options import (
    BATCH_SECONDS,
    BatchSecondsOption,
    CheckpointOption,
    CodebooksOption,
    DeterministicOption,
    DeviceOption,
    JobsOption,
    OutOption,
    SkipExistingOption,
    StrictOption,
    TrustOption,
    check_existing,
    check_stream,
    load_model,
)
from discrete_ae.codes import Format, ShardKind
from discrete_ae.errors import UsageError
from discrete_ae.paths import PRETRAINED

RecordingsArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT",
        help="Recordings, folders of them, patterns such as 'corpus/**/*.wav', or - for stdin.",
    ),
]


def encode(
    inputs: RecordingsArgument,
    out: OutOption,
    checkpoint: CheckpointOption = Path(PRETRAINED),
    format: Annotated[
        Literal[Format, "stream"] | None,
        typer.Option(
            show_default="from the suffix of OUT, otherwise npz",
            help="[bold]npz[/] and [bold]npy[/] open with numpy; [bold]npy[/] has only the codes; [bold]daec[/] is the "
            "smallest; [bold]stream[/] writes each frame as soon as its samples arrive, and INPUT and OUT must be -.",
        ),
    ] = None,
    codebooks: CodebooksOption = None,
    trust: TrustOption = None,
    device: DeviceOption = "auto",
    jobs: JobsOption = None,
    batch_seconds: BatchSecondsOption = BATCH_SECONDS,
    deterministic: DeterministicOption = False,
    loudness_lufs: Annotated[
        float | None,
        typer.Option(
            min=-70,
            max=0,
            show_default="unchanged",
            help="Normalize every recording to this loudness first; decoding undoes the gain.",
        ),
    ] = None,
    strict: StrictOption = False,
    shards: Annotated[
        ShardKind | None,
        typer.Option(
            show_default="none",
            help="Also write all codes of OUT into OUT/shards, as training data for other models: WebDataset "
            "[bold]tar[/] files, one memory-mapped array, or [bold]parquet[/].",
        ),
    ] = None,
    share: Annotated[
        str | None,
        typer.Option(
            metavar="K/N",
            show_default="set by torchrun or srun, otherwise all",
            help="Encode only the K-th of N shares of the recordings, such as 3/16; other processes encode the others.",
        ),
    ] = None,
    microphone: Annotated[
        bool,
        typer.Option("--microphone", help="Use the microphone as INPUT -, until Ctrl-C; implies --format stream."),
    ] = False,
    skip_existing: SkipExistingOption = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            "-f",
            help="Overwrite existing files of codes, and shards of another kind; write beside codes of another model.",
        ),
    ] = False,
) -> None:
    """Turn recordings into files of integer codes.

    Folders keep their tree: a/x.wav in INPUT becomes OUT/a/x.npz. With several
    INPUTs, each folder keeps its name too. A file given as INPUT becomes
    OUT/x.npz. If a folder has both x.wav and x.flac, they become x.wav.npz and
    x.flac.npz.

    Any sample rate, length and format that libsndfile reads is accepted; memory
    use is bounded. A mono model codes each channel of a recording separately. A
    recording that cannot be coded is reported and skipped; the exit status is
    then 1. OUT/manifest.jsonl lists all files of codes in OUT.

    If torchrun or srun starts several processes, each encodes its share of the
    recordings on its own GPU, without waiting for the others. The shares are
    balanced by file size.

    --format stream is for pipes and live sound: it reads a WAV stream from
    standard input. It writes one line of JSON that describes the codes, then
    the frames. A frame holds little-endian integers (streams, codebooks). An
    integer has one byte for codebooks of up to 256 entries, otherwise two, four
    or eight bytes. decode - reads the stream. The codes equal those of the whole
    recording; the last frame is padded.
    """
    from discrete_ae.build import check_codebooks
    from discrete_ae.cli.files import format_of, is_dash, piped, shown
    from discrete_ae.codec import Share, encode_corpus
    from discrete_ae.inference import runner_of

    check_existing(skip_existing, force)
    if format == "stream" or microphone:
        if format not in (None, "stream"):
            raise UsageError(f"--microphone: expected --format stream, got {format}; leave out --format")
        if loudness_lufs is not None or shards or share:
            raise UsageError("--loudness-lufs, --shards and --share need whole recordings; leave them out for a stream")
        check_stream(skip_existing, jobs, batch_seconds, deterministic)
        encode_stream(inputs, out, lambda: load_model(checkpoint, device, trust), codebooks, microphone, strict)
        return
    code_format = format_of(Path(out), format, get_args(Format), "encode")
    part = Share.parse(share) if share else Share.of_environment()
    with piped(inputs, out, f".{code_format}") as (sources, target):
        model = load_model(checkpoint, device, trust)
        check_codebooks(model, codebooks)
        line, failed = shown(
            lambda watch: encode_corpus(
                model,
                sources,
                target,
                format=code_format,
                num_codebooks=codebooks,
                loudness_lufs=loudness_lufs,
                strict=strict,
                existing="replace" if force else "skip" if skip_existing else "refuse",
                share=part,
                shards=shards,
                runner=runner_of(model, jobs, batch_seconds, deterministic),
                watch=watch,
            ),
            "encoded",
        )
    typer.echo(f"share {part.number} of {part.count}: {line}" if part.count > 1 else line, err=is_dash(out))
    if shards and not failed:
        typer.echo(f"shards: {target / 'shards'}")
    # torchrun stops all processes when one exits with a nonzero status.
    raise typer.Exit(1 if failed and "TORCHELASTIC_RUN_ID" not in os.environ else 0)
