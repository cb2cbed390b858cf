"""A model's recordings as pairs of what it made of them and what they were; and how long it takes for them.

Axes: B batch, C channels of a recording, n samples.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from discrete_ae.codec import Codec, decode_files, encode_files
from discrete_ae.codes import CodeFile
from discrete_ae.codes.daec import smallest_coding
from discrete_ae.data.files import probe
from discrete_ae.data.prefetching import Prefetched
from discrete_ae.data.reading import Audio, read_audio, stream_audio
from discrete_ae.errors import DataError
from discrete_ae.evaluation.recordings import Source, cut, opened, segment_lengths
from discrete_ae.evaluation.results import Failure, in_utf8
from discrete_ae.inference import Runner
from discrete_ae.model import DiscreteAutoencoder

TIMED_S = 10.0
"""So much of the first recordings is timed, at most."""
_PASSES = 3  # of which the fastest counts: whatever else the machine does only makes one slower
_ENOUGH_S = 5.0  # after so long, no further pass
_BLOCKS_AHEAD = 4


class Pair(NamedTuple):
    """A segment of a recording."""

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
    """Its segments in their order; take them before the next recording. DataError where it cannot be read on."""
    bits: float | None = None
    """What its codes take, known when all pairs are taken; None without codes."""
    code_file: CodeFile | None = None


def coded_by_model(
    model: DiscreteAutoencoder,
    sources: Sequence[Source],
    num_codebooks: int | None,
    runner: Runner,
    segment_seconds: float,
) -> Iterator[Coded | Failure]:
    """Yield recordings through hard codes and back at the model's rate, as `codec` codes them.

    Args:
        model: with codes, in [-1, 1] audio; a mono model codes every channel alone.
        sources: the recordings.
        num_codebooks: how many to use, None for all.
        runner: how windows are computed.
        segment_seconds: length of the pairs.
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
            # As if it had been recorded at the model's rate, at which it is to be compared.
            yield replace(
                result.code_file, sample_rate=model.sample_rate, num_samples=result.code_file.num_model_samples
            )

    for decoded in decode_files(model, code_files(), runner=runner):
        source, code_file = waiting.popleft()
        try:
            # Without header and checksum.
            bits = 8.0 * len(smallest_coding(code_file, model.entropy_model)[1])
        except DataError as error:
            failures.append(failed(source, error))
            continue
        lengths = segment_lengths(code_file.num_model_samples, model.sample_rate, segment_seconds)
        pairs = _paired(model, source, decoded.blocks, lengths)
        yield Coded(source, code_file.duration_s, pairs, bits, code_file)
    yield from failures


def passed_through(
    model: DiscreteAutoencoder, sources: Sequence[Source], runner: Runner, segment_seconds: float
) -> Iterator[Coded | Failure]:
    """Yield recordings through a model without codes; otherwise as `coded_by_model`.

    Every segment is computed with as much around it as the model listens to, so that it is that of the whole recording.
    """
    for source in sources:
        try:
            file = opened(source.path, model.channels)
        except DataError as error:
            yield failed(source, error)
            continue
        yield Coded(source, file.duration_s, _passed(model, source, runner, segment_seconds))


def failed(source: Source, error: Exception | None) -> Failure:
    """Return what is said of a recording that could not be coded."""
    line = in_utf8(" ".join(str(error).split()))
    named = line if line.startswith(in_utf8(str(source.path))) else f"{in_utf8(str(source.path))}: {line}"
    return Failure(path=source.name, reason=named, sha256=source.sha256)


def _paired(model: DiscreteAutoencoder, source: Source, decoded: Iterator[Audio], lengths: list[int]) -> Iterator[Pair]:
    file = probe(source.path)
    blocks = stream_audio(file, model.sample_rate, model.channels if file.channels == 1 else None)
    with closing(Prefetched(blocks, _BLOCKS_AHEAD)) as originals:
        # The codec's own complaint comes first: it names what is wrong with the model.
        for reconstruction, original in zip(cut(decoded, lengths), cut(originals, lengths), strict=True):
            yield Pair(reconstruction, original)


def _passed(model: DiscreteAutoencoder, source: Source, runner: Runner, segment_seconds: float) -> Iterator[Pair]:
    file = probe(source.path)
    channels = model.channels if file.channels == 1 else None
    rate, hop = model.sample_rate, model.hop_length
    num_samples = -(-file.num_frames * rate // file.sample_rate)
    start = 0
    for length in segment_lengths(num_samples, rate, segment_seconds):
        first = max(0, start - model.receptive_field_samples) // hop * hop  # frames stay where they are in the whole
        stop = start + length + model.look_ahead_samples
        audio = read_audio(file, rate, channels, first / rate, (stop - first) / rate)
        streams = np.split(audio, len(audio) // model.channels)
        inside = slice(start - first, start - first + length)
        found = np.concatenate([reconstruct(model, stream, runner=runner) for stream in streams])[:, inside]
        if not np.isfinite(found).all():
            raise DataError(f"{source.path}: the model makes NaN or infinite samples of it; use another checkpoint")
        yield Pair(found, audio[:, inside])
        start += length


def reconstruct(
    model: DiscreteAutoencoder, audio: Audio, num_codebooks: int | None = None, runner: Runner | None = None
) -> Audio:
    """Return what the model makes of a short clip (C, n) at its own rate and with its channels, by hard codes if any.

    Raises:
        ValueError: audio of another shape, or see `Codec.encode`.
    """
    encode, decode = _coder(model, runner or Runner(), num_codebooks)
    signal = torch.from_numpy(np.ascontiguousarray(audio, np.float32))[None]
    found: Audio = decode(encode(signal))[0, :, : signal.shape[-1]].cpu().numpy()
    return found


Coder = tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]
"""Encodes signals (1, C, n), and decodes what comes of it to whole frames."""


def _coder(model: DiscreteAutoencoder, runner: Runner, num_codebooks: int | None) -> Coder:
    """A model's exact codec; of a model without codes its networks, each on the whole of a signal."""
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
    """Return encode_rtf and decode_rtf, seconds of computing per second of audio, and rtf_audio_s, of how much audio.

    It is timed by itself, before anything else runs, on the first `TIMED_S` of the recordings that can be read; the
    result is empty if none can.

    Args:
        sources: the recordings.
        sample_rate: in Hz.
        channels: how many; C of the audio.
        timed: returns the seconds that encoding and decoding audio (C, n) take.
    """
    parts = [np.zeros((channels, 0), np.float32)]
    missing = round(TIMED_S * sample_rate)
    for source in sources:
        if missing <= 0:
            break
        try:
            parts.append(read_audio(source.path, sample_rate, channels, duration_s=missing / sample_rate))
        except DataError:  # which is reported when it is evaluated
            continue
        missing -= parts[-1].shape[1]
    audio = np.concatenate(parts, axis=1)
    if not audio.shape[1]:
        return {}
    audio_s = audio.shape[1] / sample_rate
    encode_s, decode_s = timed(audio)
    return {"encode_rtf": encode_s / audio_s, "decode_rtf": decode_s / audio_s, "rtf_audio_s": audio_s}


def time_model(
    model: DiscreteAutoencoder, audio: Audio, runner: Runner, num_codebooks: int | None = None
) -> tuple[float, float]:
    """Return the seconds that encoding and decoding audio (C, n), n >= 1, take: on a CPU on one thread.

    Reading, resampling and entropy coding are not in it. A model without codes is timed on the whole of it.
    """
    encode, decode = _coder(model, runner._replace(jobs=1), num_codebooks)
    signal = torch.from_numpy(audio)[None]
    encode_s, coded = _fastest(lambda: encode(signal).cpu())  # which waits until a GPU is done
    decode_s, _ = _fastest(lambda: decode(coded).cpu())
    return encode_s, decode_s


def timing_device(model: DiscreteAutoencoder) -> str:
    """Return on what `time_model` measures."""
    device = next(model.parameters()).device
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return "cpu, 1 thread" if device.type == "cpu" else device.type


def _fastest(function: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """Seconds of the fastest pass, and what it gave; the first one, which warms up, counts where it is slow."""
    taken: list[float] = []
    while len(taken) < _PASSES and sum(taken) < _ENOUGH_S:
        start = time.perf_counter()
        result = function()
        taken.append(time.perf_counter() - start)
    return min(taken), result
