"""`discrete-ae export`: write a model as a folder to share, and as programs for other runtimes."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from discrete_ae.cli.options import TrustOption, whole_numbers

if TYPE_CHECKING:
    from discrete_ae.export import Exported
    from discrete_ae.model import DiscreteAutoencoder
    from discrete_ae.saving.bundle import Extra


def export(
    checkpoint: Annotated[
        Path,
        typer.Argument(metavar="CHECKPOINT", help="best.ckpt or last.ckpt of a run; a bundle; hf:USER/MODEL."),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="FOLDER",
            help="Output folder, written completely or not at all.",
        ),
    ],
    trust: TrustOption = None,
    licence: Annotated[
        str | None,
        typer.Option(
            "--licence",
            "--license",
            metavar="TEXT",
            show_default="not stated",
            help="License of the weights, preferably by the name that model hubs use, such as cc0-1.0.",
        ),
    ] = None,
    trained_on: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", show_default="not stated", help="Description of the training recordings, for the card."
        ),
    ] = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", show_default="none", help="Training data set on a hub; repeat the option for several."
        ),
    ] = None,
    results: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            show_default="none",
            help="JSON of [bold]evaluate[/] for the card, named after its data set; repeat the option for several.",
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            metavar="LEVELS",
            show_default="one stream",
            help="Split each integer of a scalar quantizer into several, from coarse to fine, with these numbers of "
            "levels: for example, 16 levels into 4,4. encode --codebooks can then choose the rate.",
        ),
    ] = None,
    half: Annotated[
        bool, typer.Option("--half", help="Store the weights in half precision; a few codes will differ.")
    ] = False,
    onnx: Annotated[
        bool, typer.Option("--onnx", help="Also write encoder.onnx and decoder.onnx, checked with onnxruntime.")
    ] = False,
    torch_export: Annotated[
        bool, typer.Option("--torch-export", help="Also write encoder.pt2 and decoder.pt2, programs of torch.export.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force", "-f", help="Replace an existing bundle; a folder with any other file is never replaced."
        ),
    ] = False,
) -> None:
    """Write a model as a folder to share: tensors, configuration, model card.

    model.safetensors and config.json contain no pickle and no executable code;
    README.md is the model card. The folder is accepted wherever a CHECKPOINT is
    expected: encode, decode, info, init_from=. discrete-ae push uploads it to
    the Hugging Face Hub.

    The programs of --onnx and --torch-export run without this package. The
    encoder maps audio (batch, channels, samples) float32 of any length to codes
    (batch, codebooks, frames) int64. The decoder maps codes to audio of whole
    frames. Only scalar quantizers are supported. Each program is compared with
    the model on signals of random lengths. Codes may differ where a latent is at
    a decision boundary.

    For a causal model, --onnx also writes encoder_step.onnx and
    decoder_step.onnx for streams. A step takes one frame of one signal and the
    states that the previous step returned; the first step takes zeros.

    --split gives a trained model several rates. Each integer becomes several
    smaller integers, in separate streams. All streams together decode to the
    output of the unsplit model. If only the first streams are given, each value
    decodes to the middle of the integers that are still possible.

    --results takes the JSON of discrete-ae evaluate for the same weights. The
    means appear on the card and in its metadata, which hubs read. Name the file
    after the data set, such as librispeech-test-clean.json.
    """
    from discrete_ae.build import read_saved, restore, split_model
    from discrete_ae.evaluation.card import index_entry, results_of, section
    from discrete_ae.export import write_onnx, write_onnx_steps, write_torch_programs
    from discrete_ae.saving.bundle import write_bundle
    from discrete_ae.saving.saved import in_half_precision

    saved = read_saved(checkpoint)
    if half:
        saved = in_half_precision(saved)
    model = restore(checkpoint, saved, trust or ())
    lines: list[str] = []
    if split is not None:
        if saved.entropy_model:
            lines.append("the entropy model is left out: it does not fit the codes after the split")
        saved = split_model(saved, model, whole_numbers("--split", split, "4,4"))
    measured = [(path.stem, results_of(path, saved.model_hash)) for path in results or ()]

    def written(write: "Callable[[DiscreteAutoencoder, Path], Exported]", folder: Path) -> str:
        exported = write(model, folder)
        lines.append(f"{exported.title}: {exported.agreement}")
        return exported.section

    def shown(text: str, folder: Path) -> str:
        return text

    extras: list[Extra] = [partial(shown, section(evaluation, name)) for name, evaluation in measured]
    programs = {write_onnx: onnx, write_onnx_steps: onnx and model.is_causal, write_torch_programs: torch_export}
    extras += [partial(written, write) for write, given in programs.items() if given]
    files = write_bundle(
        out,
        saved,
        model,
        licence,
        trained_on=trained_on,
        datasets=dataset or (),
        results=[index_entry(evaluation, name) for name, evaluation in measured],
        extras=extras,
        overwrite=force,
    )
    typer.echo(f"{out}: {', '.join(files)}")
    for line in lines:
        typer.echo(line)
