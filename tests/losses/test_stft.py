"""The map of signals to spectra of frames with its adjoint, and distances of spectra against their definitions."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from discrete_ae.losses import ComplexSTFT, CompressedSTFT, MultiResolutionSTFT
from discrete_ae.losses.stft import FramedDFT
from tests.losses.noise import noise


def spectra(audio: Tensor, window: int) -> np.ndarray:
    """Complex spectra (B, C, F, T) of audio by definition: reflected ends, periodic Hann, hop of a quarter."""
    padded = np.pad(audio.double().numpy(), [(0, 0), (0, 0), (window // 2,) * 2], mode="reflect")
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    starts = range(0, padded.shape[-1] - window + 1, window // 4)
    return np.stack([np.fft.rfft(hann * padded[..., start : start + window]) for start in starts], axis=-1)


def stft(found: np.ndarray, wanted: np.ndarray, window: int) -> float:
    found, wanted = np.abs(found), np.abs(wanted)
    missed, size = (np.sqrt((bins**2).sum(axis=(1, 2, 3))) for bins in (found - wanted, wanted))
    return (missed / size).mean() + np.abs(np.log(np.maximum(found, 1e-5)) - np.log(np.maximum(wanted, 1e-5))).mean()


def complex_stft(found: np.ndarray, wanted: np.ndarray, window: int) -> float:
    # The sum of squares of a periodic Hann window is 3/8 of its length.
    difference = (found - wanted) / math.sqrt(3 / 8 * window)
    return (np.abs(difference.real).mean() + np.abs(difference.imag).mean()) / 2


def compressed_stft(found: np.ndarray, wanted: np.ndarray, window: int) -> float:
    bins = [each / math.sqrt(3 / 8 * window) for each in (found, wanted)]
    sizes = [np.abs(each) ** 0.4 for each in bins]
    first, second = (size * np.exp(1j * np.angle(each)) for size, each in zip(sizes, bins, strict=True))
    return np.mean(0.7 * (sizes[0] - sizes[1]) ** 2 + 0.3 * np.abs(first - second) ** 2)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (MultiResolutionSTFT((512, 1024)), stft),
        (ComplexSTFT((512, 1024)), complex_stft),
        (CompressedSTFT((512, 1024), exponent=0.4, complex_share=0.3, floor=1e-7), compressed_stft),
    ],
)
def test_distances_equal_their_definitions(loss: nn.Module, expected: Callable[..., float]) -> None:
    reconstruction, target = noise(2, 2, 3001), noise(2, 2, 3001, seed=1)
    target[0] *= 0.01  # convergence is relative to each item's own level
    wanted = [expected(*(spectra(each, window) for each in (reconstruction, target)), window) for window in (512, 1024)]
    assert loss(reconstruction, target).item() == pytest.approx(np.mean(wanted), rel=1e-4)


@pytest.mark.parametrize(
    ("loss", "arguments", "message"),
    [
        (CompressedSTFT, {"exponent": 0}, "exponent"),
        (CompressedSTFT, {"exponent": 1.5}, "exponent"),
        (CompressedSTFT, {"complex_share": 1.1}, "complex_share"),
        (CompressedSTFT, {"floor": 0}, "floor"),
        *((loss, {"window_lengths": ()}, "at least one") for loss in (MultiResolutionSTFT, ComplexSTFT)),
        *((loss, {"window_lengths": (3,)}, "at least 4 samples, got 3") for loss in (ComplexSTFT, CompressedSTFT)),
    ],
)
def test_numbers_out_of_range_are_refused(loss: type, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        loss(**arguments)


@pytest.mark.parametrize("window", [4, 5, 7, 32, 63, 130])  # odd lengths too, and no multiples of four hops
def test_spectra_are_those_of_torch_and_the_adjoint_has_the_same_inner_products(window: int) -> None:
    dft = FramedDFT(window)
    for num_samples in (1, 3, 64, 65, 200):
        signals = noise(3, num_samples).double()
        filled = nn.functional.pad(signals, (0, max(0, window - num_samples)))
        expected = torch.stft(filled, window, window // 4, window=dft.window.double(), return_complex=True)
        spectra = dft(signals)
        torch.testing.assert_close(spectra, expected.mT, rtol=1e-10, atol=1e-10)
        # <A x, y> = <x, A* y> for every x and y defines A*; spectra count as vectors of real and imaginary parts.
        others = torch.view_as_complex(noise(*spectra.shape, 2, seed=1).double())
        inner = (spectra.real * others.real + spectra.imag * others.imag).sum()
        of_signals = (signals * dft.adjoint(others.clone(), num_samples)).sum()
        torch.testing.assert_close(of_signals, inner, rtol=1e-10, atol=1e-10)
