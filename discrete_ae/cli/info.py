"""`discrete-ae info`: what a model or a file of codes is, in a table."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from discrete_ae.errors import DataError, UsageError
from discrete_ae.paths import Kind, kind_of

if TYPE_CHECKING:
    from discrete_ae.codes import CodeFile, DaecHeader
    from discrete_ae.model import DiscreteAutoencoder
    from discrete_ae.model.summary import ModelSummary

Rows = list[tuple[str, str]]


def info(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE|KEY=VALUE",
            show_default=False,
            help="A checkpoint, a folder of export, a file or a folder of codes, or settings as for train.",
        ),
    ] = None,
) -> None:
    """Describe a model: its rates, parameters, work, and how far it listens.

    The model of a checkpoint or of an exported folder, or the one that settings such as
    model=conv/base quantizer=rvq would train; without either, the default one.
    Of a file of codes: what it holds; of a .daec file also how it is coded, and
    the bitrate that came of it. Of a folder of codes: what its manifest lists.

    Parameters are those that training optimizes. MACs are multiply-accumulates
    for each second of audio, in convolutions, matrix products and recurrent
    layers. The receptive field is the stretch of audio that one sample of the
    reconstruction depends on, the look-ahead the part of it that comes later.
    """
    from rich.console import Console
    from rich.table import Table

    from discrete_ae.model.summary import summarize

    given = what or []
    files = [argument for argument in given if "=" not in argument or kind_of(argument) is not Kind.NOTHING]
    if files and len(given) > 1:
        raise UsageError(
            f"{files[0]}: expected one file, or settings such as model=conv/base, got {len(given)} arguments"
        )
    costs = None
    is_folder = bool(files) and kind_of(files[0]) is Kind.FOLDER
    suffix = Path(files[0]).suffix.lower() if files and not is_folder else ""
    if suffix == ".npz":
        rows = _of_codes(_read_codes(files[0]))
    elif suffix == ".npy":
        rows = _of_bare_codes(files[0])
    elif is_folder and _holds_codes(Path(files[0])):
        rows = _of_folder(Path(files[0]))
    elif suffix == ".daec":
        rows = _of_daec(Path(files[0]))
    else:
        model = _load(files[0]) if files else model_of(given)
        summary = summarize(model)
        rows, costs = _of_model(summary), _costs(summary)
        if model.entropy_model is not None:
            rows.append(("entropy model", model.entropy_model.fingerprint))

    # As wide as it needs to be where the output goes to a file: a hash is not to be broken.
    console = Console() if Console().is_terminal else Console(width=120)
    table = Table(show_header=False)
    for row in rows:
        table.add_row(*row)
    console.print(table)
    if costs:
        table = Table("part", "parameters", "MACs per second of audio")
        for column in table.columns[1:]:
            column.justify = "right"
        for part in costs:
            table.add_row(*part)
        console.print(table)


def model_of(overrides: Sequence[str]) -> "DiscreteAutoencoder":
    """The model that `discrete-ae train` would start from with these overrides, with random weights.

    Raises:
        UsageError: for overrides that do not exist or do not fit.
    """
    # Here, not above: they take seconds to import, and --help needs none of them.
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from discrete_ae.build import build_model
    from discrete_ae.cli.overrides import compose_config

    config = compose_config(overrides)
    try:
        return build_model(cast(dict[str, Any], OmegaConf.to_container(config.model, resolve=True)))
    except OmegaConfBaseException as error:
        raise UsageError(" ".join(str(error).split())) from error


def _load(name: str) -> "DiscreteAutoencoder":
    from discrete_ae.build import load

    if kind_of(name) is Kind.NOTHING:
        raise DataError(
            f"{name}: no such file; give a checkpoint, an exported folder, a file of codes, or settings such as "
            "model=conv/base"
        )
    return load(name)


def _read_codes(name: str) -> "CodeFile":
    from discrete_ae.codes import read_npz

    return read_npz(name)


def _of_model(summary: "ModelSummary") -> Rows:
    has_codes = bool(summary.codebook_sizes)
    rows = [
        ("sample rate", f"{summary.sample_rate} Hz"),
        ("channels", str(summary.channels)),
        ("hop", f"{summary.hop_length} samples"),
        ("frame rate", f"{summary.frame_rate_hz:g} Hz"),
        ("codebooks", _codebooks(summary.codebook_sizes)),
        ("bits per frame", f"{summary.bits_per_frame:g}" if has_codes else "no limit"),
        ("nominal bitrate", f"{summary.bitrate_bps / 1000:.3g} kbps" if has_codes else "no limit"),
        ("receptive field", f"{1000 * summary.receptive_field_s:.1f} ms"),
        ("look-ahead", f"{1000 * summary.look_ahead_s:.1f} ms"),
    ]
    return rows + ([("model hash", summary.model_hash)] if summary.model_hash else [])


def _costs(summary: "ModelSummary") -> list[tuple[str, str, str]]:
    return [
        (cost.part, f"{cost.parameters:,}", f"{cost.macs_per_second / 1e6:,.1f} M")
        for cost in (*summary.costs, summary.total)
    ]


def _of_codes(file: "CodeFile") -> Rows:
    return [
        *_of_recording(file, file.codes.shape[0], file.codes.shape[2]),
        ("model hash", file.model_hash),
    ]


def _of_bare_codes(name: str) -> Rows:
    from discrete_ae.codes import read_npy

    codes = read_npy(name)
    streams, codebooks, frames = codes.shape
    return [
        ("streams", str(streams)),
        ("frames", str(frames)),
        ("codebooks", str(codebooks)),
        ("range", f"{codes.min()} to {codes.max()}, as {codes.dtype}"),
        ("model", "a .npy file names none, nor a sample rate"),
    ]


def _holds_codes(folder: Path) -> bool:
    from discrete_ae.codes.manifest import MANIFEST_NAME

    return kind_of(folder / MANIFEST_NAME) is Kind.FILE


def _of_folder(folder: Path) -> Rows:
    from discrete_ae.cli.batch import amount
    from discrete_ae.codes.manifest import read_manifest

    entries = read_manifest(folder)
    if not entries:
        raise DataError(f"{folder}: its manifest is empty; encode a folder of recordings first")
    duration_s, size = sum(entry.duration_s for entry in entries), sum(entry.bytes for entry in entries)
    return [
        ("files of codes", f"{len(entries):,}"),
        ("recordings", amount(duration_s)),
        ("streams", _alternatives(str(entry.streams) for entry in entries)),
        ("frames", f"{sum(entry.streams * entry.frames for entry in entries):,} in all streams"),
        ("codebooks", _alternatives(_codebooks(entry.codebook_sizes) for entry in entries)),
        ("bytes", f"{size:,}"),
        ("measured bitrate", f"{8 * size / duration_s / 1000:.3g} kbps with the files' headers"),
        ("model hash", _alternatives(entry.model_hash for entry in entries)),
    ]


def _alternatives(values: Iterable[str]) -> str:
    """What all have, or the first few of what they have."""
    found = list(dict.fromkeys(values))
    return " or ".join(found[:4]) + (f", and {len(found) - 4} more" if len(found) > 4 else "")


def _of_daec(path: Path) -> Rows:
    from discrete_ae.codes import read_daec_header

    header = read_daec_header(path)
    duration_s, size = header.num_samples / header.sample_rate, path.stat().st_size
    payload_kbps, file_kbps = (8 * count / duration_s / 1000 for count in (header.payload_bytes, size))
    return [
        *_of_recording(header, header.num_streams, header.num_frames),
        ("coding", f"{header.coding}, {header.payload_bytes} bytes in a file of {size}"),
        ("measured bitrate", f"{payload_kbps:.3g} kbps, {file_kbps:.3g} kbps with the file's header"),
        *([("entropy model", header.entropy_model)] if header.entropy_model else []),
        ("model hash", header.model_hash),
    ]


def _of_recording(file: "CodeFile | DaecHeader", streams: int, frames: int) -> Rows:
    duration_s = file.num_samples / file.sample_rate
    bits_per_frame = streams * sum(math.log2(size) for size in file.codebook_sizes)
    return [
        ("recording", f"{duration_s:.3f} s, {file.num_samples} samples at {file.sample_rate} Hz"),
        ("coded at", f"{file.model_sample_rate} Hz"),
        ("streams", str(streams)),
        ("frames", str(frames)),
        ("codebooks", _codebooks(file.codebook_sizes)),
        ("bits per frame", f"{bits_per_frame:g}"),
        ("nominal bitrate", f"{bits_per_frame * frames / duration_s / 1000:.3g} kbps"),
    ]


def _codebooks(sizes: Sequence[int]) -> str:
    if not sizes:
        return "none: latents are not quantized"
    if len(set(sizes)) == 1:
        return f"{len(sizes)} of {sizes[0]} entries"
    return f"{len(sizes)} of {', '.join(map(str, sizes))} entries"
