"""A model's recordings as pairs of what it made of them and what they were; and how long it takes for them.

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
            at_model_rate = {"sample_rate": model.sample_rate, "num_samples": result.code_file.num_model_samples}
            yield result.code_file.model_copy(update=at_model_rate)

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
    """Yield recordings that pass piece by piece through something without files of codes; else as `coded_by_model`.

    Args:
        sources: the recordings.
        sample_rate: of pieces, in Hz.
        channels: that are coded together; 1 takes recordings of any number, others those and mono.
        segment_seconds: length of the pairs.
        through: returns what becomes of a piece (C, n), and the bits of its codes.
        piece_s: as many segments as fit are passed at once, at least one.
        around: as many samples before and after a piece are passed with it, and cut off again.
        hop: a piece begins at a multiple of so many samples, so that frames stay where they are in the whole.
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
                    raise DataError(f"{file.path}: comes back with NaN or infinite samples; use another checkpoint")
                both = (signal[:, start - first : stop - first] for signal in (found, audio))
                yield from map(Pair, *(cut([signal], segments) for signal in both))
                if bits is not None:
                    coded.bits = (coded.bits or 0.0) + bits
                start = stop

        coded.pairs = pairs()
        yield coded


def failed(source: Source, error: Exception | None) -> Failure:
    """Return the failure of a recording that could not be coded, with a line that names it."""
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


def reconstruct(
    model: DiscreteAutoencoder, audio: Audio, num_codebooks: int | None = None, runner: Runner | None = None
) -> Audio:
    """Return what the model makes of a short clip (S C, n) at its own rate, C channels at a time, by hard codes if any.

    Raises:
        ValueError: audio of another shape, or see `Codec.encode`.
    """
    encode, decode = _coder(model, runner or Runner(), num_codebooks)
    streams = torch.from_numpy(np.ascontiguousarray(audio, np.float32)).split(model.channels)
    found = [decode(encode(stream[None]))[0, :, : audio.shape[1]].cpu().numpy() for stream in streams]
    return np.concatenate(found)


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
    result is empty if none can. `timed` returns the seconds that encoding and decoding audio (channels, n) take.
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
    audio = np.concatenate(parts, axis=1).clip(-1, 1)  # what is beyond may have no codes, and takes as long
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

    Raises:
        DataError: the model makes latents of it that are no numbers.
    """
    encode, decode = _coder(model, runner._replace(jobs=1), num_codebooks)
    signal = torch.from_numpy(audio)[None]
    try:
        encode_s, coded = _fastest(lambda: encode(signal).cpu())  # which waits until a GPU is done
    except ValueError as error:
        raise DataError(f"the model cannot code: {error}; use another checkpoint") from error
    return encode_s, _fastest(lambda: decode(coded).cpu())[0]


def timing_device(model: nn.Module) -> str:
    """Return the name of the device of which real-time factors are measured."""
    device = next(model.parameters()).device
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return "cpu, 1 thread" if device.type == "cpu" else device.type


def _fastest(function: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """Return the seconds of the fastest pass and its result. The first, which warms up, counts where it is slow."""
    taken: list[float] = []
    while len(taken) < _PASSES and sum(taken) < _ENOUGH_S:
        start = time.perf_counter()
        result = function()
        taken.append(time.perf_counter() - start)
    return min(taken), result
