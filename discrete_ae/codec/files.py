"""Whole recordings to codes and back, as a stream of them.

On a CPU the codes of a signal are the same bits in every batch, with any number of threads or jobs, and however the
signal is read: it is computed in windows (see `inference`), each by itself. A recording streams through in bounded
memory: blocks are read and resampled on a thread of their own, cut into windows, computed, and put together, and the
next recordings are read meanwhile.

A mono model codes the channels of a recording one by one, so that each channel has the codes that it would have in a
mono file; any other model takes recordings with its own number of channels.

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
_SAME = "decode with the checkpoint that made them"

Given = TypeVar("Given")

Progress = Callable[[float], None]
"""Called with the seconds of audio that were done since the last call."""


class Encoded(NamedTuple):
    """The codes of one recording, or why there are none."""

    path: Path
    code_file: CodeFile | None
    """None where it failed."""
    error: DataError | None


class Decoded(NamedTuple):
    """Codes that are being decoded."""

    code_file: CodeFile
    blocks: Iterator[Audio]
    """(C, n) float32, together the recording at its own sample rate and of its length; take them before the next."""


class Part(NamedTuple):
    """The frames of one stream that a window gives; the last of a signal gives none."""

    number: int
    """Of the signal, from 0."""
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
    """Encode recordings of any sample rate and length, at least 1 sample, and yield their codes in order.

    Args:
        model: from `discrete_ae.load`.
        paths: the recordings.
        num_codebooks: how many of the codebooks to use, one of `model.quantizer.decodable_counts`; None is all.
        runner: how windows are computed.
        chunk_seconds: so much of a recording is read ahead.
        loudness_lufs: to which the whole of each recording is brought before it is coded, in [-70, 0], by one gain, as
            `gain_for`: for a model that was trained so. It is read once more for this. The gain stands in the codes
            and decoding takes it back. None leaves recordings as they are.
        strict: a recording of another length than its header says is an error, not a warning of the log.
        progress: called with every window.

    Yields:
        One result for each recording; its error says that it cannot be read, holds NaN or infinity, has channels that
        do not fit the model, or more of them, or a lower sample rate, than loudness is defined for.

    Raises:
        DataError: the model has no codes.
        ValueError: the model was not loaded from a file, so that nothing names it; num_codebooks does not decode; or
            loudness_lufs is out of its range.
    """
    if model.codes_hash is None:
        raise ValueError("model: expected one with a codes_hash, which a file of codes must name; use discrete_ae.load")
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
                    f"{recording.path}: the model makes NaN or infinite latents of it; use another checkpoint, or "
                    "bring its samples down to full scale"
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
    """Decode codes, and yield audio of the recordings' own sample rate and length in order.

    Args:
        model: the one that made the codes.
        code_files: the codes; `check_fits` holds of each.
        force: decode codes of another model too.
        runner: how windows are computed.
        progress: called with every window.

    Raises:
        DataError: codes do not fit the model; or, from the blocks, they decode to NaN or infinity.
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
    """Apply a function to the windows of signals, and yield what comes of each signal; take it before the next.

    Args:
        model: whose function it is.
        function: see `Runner.map`.
        signals: each in blocks (S, ..., n) of S streams, with whatever names it.
        window: as long as the function wants.
        unit: samples of a frame.
        runner: how windows are computed.
    """

    def windows() -> Iterator[tuple[Part, Tensor | None]]:
        for number, (given, blocks) in enumerate(signals):
            begun.append(given)
            cutter = Cutter(window, unit)
            # `finish` is a generator: it begins when all blocks are pushed.
            for piece in chain(chain.from_iterable(map(cutter.push, blocks)), cutter.finish()):
                for stream, signal in enumerate(piece.signal):
                    yield Part(number, stream, piece.first, piece.stop), signal
            yield Part(number), None

    begun: deque[Given] = deque()
    results = (runner or Runner()).map(model, function, windows())
    for _, parts in groupby(results, key=lambda result: result[0].number):
        yield begun.popleft(), ((part, found) for part, found in parts if found is not None)


def are_of(model: DiscreteAutoencoder, code_file: FileInfo | StreamInfo) -> bool:
    """Return whether a model makes codes as those of a file were made; some files name the whole model."""
    return code_file.model_hash in (model.codes_hash, model.model_hash)


def check_fits(model: DiscreteAutoencoder, code_file: CodeFile, *, force: bool = False) -> None:
    """Refuse codes that a model cannot decode.

    Args:
        model: which is to decode them.
        code_file: the codes.
        force: take those of another model too, if all else fits.

    Raises:
        DataError: the codes are those of another model, or do not fit this one.
    """
    check_model(model, code_file, force=force)
    expected = math.ceil(code_file.num_model_samples / model.hop_length)
    if code_file.frames != expected:
        raise DataError(
            f"has {code_file.frames} frames where {code_file.num_samples} samples at {code_file.sample_rate} Hz make "
            f"{expected} of this model; {_SAME}"
        )


def check_model(model: DiscreteAutoencoder, code_file: FileInfo | StreamInfo, *, force: bool = False) -> None:
    """Refuse codes of another model, as `check_fits`, whatever their length."""
    if not (force or are_of(model, code_file)):
        this = model.codes_hash or "unnamed"
        raise DataError(
            f"codes of another model ({code_file.model_hash[:12]}), this one is {this[:12]}; {_SAME}, or take them "
            "by --force (in Python force=True)"
        )
    quantizer = model.quantizer
    if code_file.codebook_sizes not in [quantizer.codebook_sizes[:count] for count in quantizer.decodable_counts]:
        found, own = in_words(code_file.codebook_sizes), in_words(quantizer.codebook_sizes)
        raise DataError(
            f"codes of other codebooks ({found}), the model has {own} and decodes from {quantizer.decodes_from}; "
            f"{_SAME}, or encode the recording again"
        )
    if code_file.model_sample_rate != model.sample_rate:
        raise DataError(
            f"codes of a model at {code_file.model_sample_rate} Hz, this one is at {model.sample_rate} Hz; {_SAME}"
        )
    if model.channels != 1 and code_file.streams != 1:
        raise DataError(
            f"codes of {code_file.streams} channels one by one, the model takes {model.channels} together; {_SAME}"
        )


def bare_codes(
    model: DiscreteAutoencoder, codes: Codes, sample_rate: int | None = None, num_samples: int | None = None
) -> CodeFile:
    """Return codes (S, K, T) that come without a file as those of a model.

    Args:
        model: which made them.
        codes: the integers.
        sample_rate: of the recording in Hz; by default the model's own.
        num_samples: of the recording; by default that of whole frames.

    Raises:
        DataError: they are no codes of this model.
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
            f"not codes of this model: {error}; give codes that it made, (streams, codebooks, frames)"
        ) from error


@dataclass(eq=False)
class _Recording:
    """A recording that is being read."""

    path: Path
    file: AudioFile | None = None
    blocks: Iterable[Audio] = ()
    """(C, n) at the model's rate, in the channels in which it is coded."""
    gain_db: float = 0.0
    """Known with the first block, which it is applied to."""
    error: DataError | None = None
    """Why it cannot be read, or not to its end."""


def _read_ahead(
    model: DiscreteAutoencoder, paths: Iterable[Path], chunk_seconds: float, loudness_lufs: float | None, strict: bool
) -> Iterator[_Recording]:
    """The recordings in their order, of which the next few are being read already."""
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
    """Return the header of a recording that fits a codec of so many channels: 1 codes each channel alone.

    Raises:
        DataError: it cannot be read, or has another number of channels; with `strict`, its length is in doubt.
    """
    file = probe(path)
    accept(file, strict=strict)
    if channels != 1 and file.channels not in (1, channels):
        raise DataError(
            f"{path}: has {file.channels} channels, the model takes {channels}; convert it to {channels} channels, or "
            "use a mono model, which codes each channel alone"
        )
    return file


def _opened(
    model: DiscreteAutoencoder, path: Path, chunk_seconds: float, loudness_lufs: float | None, strict: bool
) -> _Recording:
    try:
        file = opened(path, model.channels, strict=strict)
        if loudness_lufs is not None and (file.channels > MAX_CHANNELS or file.sample_rate < MIN_SAMPLE_RATE):
            raise DataError(
                f"{path}: has {file.channels} channels at {file.sample_rate} Hz, loudness is measured of at most "
                f"{MAX_CHANNELS}, from {MIN_SAMPLE_RATE} Hz on; encode it without a loudness"
            )
    except DataError as error:
        return _Recording(path, error=error)
    recording = _Recording(path, file)

    def blocks() -> Iterator[Audio]:
        # As in training, mono is copied into every channel.
        channels = model.channels if file.channels == 1 else None
        if loudness_lufs is not None:
            level = measure_stream(stream_audio(file, file.sample_rate, channels), file.sample_rate)
            # A float file may be so far beyond full scale that its gain would not fit into the codes' description.
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
        if not np.isfinite(block).all():
            raise DataError("the model makes NaN or infinite samples of these codes; use another checkpoint")
        yield from resampler.pieces(block * gain)
        if progress:
            progress((part.stop - part.first) / model.frame_rate_hz)
    yield resampler.finish()
