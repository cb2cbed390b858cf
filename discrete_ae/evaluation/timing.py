"""Seconds of computing per second of audio, measured by themselves before anything else runs.

Axes: C audio channels, N samples, T frames.
"""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from discrete_ae.data.reading import read_audio
from discrete_ae.errors import DataError
from discrete_ae.evaluation.recordings import Source
from discrete_ae.inference import Cutter, Runner, Window, decoder_window, encoder_window, window_codes
from discrete_ae.model import DiscreteAutoencoder

Audio = NDArray[np.float32]

TIMED_S = 10.0
"""So much of the first recordings is timed, at most."""
_PASSES = 3  # of which the fastest counts: whatever else the machine does only makes one slower
_ENOUGH_S = 5.0  # after so long, no further pass


class Factors(NamedTuple):
    """Seconds of computing per second of audio: real time is 1, less is faster."""

    encode: float
    decode: float
    audio_s: float
    """Of how much audio."""


def timed_audio(sources: Sequence[Source], sample_rate: int, channels: int) -> Audio:
    """The first `TIMED_S` seconds (C, N) of the recordings that can be read; N is 0 if none can."""
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
    return np.concatenate(parts, axis=1)


def time_model(model: DiscreteAutoencoder, audio: Audio, runner: Runner, num_codebooks: int | None = None) -> Factors:
    """Time encoding and decoding of audio (C, N), N >= 1, in windows: on a CPU on one thread.

    Reading, resampling and entropy coding are not in it.

    Args:
        model: with codes or without.
        audio: at its rate and with its channels.
        runner: how windows are computed.
        num_codebooks: how many of the codebooks to use, one of `model.quantizer.decodable_counts`; None is all.
    """
    has_codes = bool(model.quantizer.num_codebooks)
    hop = model.hop_length

    def decoded(latents: Tensor) -> Tensor:
        return model.reconstruct(latents, latents.shape[-1] * hop)

    def codes(windows: Tensor) -> Tensor:
        return window_codes(model, windows, num_codebooks)

    encoder, decoder = (codes, model.decode) if has_codes else (model.latents, decoded)
    frames = torch.from_numpy(audio)
    runner = runner._replace(jobs=1)
    encode_s, coded = _fastest(lambda: _through(model, frames, encoder_window(model), hop, encoder, runner))
    decode_s, _ = _fastest(lambda: _through(model, coded, decoder_window(model), 1, decoder, runner))
    audio_s = audio.shape[1] / model.sample_rate
    return Factors(encode_s / audio_s, decode_s / audio_s, audio_s)


def timing_device(model: DiscreteAutoencoder) -> str:
    """On what `time_model` measures."""
    device = next(model.parameters()).device
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return "cpu, 1 thread" if device.type == "cpu" else device.type


def _through(
    model: DiscreteAutoencoder,
    signal: Tensor,
    window: Window,
    unit: int,
    function: Callable[[Tensor], Tensor],
    runner: Runner,
) -> Tensor:
    cutter = Cutter(window, unit)
    pieces = [*cutter.push(signal), *cutter.finish()]
    results = list(runner.map(model, function, ((piece, piece.signal) for piece in pieces)))
    per_frame = results[0][1].shape[-1] // (pieces[0].signal.shape[-1] // unit)  # type: ignore[union-attr]
    found = [
        result[..., piece.first * per_frame : piece.stop * per_frame] for piece, result in results if result is not None
    ]
    return torch.cat(found, dim=-1).cpu()  # which waits until a GPU is done


def _fastest(function: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """Seconds of the fastest pass, and what it gave; the first one, which warms up, counts where it is slow."""
    taken: list[float] = []
    while len(taken) < _PASSES and sum(taken) < _ENOUGH_S:
        start = time.perf_counter()
        result = function()
        taken.append(time.perf_counter() - start)
    return min(taken), result
