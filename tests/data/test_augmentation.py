"""Random gain and polarity: their distributions, their limits, and that neither moves the other's draws."""

import numpy as np
import torch

from discrete_ae.data.augmentation import Augmentation

AUDIO = torch.tensor([[0.1, -0.2, 0.05]])


def drawn(augmentation: Augmentation, audio: torch.Tensor = AUDIO, count: int = 1000) -> torch.Tensor:
    """The first samples of `count` augmented copies as multiples of the original's."""
    random = [np.random.default_rng((0, k)) for k in range(count)]
    return torch.stack([augmentation(audio, generator)[0, 0] / audio[0, 0] for generator in random])


def test_nothing_is_changed_by_default():
    assert torch.equal(drawn(Augmentation()), torch.ones(1000))


def test_gain_is_uniform_in_db():
    gains_db = 20 * drawn(Augmentation(gain_db=(-12.0, 6.0))).log10()
    assert gains_db.min() >= -12 - 1e-4
    assert gains_db.max() <= 6 + 1e-4
    # Of 1000 draws, 1000/3 lie in each third, with a standard deviation of 14.9; four of them.
    counts = torch.histc(gains_db, bins=3, min=-12, max=6)
    assert (counts - 1000 / 3).abs().max() < 60


def test_polarity_is_flipped_half_of_the_time():
    signs = drawn(Augmentation(flip_polarity=True))
    assert set(signs.tolist()) == {-1.0, 1.0}
    assert abs((signs < 0).sum().item() - 500) < 64  # standard deviation 15.8; four of them


def test_both_are_independent():
    gain, flip = Augmentation(gain_db=(-12.0, 6.0)), Augmentation(flip_polarity=True)
    both = drawn(Augmentation((-12.0, 6.0), True))
    assert torch.equal(both, drawn(gain) * drawn(flip))
    flipped = both < 0
    loud = both.abs() > 10 ** (-3 / 20)  # above the middle of the range
    # 1000 pairs of fair coins: 250 of each kind, with a standard deviation of 13.7; four of them.
    assert abs((flipped & loud).sum().item() - 250) < 55


def test_peak_is_kept_by_lowering_the_gain():
    audio = 4 * AUDIO  # peak 0.8, which 6 dB would raise to 1.6
    generators = [np.random.default_rng((0, k)) for k in range(200)]
    peaks = torch.stack([Augmentation((0.0, 6.0), True)(audio, random).abs().max() for random in generators])
    assert peaks.max() == 1
    assert peaks.min() >= 0.8
