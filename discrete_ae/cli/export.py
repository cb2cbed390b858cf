"""`discrete-ae export`: a checkpoint as a folder for others, and as programs for other runtimes."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from discrete_ae.export import Agreement
    from discrete_ae.model import DiscreteAutoencoder
    from discrete_ae.saving.bundle import Extra

    Writer = Callable[[DiscreteAutoencoder, Path], Agreement]


def export(
    checkpoint: Annotated[
        Path,
        typer.Argument(metavar="CHECKPOINT", show_default=False, help="best.ckpt or last.ckpt of a run; a bundle."),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="FOLDER",
            show_default=False,
            help="The folder to be made; none of its parts is left where anything fails.",
        ),
    ],
    licence: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            show_default="not stated",
            help="Of the weights, best as model hubs name it, such as cc0-1.0.",
        ),
    ] = None,
    trained_on: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", show_default="not stated", help="The recordings that it learned from, for the card."
        ),
    ] = None,
    onnx: Annotated[
        bool, typer.Option("--onnx", help="Also encoder.onnx and decoder.onnx, checked with onnxruntime.")
    ] = False,
    torch_export: Annotated[
        bool, typer.Option("--torch-export", help="Also encoder.pt2 and decoder.pt2, programs of torch.export.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Replace a bundle; a folder with any other file in it never is.")
    ] = False,
) -> None:
    """Write a model as a folder for others: tensors, configuration, model card.

    model.safetensors and config.json hold no pickle and name nothing to be
    executed; README.md is the model card. Wherever a CHECKPOINT is expected,
    the folder will do: encode, decode, info, init_from=.

    The programs of --onnx and --torch-export need none of this package. Audio
    (batch, channels, samples) float32 of any length becomes codes (batch,
    codebooks, frames) int64, and those become audio of whole frames. Scalar
    quantizers only. Each is compared with the model on signals of random
    lengths; codes may differ where a latent lies at a decision boundary.
    """
    from discrete_ae.build import read_saved, restore
    from discrete_ae.saving.bundle import write_bundle

    saved = read_saved(checkpoint)
    model = restore(checkpoint, saved)
    lines: list[str] = []
    extras = list(_extras(model, onnx, torch_export, lines)) if onnx or torch_export else []
    files = write_bundle(out, saved, model, licence, trained_on=trained_on, extras=extras, overwrite=force)
    typer.echo(f"{out}: {', '.join(files)}")
    for line in lines:
        typer.echo(line)


def _extras(model: "DiscreteAutoencoder", onnx: bool, torch_export: bool, lines: list[str]) -> "Iterator[Extra]":
    """Yield the writers of the programs asked for; each adds what it found to `lines`."""
    from discrete_ae.export import write_onnx, write_torch_programs

    interface = (
        f"from audio (batch, {model.channels}, samples) float32 at {model.sample_rate} Hz, of any length, to codes "
        f"(batch, {model.quantizer.num_codebooks}, frames) int64, and from codes to audio of frames times "
        f"{model.hop_length} samples; zeros fill the last frame, the range of codes is not checked"
    )

    def extra(write: "Writer", title: str, names: str, folder: Path) -> str:
        found = write(model, folder)
        lines.append(f"{title}: {found}")
        return f"## {title}\n\n{names}: {interface}.\n\nCompared with the model when they were written: {found}."

    if onnx:
        yield partial(extra, write_onnx, "ONNX", "`encoder.onnx` and `decoder.onnx`")
    if torch_export:
        names = (
            "`encoder.pt2` and `decoder.pt2`, for `torch.export.load` (a signal of a single frame needs "
            "`.module(check_guards=False)`)"
        )
        yield partial(extra, write_torch_programs, "torch.export", names)
