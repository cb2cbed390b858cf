"""`discrete-ae decode`: files of codes to recordings."""

import io
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from discrete_ae.cli.options import CheckpointOption, Device, DeviceOption, load_model
from discrete_ae.errors import DataError, UsageError

if TYPE_CHECKING:
    from discrete_ae.data.reading import Audio


class Format(StrEnum):
    """Formats of the recordings, both with samples of 16 bits."""

    WAV = "wav"
    FLAC = "flac"


def decode(
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="INPUT", show_default=False, help="Files of codes (.npz), or folders of them."),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="OUT",
            show_default=False,
            help="The folder for the recordings; or, for one file, a file that ends in .wav or .flac.",
        ),
    ],
    checkpoint: CheckpointOption,
    format: Annotated[
        Format | None,
        typer.Option("--format", show_default="by the suffix of OUT, otherwise wav", help="16-bit WAV or FLAC."),
    ] = None,
    device: DeviceOption = Device.AUTO,
    force: Annotated[
        bool,
        typer.Option(
            "--force", "-f", help="Overwrite recordings that exist; and decode codes of another model, with a warning."
        ),
    ] = False,
) -> None:
    """Turn files of codes back into recordings of their own sample rate, length and channels.

    A folder keeps its name and tree: a/b/x.npz of INPUT a becomes OUT/a/b/x.wav.
    A file given by itself becomes OUT/x.wav.

    Only the model that made the codes decodes them. With --force another one does,
    if its codebooks, sample rate and frames are the same. A file that cannot be
    decoded is named, the others are done, and the exit status is 1.
    """
    from discrete_ae.cli import batch
    from discrete_ae.cli.files import plan
    from discrete_ae.codec import decode_file, read_npz

    audio_format = _audio_format(out, format)
    planned = plan(inputs, out, [".npz"], f".{audio_format}")
    model = load_model(checkpoint, device)

    def convert(path: Path) -> batch.Converted:
        code_file = read_npz(path)
        try:
            audio = decode_file(model, code_file, force)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
        return batch.Converted(
            _audio_bytes(audio, code_file.sample_rate, audio_format),
            code_file.duration_s,
            len(code_file.codes) * model.bitrate_bps,
            "" if code_file.model_hash == model.model_hash else "codes of another model, decoded all the same",
        )

    batch.run(planned, convert, "decoded", overwrite=force)


def _audio_format(out: Path, chosen: Format | None) -> Format:
    suffix = out.suffix.lower().removeprefix(".")
    if suffix not in set(Format) or out.is_dir():
        return chosen or Format.WAV
    if chosen not in (None, suffix):
        raise UsageError(f"--format {chosen}, but -o {out}; make them agree")
    return Format(suffix)


def _audio_bytes(audio: "Audio", sample_rate: int, audio_format: Format) -> bytes:
    """A file of the samples (C, N) in 16 bits; what lies beyond full scale is clipped."""
    import soundfile

    stream = io.BytesIO()
    soundfile.write(stream, audio.T.clip(-1, 1), sample_rate, format=audio_format.upper(), subtype="PCM_16")
    return stream.getvalue()
