"""`discrete-ae encode`: recordings to files of codes."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

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


class Format(StrEnum):
    """Formats of files of codes."""

    NPZ = "npz"
    NPY = "npy"
    DAEC = "daec"


class Shards(StrEnum):
    """Forms of a set of codes to train on."""

    TAR = "tar"
    MMAP = "mmap"


def encode(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            show_default=False,
            help="Recordings, folders of them, patterns such as 'corpus/**/*.wav', or - for stdin.",
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            "--out",
            "-o",
            metavar="OUT",
            show_default=False,
            help="The folder for the codes; of one recording also a .npz, .npy or .daec file, or - for stdout.",
        ),
    ],
    checkpoint: CheckpointOption,
    format: Annotated[
        Format | None,
        typer.Option(
            "--format",
            show_default="by the suffix of OUT, otherwise npz",
            help="[bold]npz[/] opens with numpy; [bold]npy[/] too, the bare codes; [bold]daec[/] is the smallest.",
        ),
    ] = None,
    codebooks: Annotated[
        int | None,
        typer.Option(
            "--codebooks",
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
    loudness_lufs: Annotated[
        float | None,
        typer.Option(
            min=-70,
            max=0,
            show_default="as it is",
            help="Bring every recording to this loudness first; decoding takes the gain back.",
        ),
    ] = None,
    shards: Annotated[
        Shards | None,
        typer.Option(
            show_default="none",
            help="Put all codes of OUT together in OUT/shards, for training on them: WebDataset [bold]tar[/] files, or "
            "one array in memory-mapped form.",
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
    """
    from discrete_ae.build import check_codebooks
    from discrete_ae.cli.batch import Tally
    from discrete_ae.cli.files import format_of, is_dash, piped
    from discrete_ae.codec.corpus import encode_corpus
    from discrete_ae.codec.jobs import Share
    from discrete_ae.codes.shards import ShardKind

    code_format = format_of(Path(out), format, Format.NPZ, "encode")
    part = Share.parse(share) if share else Share.of_environment()
    with piped(inputs, out, f".{code_format}") as (sources, target):
        model = load_model(checkpoint, device)
        check_codebooks(model, codebooks)
        tally = Tally()
        with tally.shown("encoding", "encoded"):
            encode_corpus(
                model,
                sources,
                target,
                format=code_format.value,
                num_codebooks=codebooks,
                loudness_lufs=loudness_lufs,
                existing="replace" if force else "skip" if skip_existing else "refuse",
                share=part,
                shards=ShardKind(shards) if shards else None,
                runner=runner_of(model, jobs, batch_seconds, deterministic),
                chunk_seconds=chunk_seconds,
                watch=tally,
            )
    said = f"share {part.number} of {part.count}: " if part.count > 1 else ""
    typer.echo(said + tally.summary("encoded"), err=is_dash(out))
    # torchrun ends all processes when one of them ends with another status.
    raise typer.Exit(1 if tally.failed and "TORCHELASTIC_RUN_ID" not in os.environ else 0)
