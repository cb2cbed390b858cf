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


def test_compressed_distance_hears_what_is_40_db_down_with_a_sixteenth_of_the_loss() -> None:
    # The loss of a part that is missing grows with its level to the power of 2 * 0.3: 0.01 ** 0.6 = 1 / 16.
    target, loss = noise(1, 1, 4000), CompressedSTFT(floor=1e-15)
    silence = torch.zeros_like(target)
    assert loss(silence, 0.01 * target) / loss(silence, target) == pytest.approx(0.01**0.6, rel=1e-2)


@pytest.mark.parametrize("wrong", [{"exponent": 0}, {"exponent": 1.5}, {"complex_share": 1.1}, {"floor": 0}], ids=str)
def test_numbers_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        CompressedSTFT(**wrong)


@pytest.mark.parametrize("loss", [MultiResolutionSTFT, ComplexSTFT, CompressedSTFT])
def test_wrong_windows_are_refused(loss: type) -> None:
    for windows, message in (((), "at least one"), ((3,), "at least 4 samples, got 3")):
        with pytest.raises(ValueError, match=message):
            loss(windows)


WINDOWS = (4, 5, 7, 32, 63, 64, 128, 130)  # also such as have an odd length or are no multiple of four hops
LENGTHS = (1, 3, 64, 65, 200)


@pytest.mark.parametrize("num_samples", LENGTHS)
@pytest.mark.parametrize("window", WINDOWS)
def test_spectra_are_those_of_torch(window: int, num_samples: int) -> None:
    dft, signals = FramedDFT(window), noise(3, num_samples).double()
    silence = torch.zeros(3, max(0, window - num_samples), dtype=torch.float64)
    filled = torch.cat([signals, silence], dim=1)
    expected = torch.stft(filled, window, window // 4, window=dft.window.double(), return_complex=True)
    torch.testing.assert_close(dft(signals), expected.mT, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("num_samples", LENGTHS)
@pytest.mark.parametrize("window", WINDOWS)
def test_adjoint_has_the_same_inner_products(window: int, num_samples: int) -> None:
    # <A x, y> = <x, A* y> for every x and y defines A*; spectra count as vectors of real and imaginary parts.
    dft, signals = FramedDFT(window), noise(3, num_samples).double()
    spectra = dft(signals)
    others = torch.view_as_complex(noise(*spectra.shape, 2, seed=1).double())
    inner = (spectra.real * others.real + spectra.imag * others.imag).sum()
    torch.testing.assert_close(
        (signals * dft.adjoint(others.clone(), num_samples)).sum(), inner, rtol=1e-10, atol=1e-10
    )


def test_adjoint_is_what_autograd_makes_of_the_map() -> None:
    dft, signals = FramedDFT(64), noise(2, 300).double().requires_grad_()
    spectra = dft(signals)
    upstream = torch.view_as_complex(noise(*spectra.shape, 2, seed=1).double())
    (expected,) = torch.autograd.grad(spectra, signals, upstream)
    torch.testing.assert_close(dft.adjoint(upstream.clone(), 300), expected, rtol=1e-10, atol=1e-10)
