"""Loss terms against hand arithmetic and against independent implementations."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchaudio
from torch import Tensor, nn

from discrete_ae.losses import LogSNR, MultiResolutionSTFT, MultiScaleMel, WaveformL1

RATE, WINDOWS, MELS = 16000, (2048, 512, 128), (80, 40, 10)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.1


def mel() -> MultiScaleMel:
    return MultiScaleMel(RATE, WINDOWS, MELS)


TERMS = {"l1": WaveformL1, "snr": LogSNR, "mel": mel, "stft": MultiResolutionSTFT}
every_term = pytest.mark.parametrize("term", [pytest.param(make, id=name) for name, make in TERMS.items()])


def test_log_snr_is_the_logarithm_of_one_plus_noise_over_signal() -> None:
    target = torch.tensor([[[1.0, -1.0, 1.0, -1.0]]])  # power 1
    assert LogSNR()(target, target) == 0
    assert LogSNR()(torch.zeros_like(target), target).item() == pytest.approx(math.log(2), rel=1e-6)
    # A difference of 0.1 everywhere is a power of 0.01: 20 dB.
    assert LogSNR()(target + 0.1, target).item() == pytest.approx(math.log(1.01), rel=1e-5)
    assert LogSNR()(-target, target).item() == pytest.approx(math.log(5), rel=1e-6)


def test_log_snr_takes_the_power_of_an_item_over_all_its_channels() -> None:
    # Signal (1 + 0) / 2, noise (0 + 1/4) / 2: a ratio of 1/4, where channel by channel it would be 0 and infinite.
    target = torch.tensor([[[1.0, -1.0], [0.0, 0.0]]])
    assert LogSNR()(target + torch.tensor([[0.0], [0.5]]), target).item() == pytest.approx(math.log(1.25), rel=1e-6)


def test_log_snr_is_the_mean_over_items() -> None:
    target = noise(2, 1, 100)
    target[1] *= 1000  # loudness gives an item no weight
    reconstruction = torch.stack([target[0], torch.zeros(1, 100)])
    assert LogSNR()(reconstruction, target).item() == pytest.approx(math.log(2) / 2, rel=1e-6)


def test_log_snr_does_not_change_with_the_scale_of_both() -> None:
    target, reconstruction = noise(3, 2, 400), noise(3, 2, 400, seed=1)
    expected = LogSNR()(reconstruction, target)
    # Powers of two scale floats exactly; 2^-4 of the noise is still above the floor.
    for scale in (2.0**-4, 2.0**10):
        assert LogSNR()(scale * reconstruction, scale * target) == expected


def test_log_snr_of_silence_counts_the_floor_as_the_signal() -> None:
    silence = torch.zeros(1, 1, 50)
    reconstruction = torch.full_like(silence, 0.1, requires_grad=True)
    loss = LogSNR(floor_db=-70)(reconstruction, silence)
    assert loss.item() == pytest.approx(math.log(1 + 0.01 / 1e-7), rel=1e-6)
    loss.backward()
    # d/dx ln(1 + mean(x^2) / f) = (2 x / N) / (f + mean(x^2))
    assert reconstruction.grad[0, 0, 0].item() == pytest.approx(2 * 0.1 / 50 / (1e-7 + 0.01), rel=1e-5)
    assert LogSNR()(silence, silence) == 0


def test_waveform_l1_is_the_mean_absolute_difference() -> None:
    reconstruction, target = torch.tensor([[[1.0, -2.0]], [[0.5, 0.0]]]), torch.tensor([[[0.0, 1.0]], [[0.5, -1.0]]])
    assert WaveformL1()(reconstruction, target) == (1 + 3 + 0 + 1) / 4


def expected_mel_distance(reconstruction: Tensor, target: Tensor) -> float:
    distances = []
    for window, bands in zip(WINDOWS, MELS, strict=True):
        to_mel = torchaudio.transforms.MelSpectrogram(
            RATE, n_fft=window, win_length=window, hop_length=window // 4, n_mels=bands, power=1
        )
        found, wanted = (to_mel(audio).clamp(min=1e-5).log10() for audio in (reconstruction, target))
        distances.append((found - wanted).abs().mean().item())
    return sum(distances) / len(distances)


@pytest.mark.parametrize("shape", [(2, 1, 5000), (1, 2, 4097)])
def test_mel_loss_equals_that_of_torchaudios_transform(shape: tuple[int, ...]) -> None:
    reconstruction, target = noise(*shape), noise(*shape, seed=1)
    target[..., 3000:] = 0  # some values lie below the floor
    assert mel()(reconstruction, target).item() == pytest.approx(
        expected_mel_distance(reconstruction, target), rel=1e-5
    )


def test_mel_loss_fills_up_a_short_signal_with_silence() -> None:
    reconstruction, target = noise(1, 1, 300), noise(1, 1, 300, seed=1)

    def expected(window: int) -> float:
        missing = max(0, window - 300)
        loss = MultiScaleMel(RATE, [window], [20])
        return loss(F.pad(reconstruction, (0, missing)), F.pad(target, (0, missing))).item()

    for window in (256, 512):
        assert MultiScaleMel(RATE, [window], [20])(reconstruction, target).item() == expected(window)


def magnitudes(audio: np.ndarray, window: int) -> np.ndarray:
    """Magnitude spectrogram (F, T) of audio (N,) by definition: reflected ends, periodic Hann, hop of a quarter."""
    audio = np.pad(audio, window // 2, mode="reflect")
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    starts = range(0, len(audio) - window + 1, window // 4)
    return np.stack([np.abs(np.fft.rfft(hann * audio[start : start + window])) for start in starts], axis=1)


def test_stft_loss_equals_its_definition() -> None:
    reconstruction, target = noise(2, 2, 3001), noise(2, 2, 3001, seed=1)
    target[0] *= 0.01  # convergence is relative to each item's own level
    losses = []
    for window in (512, 1024):
        found, wanted = (
            np.array([[magnitudes(channel, window) for channel in item] for item in audio.double().numpy()])
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


def test_log_distances_see_a_factor_as_its_logarithm() -> None:
    # Ten times the magnitude everywhere is 1 in log10, and ln 10 with a convergence of 9 in the STFT loss.
    target = noise(1, 1, 4000)
    assert mel()(10 * target, target).item() == pytest.approx(1, rel=1e-4)
    assert MultiResolutionSTFT()(10 * target, target).item() == pytest.approx(9 + math.log(10), rel=1e-4)


@every_term
@pytest.mark.parametrize("num_samples", [1, 2, 3200])
def test_perfect_copy_has_no_loss_and_another_has_one(term: type[nn.Module], num_samples: int) -> None:
    loss, target = term(), noise(2, 1, num_samples)
    assert loss(target.clone(), target) == 0
    assert loss(2 * target + 0.1, target) > 0.01


@every_term
@pytest.mark.parametrize("silent", ["reconstruction", "target", "both"])
@pytest.mark.parametrize("num_samples", [1, 3200])
def test_silence_has_finite_loss_and_gradient(term: type[nn.Module], silent: str, num_samples: int) -> None:
    reconstruction, target = noise(2, 1, num_samples), noise(2, 1, num_samples, seed=1)
    if silent != "target":
        reconstruction.zero_()
    if silent != "reconstruction":
        target.zero_()
    reconstruction.requires_grad_()
    loss = term()(reconstruction, target)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(reconstruction.grad).all()


@every_term
def test_gradient_points_to_the_target(term: type[nn.Module]) -> None:
    target = noise(1, 1, 3200)
    reconstruction = (target + 0.02 * noise(1, 1, 3200, seed=1)).requires_grad_()
    loss = term()
    before = loss(reconstruction, target)
    (gradient,) = torch.autograd.grad(before, reconstruction)
    step = 1e-3 * reconstruction.detach().norm() * gradient / gradient.norm()
    assert loss(reconstruction.detach() - step, target) < before


def test_window_and_band_mismatches_are_refused() -> None:
    with pytest.raises(ValueError, match="one num_mels for each of window_lengths"):
        MultiScaleMel(RATE, [512, 128], [40])
    with pytest.raises(ValueError, match="one num_mels"):
        MultiScaleMel(RATE, [], [])
    with pytest.raises(ValueError, match="at least one"):
        MultiResolutionSTFT(())
    with pytest.raises(ValueError, match="at least 4 samples, got 3"):
        MultiResolutionSTFT((3,))
