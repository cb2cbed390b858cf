"""`discrete-ae info`: describe a model, codes or a recording in a table."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from discrete_ae.cli.options import TrustOption, logged_on, print_table
from discrete_ae.errors import DataError, UsageError
from discrete_ae.paths import PRETRAINED, Kind, kind_of

if TYPE_CHECKING:
    from discrete_ae.model import DiscreteAutoencoder


def info(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE|KEY=VALUE",
            help="A checkpoint, a folder from export, a file or folder of codes, a recording, or settings of train.",
        ),
    ] = None,
    config_dir: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", exists=True, file_okay=False, help="Your own configurations, as for train."),
    ] = None,
    trust: TrustOption = None,
) -> None:
    """Describe a model, codes or a recording.

    For a model, print its rates, parameters, MACs and receptive field. Give a
    checkpoint, an exported folder, or settings such as model=conv/base
    quantizer=rvq. Without an argument, the default model is described.

    For a file of codes, print its contents, with bits and bitrates of all streams
    together (a mono model codes every channel as a stream); for a .daec file also
    its coding and measured bitrate. For a saved stream of codes, print its first
    line and the number of frames. For a folder of codes, summarize its manifest.

    For a recording, print its sample rate, channels and length.

    The number of parameters includes all parameters that training optimizes. MACs
    are multiply-accumulates per second of audio, in convolutions, matrix products
    and recurrent layers. The receptive field is the stretch of audio on which one
    sample of the reconstruction depends. The look-ahead is the part of this
    stretch after the sample.
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
    if files and kind_of(files[0]) is Kind.NOTHING and not is_on_hub(files[0]) and files[0] != PRETRAINED:
        raise DataError(f"{files[0]}: no such file; check the name, or give settings such as model=conv/base")
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
    """Build the model that `discrete-ae train` would train with these overrides, with random weights.

    Args:
        overrides: settings, key=value.
        config_dir: folder of additional configurations.

    Raises:
        UsageError: an override names an unknown setting, or its value is invalid.
    """
    # These modules take seconds to import, and --help does not need them.
    from omegaconf.errors import OmegaConfBaseException

    from discrete_ae.cli.overrides import built, compose_config

    try:
        return built(compose_config(overrides, config_dir))
    except OmegaConfBaseException as error:
        raise UsageError(" ".join(str(error).split())) from error
