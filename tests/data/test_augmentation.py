"""Random changes: their distributions, their limits, what they do to signals, and that none moves another's draws."""

import numpy as np
import pytest
import torch

from discrete_ae.data.crops import MIX_DB, NUM_BANDS, Changes, CropSettings, equalize, mixture

AUDIO = torch.tensor([[0.1, -0.2, 0.05]])
EACH = {
    "gain_db": {"gain_db": (-12.0, 6.0)},
    "flip": {"flip_polarity": True},
    "speed": {"speed": (0.8, 1.25)},
    "band_gains_db": {"equalizer_db": 6.0},
    "mix_db": {"mix": 0.3},
}
"""Settings by the change that they make."""
ALL = {name: value for settings in EACH.values() for name, value in settings.items()}


def drawn(count: int = 1000, **changes: object) -> list[Changes]:
    settings = CropSettings.of({"sample_rate": 8000, "channels": 1, "crop_seconds": 1.0, **changes})
    return [settings.draw(np.random.default_rng((0, k))) for k in range(count)]


def assert_uniform(values: list[float], low: float, high: float) -> None:
    """Check that each third of the range holds 1000/3 of 1000 draws, within four standard deviations of 14.9."""
    counts, _ = np.histogram(values, bins=3, range=(low, high))
    assert counts.sum() == len(values) == 1000
    assert np.abs(counts - 1000 / 3).max() < 60


def test_draws_are_uniform_in_their_unit():
    changes = drawn(**ALL)
    assert_uniform([change.gain_db for change in changes], -12, 6)
    assert_uniform([change.band_gains_db[3] for change in changes], -6, 6)
    # Speeds in hundredths: a third of the range's logarithm ends at 0.928 and at 1.077, between two of them.
    assert_uniform([np.log(change.speed) for change in changes], np.log(0.8), np.log(1.25))
    assert_uniform([change.mix_db for change in drawn(mix=1.0)], *MIX_DB)


def test_coins_fall_as_often_as_they_should():
    changes = drawn(**ALL)
    # Standard deviations of 15.8 and 14.5; four of them.
    assert abs(sum(change.flip for change in changes) - 500) < 64
    assert abs(sum(change.mix_db is not None for change in changes) - 300) < 58


@pytest.mark.parametrize("change", EACH)
def test_none_moves_another_ones_draws(change):
    for off, one, together in zip(drawn(100), drawn(100, **EACH[change]), drawn(100, **ALL), strict=True):
        np.testing.assert_equal(one, off._replace(**{change: getattr(together, change)}))


def test_level_and_mixture_by_hand():
    changed = Changes(1.0, None, None, -20.0, True).change_level(AUDIO)
    torch.testing.assert_close(changed, -0.1 * AUDIO)
    other = torch.tensor([[0.5, 0.5, -0.5]])
    torch.testing.assert_close(mixture(AUDIO, other, -20.0), torch.tensor([[0.15, -0.15, 0.0]]))


def test_no_change_exceeds_full_scale():
    audio = 4 * AUDIO  # peak 0.8, which 6 dB would raise to 1.6
    peaks = torch.stack([c.change_level(audio).abs().max() for c in drawn(200, gain_db=(0.0, 6.0), flip_polarity=True)])
    assert peaks.max() == 1
    assert peaks.min() >= 0.8
    # 0.8 + 0.5 exceeds full scale, and lowers all of it.
    mixed = mixture(8 * AUDIO, torch.tensor([[0.5, 0.5, -0.5]]), 0.0)
    torch.testing.assert_close(mixed, torch.tensor([[1.3, -1.1, -0.1]]) / 1.3)
    tone = 0.5 * torch.sin(torch.arange(4000.0))[None]
    assert equalize(tone, np.full(NUM_BANDS, 12.0)).abs().max() == 1


@pytest.mark.parametrize("limit_db", [6.0, 30.0])
def test_response_of_the_equalizer(limit_db):
    """By an impulse: the gains at the octaves, within the limit between them, no phase, an end within the padding."""
    random = np.random.default_rng(1)
    num_samples = 2**14
    impulse = torch.zeros(1, num_samples)
    impulse[0, num_samples // 2] = 1e-3  # so small that no gain reaches full scale
    for _ in range(5):
        gains_db = random.uniform(-limit_db, limit_db, NUM_BANDS)
        answer = 1e3 * equalize(impulse, gains_db)[0].numpy().astype(np.float64)
        spectrum = np.fft.rfft(np.roll(answer, -num_samples // 2))
        magnitude_db = 20 * np.log10(np.abs(spectrum))
        octaves = num_samples // 2 // 2 ** np.arange(NUM_BANDS)[::-1]  # bins; the last is half the sample rate
        np.testing.assert_allclose(magnitude_db[octaves], gains_db, atol=0.01)
        # A quarter of the highest octave down, the share of its lower end is that of an eighth of a cosine's period.
        share = (1 - np.cos(np.pi / 4)) / 2
        expected_db = (1 - share) * gains_db[-1] + share * gains_db[-2]
        assert magnitude_db[round(num_samples / 2 / 2**0.25)] == pytest.approx(expected_db, abs=0.02)
        assert np.abs(magnitude_db).max() <= np.abs(gains_db).max() + 0.01
        assert np.abs(np.angle(spectrum)).max() < 1e-3
        far = np.abs(np.arange(num_samples) - num_samples // 2) > 1024
        assert np.abs(answer[far]).max() < 1e-3 * np.abs(answer).max()


def test_equalizer_does_not_come_round():
    """Samples at one end of a crop do not affect the other end."""
    gains_db = 6.0 * (-1.0) ** np.arange(NUM_BANDS)
    for place in (0, 3999):
        impulse = torch.zeros(1, 4000)
        impulse[0, place] = 0.1
        near, far = equalize(impulse, gains_db)[0].split(2000)[:: 1 if place == 0 else -1]
        assert far.abs().max() < 1e-5 < near.abs().max()
