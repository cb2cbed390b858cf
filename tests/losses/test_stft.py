"""Distances of short-time spectra against their definitions."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from discrete_ae.losses import ComplexSTFT, CompressedSTFT, MultiResolutionSTFT


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.1


def spectrum(audio: np.ndarray, window: int) -> np.ndarray:
    """Complex spectrogram (F, T) of audio (N,) by definition: reflected ends, periodic Hann, hop of a quarter."""
    audio = np.pad(audio, window // 2, mode="reflect")
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    starts = range(0, len(audio) - window + 1, window // 4)
    return np.stack([np.fft.rfft(hann * audio[start : start + window]) for start in starts], axis=1)


def test_stft_loss_equals_its_definition() -> None:
    reconstruction, target = noise(2, 2, 3001), noise(2, 2, 3001, seed=1)
    target[0] *= 0.01  # convergence is relative to each item's own level
    losses = []
    for window in (512, 1024):
        found, wanted = (
            np.array([[np.abs(spectrum(channel, window)) for channel in item] for item in audio.double().numpy()])
            for audio in (reconstruction, target)
        )
        convergence = [
            np.sqrt(((item - other) ** 2).sum()) / np.sqrt((other**2).sum())
            for item, other in zip(found, wanted, strict=True)
        ]
        logs = np.abs(np.log(np.maximum(found, 1e-5)) - np.log(np.maximum(wanted, 1e-5)))
        losses.append(np.mean(convergence) + logs.mean())
    found = MultiResolutionSTFT((512, 1024))(reconstruction, target).item()
    assert found == pytest.approx(np.mean(losses), rel=1e-4)


def test_complex_distance_equals_its_definition() -> None:
    reconstruction, target = noise(2, 2, 3001), noise(2, 2, 3001, seed=1)
    losses = []
    for window in (512, 1024):
        found, wanted = (
            np.array([[spectrum(channel, window) for channel in item] for item in audio.double().numpy()])
            for audio in (reconstruction, target)
        )
        # The sum of squares of a periodic Hann window is 3/8 of its length.
        parts = np.stack([(found - wanted).real, (found - wanted).imag]) / math.sqrt(3 / 8 * window)
        losses.append(np.abs(parts).mean())
    found = ComplexSTFT((512, 1024))(reconstruction, target).item()
    assert found == pytest.approx(np.mean(losses), rel=1e-4)


@pytest.mark.parametrize("window", [64, 256, 1024])
def test_complex_distance_of_white_noise_does_not_grow_with_the_window(window: int) -> None:
    difference = noise(8, 1, 16000)  # of standard deviation 0.1
    # Either part of a bin is normal with variance 0.01 / 2, whose mean absolute value is sqrt(2 / pi) of its deviation.
    found = ComplexSTFT([window])(difference, torch.zeros_like(difference)).item()
    assert found == pytest.approx(0.1 / math.sqrt(math.pi), rel=0.03)


def test_complex_distance_sees_the_phase_that_magnitudes_do_not() -> None:
    target = noise(1, 1, 4000)
    assert MultiResolutionSTFT()(-target, target).item() == pytest.approx(0, abs=1e-5)
    assert ComplexSTFT()(-target, target) == 2 * ComplexSTFT()(torch.zeros_like(target), target)


def test_compressed_distance_equals_its_definition() -> None:
    reconstruction, target = noise(2, 2, 3001), noise(2, 2, 3001, seed=1)
    losses = []
    for window in (512, 1024):
        found, wanted = (
            np.array([[spectrum(channel, window) for channel in item] for item in audio.double().numpy()])
            / math.sqrt(3 / 8 * window)
            for audio in (reconstruction, target)
        )
        sizes = (np.abs(found) ** 0.4 - np.abs(wanted) ** 0.4) ** 2
        compressed = [np.abs(bins) ** 0.4 * np.exp(1j * np.angle(bins)) for bins in (found, wanted)]
        losses.append(np.mean(0.7 * sizes + 0.3 * np.abs(compressed[0] - compressed[1]) ** 2))
    loss = CompressedSTFT((512, 1024), exponent=0.4, complex_share=0.3, floor=1e-7)
    assert loss(reconstruction, target).item() == pytest.approx(np.mean(losses), rel=1e-4)


def test_compressed_distance_hears_what_is_40_db_down_with_a_sixteenth_of_the_loss() -> None:
    # The loss of a part that is missing grows with its level to the power of 2 * 0.3: 0.01 ** 0.6 = 1 / 16.
    target, loss = noise(1, 1, 4000), CompressedSTFT(floor=1e-15)
    silence = torch.zeros_like(target)
    assert loss(silence, 0.01 * target) / loss(silence, target) == pytest.approx(0.01**0.6, rel=1e-2)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"exponent": 0}, "exponent"), ({"exponent": 1.5}, "exponent"), ({"complex_share": 1.1}, "complex_share"),
     ({"floor": 0}, "floor")],
)  # fmt: skip
def test_numbers_out_of_range_are_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CompressedSTFT(**wrong)


@pytest.mark.parametrize("loss", [MultiResolutionSTFT, ComplexSTFT, CompressedSTFT])
def test_wrong_windows_are_refused(loss: type[MultiResolutionSTFT | ComplexSTFT | CompressedSTFT]) -> None:
    with pytest.raises(ValueError, match="at least one"):
        loss(())
    with pytest.raises(ValueError, match="at least 4 samples, got 3"):
        loss((3,))
