"""`discrete-ae push`: a bundle to a model hub."""

from pathlib import Path
from typing import Annotated

import typer


def push(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A folder that [bold]discrete-ae export[/] wrote.")],
    name: Annotated[
        str, typer.Argument(metavar="USER/MODEL", help="Of the model on the Hugging Face Hub, made if it is not there.")
    ],
    private: Annotated[
        bool, typer.Option("--private", metavar="", help="Nobody else may see it; one that is public is refused.")
    ] = False,
    message: Annotated[
        str | None, typer.Option(metavar="TEXT", show_default="Upload with discrete-ae", help="Of the commit.")
    ] = None,
) -> None:
    """Upload an exported model to the Hugging Face Hub.

    Everybody can use it by its name then: hf:USER/MODEL stands for it wherever
    a CHECKPOINT is expected, and in discrete_ae.load. Files of a bundle alone
    are uploaded, and replace those of the one before; no pickle is among them.

    It needs pip install 'discrete-ae\\[hub]' and a login: hf auth login.
    """
    from discrete_ae.saving.hub import uploaded

    typer.echo(uploaded(bundle, name, private=private, message=message))
