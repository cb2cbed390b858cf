"""`discrete-ae plot-rounding`: the family of differentiable roundings in one figure."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

DOTS_PER_INCH = 140  # of a PNG, which is then less than 1600 pixels wide


class Operation(StrEnum):
    """The exact function that is imitated; the names are those of rounding.Op, which takes seconds to import."""

    ROUND = "round"
    FLOOR = "floor"
    CEIL = "ceil"
    TRUNC = "trunc"


def plot_rounding(
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="OUT", show_default=False, help="The picture: .png, .svg or .pdf."),
    ],
    op: Annotated[Operation, typer.Option("--op", help="The operation that is made differentiable.")] = Operation.ROUND,
    force: Annotated[bool, typer.Option("--force", "-f", help="Overwrite a file that exists.")] = False,
) -> None:
    """Draw every rounding: the curve against the exact staircase, and its slope.

    The slope is what multiplies the gradient in training. Each method is drawn
    with the forward that it has by default; hard=True makes any of them emit
    exact integers with the same slope.
    """
    import io

    from discrete_ae.cli.files import check_free, picture_format
    from discrete_ae.compare.rounding_figure import draw_family
    from discrete_ae.writing import write_whole

    format = picture_format(out)
    if not force:
        check_free(out)
    picture = io.BytesIO()
    draw_family(op.value).savefig(picture, format=format, dpi=DOTS_PER_INCH)
    write_whole(out, picture.getvalue())
    typer.echo(f"{out} written")
