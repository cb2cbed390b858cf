"""`discrete-ae push`: upload a bundle to a model hub."""

from pathlib import Path
from typing import Annotated

import typer


def push(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A folder from [bold]discrete-ae export[/].")],
    name: Annotated[
        str, typer.Argument(metavar="USER/MODEL", help="Name on the Hugging Face Hub; created if missing.")
    ],
    private: Annotated[
        bool,
        typer.Option("--private", help="Keep the model private; an existing public one is rejected."),
    ] = False,
    message: Annotated[
        str | None, typer.Option(metavar="TEXT", show_default="Upload with discrete-ae", help="Commit message.")
    ] = None,
) -> None:
    """Upload an exported model to the Hugging Face Hub.

    The model can then be used as hf:USER/MODEL, wherever a CHECKPOINT is expected
    and in discrete_ae.load. Only the files of a bundle are uploaded, never a
    pickle. They replace the files of an earlier upload.

    This needs pip install 'discrete-ae\\[hub]' and a login: hf auth login.
    """
    from discrete_ae.saving.hub import uploaded

    typer.echo(uploaded(bundle, name, private=private, message=message))
