"""`discrete-ae shards`: a folder of recordings as WebDataset tars."""

from pathlib import Path
from typing import Annotated

import typer

from discrete_ae.errors import UsageError, counted


def shards(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Of the recordings.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The folder to be made.")],
    size: Annotated[
        str, typer.Option(metavar="SIZE", help="The largest size of a tar, such as 500MB, 1GB or 1GiB.")
    ] = "1GB",
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", metavar="", help="Refuse files that are unreadable, or not as long as they say: no warnings."
        ),
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force", "-f", metavar="", help="Replace tars of DIR; a folder with any other file in it never is."
        ),
    ] = False,
) -> None:
    """Put the recordings of a folder together in few large tars, to train on.

    DIR/shard-000000.tar and the others hold the files byte for byte as they are,
    sorted by their paths, in the form of WebDataset: a/x.v2.flac is a/x%2Ev2.flac
    there. The same recordings make the same tars. (Tars of codes, to train a
    model of codes on, are made by [bold]encode --shards[/].)
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
