"""Encode audio to integers with a model, and decode them; the codes of a signal depend on the signal alone.

Axes: B batch, C audio channels, N samples, K codebooks, T frames.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from discrete_ae.codec.files import decode_files, encode_files, in_windows
from discrete_ae.codes import CodeFile
from discrete_ae.data.resampling import Audio
from discrete_ae.inference import Runner, Window, decoder_window, encoder_window, window_codes
from discrete_ae.model import DiscreteAutoencoder


class Codec:
    """Exact coding with a model: on a CPU, codes do not depend on batch size, threads, chunks, jobs or length.

    A signal gets the same codes whether it is coded whole, in chunks or from a file. On a CPU this costs no speed. For
    a training loop, or large batches on a GPU, use `model.encode` and `model.decode`.

    >>> codec = Codec(discrete_ae.load(checkpoint))
    >>> audio = torch.zeros(1, 1, 32000)
    >>> codes = codec.encode(audio)
    >>> torch.equal(codec.encode(audio.repeat(3, 1, 1))[2], codes[0])
    True
    >>> codec.decode(codes, num_samples=32000).shape
    torch.Size([1, 1, 32000])
    >>> codec.decode_file(codec.encode_file(recording)).shape  # at its own sample rate
    (1, 16000)

    Args:
        model: a model from `discrete_ae.load`; its training or evaluation mode is not changed.
        runner: runner that computes the windows.

    Raises:
        ValueError: `model` is not a model; it may be a path, for example.
    """

    def __init__(self, model: DiscreteAutoencoder, runner: Runner | None = None) -> None:
        if not isinstance(model, DiscreteAutoencoder):
            raise ValueError(f"model: expected a model from discrete_ae.load(path), got {model!r:.80}")
        self.model = model
        self.runner = runner or Runner()

    def encode(self, audio: Tensor, num_codebooks: int | None = None) -> Tensor:
        """Return codes (B, K, T) int64 of audio (B, C, N), any N >= 1, T = ceil(N / hop_length).

        Raises:
            ValueError: latents are NaN or infinite, or `DiscreteAutoencoder.encode` would reject the audio.
        """
        model = self.model
        model.check_audio(audio)
        model.quantizer.check_count(num_codebooks)
        codes = self._in_windows(
            audio, encoder_window(model), model.hop_length, 1, lambda window: window_codes(model, window, num_codebooks)
        )
        if bool((codes < 0).any()):
            raise ValueError("audio: its latents are NaN or infinite; scale its samples to [-1, 1]")
        return codes

    def decode(self, codes: Tensor, num_samples: int | None = None) -> Tensor:
        """Return audio (B, C, N) float32 of codes (B, K, T); N = num_samples, or T * hop_length if None.

        Raises:
            ValueError: `DiscreteAutoencoder.decode` would reject the codes or `num_samples`.
        """
        model = self.model
        model.quantizer.check_codes(codes)
        num_samples = model.check_num_samples(codes, num_samples)
        return self._in_windows(codes, decoder_window(model), 1, model.hop_length, model.decode)[..., :num_samples]

    def encode_file(
        self, path: str | Path, num_codebooks: int | None = None, *, loudness_lufs: float | None = None
    ) -> CodeFile:
        """Return the codes of one recording; see `encode_files`.

        Raises:
            DataError: the recording cannot be coded.
            ValueError: `encode_files` rejects the model or an argument.
        """
        ((_, code_file, error),) = encode_files(
            self.model, [Path(path)], num_codebooks, runner=self.runner, loudness_lufs=loudness_lufs
        )
        if code_file is None:
            assert error
            raise error
        return code_file

    def decode_file(self, code_file: CodeFile, *, force: bool = False) -> Audio:
        """Return audio (C, N) float32 of one recording's codes, N = num_samples; see `decode_files`.

        Raises:
            DataError: the codes come from another model, or do not fit this one.
        """
        (decoded,) = (
            np.concatenate(list(found.blocks), axis=1)
            for found in decode_files(self.model, [code_file], force=force, runner=self.runner)
        )
        return decoded

    def _in_windows(
        self, signals: Tensor, window: Window, unit: int, unit_out: int, function: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Apply a function to windows of signals (B, ..., n), and join the valid frames of the results."""
        results: list[list[Tensor]] = [[] for _ in signals]
        given = [(None, [signals.detach().cpu()])]
        for _, parts in in_windows(self.model, function, given, window, unit, self.runner):
            for part, result in parts:
                frames = slice(part.first * unit_out, part.stop * unit_out)
                results[part.stream].append(result[..., frames].to(signals.device))
        return torch.stack([torch.cat(parts, dim=-1) for parts in results])
