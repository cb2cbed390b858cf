"""`discrete-ae info`: describe a model, codes or a recording in a table."""

import contextlib
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from discrete_ae.cli.options import TrustOption, logged_on, print_table
from discrete_ae.errors import DataError, UsageError
from discrete_ae.paths import PRETRAINED, Kind, kind_of

if TYPE_CHECKING:
    from discrete_ae.model import DiscreteAutoencoder

_SETTINGS = "settings such as model=conv/base"
_OF_MODELS = ("config.json", "model.safetensors", "config.yaml", "checkpoints")
_TAKEN = f"a checkpoint, a folder from discrete-ae export, a file or folder of codes, a recording, or {_SETTINGS}"


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
        typer.Option(metavar="FOLDER", help="Your own configurations, as for train."),
    ] = None,
    trust: TrustOption = None,
) -> None:
    """Describe a model, codes or a recording.

    For a model, print its parts, rates, parameters, MACs and receptive field; for
    a checkpoint of a run also the training steps. Give a checkpoint, an exported
    folder, or settings such as model=conv/base quantizer=rvq. Without an
    argument, the included model is described.

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

    from discrete_ae.build import read_saved, restore
    from discrete_ae.codes.summary import describe_codes, holds_codes
    from discrete_ae.data.files import CONVERTIBLE, SUFFIXES
    from discrete_ae.model.summary import summarize
    from discrete_ae.saving.hub import is_on_hub

    given = what or ([] if config_dir else [PRETRAINED])
    files = [argument for argument in given if "=" not in argument or kind_of(argument) is not Kind.NOTHING]
    if files and len(given) > 1:
        raise UsageError(
            f"{files[0]}: expected one file, or {_SETTINGS}, got {len(given)} arguments; give one of the two"
        )
    if files and kind_of(files[0]) is Kind.NOTHING and not is_on_hub(files[0]) and files[0] != PRETRAINED:
        raise DataError(f"{files[0]}: no such file or folder; check the name, or give {_SETTINGS}")
    if config_dir and kind_of(config_dir) is not Kind.FOLDER:
        raise UsageError(f"--config-dir {config_dir}: expected a folder, got none; check the name")
    costs = None
    if files and holds_codes(Path(files[0])):
        rows = describe_codes(Path(files[0]))
    elif files and Path(files[0]).suffix.lower() in SUFFIXES | CONVERTIBLE:
        with logged_on(Console(stderr=True)):
            rows = _described(Path(files[0]))
    else:
        if files:
            _refuse_other(Path(files[0]))
            saved = read_saved(files[0])
            model, config = restore(files[0], saved, trust or ()), saved.config
        else:
            model, config = _of_settings(given, config_dir)
        rows = _of_run(Path(files[0])) if files else []
        rows += [(part, _part(config[part])) for part in ("encoder", "quantizer", "decoder")]
        summary = summarize(model)
        rows += [*summary.rows(), ("parameters", f"{summary.total.parameters:,}")]
        costs = summary.cost_rows()
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
    return _of_settings(overrides, config_dir)[0]


def _of_settings(overrides: Sequence[str], config_dir: Path | None) -> tuple["DiscreteAutoencoder", dict[str, Any]]:
    """Return the model of settings, and its configuration as plain data."""
    # These modules take seconds to import, and --help does not need them.
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from discrete_ae.cli.overrides import built, compose_config

    try:
        config = compose_config(overrides, config_dir)
        return built(config), OmegaConf.to_container(config.model, resolve=True)  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        raise UsageError(" ".join(str(error).split())) from error


def _refuse_other(path: Path) -> None:
    """Reject a path that is nothing which `info` describes.

    Raises:
        DataError: the path is such a file or folder.
    """
    kind = kind_of(path)
    is_other_file = kind is Kind.FILE and path.suffix != ".ckpt" and not zipfile.is_zipfile(path)
    if is_other_file or (kind is Kind.FOLDER and not any((path / name).exists() for name in _OF_MODELS)):
        raise DataError(f"{path}: expected {_TAKEN}; got another {kind.name.lower()}")


def _of_run(checkpoint: Path) -> list[tuple[str, str]]:
    """Return the training steps of a checkpoint, and the options of its run; only those that are known."""
    from discrete_ae.evaluation.results import run_of
    from discrete_ae.saving.checkpoint import read_training_state

    run = run_of(checkpoint)
    choices = (run.config.get("choices") if run else None) or {}
    rows = [(f"{name} of the run", str(option)) for name, option in choices.items()]
    if kind_of(checkpoint) is Kind.FILE:
        with contextlib.suppress(DataError):  # a checkpoint without training state
            rows.append(("training steps", f"{read_training_state(checkpoint).global_step:,}"))
    return rows


def _part(config: Mapping[str, Any]) -> str:
    """Return the class of a part of the model, with its arguments that are numbers or names."""
    name = str(config["_target_"]).rpartition(".")[2]
    arguments = [
        f"{key}={value}"
        for key, value in config.items()
        if key not in ("_target_", "channels", "hop_length") and isinstance(value, str | int | float)
    ]
    return f"{name}({', '.join(arguments)})"
