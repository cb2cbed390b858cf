"""Encode many recordings to files of codes, and decode them; a failed recording does not stop the others.

Several processes can share the work. Each process derives its share from the list of all recordings, so no process
waits for another. Each process appends its results to its own part of the manifest, and readers merge the parts. If a
process is killed, the others are not affected. To resume, run the same command with `existing="skip"`.
"""

import errno
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from discrete_ae.codec.files import (
    Decoded,
    Encoded,
    OtherModelError,
    are_of,
    bare_codes,
    check_fits,
    decode_files,
    encode_files,
)
from discrete_ae.codec.jobs import Job, Plan, Share, plan
from discrete_ae.codes import CodeFile, Format, ShardKind, read_codes, read_daec_header, read_npy, write_codes
from discrete_ae.codes.code_file import CodesInfo, FileInfo
from discrete_ae.codes.container import FORMATS
from discrete_ae.codes.manifest import (
    ManifestEntry,
    append_entry,
    describe,
    entries_beside,
    update_manifest,
)
from discrete_ae.codes.shards import (
    INDEX_NAME,
    OWN_FILES,
    ShardIndex,
    keys_of,
    write_memory_map,
    write_tar_shards,
)
from discrete_ae.data.files import SUFFIXES, AudioFile, probe
from discrete_ae.data.reading import recorded_whole
from discrete_ae.data.resampling import Audio
from discrete_ae.errors import DataError, UsageError, counted, from_system
from discrete_ae.inference import Runner
from discrete_ae.model import DiscreteAutoencoder
from discrete_ae.paths import Kind, Paths, kind_of
from discrete_ae.writing import check_replaceable, written_whole

CODE_SUFFIXES = tuple(f".{format}" for format in FORMATS)
MAX_WAV_BYTES = 2**32 - 1
"""Largest size of a WAV file, whose lengths have 32 bits."""
WAV_HEADER_BYTES = 44

Existing = Literal["refuse", "skip", "replace"]
"""Treatment of existing outputs: raise an error before any work, skip them, or write them again."""
AudioFormat = Literal["wav", "flac"]


class Outcome(NamedTuple):
    """The output for one source, new or existing, or the error."""

    source: Path
    target: Path | None = None
    error: str | None = None
    """Error in one line; None for success."""
    other_model: bool = False
    """True if the error is that another model encoded the codes."""
    was_there: bool = False
    """True if the output existed before and was skipped."""
    duration_s: float = 0.0
    """Duration of the recording."""
    code_bits: float = 0.0
    """Bits of the codes of all streams, with log2(size) bits per code."""
    num_bytes: int = 0
    """Size of the file of codes."""
    streams: int = 1
    """Number of streams: the channels of the recording for a mono model, else 1."""
    entry: ManifestEntry | None = None
    """Manifest entry of codes that were written or found."""


class Watch:
    """Callbacks for the progress of the work; in this base class they do nothing."""

    def begin(self, sources: Sequence[Path], duration_s: Callable[[Path], float]) -> None:
        """Receive the sources to process, and a function that returns a source's duration or raises a DataError."""

    def advance(self, seconds: float) -> None:
        """Receive the seconds of audio processed since the last call."""

    def finished(self, outcome: Outcome) -> None:
        """Receive the outcome of one file."""

    def warn(self, message: str) -> None:
        """Receive a warning for the user."""


def encode_corpus(
    model: DiscreteAutoencoder,
    inputs: Paths,
    out: str | Path,
    *,
    format: Format = "npz",
    num_codebooks: int | None = None,
    loudness_lufs: float | None = None,
    strict: bool = False,
    existing: Existing = "refuse",
    share: Share | None = None,
    shards: ShardKind | None = None,
    runner: Runner | None = None,
    chunk_seconds: float = 30.0,
    watch: Watch | None = None,
) -> list[Outcome]:
    """Encode recordings; write a file of codes for each recording, and the manifest of the output folder.

    >>> model = discrete_ae.load(checkpoint)
    >>> outcomes = discrete_ae.encode_corpus(model, recordings, out, format="daec")
    >>> [(outcome.source.name, outcome.target.name) for outcome in outcomes]
    [('clip_0.wav', 'clip_0.daec'), ('clip_1.wav', 'clip_1.daec')]
    >>> again = discrete_ae.encode_corpus(model, recordings, out, format="daec", existing="skip")
    >>> all(outcome.was_there for outcome in again)
    True

    Args:
        model: a model from `discrete_ae.load`.
        inputs: recordings, folders and patterns; `jobs.plan` describes the tree of outputs.
        out: output folder; or, for a single recording, a file with the suffix of the format, and no manifest.
        format: format of the files of codes.
        num_codebooks: number of codebooks to use; see `encode_files`.
        loudness_lufs: target loudness; see `encode_files`.
        strict: True to treat a wrong length in a recording's header as an error.
        existing: treatment of existing files. The header of a skipped file must match what encoding would write;
            otherwise the outcome of the file is an error. Only "replace" also replaces shards of another kind, and
            writes into a folder with codes of another model.
        share: part of the work for this process, such as `Share.of_environment()` under torchrun or srun. Several
            shares write the manifest in parts, which `read_manifest` merges.
        shards: format of a training set with all codes of the folder, written to out/shards; None to write no set.
        runner: runner that computes the windows.
        chunk_seconds: seconds of a recording to read ahead.
        watch: callbacks for the progress.

    Returns:
        An outcome for each recording of the share, and for each input without recordings.

    Raises:
        UsageError: two recordings would become the same file, a share or shards are used with a single output file, or
            pyarrow is missing for Parquet.
        DataError: a file exists; the folder or a skipped file has codes of another model; the model has no codes; the
            manifest or the shards cannot be read or written.
        OSError: a file cannot be written.
        ValueError: `encode_files` rejects the model or an argument.
    """
    watch, share = watch or Watch(), share or Share()
    planned = plan(inputs, out, SUFFIXES, f".{format}")
    folder, alone = planned.folder, share.count == 1
    if planned.is_file and (shards or not alone):
        what = "shards" if shards else "a share of the work"
        raise UsageError(f"-o {out}: expected a folder for {what}, got a file; give a folder")
    if shards and not alone:
        raise UsageError(
            f"--shards: cannot be used with share {share.number} of {share.count}; when all shares are done, write "
            "shards with --skip-existing --share 1/1"
        )
    write_shards = _shard_writer(shards)
    if not planned.is_file:
        _check_folder(model, planned, shards, existing)
    sizes = model.quantizer.codebook_sizes[:num_codebooks]
    failed, there, todo = _sorted_out(planned, share, existing)
    if existing == "refuse":
        _refuse(there)
    watch.begin([job.source for job in todo], lambda path: probe(path).duration_s)
    kept = [_kept(model, sizes, job, folder) for job in there]
    if other := next((outcome.error for outcome in kept if outcome.other_model), None):
        raise OtherModelError(other)

    def outcomes() -> Iterator[Outcome]:
        yield from failed
        yield from kept
        results = encode_files(
            model,
            (job.source for job in todo),
            num_codebooks,
            runner=runner,
            chunk_seconds=chunk_seconds,
            loudness_lufs=loudness_lufs,
            strict=strict,
            progress=watch.advance,
        )
        for job, result in zip(todo, results, strict=True):
            yield _written(model, job, result, format, folder)

    found = []
    for outcome in outcomes():
        watch.finished(outcome)
        if outcome.entry and not alone:
            append_entry(folder, share.number, share.count, outcome.entry)
        found.append(outcome)
    entries = [outcome.entry for outcome in found if outcome.entry]
    if entries and alone and not planned.is_file:
        if superseded := update_manifest(folder, entries):
            entry, by = superseded[0]
            watch.warn(
                f"{folder}: recordings with two files of codes: {len(superseded)}, such as {entry.path} and {by}; the "
                f"manifest lists only {by}, so remove {entry.path}"
            )
        if write_shards:
            write_shards(folder, folder / "shards", overwrite=True, entropy_model=model.entropy_model)
    return found


def decode_corpus(
    model: DiscreteAutoencoder,
    inputs: Paths,
    out: str | Path,
    *,
    format: AudioFormat = "wav",
    existing: Existing = "refuse",
    force: bool = False,
    runner: Runner | None = None,
    watch: Watch | None = None,
) -> list[Outcome]:
    """Decode files of codes, and write 16-bit recordings with the original sample rates, lengths and channels.

    Args:
        model: the model that made the codes.
        inputs: files of codes, folders and patterns.
        out: output folder; or, for a single file of codes, a file with the suffix of the format.
        format: format of the recordings.
        existing: treatment of existing recordings.
        force: True to also decode codes of another model if they fit, with a warning.
        runner: runner that computes the windows.
        watch: callbacks for the progress.

    Returns:
        An outcome for each file of codes, and for each input without files of codes. They are in the order in which the
        work ended: files that cannot be read may come before earlier files.

    Raises:
        UsageError: two files would become the same recording.
        DataError: a recording exists, or it exists and its codes do not fit the model.
        OSError: a recording cannot be written.
    """
    watch = watch or Watch()
    failed, there, todo = _sorted_out(plan(inputs, out, CODE_SUFFIXES, f".{format}"), Share(), existing)
    if existing == "refuse":
        for job in there[:1]:  # --force would not help with codes that do not fit
            _check_codes(model, job.source)
        _refuse(there)
    watch.begin([job.source for job in todo], lambda path: _info(model, path).duration_s)
    waiting: deque[Job] = deque()  # jobs whose codes are being decoded
    found: list[Outcome] = []
    forced: list[Path] = []  # sources with codes of another model

    def finish(outcome: Outcome) -> None:
        found.append(outcome)
        watch.finished(outcome)

    def readable() -> Iterator[CodeFile]:
        for job in todo:
            try:
                code_file = _read(model, job.source)
                check_fits(model, code_file, force=force)
            except (DataError, OSError) as error:
                finish(Outcome(*job, _line(error, job.source), isinstance(error, OtherModelError)))
                continue
            waiting.append(job)
            yield code_file

    for outcome in (*failed, *(Outcome(*job, was_there=True) for job in there)):
        finish(outcome)
    for decoded in decode_files(model, readable(), force=force, runner=runner, progress=watch.advance):
        outcome = _recorded(model, waiting.popleft(), decoded, format)
        finish(outcome)
        if outcome.error is None and not are_of(model, decoded.code_file):
            forced.append(outcome.source)
    if forced:
        watch.warn(in_one_line(forced, "decoded codes of another model"))
    return found


def in_one_line(sources: Sequence[Path], said: str) -> str:
    """Return a message about one or several files that have the same problem."""
    return f"{f'{len(sources)} files, such as ' if len(sources) > 1 else ''}{sources[0]}: {said}"


def _shard_writer(kind: ShardKind | None) -> Callable[..., Path] | None:
    if kind == "parquet":
        try:
            from discrete_ae.codes.parquet import write_parquet_shards
        except ImportError as error:
            raise UsageError(
                f"--shards parquet: needs the package {error.name}; pip install 'discrete-ae[parquet]'"
            ) from error
        return write_parquet_shards
    return {None: None, "tar": write_tar_shards, "mmap": write_memory_map}[kind]


def _check_folder(model: DiscreteAutoencoder, planned: Plan, shards: ShardKind | None, existing: Existing) -> None:
    """Check before the work that the output folder can hold its results.

    Raises:
        DataError: the manifest is damaged, or would also list codes of another model; out/shards has other files, or
            shards of another kind; or two files of codes would have the same key in the shards.
    """
    folder = planned.folder
    sources = {job.target.relative_to(folder).as_posix(): job.source.as_posix() for job in planned.jobs}
    kept, _ = entries_beside(folder, sources)
    if existing != "replace":
        for entry in kept:
            _check_same_model(
                model, entry, folder / entry.path, "give another folder, or use --force to write beside them"
            )
    if shards:
        keys_of(folder, [*(entry.path for entry in kept), *sources])
        _check_shards(folder / "shards", shards, existing)


def _check_shards(out: Path, kind: ShardKind, existing: Existing) -> None:
    check_replaceable(out, OWN_FILES, overwrite=True)
    if existing != "replace" and (out / INDEX_NAME).exists():
        held = ShardIndex.read(out / INDEX_NAME, "remove the folder").kind
        if held != kind:
            raise DataError(
                f"{out}: holds {held} shards, which {kind} shards would replace; remove the folder, or use --force to "
                "encode all recordings again"
            )


def _check_same_model(model: DiscreteAutoencoder, info: CodesInfo, path: Path, advice: str) -> None:
    """Raise an OtherModelError if another model made the codes of a file."""
    if info.model_hash != model.codes_hash:
        raise OtherModelError(f"{path}: codes of another model (hash {info.model_hash[:12]}); {advice}")


def _sorted_out(planned: Plan, share: Share, existing: Existing) -> tuple[list[Outcome], list[Job], list[Job]]:
    """Return the early failures, the jobs whose existing outputs are kept, and the jobs to do."""
    failed: list[Outcome] = []
    if share.number == 1:
        failed += [Outcome(path, None, str(error)) for path, error in planned.problems]
    there: list[Job] = []
    todo: list[Job] = []
    for job in share.of(planned.jobs):
        try:
            is_there = kind_of(job.target) is not Kind.NOTHING
            (there if is_there and existing != "replace" else todo).append(job)
        except DataError as error:
            failed.append(Outcome(*job, str(error)))
    return failed, there, todo


def _refuse(there: Sequence[Job]) -> None:
    """Raise a DataError if outputs exist."""
    if there:
        more = f", and {counted(len(there) - 1, 'other')}" if len(there) > 1 else ""
        raise DataError(
            f'{there[0].target}{more}: already exists; use --skip-existing (existing="skip") to skip it, or --force '
            '(existing="replace") to overwrite it'
        )


def _check_codes(model: DiscreteAutoencoder, path: Path) -> None:
    """Raise a DataError in one line if a model cannot decode a file of codes."""
    try:
        check_fits(model, _info(model, path))
    except (DataError, OSError) as error:
        raise DataError(_line(error, path)) from error


def _kept(model: DiscreteAutoencoder, sizes: tuple[int, ...], job: Job, folder: Path) -> Outcome:
    """Return the outcome of a job with an existing file of codes, which must match what encoding would write.

    The rate and length of the recording are compared, unless the recording cannot be read. Its loudness is not
    compared, since that would require measuring the recording.
    """
    target, again = job.target, "encode it again with --force"
    try:
        recording = probe(job.source)
    except DataError:
        recording = None
    try:
        if recording is None and target.suffix == ".npy":
            raise DataError(f"{target}: holds bare codes, and {job.source} cannot be read; {again}")
        code_file = _info(model, target, recording)
        _check_same_model(model, code_file, target, "give another output, or use --force to encode all again")
        if code_file.codebook_sizes != sizes:
            raise DataError(f"{target}: expected {len(sizes)} codebooks, got {code_file.codebooks}; {again}")
        length = (code_file.num_samples, code_file.sample_rate, code_file.frames)
        frames = -(-code_file.num_model_samples // model.hop_length)
        if recording is not None and length != (recording.num_frames, recording.sample_rate, frames):
            raise DataError(
                f"{target}: does not match {job.source}, which may have changed: has {length[2]} frames for "
                f"{length[0]} samples at {length[1]} Hz; {again}"
            )
        return _described(job, code_file, folder, was_there=True)
    except (DataError, OSError) as error:
        return Outcome(*job, _line(error, target), isinstance(error, OtherModelError))


def _written(model: DiscreteAutoencoder, job: Job, result: Encoded, format: Format, folder: Path) -> Outcome:
    """Write the codes of an encoded recording, and return the outcome."""
    if result.code_file is None:
        return Outcome(*job, str(result.error))
    try:
        with written_whole(job.target) as temporary:
            write_codes(result.code_file, temporary, format, model.entropy_model)
    except (DataError, OSError) as error:
        return Outcome(*job, _of_one_output(error, job.target))
    return _described(job, result.code_file, folder)


def _recorded(model: DiscreteAutoencoder, job: Job, decoded: Decoded, format: AudioFormat) -> Outcome:
    """Write the recording of decoded codes, and return the outcome."""
    codes = decoded.code_file
    channels = codes.streams * model.channels
    try:
        write_audio(job.target, decoded.blocks, codes.sample_rate, channels, codes.num_samples, format)
    except (DataError, OSError) as error:
        return Outcome(*job, _of_one_output(error, job.source))
    return _outcome(job, codes, job.source.stat().st_size)


def write_audio(
    target: Path, blocks: Iterable[Audio], sample_rate: int, channels: int, num_samples: int, format: AudioFormat
) -> None:
    """Write blocks (C, n) as 16-bit samples; a WAV that is too long becomes RF64, with 64-bit lengths."""
    too_long = 2 * num_samples * channels + WAV_HEADER_BYTES > MAX_WAV_BYTES
    name = "RF64" if format == "wav" and too_long else format.upper()
    with recorded_whole(target, sample_rate, channels, name) as write:
        for block in blocks:
            write(block)


def _described(job: Job, info: FileInfo, folder: Path, was_there: bool = False) -> Outcome:
    entry = describe(info, job.target, folder, job.source)
    return _outcome(job, entry, entry.bytes, was_there=was_there, entry=entry)


def _outcome(job: Job, info: CodesInfo, num_bytes: int, **more: Any) -> Outcome:
    return Outcome(
        *job,
        duration_s=info.duration_s,
        code_bits=info.code_bits,
        num_bytes=num_bytes,
        streams=info.streams,
        **more,
    )


def _line(error: DataError | OSError, path: Path) -> str:
    """Return an error in one line that names the file."""
    line = str(from_system(error) if isinstance(error, OSError) else error)
    return line if line.startswith(str(path)) else f"{path}: {line}"


def _of_one_output(error: DataError | OSError, path: Path) -> str:
    """Return an error in one line if it concerns one output; raise it if, like a full disk, it affects all outputs."""
    if isinstance(error, OSError) and error.errno != errno.ENAMETOOLONG:
        raise error
    return _line(error, path)


def _read(model: DiscreteAutoencoder, path: Path, recording: AudioFile | None = None) -> CodeFile:
    """Read codes in any format; bare codes get the fields of the model and, if given, of a recording."""
    if path.suffix.lower() != ".npy":
        return read_codes(path, model.entropy_model)
    of_recording = (recording.sample_rate, recording.num_frames) if recording else ()
    return bare_codes(model, read_npy(path), *of_recording)


def _info(model: DiscreteAutoencoder, path: Path, recording: AudioFile | None = None) -> FileInfo:
    """Read all but the codes like `_read`; only the header is read of a file whose codes may be entropy-coded."""
    if path.suffix.lower() != ".daec":
        return _read(model, path, recording)
    header = read_daec_header(path)
    header.check_entropy_model(model.entropy_model)
    return header
