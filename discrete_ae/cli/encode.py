"""`discrete-ae encode`: recordings to files of codes."""

import io
from pathlib import Path
from typing import Annotated

import typer

from discrete_ae.cli.options import CheckpointOption, Device, DeviceOption, load_model
from discrete_ae.errors import UsageError


def encode(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="INPUT", show_default=False, help="Recordings, or folders of them.")
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="OUT",
            show_default=False,
            help="The folder for the codes; or, for one recording, a file that ends in .npz.",
        ),
    ],
    checkpoint: CheckpointOption,
    num_codebooks: Annotated[
        int | None,
        typer.Option(
            min=1, show_default="all", help="Use only the first codebooks of a residual quantizer, for a lower bitrate."
        ),
    ] = None,
    device: DeviceOption = Device.AUTO,
    force: Annotated[bool, typer.Option("--force", "-f", help="Overwrite files of codes that exist.")] = False,
) -> None:
    """Turn recordings into files of integer codes (.npz).

    A folder keeps its tree: a/x.wav in INPUT becomes OUT/a/x.npz. Of several
    INPUTs, each folder keeps its name too. A file given by itself becomes
    OUT/x.npz. Where x.wav and x.flac lie in one folder, they become x.wav.npz
    and x.flac.npz.

    Any sample rate, length and format that libsndfile reads will do. A mono
    model codes the channels of a recording one by one. A recording that cannot
    be coded is named, the others are done, and the exit status is 1.
    """
    from discrete_ae.cli import batch
    from discrete_ae.cli.files import plan
    from discrete_ae.codec import encode_file, write_npz
    from discrete_ae.data.files import SUFFIXES

    planned = plan(inputs, out, SUFFIXES, ".npz")
    model = load_model(checkpoint, device)
    if num_codebooks not in (None, *model.quantizer.decodable_counts):
        counts = ", ".join(map(str, model.quantizer.decodable_counts))
        raise UsageError(
            f"--num-codebooks {num_codebooks}: this model decodes from {counts}; only a residual quantizer, such as "
            "that of a run with quantizer=rvq, decodes from fewer than all"
        )

    def convert(path: Path) -> batch.Converted:
        code_file = encode_file(model, path, num_codebooks)
        stream = io.BytesIO()
        write_npz(code_file, stream)
        bitrate_bps = code_file.bits_per_frame * model.frame_rate_hz
        return batch.Converted(stream.getvalue(), code_file.duration_s, bitrate_bps)

    batch.run(planned, convert, "encoded", overwrite=force)
