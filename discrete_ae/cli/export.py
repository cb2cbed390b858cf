"""`discrete-ae export`: a checkpoint as a folder for others, and as programs for other runtimes."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from discrete_ae.cli.options import TrustOption, whole_numbers

if TYPE_CHECKING:
    from discrete_ae.model import DiscreteAutoencoder

_TORCH = "torch.export"
_STEPS = "ONNX, step by step"


def export(
    checkpoint: Annotated[
        Path,
        typer.Argument(metavar="CHECKPOINT", help="best.ckpt or last.ckpt of a run; a bundle."),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="FOLDER",
            help="The folder to be made; none of its parts is left where anything fails.",
        ),
    ],
    trust: TrustOption = None,
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
    split: Annotated[
        str | None,
        typer.Option(
            metavar="LEVELS",
            show_default="one stream",
            help="Of a scalar quantizer: write each integer as several, coarse to fine, of so many levels each, such "
            "as 4,4 for 16 levels, so that encode --codebooks has a choice.",
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

    Of a causal model --onnx also writes encoder_step.onnx and decoder_step.onnx
    for streams: one frame of one signal, and the states that the step before
    returned; zeros are the states of the first step.

    --split makes several rates of a trained model: all streams decode to what
    the model decodes to, and the first ones alone to the middle of what they
    leave open.
    """
    from discrete_ae.build import read_saved, restore, split_model
    from discrete_ae.saving.bundle import write_bundle

    saved = read_saved(checkpoint)
    model = restore(checkpoint, saved, trust or ())
    lines: list[str] = []
    if split is not None:
        if saved.entropy_model:
            lines.append("the entropy model is left out: it is of the codes before they were split")
        saved = split_model(saved, model, whole_numbers("--split", split, "4,4"))
    programs = {"ONNX": onnx, _STEPS: onnx and model.is_causal, _TORCH: torch_export}
    extras = [partial(_program, model, lines, name) for name, given in programs.items() if given]
    files = write_bundle(out, saved, model, licence, trained_on=trained_on, extras=extras, overwrite=force)
    typer.echo(f"{out}: {', '.join(files)}")
    for line in lines:
        typer.echo(line)


def _program(model: "DiscreteAutoencoder", lines: list[str], title: str, folder: Path) -> str:
    """Write encoder and decoder as programs, add what was found to `lines`, and return a section of the model card."""
    from discrete_ae.export import write_onnx, write_onnx_steps, write_torch_programs

    if title == _STEPS:
        found = write_onnx_steps(model, folder)
        lines.append(f"{title}: {found}")
        return (
            f"## {title}\n\n`encoder_step.onnx` and `decoder_step.onnx`, for streams: a frame of {model.hop_length} "
            f"samples (1, {model.channels}, {model.hop_length}) and states become codes (1, "
            f"{model.quantizer.num_codebooks}, 1) and the next states, and codes and states become a frame and the "
            "next states. The inputs after the first are the states, in the order in which they come out after the "
            f"first output; the first step takes zeros.\n\nCompared with the model when they were written: {found}."
        )
    if title == _TORCH:
        names = (
            "`encoder.pt2` and `decoder.pt2`, for `torch.export.load` (a signal of a single frame needs "
            "`.module(check_guards=False)`)"
        )
        found = write_torch_programs(model, folder)
    else:
        names, found = "`encoder.onnx` and `decoder.onnx`", write_onnx(model, folder)
    lines.append(f"{title}: {found}")
    interface = (
        f"from audio (batch, {model.channels}, samples) float32 at {model.sample_rate} Hz, of any length, to codes "
        f"(batch, {model.quantizer.num_codebooks}, frames) int64, and from codes to audio of frames times "
        f"{model.hop_length} samples; zeros fill the last frame, the range of codes is not checked"
    )
    return f"## {title}\n\n{names}: {interface}.\n\nCompared with the model when they were written: {found}."
