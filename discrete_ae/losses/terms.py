"""Reconstruction losses. Each takes (reconstruction, target), both (B, C, N), and gives a scalar."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
import torchaudio.functional as audio_functional
from torch import Tensor, nn


class WaveformL1(nn.Module):
    """Mean absolute difference of the samples."""

    def forward(self, reconstruction: Tensor, target: Tensor) -> Tensor:
        """See the module."""
        return F.l1_loss(reconstruction, target)


class LogSNR(nn.Module):
    """ln(1 + noise power / signal power), mean over the batch: 0 for a perfect copy, ln 2 for silence.

    A logarithmic signal-to-noise ratio that is bounded below, and near 0 dB as steep as the ratio in decibels. Without
    such a term the magnitude losses leave the phase, and with it the waveform, to chance.

    Args:
        floor_db: the signal's power counts as at least this, in dB full scale, so that silence has a finite loss.
    """

    def __init__(self, floor_db: float = -70.0) -> None:
        super().__init__()
        self.floor = 10 ** (floor_db / 10)

    def forward(self, reconstruction: Tensor, target: Tensor) -> Tensor:
        """See the module."""
        signal = target.square().mean(dim=(1, 2)).clamp_min(self.floor)
        noise = (reconstruction - target).square().mean(dim=(1, 2))
        return torch.log1p(noise / signal).mean()


class _Spectrogram(nn.Module):
    """Magnitude spectrogram (B, C, F, T) with a Hann window and a hop of a quarter of it."""

    window: Tensor

    def __init__(self, window_length: int) -> None:
        super().__init__()
        if window_length < 4:
            raise ValueError(f"window_lengths: expected at least 4 samples, got {window_length}")
        self.window_length = window_length
        self.register_buffer("window", torch.hann_window(window_length), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        # Half a window is mirrored at both ends, so a shorter signal is filled up with silence.
        missing = max(0, self.window_length - audio.shape[-1])
        length = self.window_length
        return audio_functional.spectrogram(
            F.pad(audio, (0, missing)),
            pad=0,
            window=self.window,
            n_fft=length,
            hop_length=length // 4,
            win_length=length,
            power=1,
            normalized=False,
        )


class MultiScaleMel(nn.Module):
    """L1 distance of log10 mel spectrograms, mean over several window lengths (Kumar et al. 2023, arXiv:2306.06546).

    Args:
        sample_rate: in Hz.
        window_lengths: in samples.
        num_mels: mel bands for each window length.
        floor: magnitudes below this count as this.

    Raises:
        ValueError: if window_lengths and num_mels differ in length, or there is none.
    """

    def __init__(
        self, sample_rate: int, window_lengths: Sequence[int], num_mels: Sequence[int], floor: float = 1e-5
    ) -> None:
        super().__init__()
        if not window_lengths or len(window_lengths) != len(num_mels):
            raise ValueError(
                f"expected one num_mels for each of window_lengths, got {list(num_mels)} for {list(window_lengths)}"
            )
        self.floor = floor
        self.spectrograms = nn.ModuleList(_Spectrogram(length) for length in window_lengths)
        for i, (length, bands) in enumerate(zip(window_lengths, num_mels, strict=True)):
            bank = audio_functional.melscale_fbanks(length // 2 + 1, 0.0, sample_rate / 2, bands, sample_rate)
            self.register_buffer(f"bank_{i}", bank.T.contiguous(), persistent=False)

    def _log_mels(self, audio: Tensor) -> list[Tensor]:
        return [
            (self.get_buffer(f"bank_{i}") @ spectrogram(audio)).clamp_min(self.floor).log10()
            for i, spectrogram in enumerate(self.spectrograms)
        ]

    def forward(self, reconstruction: Tensor, target: Tensor) -> Tensor:
        """See the module."""
        with torch.no_grad():
            wanted = self._log_mels(target)
        distances = [F.l1_loss(*pair) for pair in zip(self._log_mels(reconstruction), wanted, strict=True)]
        return torch.stack(distances).mean()


class MultiResolutionSTFT(nn.Module):
    """Spectral convergence plus log magnitude L1, mean over window lengths (Yamamoto et al. 2020, arXiv:1910.11480).

    Args:
        window_lengths: in samples.
        floor: magnitudes below this count as this.

    Raises:
        ValueError: if there is no window length.
    """

    def __init__(self, window_lengths: Sequence[int] = (512, 1024, 2048), floor: float = 1e-5) -> None:
        super().__init__()
        if not window_lengths:
            raise ValueError("window_lengths: expected at least one")
        self.floor = floor
        self.spectrograms = nn.ModuleList(_Spectrogram(length) for length in window_lengths)

    def forward(self, reconstruction: Tensor, target: Tensor) -> Tensor:
        """See the module."""
        distances = []
        for spectrogram in self.spectrograms:
            found, wanted = spectrogram(reconstruction), spectrogram(target)
            missed = torch.linalg.vector_norm(found - wanted, dim=(1, 2, 3))
            convergence = missed / torch.linalg.vector_norm(wanted, dim=(1, 2, 3)).clamp_min(self.floor)
            log_distance = F.l1_loss(found.clamp_min(self.floor).log(), wanted.clamp_min(self.floor).log())
            distances.append(convergence.mean() + log_distance)
        return torch.stack(distances).mean()
