"""`discrete-ae shards`: write a folder of recordings as WebDataset tars."""

from pathlib import Path
from typing import Annotated

import typer

from discrete_ae.errors import UsageError, counted


def shards(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of the recordings.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Output folder.")],
    size: Annotated[
        str, typer.Option(metavar="SIZE", help="Maximum size of a tar, such as 500MB, 1GB or 1GiB.")
    ] = "1GB",
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Reject files that are unreadable, or whose length differs from their header, instead of warning.",
        ),
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", "-f", help="Replace the tars in DIR; a folder with any other file is never replaced."),
    ] = False,
) -> None:
    """Pack the recordings of a folder into a few large tars for training.

    DIR/shard-000000.tar and the following tars contain the unchanged files,
    sorted by path, in WebDataset's format. In this format a/x.v2.flac is named
    a/x%2Ev2.flac. The same recordings give the same tars. ([bold]encode --shards[/]
    writes tars of codes instead, as training data for models of codes.)
    """
    from rich.console import Console

    from discrete_ae.cli.options import logged_on
    from discrete_ae.data.shards import write_shards
    from discrete_ae.records import num_bytes

    try:
        max_bytes = num_bytes(size)
    except ValueError as error:
        raise UsageError(f"--size: {error}") from error
    with logged_on(Console(stderr=True)):
        written = write_shards(folder, out, max_bytes, strict=strict, overwrite=force)
    amount = f"{counted(written.recordings, 'recording')} ({written.duration_s / 60:.1f} min)"
    typer.echo(f"{out}: {counted(len(written.shards), 'tar')} of {amount}, {written.num_bytes / 1e6:.1f} MB")
