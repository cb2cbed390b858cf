"""`discrete-ae info`: what a model or a file of codes is, in a table."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from discrete_ae.cli.options import TrustOption, logged_on, print_table
from discrete_ae.errors import DataError, UsageError
from discrete_ae.paths import Kind, kind_of

if TYPE_CHECKING:
    from discrete_ae.model import DiscreteAutoencoder


def info(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE|KEY=VALUE",
            help="A checkpoint, a folder of export, a file or folder of codes, a recording, or settings as for train.",
        ),
    ] = None,
    config_dir: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", exists=True, file_okay=False, help="Configurations of your own, as for train."),
    ] = None,
    trust: TrustOption = None,
) -> None:
    """Describe a model, codes or a recording.

    Of a model: its rates, parameters, work, and how far it listens.

    The model of a checkpoint or of an exported folder, or the one that settings such as
    model=conv/base quantizer=rvq would train; without either, the default one.
    Of a file of codes: what it holds, its bits and bitrates those of all streams
    together (a mono model codes every channel as a stream); of a .daec file also
    how it is coded, and the bitrate that came of it. Of a stream of codes that
    was saved: what its first line says, and how many frames follow. Of a folder of codes: what
    its manifest lists. Of a recording: its sample rate, channels and length.

    Parameters are those that training optimizes. MACs are multiply-accumulates
    for each second of audio, in convolutions, matrix products and recurrent
    layers. The receptive field is the stretch of audio that one sample of the
    reconstruction depends on, the look-ahead the part of it that comes later.
    """
    from rich.console import Console

    from discrete_ae.build import load
    from discrete_ae.codes.summary import describe_codes, holds_codes
    from discrete_ae.data.files import CONVERTIBLE, SUFFIXES
    from discrete_ae.model.summary import summarize
    from discrete_ae.saving.hub import is_on_hub

    given = what or []
    files = [argument for argument in given if "=" not in argument or kind_of(argument) is not Kind.NOTHING]
    if files and len(given) > 1:
        raise UsageError(
            f"{files[0]}: expected one file, or settings such as model=conv/base, got {len(given)} arguments"
        )
    if files and kind_of(files[0]) is Kind.NOTHING and not is_on_hub(files[0]):
        raise DataError(f"{files[0]}: no such file; give one that exists, or settings such as model=conv/base")
    costs = None
    if files and holds_codes(Path(files[0])):
        rows = describe_codes(Path(files[0]))
    elif files and Path(files[0]).suffix.lower() in SUFFIXES | CONVERTIBLE:
        with logged_on(Console(stderr=True)):
            rows = _described(Path(files[0]))
    else:
        model = load(files[0], trust=trust or ()) if files else model_of(given, config_dir)
        summary = summarize(model)
        rows, costs = summary.rows(), summary.cost_rows()
        if model.entropy_model is not None:
            rows.append(("entropy model", model.entropy_model.fingerprint))

    print_table([], rows)
    if costs:
        print_table(["part", "parameters", "MACs per second of audio"], costs)


def _described(path: Path) -> list[tuple[str, str]]:
    from discrete_ae.data.files import accept, probe

    file = probe(path)
    accept(file)
    return [
        ("recording", str(path)),
        ("sample rate", f"{file.sample_rate} Hz"),
        ("channels", str(file.channels)),
        ("length", f"{file.duration_s:.3f} s, {file.num_frames} samples"),
    ]


def model_of(overrides: Sequence[str], config_dir: Path | None = None) -> "DiscreteAutoencoder":
    """The model that `discrete-ae train` would start from with these overrides, with random weights.

    Args:
        overrides: settings, key=value.
        config_dir: a folder of further configurations.

    Raises:
        UsageError: for overrides that do not exist or do not fit.
    """
    # Here, not above: they take seconds to import, and --help needs none of them.
    from omegaconf.errors import OmegaConfBaseException

    from discrete_ae.cli.overrides import built, compose_config

    try:
        return built(compose_config(overrides, config_dir))
    except OmegaConfBaseException as error:
        raise UsageError(" ".join(str(error).split())) from error
