"""What became of one recording that was to be encoded."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from discrete_ae.cli.files import Job
from discrete_ae.codes.container import CodeFile, read_codes, read_npy
from discrete_ae.codes.entry import ManifestEntry, describe
from discrete_ae.data.files import probe
from discrete_ae.errors import DataError

if TYPE_CHECKING:
    from discrete_ae.model import DiscreteAutoencoder


class Outcome(NamedTuple):
    """The file of codes that was written, or found; or why there is none."""

    job: Job
    entry: ManifestEntry | None
    """None where it failed."""
    error: str | None
    """One line, None where it did not fail."""
    seconds: float = 0.0
    """Of work."""
    was_there: bool = False
    """Whether the file of codes was there before."""


def outcome_of_existing(model: "DiscreteAutoencoder", codebooks: int | None, folder: Path, job: Job) -> Outcome:
    """The outcome of a job whose file of codes is there: its entry, if it is what encoding would write.

    Of the recording, rate and length are compared, and it is kept where the recording is gone or cannot be read. The
    loudness is not compared: whether a gain is that of some loudness only measuring the recording would tell.

    Args:
        model: which would encode it.
        codebooks: how many of its codebooks, None for all.
        folder: that of the manifest.
        job: the recording and its file of codes.
    """
    sizes = model.quantizer.codebook_sizes[:codebooks]
    again = "encode it again with --force"
    try:
        code_file = _read(model, sizes, job)
        if code_file.model_hash != model.model_hash:
            raise DataError(f"{job.target}: codes of another model ({code_file.model_hash[:12]}); {again}")
        if code_file.codebook_sizes != sizes:
            found = len(code_file.codebook_sizes)
            raise DataError(f"{job.target}: {found} codebooks, where {len(sizes)} are wanted; {again}")
        if differs := _differs(code_file, job.source):
            raise DataError(f"{job.target}: codes of another recording than {job.source} is now, {differs}; {again}")
        return Outcome(job, describe(code_file, job.target, folder, job.source), None, was_there=True)
    except DataError as error:
        return Outcome(job, None, str(error))


def _differs(code_file: CodeFile, source: Path) -> str:
    """How the recording is not the one of the codes, empty if it is, or cannot be read."""
    try:
        recording = probe(source)
    except DataError:
        return ""
    if (code_file.num_samples, code_file.sample_rate) == (recording.num_frames, recording.sample_rate):
        return ""
    return (
        f"of {code_file.num_samples} samples at {code_file.sample_rate} Hz, not {recording.num_frames} at "
        f"{recording.sample_rate} Hz"
    )


def _read(model: "DiscreteAutoencoder", sizes: tuple[int, ...], job: Job) -> CodeFile:
    if job.target.suffix != ".npy":
        return read_codes(job.target, model.entropy_model)
    # It holds the codes alone; the rest is what it would have been made with.
    recording = probe(job.source)
    codes = read_npy(job.target)
    try:
        code_file = CodeFile(
            codes=codes,
            sample_rate=recording.sample_rate,
            num_samples=recording.num_frames,
            model_sample_rate=model.sample_rate,
            codebook_sizes=sizes,
            model_hash=model.model_hash or "",
        )
    except ValueError as error:
        raise DataError(f"{job.target}: not codes of this model ({error}); encode it again with --force") from error
    frames = -(-code_file.num_model_samples // model.hop_length)
    if codes.shape[2] != frames:
        raise DataError(
            f"{job.target}: codes of another recording than {job.source} is now, of {codes.shape[2]} frames, not "
            f"{frames}; encode it again with --force"
        )
    return code_file
