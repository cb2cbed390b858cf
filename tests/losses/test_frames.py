"""The map of signals to spectra of frames, and its adjoint."""

import pytest
import torch
from torch import Tensor

from discrete_ae.losses.stft import FramedDFT

WINDOWS = (4, 5, 7, 32, 63, 64, 128, 130)  # also such as have an odd length or are no multiple of four hops
LENGTHS = (1, 3, 64, 65, 200)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("num_samples", LENGTHS)
@pytest.mark.parametrize("window", WINDOWS)
def test_spectra_are_those_of_torch(window: int, num_samples: int) -> None:
    signals = noise(3, num_samples)
    dft = FramedDFT(window)
    silence = torch.zeros(3, max(0, window - num_samples), dtype=torch.float64)
    expected = torch.stft(
        torch.cat([signals, silence], dim=1),
        window,
        hop_length=window // 4,
        window=dft.window.double(),
        center=True,
        pad_mode="reflect",
        return_complex=True,
    )
    torch.testing.assert_close(dft(signals), expected.mT, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("num_samples", LENGTHS)
@pytest.mark.parametrize("window", WINDOWS)
def test_adjoint_has_the_same_inner_products(window: int, num_samples: int) -> None:
    # <A x, y> = <x, A* y> for every x and y defines A*; spectra count as vectors of real and imaginary parts.
    dft, signals = FramedDFT(window), noise(3, num_samples)
    spectra = dft(signals)
    others = torch.view_as_complex(noise(*spectra.shape, 2, seed=1))
    inner = (spectra.real * others.real + spectra.imag * others.imag).sum()
    torch.testing.assert_close(
        (signals * dft.adjoint(others.clone(), num_samples)).sum(), inner, rtol=1e-10, atol=1e-10
    )


def test_adjoint_is_what_autograd_makes_of_the_map() -> None:
    dft, signals = FramedDFT(64), noise(2, 300).requires_grad_()
    spectra = dft(signals)
    upstream = torch.view_as_complex(noise(*spectra.shape, 2, seed=1))
    (expected,) = torch.autograd.grad(spectra, signals, upstream)
    torch.testing.assert_close(dft.adjoint(upstream.clone(), 300), expected, rtol=1e-10, atol=1e-10)
