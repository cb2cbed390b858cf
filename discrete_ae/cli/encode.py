"""`discrete-ae encode`: recordings to files of codes."""

import os
from pathlib import Path
from typing import Annotated, Literal, get_args

import typer

from discrete_ae.cli.live import encode_stream
from discrete_ae.cli.options import (
    BatchSecondsOption,
    CheckpointOption,
    CodebooksOption,
    DeterministicOption,
    DeviceOption,
    InputsArgument,
    JobsOption,
    OutOption,
    SkipExistingOption,
    StrictOption,
    TrustOption,
    load_model,
)
from discrete_ae.codes import Format, ShardKind
from discrete_ae.errors import UsageError


def encode(
    inputs: InputsArgument,
    out: OutOption,
    checkpoint: CheckpointOption,
    format: Annotated[
        Literal[Format, "stream"] | None,
        typer.Option(
            show_default="by the suffix of OUT, otherwise npz",
            help="[bold]npz[/] opens with numpy; [bold]npy[/] too, the bare codes; [bold]daec[/] is the smallest; "
            "[bold]stream[/] writes each frame as its samples come; INPUT must be - and OUT must be -.",
        ),
    ] = None,
    codebooks: CodebooksOption = None,
    trust: TrustOption = None,
    device: DeviceOption = "auto",
    jobs: JobsOption = None,
    batch_seconds: BatchSecondsOption = 120.0,
    deterministic: DeterministicOption = False,
    loudness_lufs: Annotated[
        float | None,
        typer.Option(
            min=-70,
            max=0,
            show_default="as it is",
            help="Bring every recording to this loudness first; decoding takes the gain back.",
        ),
    ] = None,
    strict: StrictOption = False,
    shards: Annotated[
        ShardKind | None,
        typer.Option(
            show_default="none",
            help="Put all codes of OUT together in OUT/shards, for training on them: WebDataset [bold]tar[/] files, "
            "one array in memory-mapped form, or [bold]parquet[/].",
        ),
    ] = None,
    share: Annotated[
        str | None,
        typer.Option(
            metavar="K/N",
            show_default="that of torchrun or srun, else all",
            help="Encode the K-th of N shares of the recordings, such as 3/16; other processes take the others.",
        ),
    ] = None,
    microphone: Annotated[
        bool,
        typer.Option(
            "--microphone", metavar="", help="Let - be the microphone, until Ctrl-C; implies --format stream."
        ),
    ] = False,
    skip_existing: SkipExistingOption = False,
    force: Annotated[
        bool, typer.Option("--force", "-f", metavar="", help="Overwrite files of codes that exist.")
    ] = False,
) -> None:
    """Turn recordings into files of integer codes.

    A folder keeps its tree: a/x.wav in INPUT becomes OUT/a/x.npz. Of several
    INPUTs, each folder keeps its name too. A file given by itself becomes
    OUT/x.npz. Where x.wav and x.flac lie in one folder, they become x.wav.npz
    and x.flac.npz.

    Any sample rate, length and format that libsndfile reads will do, in bounded
    memory. A mono model codes the channels of a recording one by one. A
    recording that cannot be coded is named, the others are done, and the exit
    status is 1. OUT/manifest.jsonl lists all files of the folder.

    Started by torchrun or srun, each process encodes its share of the
    recordings, by file size, on its own GPU, and waits for no other.

    --format stream is for pipes and live sound: a WAV stream on standard input
    becomes a line of JSON that says what the codes are, then frame after frame
    as little-endian integers, streams by codebooks, of one byte each up to 256
    entries, otherwise two, four or eight. decode - reads it. The codes are those
    of the whole recording; its length is filled up to whole frames.
    """
    from discrete_ae.build import check_codebooks
    from discrete_ae.cli.files import format_of, is_dash, piped, shown
    from discrete_ae.codec import Share, encode_corpus
    from discrete_ae.inference import runner_of

    if format == "stream" or microphone:
        if format not in (None, "stream"):
            raise UsageError(
                f"--microphone with --format {format}: sound that comes makes a stream; leave out --format"
            )
        if loudness_lufs is not None or shards or share:
            raise UsageError("--loudness-lufs, --shards and --share want whole recordings; leave them out for a stream")
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
    # torchrun ends all processes when one of them ends with another status.
    raise typer.Exit(1 if failed and "TORCHELASTIC_RUN_ID" not in os.environ else 0)
