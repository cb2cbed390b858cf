"""Gains and loudness, against hand arithmetic and the reference signals of ITU-R BS.1770."""

import math

import pytest
import torch
import torchaudio

from discrete_ae.data.loudness import MAX_GAIN_DB, amplify, bring_to_loudness, measure_loudness

RATE = 16000


def noise(seconds: float = 1.0, channels: int = 1) -> torch.Tensor:
    """White noise, uniform in [-0.1, 0.1]."""
    generator = torch.Generator().manual_seed(0)
    return 0.2 * torch.rand(channels, round(seconds * RATE), generator=generator) - 0.1


def tone(seconds: float, amplitude: float) -> torch.Tensor:
    return amplitude * torch.sin(2 * math.pi * 997 / 48000 * torch.arange(round(seconds * 48000)))[None]


def test_gain_is_lowered_where_the_peak_would_exceed_one():
    audio = torch.tensor([[0.25, -0.5]])
    assert amplify(audio, 20 * math.log10(1.5)).tolist() == [pytest.approx([0.375, -0.75])]
    assert amplify(audio, 60.0).tolist() == [[0.5, -1.0]]
    assert amplify(2 * audio, 0.0).tolist() == [[0.5, -1.0]]
    assert amplify(4 * audio, 0.0).tolist() == [[0.5, -1.0]]  # a resampled crop may exceed full scale
    assert amplify(0 * audio, 60.0).tolist() == [[0.0, 0.0]]


def test_audio_shorter_than_a_block_counts_with_the_silence_after_it():
    # Half of the block of 0.4 s is silent: half of the energy, 3.01 dB less. The filters ring for a few milliseconds.
    assert measure_loudness(tone(0.2, 0.5), 48000) == pytest.approx(-3.01 - 6.02 - 3.01, abs=0.05)


@pytest.mark.parametrize(("target", "channels"), [(-40.0, 1), (-16.0, 2)])
def test_noise_is_brought_to_the_target(target, channels):
    raised = bring_to_loudness(noise(channels=channels), RATE, target)
    assert torchaudio.functional.loudness(raised, RATE).item() == pytest.approx(target, abs=0.1)


def test_no_more_than_the_greatest_gain():
    faint = 1e-4 * noise()
    raised = bring_to_loudness(faint, RATE, -16.0)
    assert torch.allclose(raised, 10 ** (MAX_GAIN_DB / 20) * faint, rtol=1e-5, atol=0)


def test_peak_limits_the_loudness():
    clicks = torch.zeros(1, RATE)
    clicks[0, ::800] = 0.5
    raised = bring_to_loudness(clicks, RATE, 0.0)
    assert torch.equal(raised, 2 * clicks)


def test_silence_stays_silence():
    silence = torch.zeros(2, RATE)
    assert measure_loudness(silence, RATE) == -math.inf
    assert torch.equal(bring_to_loudness(silence, RATE, -23.0), silence)
    # Blocks of 0.4 s begin every 0.1 s: the last 10 ms of 0.51 s lie in none.
    late = torch.zeros(1, round(0.51 * RATE))
    late[0, -100:] = 0.1
    assert torch.equal(bring_to_loudness(late, RATE, -23.0), late)
