"""Encode many recordings to codes, and decode them, by iterators that yield one recording at a time.

On a CPU, the codes of a signal do not depend on the batch size, the number of threads or jobs, or the way of reading.
This is because every window of the signal is computed by itself (see `inference`). Memory is bounded: blocks of a
recording are read and resampled on a separate thread, cut into windows, computed, and joined. Meanwhile the next
recordings are read.

A mono model codes each channel separately, so a channel gets the same codes as a mono file. Any other model takes mono
recordings, and recordings with the model's number of channels.

Axes: C audio channels, S streams, K codebooks, T frames.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from discrete_ae.codes.code_file import MAX_GAIN_DB, CodeFile, Codes, FileInfo, codes_dtype, in_words
from discrete_ae.codes.stream import StreamInfo
from discrete_ae.data.files import AudioFile, accept, probe
from discrete_ae.data.loudness import MAX_CHANNELS, MIN_SAMPLE_RATE, gain_for, measure_stream
from discrete_ae.data.reading import Prefetched, stream_audio
from discrete_ae.data.resampling import BLOCK_FRAMES, Audio, Resampler
from discrete_ae.errors import DataError
from discrete_ae.inference import Cutter, Runner, Window, decoder_window, encoder_window, window_codes
from discrete_ae.model import DiscreteAutoencoder

FILES_AHEAD = 4
_SAME = "decode with the checkpoint that made them (-c)"


class OtherModelError(DataError):
    """Codes that another model encoded."""


Given = TypeVar("Given")

Progress = Callable[[float], None]
"""Callback that receives the seconds of audio processed since the last call."""


class Encoded(NamedTuple):
    """The codes of one recording, or the error that prevented them."""

    path: Path
    code_file: CodeFile | None
    """Codes; None for an error."""
    error: DataError | None


class Decoded(NamedTuple):
    """Codes and an iterator over their audio."""

    code_file: CodeFile
    blocks: Iterator[Audio]
    """Blocks (C, n) float32 of the recording, at its own sample rate and length; consume them before the next item."""


class Part(NamedTuple):
    """The valid frames of one window of a stream; the last part of a signal is empty."""

    number: int
    """Index of the signal."""
    stream: int = 0
    first: int = 0
    stop: int = 0


def encode_files(
    model: DiscreteAutoencoder,
    paths: Iterable[Path],
    num_codebooks: int | None = None,
    *,
    runner: Runner | None = None,
    chunk_seconds: float = 30.0,
    loudness_lufs: float | None = None,
    strict: bool = False,
    progress: Progress | None = None,
) -> Iterator[Encoded]:
    """Encode recordings of any sample rate, each at least 1 sample long, and yield their codes in order.

    Args:
        model: a model from `discrete_ae.load`.
        paths: paths of the recordings.
        num_codebooks: number of codebooks to use, one of `model.quantizer.decodable_counts`; None for all.
        runner: runner that computes the windows.
        chunk_seconds: seconds of a recording to read ahead.
        loudness_lufs: target loudness in [-70, 0], for a model that was trained with it; None leaves recordings
            unchanged. One gain (`gain_for`) brings a whole recording to this loudness, so the recording is read twice.
            The gain is saved with the codes, and decoding reverts it.
        strict: True to treat a wrong length in a recording's header as an error, instead of a warning.
        progress: called after every window.

    Yields:
        One result for each recording. It holds an error if the recording cannot be read, contains NaN or infinity, has
        channels that do not fit the model, or has too many channels or too low a sample rate to measure loudness.

    Raises:
        DataError: the model has no codes.
        ValueError: the model was not loaded from a file, and so has no hash; the model cannot decode num_codebooks; or
            loudness_lufs is out of range.
    """
    if model.codes_hash is None:
        raise ValueError("model: expected a model with a codes_hash, to save with the codes; use discrete_ae.load")
    if not model.quantizer.num_codebooks:
        raise DataError(f"the model's {type(model.quantizer).__name__} has no codes; use a model with a quantizer")
    model.quantizer.check_count(num_codebooks)
    if loudness_lufs is not None and not -70 <= loudness_lufs <= 0:
        raise ValueError(f"loudness_lufs: expected None or a number from -70 to 0, got {loudness_lufs}")
    sizes = model.quantizer.codebook_sizes[:num_codebooks]

    def signal(recording: _Recording) -> Iterator[Tensor]:
        try:
            for block in recording.blocks:
                yield torch.from_numpy(block).unflatten(0, (-1, model.channels))  # (S C, n) to (S, C, n)
        except DataError as error:
            recording.error = error

    recordings = _read_ahead(model, paths, chunk_seconds, loudness_lufs, strict)
    for recording, parts in in_windows(
        model,
        lambda audio: window_codes(model, audio, num_codebooks),
        ((recording, signal(recording)) for recording in recordings),
        encoder_window(model),
        model.hop_length,
        runner,
    ):
        codes: list[list[np.ndarray]] = []
        for part, found in parts:
            if bool((found < 0).any()):
                recording.error = DataError(
                    f"{recording.path}: its latents are NaN or infinite; use another checkpoint, or scale its samples "
                    "down to full scale"
                )
            if part.stream == len(codes):
                codes.append([])
            codes[part.stream].append(found[:, part.first : part.stop].cpu().numpy().astype(codes_dtype(sizes)))
            if progress and part.stream == 0:
                progress((part.stop - part.first) / model.frame_rate_hz)
        if recording.error or recording.file is None:
            yield Encoded(recording.path, None, recording.error)
            continue
        said = {
            "codes": np.stack([np.concatenate(stream, axis=-1) for stream in codes]),
            "sample_rate": recording.file.sample_rate,
            "num_samples": recording.file.num_frames,
            "model_sample_rate": model.sample_rate,
            "codebook_sizes": sizes,
            "model_hash": model.codes_hash,
            "gain_db": recording.gain_db,
            "quantizer": type(model.quantizer).__name__,
        }
        yield Encoded(recording.path, CodeFile.of(said), None)


def decode_files(
    model: DiscreteAutoencoder,
    code_files: Iterable[CodeFile],
    *,
    force: bool = False,
    runner: Runner | None = None,
    progress: Progress | None = None,
) -> Iterator[Decoded]:
    """Decode codes, and yield audio at the recordings' own sample rates and lengths, in order.

    Args:
        model: the model that made the codes.
        code_files: the codes; each is checked with `check_fits`.
        force: True to also decode codes of another model.
        runner: runner that computes the windows.
        progress: called after every window.

    Raises:
        DataError: codes do not fit the model. The yielded blocks raise it if codes decode to NaN or infinity.
    """

    def signals() -> Iterator[tuple[CodeFile, list[Tensor]]]:
        for code_file in code_files:
            check_fits(model, code_file, force=force)
            yield code_file, [torch.from_numpy(code_file.codes.astype(np.int64))]

    for code_file, parts in in_windows(model, model.decode, signals(), decoder_window(model), 1, runner):
        yield Decoded(code_file, _decoded_blocks(model, code_file, parts, progress))


def in_windows(
    model: DiscreteAutoencoder,
    function: Callable[[Tensor], Tensor],
    signals: Iterable[tuple[Given, Iterable[Tensor]]],
    window: Window,
    unit: int,
    runner: Runner | None,
) -> Iterator[tuple[Given, Iterator[tuple[Part, Tensor]]]]:
    """Apply a function to the windows of signals, and yield each signal's results; consume them before the next signal.

    Args:
        model: the model that the function uses.
        function: function to apply to a window; see `Runner.map`.
        signals: pairs of an identifier, of any type, and a signal in blocks (S, ..., n) of S streams.
        window: windows that the function requires.
        unit: samples per frame.
        runner: runner that computes the windows.
    """

    def windows() -> Iterator[tuple[Part, Tensor | None]]:
        for number, (given, blocks) in enumerate(signals):
            begun.append(given)
            cutter = Cutter(window, unit)
            # `finish` is a generator: it starts after all blocks were pushed.
            for piece in chain(chain.from_iterable(map(cutter.push, blocks)), cutter.finish()):
                for stream, signal in enumerate(piece.signal):
                    yield Part(number, stream, piece.first, piece.stop), signal
            yield Part(number), None

    begun: deque[Given] = deque()
    results = (runner or Runner()).map(model, function, windows())
    for _, parts in groupby(results, key=lambda result: result[0].number):
        yield begun.popleft(), ((part, found) for part, found in parts if found is not None)


def are_of(model: DiscreteAutoencoder, code_file: FileInfo | StreamInfo) -> bool:
    """Return whether the model's encoder and quantizer made the codes; old files hold the hash of the whole model."""
    return code_file.model_hash in (model.codes_hash, model.model_hash)


def check_fits(model: DiscreteAutoencoder, code_file: FileInfo, *, force: bool = False) -> None:
    """Check that a model can decode codes.

    Args:
        model: the model for decoding.
        code_file: the codes, or their header.
        force: True to accept codes of another model if everything else fits.

    Raises:
        DataError: the codes do not fit this model; OtherModelError if another model encoded them.
    """
    check_model(model, code_file, force=force)
    expected = math.ceil(code_file.num_model_samples / model.hop_length)
    if code_file.frames != expected:
        raise DataError(
            f"expected {expected} frames of this model for {code_file.num_samples} samples at {code_file.sample_rate} "
            f"Hz, got {code_file.frames}; {_SAME}"
        )


def check_model(model: DiscreteAutoencoder, code_file: FileInfo | StreamInfo, *, force: bool = False) -> None:
    """Check everything that `check_fits` checks, except the length of the codes."""
    quantizer = model.quantizer
    if code_file.codebook_sizes not in [quantizer.codebook_sizes[:count] for count in quantizer.decodable_counts]:
        found, own = in_words(code_file.codebook_sizes), in_words(quantizer.codebook_sizes)
        raise OtherModelError(
            f"codes of another model, with {found}; this one has {own} and decodes from {quantizer.decodes_from}; "
            f"{_SAME}, or encode the recording again"
        )
    if code_file.model_sample_rate != model.sample_rate:
        raise OtherModelError(
            f"codes of another model, at {code_file.model_sample_rate} Hz; this one is at {model.sample_rate} Hz; "
            f"{_SAME}"
        )
    if model.channels != 1 and code_file.streams != 1:
        raise OtherModelError(
            f"codes of another model, with {code_file.streams} separate channels; this one codes {model.channels} "
            f"together; {_SAME}"
        )
    if not (force or are_of(model, code_file)):
        this = f"hash {model.codes_hash[:12]}" if model.codes_hash else "without a hash"
        raise OtherModelError(
            f"codes of another model (hash {code_file.model_hash[:12]}), not of this one ({this}); {_SAME}, or use "
            "--force"
        )


def bare_codes(
    model: DiscreteAutoencoder, codes: Codes, sample_rate: int | None = None, num_samples: int | None = None
) -> CodeFile:
    """Return bare codes (S, K, T) with the fields of the model that made them.

    Args:
        model: the model that made the codes.
        codes: the integers.
        sample_rate: sample rate of the recording in Hz; by default the model's own.
        num_samples: length of the recording in samples; by default the length of all frames.

    Raises:
        DataError: the codes do not fit this model.
    """
    said = {
        "codes": codes,
        "sample_rate": sample_rate or model.sample_rate,
        "num_samples": num_samples or codes.shape[-1] * model.hop_length,
        "model_sample_rate": model.sample_rate,
        "codebook_sizes": model.quantizer.codebook_sizes[: codes.shape[1]],
        "model_hash": model.codes_hash,
    }
    try:
        return CodeFile.of(said)
    except ValueError as error:
        raise DataError(
            f"not codes of this model: {error}; give an array of codes (streams, codebooks, frames)"
        ) from error


def finite(block: Audio) -> Audio:
    """Return a block of decoded audio, or raise a DataError if it has NaN or infinite samples."""
    if not np.isfinite(block).all():
        raise DataError("these codes decode to NaN or infinite samples; use another checkpoint")
    return block


@dataclass(eq=False)
class _Recording:
    """A recording that is being read."""

    path: Path
    file: AudioFile | None = None
    blocks: Iterable[Audio] = ()
    """Blocks (C, n) at the model's rate, with the channels to be coded."""
    gain_db: float = 0.0
    """Gain of the blocks, set when the first block is read."""
    error: DataError | None = None
    """Reason why the recording cannot be read to its end."""


def _read_ahead(
    model: DiscreteAutoencoder, paths: Iterable[Path], chunk_seconds: float, loudness_lufs: float | None, strict: bool
) -> Iterator[_Recording]:
    """Yield the recordings in order, while the next few are being read."""
    ahead: deque[_Recording] = deque()
    try:
        for path in paths:
            ahead.append(_opened(model, path, chunk_seconds, loudness_lufs, strict))
            if len(ahead) > FILES_AHEAD:
                yield ahead.popleft()
        while ahead:
            yield ahead.popleft()
    finally:
        for recording in ahead:
            if isinstance(recording.blocks, Prefetched):
                recording.blocks.close()


def opened(path: Path, channels: int, *, strict: bool = False) -> AudioFile:
    """Return the header of a recording whose channels fit a codec.

    With channels = 1, any recording fits, since each channel is coded separately. With channels > 1, a recording must
    be mono or have that many channels.

    Raises:
        DataError: the recording cannot be read, or its channels do not fit; with `strict`, also if the length in its
            header is doubtful.
    """
    file = probe(path)
    accept(file, strict=strict)
    if channels != 1 and file.channels not in (1, channels):
        raise DataError(
            f"{path}: expected {channels} channels, as in the model, got {file.channels}; convert it, or use a mono "
            "model, which codes each channel separately"
        )
    return file


def _opened(
    model: DiscreteAutoencoder, path: Path, chunk_seconds: float, loudness_lufs: float | None, strict: bool
) -> _Recording:
    try:
        file = opened(path, model.channels, strict=strict)
        if loudness_lufs is not None and (file.channels > MAX_CHANNELS or file.sample_rate < MIN_SAMPLE_RATE):
            raise DataError(
                f"{path}: expected at most {MAX_CHANNELS} channels and at least {MIN_SAMPLE_RATE} Hz to measure "
                f"loudness, got {file.channels} channels at {file.sample_rate} Hz; encode it without a loudness"
            )
    except DataError as error:
        return _Recording(path, error=error)
    recording = _Recording(path, file)

    def blocks() -> Iterator[Audio]:
        # As in training, mono is copied into every channel.
        channels = model.channels if file.channels == 1 else None
        if loudness_lufs is not None:
            level = measure_stream(stream_audio(file, file.sample_rate, channels), file.sample_rate)
            # A float file may exceed full scale so far that a file of codes cannot store its gain.
            recording.gain_db = max(gain_for(level, loudness_lufs), -MAX_GAIN_DB)
        factor = np.float32(10 ** (recording.gain_db / 20))
        for block in stream_audio(file, model.sample_rate, channels):
            yield block * factor

    recording.blocks = Prefetched(blocks(), max(1, round(chunk_seconds * file.sample_rate / BLOCK_FRAMES)))
    return recording


def _decoded_blocks(
    model: DiscreteAutoencoder,
    code_file: CodeFile,
    parts: Iterable[tuple[Part, Tensor]],
    progress: Progress | None,
) -> Iterator[Audio]:
    hop, missing = model.hop_length, code_file.num_model_samples
    num_channels = code_file.streams * model.channels
    resampler = Resampler(model.sample_rate, code_file.sample_rate, num_channels, code_file.num_samples)
    gain = np.float32(10 ** (-code_file.gain_db / 20))
    streams: list[Audio] = []
    for part, audio in parts:
        streams.append(audio[:, part.first * hop : part.stop * hop].cpu().numpy())
        if len(streams) < code_file.streams:
            continue
        block = np.concatenate(streams)[:, :missing]
        streams.clear()
        missing -= block.shape[1]
        yield from resampler.pieces(finite(block) * gain)
        if progress:
            progress((part.stop - part.first) / model.frame_rate_hz)
    yield resampler.finish()
