"""`discrete-ae gradient-report`: which rounding's gradient tells the truth, on a trained model."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from discrete_ae.cli.options import CheckpointOption, Device, DeviceOption, load_model
from discrete_ae.errors import DataError

if TYPE_CHECKING:
    from discrete_ae.data import AudioFile

SEGMENT_S = 1.0


def gradient_report(
    checkpoint: CheckpointOption,
    inputs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="INPUT",
            show_default=False,
            help="Recordings, or folders of them; by default those that the project validates on.",
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="OUT", help="The picture (.png, .svg, .pdf); the table lies beside it, .md."
        ),
    ] = Path("gradients.png"),
    segments: Annotated[int, typer.Option(min=1, help="Segments of 1 s, spread evenly over the recordings.")] = 32,
    coordinates: Annotated[int, typer.Option(min=1, help="Rounded numbers compared in each of them.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Of the coordinates and of noise.")] = 0,
    device: DeviceOption = Device.AUTO,
    force: Annotated[bool, typer.Option("--force", "-f", help="Overwrite files that exist.")] = False,
) -> None:
    """Compare each rounding's gradient with what rounding does to the loss.

    The reference for a number is the change of the training loss from the
    integer below it to the one above, all others rounded: the exact gradient
    of the loss under dithering. A gradient of cosine 1 would point the same way.
    "Slope alone" is the cosine that the shape of the slope would leave if the
    loss were linear; the rest is lost by differentiating at one point. "× 8" is
    the mean of eight noisy passes; a training step has one for each recording.
    """
    import io

    import torch
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table

    from discrete_ae.cli.files import check_free, picture_format
    from discrete_ae.compare.gradient_figure import HEADINGS, cells, draw_gradients, markdown, summarize
    from discrete_ae.compare.gradients import candidates, compare, prepare
    from discrete_ae.data import ValidationSegments
    from discrete_ae.writing import write_whole

    format = picture_format(out)
    table_file = out.with_suffix(".md")
    if not force:
        check_free(out)
        check_free(table_file)

    torch.backends.cudnn.allow_tf32 = False  # its ten bits are too few for the difference of two losses
    model = load_model(checkpoint, device).requires_grad_(False)
    place = next(model.parameters()).device
    length = round(SEGMENT_S * model.sample_rate)
    files = _recordings(inputs)
    chosen = ValidationSegments(files, length, model.sample_rate, model.channels, segments, strict=True)
    errors = Console(stderr=True)
    compared = candidates()
    found = []
    for i in track(range(len(chosen)), "compared", console=errors, transient=True, disable=not errors.is_terminal):
        loss, u, highest = prepare(model, chosen[i].to(place))
        found.append(compare(loss, u, highest, compared, coordinates, seed + i))
    rows = summarize(found)

    title = f"Gradients of roundings against the loss's steps, {len(found)} segments of {SEGMENT_S:g} s"
    table = Table(*HEADINGS, title=title)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        table.add_row(*cells(row))
    Console().print(table)
    picture = io.BytesIO()
    draw_gradients(rows, title).savefig(picture, format=format, dpi=160)
    write_whole(out, picture.getvalue())
    write_whole(table_file, markdown(rows, title).encode())
    typer.echo(f"{out} and {table_file} written")


def _recordings(inputs: Sequence[Path] | None) -> "list[AudioFile]":
    """Headers of the recordings, those of the project if none is given."""
    from discrete_ae.data import find_audio, recordings_root
    from discrete_ae.data.files import probe

    files: list[AudioFile] = []
    for path in inputs or [recordings_root() / "validation"]:
        if not path.exists():
            raise DataError(f"{path}: no such file or folder; check the name")
        files += find_audio(path, strict=True).files if path.is_dir() else [probe(path)]
    return files
