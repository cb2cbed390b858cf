"""`discrete-ae export`: a checkpoint as a folder for others, and as programs for other runtimes."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from discrete_ae.cli.options import TrustOption, whole_numbers

if TYPE_CHECKING:
    from discrete_ae.evaluation.results import Evaluation
    from discrete_ae.model import DiscreteAutoencoder
    from discrete_ae.saving.bundle import Extra
    from discrete_ae.saving.saved import SavedModel

_TORCH = "torch.export"
_STEPS = "ONNX, step by step"


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
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", show_default="none", help="A data set of a hub among them; repeat it for several."
        ),
    ] = None,
    results: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            show_default="none",
            help="JSON of [bold]evaluate[/], for the card, called as its data set; repeat it for several.",
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
    the folder will do: encode, decode, info, init_from=. discrete-ae push brings
    it to the Hugging Face Hub.

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

    --results is for the JSON of discrete-ae evaluate of the same weights: their
    means stand in the card, also where a hub looks for them. Call the file as
    the data set, such as librispeech-test-clean.json.
    """
    from discrete_ae.build import read_saved, restore, split_model
    from discrete_ae.evaluation.card import index_entry
    from discrete_ae.saving.bundle import write_bundle

    saved = read_saved(checkpoint)
    model = restore(checkpoint, saved, trust or ())
    lines: list[str] = []
    if split is not None:
        if saved.entropy_model:
            lines.append("the entropy model is left out: it is of the codes before they were split")
        saved = split_model(saved, model, whole_numbers("--split", split, "4,4"))
    programs = {"ONNX": onnx, _STEPS: onnx and model.is_causal, _TORCH: torch_export}
    measured = [(path.stem, _evaluation(path, saved)) for path in results or ()]
    extras: list[Extra] = [partial(_measured, name, evaluation) for name, evaluation in measured]
    extras += [partial(_program, model, lines, name) for name, given in programs.items() if given]
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


def _evaluation(path: Path, saved: "SavedModel") -> "Evaluation":
    """Read the results of a model.

    Raises:
        DataError: they are those of another one.
    """
    from discrete_ae.errors import DataError
    from discrete_ae.evaluation.results import Evaluation

    found = Evaluation.read_json(path)
    if found.model_hash != saved.model_hash:
        raise DataError(
            f"{path}: was measured of another model ({str(found.model_hash)[:12]}), this one is "
            f"{saved.model_hash[:12]}; evaluate this one"
        )
    return found


def _measured(name: str, evaluation: "Evaluation", folder: Path) -> str:
    """Return the section of the model card that tells of an evaluation."""
    from discrete_ae.evaluation.card import section

    return section(evaluation, name)


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
