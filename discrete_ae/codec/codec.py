"""Audio to integers and back by a model, exactly: the same codes whatever else is computed with them.

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
    """Exact coding by a model: on a CPU, codes that never change with batch, threads, chunks, jobs or length.

    A signal in parts has the codes of the whole, and a file those of its samples. It costs nothing in speed on a CPU;
    a training loop, or a GPU that is to be kept busy with large batches, takes `model.encode` and `model.decode`.

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
        model: from `discrete_ae.load`; its mode of training or evaluation is left as it is.
        runner: how windows are computed.

    Raises:
        ValueError: `model` is none, such as the path of one.
    """

    def __init__(self, model: DiscreteAutoencoder, runner: Runner | None = None) -> None:
        if not isinstance(model, DiscreteAutoencoder):
            raise ValueError(f"model: expected a model, as discrete_ae.load(path) returns it, got {model!r:.80}")
        self.model = model
        self.runner = runner or Runner()

    def encode(self, audio: Tensor, num_codebooks: int | None = None) -> Tensor:
        """Return codes (B, K, T) int64 of audio (B, C, N), any N >= 1, T = ceil(N / hop_length).

        Raises:
            ValueError: as `DiscreteAutoencoder.encode`.
        """
        model = self.model
        model.check_audio(audio)
        model.quantizer.check_count(num_codebooks)
        codes = self._in_windows(
            audio, encoder_window(model), model.hop_length, 1, lambda window: window_codes(model, window, num_codebooks)
        )
        if bool((codes < 0).any()):
            raise ValueError("audio: the model makes NaN or infinite latents of it; bring its samples to [-1, 1]")
        return codes

    def decode(self, codes: Tensor, num_samples: int | None = None) -> Tensor:
        """Return audio (B, C, N) float32 of codes (B, K, T); N = num_samples, or T * hop_length if None.

        Raises:
            ValueError: as `DiscreteAutoencoder.decode`.
        """
        model = self.model
        model.quantizer.check_codes(codes)
        num_samples = model.check_num_samples(codes, num_samples)
        return self._in_windows(codes, decoder_window(model), 1, model.hop_length, model.decode)[..., :num_samples]

    def encode_file(
        self, path: str | Path, num_codebooks: int | None = None, *, loudness_lufs: float | None = None
    ) -> CodeFile:
        """Return the codes of one recording, as `encode_files` does.

        Raises:
            DataError: the recording cannot be coded.
            ValueError: see `encode_files`.
        """
        ((_, code_file, error),) = encode_files(
            self.model, [Path(path)], num_codebooks, runner=self.runner, loudness_lufs=loudness_lufs
        )
        if code_file is None:
            assert error
            raise error
        return code_file

    def decode_file(self, code_file: CodeFile, *, force: bool = False) -> Audio:
        """Return audio (C, N) float32 of one recording's codes, N = num_samples, as `decode_files` does.

        Raises:
            DataError: the codes are those of another model, or do not fit this one.
        """
        (decoded,) = (
            np.concatenate(list(found.blocks), axis=1)
            for found in decode_files(self.model, [code_file], force=force, runner=self.runner)
        )
        return decoded

    def _in_windows(
        self, signals: Tensor, window: Window, unit: int, unit_out: int, function: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Apply a function to windows of signals (B, ..., n), and put the frames that count together."""
        results: list[list[Tensor]] = [[] for _ in signals]
        given = [(None, [signals.detach().cpu()])]
        for _, parts in in_windows(self.model, function, given, window, unit, self.runner):
            for part, result in parts:
                frames = slice(part.first * unit_out, part.stop * unit_out)
                results[part.stream].append(result[..., frames].to(signals.device))
        return torch.stack([torch.cat(parts, dim=-1) for parts in results])
