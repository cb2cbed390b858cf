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
    # A difference of 0.1 everywhere is a power of 0.01: 20 dB.
    for reconstruction, ratio in ((target, 0), (torch.zeros_like(target), 1), (target + 0.1, 0.01), (-target, 4)):
        assert LogSNR()(reconstruction, target).item() == pytest.approx(math.log(1 + ratio), rel=1e-5)


def test_log_snr_takes_the_power_of_an_item_over_its_channels_and_the_mean_over_items() -> None:
    # Signal (1 + 0) / 2, noise (0 + 1/4) / 2: a ratio of 1/4, where channel by channel it would be 0 and infinite.
    target = torch.tensor([[[1.0, -1.0], [0.0, 0.0]]])
    reconstruction = target + torch.tensor([[0.0], [0.5]])
    assert LogSNR()(reconstruction, target).item() == pytest.approx(math.log(1.25), rel=1e-6)
    # Loudness gives an item no weight; one that is perfect halves the mean.
    found = LogSNR()(torch.cat([reconstruction, 1000 * target]), torch.cat([target, 1000 * target]))
    assert found.item() == pytest.approx(math.log(1.25) / 2, rel=1e-6)


def test_log_snr_of_silence_counts_the_floor_as_the_signal() -> None:
    silence = torch.zeros(1, 1, 50)
    loss = LogSNR(floor_db=-70)(torch.full_like(silence, 0.1), silence)
    assert loss.item() == pytest.approx(math.log(1 + 0.01 / 1e-7), rel=1e-6)


@pytest.mark.parametrize("samples", [800, 801])
def test_log_snr_with_a_cutoff_weighs_the_noise_by_a_butterworth_low_pass(samples: int) -> None:
    sample_rate = 20 * samples  # whole periods: nothing leaks
    time = torch.arange(samples, dtype=torch.float64) / sample_rate
    target = torch.ones(1, 1, samples, dtype=torch.float64)  # at 0 Hz, of which all passes
    (b, a) = scipy.signal.butter(2, 2 * math.pi * 1500, analog=True)
    for hertz in (0, 500, 1500, 6000):
        error = 0.1 * torch.cos(2 * math.pi * hertz * time)
        _, response = scipy.signal.freqs(b, a, [2 * math.pi * hertz])
        loss = LogSNR(cutoff_hz=1500, sample_rate=sample_rate)(target + error, target)
        power = 0.01 if hertz == 0 else 0.005
        assert loss.item() == pytest.approx(math.log1p(power * abs(response[0]) ** 2), rel=1e-6)


@pytest.mark.parametrize("settings", [{"cutoff_hz": 0, "sample_rate": 16000}, {"cutoff_hz": 1500}], ids=str)
def test_log_snr_refuses_a_cutoff_that_says_nothing(settings: dict) -> None:
    with pytest.raises(ValueError, match="cutoff_hz"):
        LogSNR(**settings)


def test_waveform_l1_is_the_mean_absolute_difference() -> None:
    reconstruction, target = torch.tensor([[[1.0, -2.0]], [[0.5, 0.0]]]), torch.tensor([[[0.0, 1.0]], [[0.5, -1.0]]])
    assert WaveformL1()(reconstruction, target) == (1 + 3 + 0 + 1) / 4


def test_negative_si_sdr_is_that_of_torchmetrics_over_audible_channels() -> None:
    target, reconstruction = noise(3, 2, 400), noise(3, 2, 400) + 0.3 * noise(3, 2, 400, seed=1)
    ratios = scale_invariant_signal_distortion_ratio(reconstruction, target)  # (3, 2), by channel
    assert NegativeSISDR()(reconstruction, target).item() == pytest.approx(-ratios.mean().item(), rel=1e-4)
    target[1, 0] = 0  # undefined there
    audible = torch.cat([ratios[0], ratios[1, 1:], ratios[2]])
    for gain, level in ((1, 1), (-0.1, 7)):  # it does not hear the level
        found = NegativeSISDR()(gain * reconstruction, level * target).item()
        assert found == pytest.approx(-audible.mean().item(), rel=1e-4)
    assert NegativeSISDR()(reconstruction, torch.zeros_like(target)) == 0


def test_negative_si_sdr_is_within_100_db() -> None:
    target = noise(1, 1, 400)
    assert NegativeSISDR()(0.5 * target, target).item() == pytest.approx(-100, abs=0.1)
    assert NegativeSISDR()(torch.zeros_like(target), target).item() == pytest.approx(100, abs=0.1)
    # 20 dB below the floor a copy is 1 / 100 of the power that counts, the rest distortion: 10 log10(0.01 / 0.99).
    faint = target / target.square().mean().sqrt() * 10 ** (-90 / 20)
    assert NegativeSISDR(floor_db=-70)(faint, target).item() == pytest.approx(10 * math.log10(99), rel=1e-3)
