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

    A folder keeps its tree: a/x.npz in INPUT becomes OUT/a/x.wav. Of several
    INPUTs, each folder keeps its name too. A file given by itself becomes
    OUT/x.wav.

    Only the model that made the codes decodes them; with --force, another one
    of the same codebooks, sample rate and frames. A file that cannot be decoded
    is named, the others are done, and the exit status is 1.
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
            content = _audio_bytes(audio, code_file.sample_rate, audio_format)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
        return batch.Converted(
            content,
            code_file.duration_s,
            code_file.bits_per_frame * model.frame_rate_hz,
            "" if code_file.model_hash == model.model_hash else "codes of another model, decoded all the same",
        )

    batch.run(planned, convert, "decoded", overwrite=force)


def _audio_format(out: Path, chosen: Format | None) -> Format:
    from discrete_ae.cli.files import names_file

    if not names_file(out, [f".{known}" for known in Format]):
        return chosen or Format.WAV
    named = Format(out.suffix.lower()[1:])
    if chosen not in (None, named):
        raise UsageError(f"--format {chosen}, but -o {out}; make them agree")
    return named


def _audio_bytes(audio: "Audio", sample_rate: int, audio_format: Format) -> bytes:
    """A file of the samples (C, N) in 16 bits; what lies beyond full scale is clipped.

    Raises:
        DataError: if the format cannot hold so many channels or such a sample rate.
    """
    import soundfile

    stream = io.BytesIO()
    try:
        soundfile.write(stream, audio.T.clip(-1, 1), sample_rate, format=audio_format.upper(), subtype="PCM_16")
    except soundfile.SoundFileError as error:
        raise DataError(
            f"{len(audio)} channels at {sample_rate} Hz cannot be written as {audio_format}; use another --format"
        ) from error
    return stream.getvalue()
