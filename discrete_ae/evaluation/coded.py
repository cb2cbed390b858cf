"""Pairs of reconstruction and original for each recording, and the computing time of a codec.

Axes: B batch, C channels of a recording, n samples.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from discrete_ae.codec import Codec, decode_files, encode_files
from discrete_ae.codec.files import opened
from discrete_ae.codes import CodeFile
from discrete_ae.codes.daec import smallest_coding
from discrete_ae.data.files import AudioFile, probe
from discrete_ae.data.reading import Prefetched, read_audio, stream_audio
from discrete_ae.data.resampling import Audio
from discrete_ae.errors import DataError
from discrete_ae.evaluation.recordings import Source, cut, segment_lengths
from discrete_ae.evaluation.results import Failure
from discrete_ae.inference import Runner
from discrete_ae.model import DiscreteAutoencoder
from discrete_ae.paths import in_utf8

TIMED_S = 10.0
"""Maximum duration of the audio that is timed, which is taken from the first recordings."""
_PASSES = 3  # the fastest counts, since other load on the machine only makes a pass slower
_ENOUGH_S = 10.0  # no further pass after this time
_BLOCKS_AHEAD = 4


class Pair(NamedTuple):
    """A segment of a recording and its reconstruction."""

    reconstruction: Audio
    """(C, n)"""
    original: Audio
    """(C, n)"""


@dataclass(eq=False)
class Coded:
    """A recording that is being coded."""

    source: Source
    duration_s: float
    pairs: Iterator[Pair]
    """Segments in order; consume them before the next recording. Iteration raises DataError on a read error."""
    bits: float | None = None
    """Size of its codes, complete once all pairs are consumed; None without codes."""
    code_file: CodeFile | None = None


def coded_by_model(
    model: DiscreteAutoencoder,
    sources: Sequence[Source],
    num_codebooks: int | None,
    runner: Runner,
    segment_seconds: float,
) -> Iterator[Coded | Failure]:
    """Yield recordings coded and decoded by the package `codec`, at the model's sample rate.

    Args:
        model: a model with codes; a mono model codes every channel separately.
        sources: the recordings.
        num_codebooks: number of codebooks to use, None for all.
        runner: runner that computes the windows.
        segment_seconds: duration of each pair.
    """
    waiting: deque[tuple[Source, CodeFile]] = deque()
    failures: list[Failure] = []

    def code_files() -> Iterator[CodeFile]:
        results = encode_files(model, (source.path for source in sources), num_codebooks, runner=runner)
        for source, result in zip(sources, results, strict=True):
            if result.code_file is None:
                failures.append(failed(source, result.error))
                continue
            waiting.append((source, result.code_file))
            # Declare the model's rate as the recording's, so that decoding does not resample.
            at_model_rate = {"sample_rate": model.sample_rate, "num_samples": result.code_file.num_model_samples}
            yield result.code_file.model_copy(update=at_model_rate)

    for decoded in decode_files(model, code_files(), runner=runner):
        source, code_file = waiting.popleft()
        try:
            # The payload, without header and checksum.
            bits = 8.0 * len(smallest_coding(code_file, model.entropy_model)[1])
        except DataError as error:
            failures.append(failed(source, error))
            continue
        lengths = segment_lengths(code_file.num_model_samples, model.sample_rate, segment_seconds)
        pairs = _paired(model, source, decoded.blocks, lengths)
        yield Coded(source, code_file.duration_s, pairs, bits, code_file)
    yield from failures


def passed_through(
    sources: Sequence[Source],
    sample_rate: int,
    channels: int,
    segment_seconds: float,
    through: Callable[[Audio], tuple[Audio, float | None]],
    *,
    piece_s: float = 0.0,
    around: tuple[int, int] = (0, 0),
    hop: int = 1,
) -> Iterator[Coded | Failure]:
    """Yield recordings that a function reconstructs piece by piece, in the same form as `coded_by_model`.

    Args:
        sources: the recordings.
        sample_rate: sample rate of the pieces, in Hz.
        channels: number of channels coded together. With 1, any recording is accepted. With n > 1, a recording must be
            mono or have n channels.
        segment_seconds: duration of each pair.
        through: function that maps a piece (C, n) to its reconstruction and the bits of its codes.
        piece_s: maximum duration of a piece, which consists of whole segments, at least one.
        around: number of context samples read before and after a piece, and removed from its reconstruction.
        hop: samples per frame. A piece with its context starts at a multiple of `hop`, so its frames are those of the
            whole recording.
    """
    for source in sources:
        try:
            file = opened(source.path, channels)
        except DataError as error:
            yield failed(source, error)
            continue
        coded = Coded(source, file.duration_s, iter(()))

        def pairs(coded: Coded = coded, file: AudioFile = file) -> Iterator[Pair]:
            lengths = segment_lengths(
                -(-file.num_frames * sample_rate // file.sample_rate), sample_rate, segment_seconds
            )
            count, start = max(1, int(piece_s // segment_seconds)), 0
            for segments in (lengths[i : i + count] for i in range(0, len(lengths), count)):
                first, stop = max(0, start - around[0]) // hop * hop, start + sum(segments)
                duration_s = (stop + around[1] - first) / sample_rate
                taken = channels if file.channels == 1 else None
                audio = read_audio(file, sample_rate, taken, first / sample_rate, duration_s)
                found, bits = through(audio)
                if not np.isfinite(found).all():
                    raise DataError(f"{file.path}: decoded to NaN or infinite samples; use another checkpoint")
                both = (signal[:, start - first : stop - first] for signal in (found, audio))
                yield from map(Pair, *(cut([signal], segments) for signal in both))
                if bits is not None:
                    coded.bits = (coded.bits or 0.0) + bits
                start = stop

        coded.pairs = pairs()
        yield coded


def failed(source: Source, error: Exception | None) -> Failure:
    """Return the Failure of a recording that could not be coded, with a one-line reason that names the recording."""
    line = in_utf8(" ".join(str(error).split()))
    named = line if line.startswith(in_utf8(str(source.path))) else f"{in_utf8(str(source.path))}: {line}"
    return Failure(path=source.name, reason=named, sha256=source.sha256)


def _paired(model: DiscreteAutoencoder, source: Source, decoded: Iterator[Audio], lengths: list[int]) -> Iterator[Pair]:
    file = probe(source.path)
    blocks = stream_audio(file, model.sample_rate, model.channels if file.channels == 1 else None)
    with closing(Prefetched(blocks, _BLOCKS_AHEAD)) as originals:
        # `decoded` is read first, so that an error of the codec about the model is raised before any other.
        for reconstruction, original in zip(cut(decoded, lengths), cut(originals, lengths), strict=True):
            yield Pair(reconstruction, original)


def reconstruct(
    model: DiscreteAutoencoder, audio: Audio, num_codebooks: int | None = None, runner: Runner | None = None
) -> Audio:
    """Reconstruct a short clip (S C, n) at the model's rate, C channels at a time; from hard codes if there are any.

    Raises:
        ValueError: the audio has the wrong shape, or `Codec.encode` cannot encode it.
    """
    encode, decode = _coder(model, runner or Runner(), num_codebooks)
    streams = torch.from_numpy(np.ascontiguousarray(audio, np.float32)).split(model.channels)
    found = [decode(encode(stream[None]))[0, :, : audio.shape[1]].cpu().numpy() for stream in streams]
    return np.concatenate(found)


def _coder(
    model: DiscreteAutoencoder, runner: Runner, num_codebooks: int | None
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Return a function that encodes signals (1, C, n), and one that decodes the result to whole frames.

    They are the model's exact codec; for a model without codes, its networks applied to the whole signal.
    """
    if model.quantizer.num_codebooks:
        codec = Codec(model, runner)
        return partial(codec.encode, num_codebooks=num_codebooks), codec.decode

    def whole(function: Callable[[Tensor], Tensor], signal: Tensor) -> Tensor:
        ((_, found),) = runner.map(model, function, [(None, signal[0])])
        assert found is not None
        return found[None]

    def decoder(latents: Tensor) -> Tensor:
        return model.reconstruct(latents, latents.shape[-1] * model.hop_length)

    return partial(whole, model.latents), partial(whole, decoder)


def real_time_factors(
    sources: Sequence[Source], sample_rate: int, channels: int, timed: Callable[[Audio], tuple[float, float]]
) -> dict[str, float]:
    """Return computing time per second of audio (encode_rtf, decode_rtf), and the seconds of audio timed (rtf_audio_s).

    Timing runs alone, before the evaluation, on the first `TIMED_S` of the readable recordings; the result is empty
    if none is readable. `timed` returns the seconds that encoding and decoding audio (channels, n) take. Of several
    passes, the fastest counts, which for encoding and for decoding may be different ones.
    """
    parts = [np.zeros((channels, 0), np.float32)]
    missing = round(TIMED_S * sample_rate)
    for source in sources:
        if missing <= 0:
            break
        try:
            parts.append(read_audio(source.path, sample_rate, channels, duration_s=missing / sample_rate))
        except DataError:  # the evaluation reports it
            continue
        missing -= parts[-1].shape[1]
    audio = np.concatenate(parts, axis=1).clip(-1, 1)  # since louder samples may give no codes
    if not audio.shape[1]:
        return {}
    audio_s = audio.shape[1] / sample_rate
    taken: list[tuple[float, float]] = []
    while len(taken) < _PASSES and sum(map(sum, taken)) < _ENOUGH_S:
        taken.append(timed(audio))
    encode_s, decode_s = map(min, zip(*taken, strict=True))
    return {"encode_rtf": encode_s / audio_s, "decode_rtf": decode_s / audio_s, "rtf_audio_s": audio_s}


def time_model(
    model: DiscreteAutoencoder, audio: Audio, runner: Runner, num_codebooks: int | None = None
) -> tuple[float, float]:
    """Return the seconds for encoding and for decoding audio (C, n), n >= 1; on a CPU, with one thread.

    The times exclude reading, resampling and entropy coding. A model without codes runs on the whole signal at once.

    Raises:
        DataError: the model cannot code the audio, for example because its latents are NaN.
    """
    encode, decode = _coder(model, runner._replace(jobs=1), num_codebooks)
    signal = torch.from_numpy(audio)[None]
    start = time.perf_counter()
    try:
        coded = encode(signal).cpu()  # .cpu() waits for a GPU
    except ValueError as error:
        raise DataError(f"the model cannot code: {error}; use another checkpoint") from error
    between = time.perf_counter()
    decode(coded).cpu()
    return between - start, time.perf_counter() - between


def timing_device(model: nn.Module) -> str:
    """Return the name of the device that real-time factors are measured on."""
    device = next(model.parameters()).device
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return "cpu, 1 thread" if device.type == "cpu" else device.type
