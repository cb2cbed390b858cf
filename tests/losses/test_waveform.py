"""Losses of the samples against hand arithmetic."""

import math

import pytest
import scipy.signal
import torch
from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio

from discrete_ae.losses import LogSNR, NegativeSISDR, WaveformL1
from tests.losses.noise import noise


def test_log_snr_is_the_logarithm_of_one_plus_noise_over_signal() -> None:
    target = torch.tensor([[[1.0, -1.0, 1.0, -1.0]]])  # power 1
    assert LogSNR()(target, target) == 0
    assert LogSNR()(torch.zeros_like(target), target).item() == pytest.approx(math.log(2), rel=1e-6)
    # A difference of 0.1 everywhere is a power of 0.01: 20 dB.
    assert LogSNR()(target + 0.1, target).item() == pytest.approx(math.log(1.01), rel=1e-5)
    assert LogSNR()(-target, target).item() == pytest.approx(math.log(5), rel=1e-6)


def test_log_snr_takes_the_power_of_an_item_over_its_channels_and_the_mean_over_items() -> None:
    # Signal (1 + 0) / 2, noise (0 + 1/4) / 2: a ratio of 1/4, where channel by channel it would be 0 and infinite.
    target = torch.tensor([[[1.0, -1.0], [0.0, 0.0]]])
    reconstruction = target + torch.tensor([[0.0], [0.5]])
    assert LogSNR()(reconstruction, target).item() == pytest.approx(math.log(1.25), rel=1e-6)
    # Loudness gives an item no weight; one that is perfect halves the mean.
    found = LogSNR()(torch.cat([reconstruction, 1000 * target]), torch.cat([target, 1000 * target]))
    assert found.item() == pytest.approx(math.log(1.25) / 2, rel=1e-6)


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


@pytest.mark.parametrize("hertz", [0, 500, 1500, 6000])
@pytest.mark.parametrize("samples", [800, 801])
def test_log_snr_with_a_cutoff_weighs_the_noise_by_a_butterworth_low_pass(hertz: int, samples: int) -> None:
    sample_rate = 20 * samples  # whole periods: nothing leaks
    time = torch.arange(samples, dtype=torch.float64) / sample_rate
    target = torch.ones(1, 1, samples, dtype=torch.float64)  # at 0 Hz, of which all passes
    error = 0.1 * torch.cos(2 * math.pi * hertz * time)
    power = 0.01 if hertz == 0 else 0.005
    (b, a) = scipy.signal.butter(2, 2 * math.pi * 1500, analog=True)
    _, response = scipy.signal.freqs(b, a, [2 * math.pi * hertz])
    loss = LogSNR(cutoff_hz=1500, sample_rate=sample_rate)(target + error, target)
    assert loss.item() == pytest.approx(math.log1p(power * abs(response[0]) ** 2), rel=1e-6)


@pytest.mark.parametrize("settings", [{"cutoff_hz": 0, "sample_rate": 16000}, {"cutoff_hz": 1500}], ids=str)
def test_log_snr_refuses_a_cutoff_that_says_nothing(settings: dict) -> None:
    with pytest.raises(ValueError, match="cutoff_hz"):
        LogSNR(**settings)


def test_waveform_l1_is_the_mean_absolute_difference() -> None:
    reconstruction, target = torch.tensor([[[1.0, -2.0]], [[0.5, 0.0]]]), torch.tensor([[[0.0, 1.0]], [[0.5, -1.0]]])
    assert WaveformL1()(reconstruction, target) == (1 + 3 + 0 + 1) / 4


def test_negative_si_sdr_by_hand() -> None:
    target = torch.tensor([[[1.0, 0.0, 0.0, 0.0]]])
    # The part along the target has power 9, the rest 16 / 100: 10 log10(9 / 0.16).
    reconstruction = torch.tensor([[[3.0, 0.0, 0.4, 0.0]]])
    assert NegativeSISDR()(reconstruction, target).item() == pytest.approx(-10 * math.log10(9 / 0.16), rel=1e-5)
    # As much beside the target as along it, in either direction: 0 dB.
    for sign in (1, -1):
        assert NegativeSISDR()(torch.tensor([[[sign, 1.0, 0.0, 0.0]]]), target).item() == pytest.approx(0, abs=1e-5)


def test_negative_si_sdr_is_that_of_torchmetrics_over_audible_channels() -> None:
    target, reconstruction = noise(3, 2, 400), noise(3, 2, 400) + 0.3 * noise(3, 2, 400, seed=1)
    ratios = scale_invariant_signal_distortion_ratio(reconstruction, target)  # (3, 2), by channel
    assert NegativeSISDR()(reconstruction, target).item() == pytest.approx(-ratios.mean().item(), rel=1e-4)
    target[1, 0] = 0  # undefined there
    audible = torch.cat([ratios[0], ratios[1, 1:], ratios[2]])
    assert NegativeSISDR()(reconstruction, target).item() == pytest.approx(-audible.mean().item(), rel=1e-4)
    assert NegativeSISDR()(reconstruction, torch.zeros_like(target)) == 0
    audible_db = NegativeSISDR()(-0.1 * reconstruction, 7 * target).item()  # it does not hear the level
    assert audible_db == pytest.approx(-audible.mean().item(), rel=1e-4)


def test_negative_si_sdr_is_within_100_db() -> None:
    target = noise(1, 1, 400)
    assert NegativeSISDR()(0.5 * target, target).item() == pytest.approx(-100, abs=0.1)
    assert NegativeSISDR()(torch.zeros_like(target), target).item() == pytest.approx(100, abs=0.1)
    # 20 dB below the floor a copy is 1 / 100 of the power that counts, the rest distortion: 10 log10(0.01 / 0.99).
    faint = target / target.square().mean().sqrt() * 10 ** (-90 / 20)
    assert NegativeSISDR(floor_db=-70)(faint, target).item() == pytest.approx(10 * math.log10(99), rel=1e-3)


def test_negative_si_sdr_has_the_gradient_of_finite_differences() -> None:
    target, reconstruction = noise(2, 2, 12).double(), noise(2, 2, 12, seed=1).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: NegativeSISDR()(x, target), reconstruction)
