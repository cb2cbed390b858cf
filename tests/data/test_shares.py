"""Shares of sources: exact over every window, pure in (seed, number), and without an order of their own."""

import itertools
from collections import Counter

import numpy as np
import pytest

from discrete_ae.data.crops import CropSettings, Source, TrainingCrops
from discrete_ae.data.files import AudioFile
from discrete_ae.data.shares import WINDOW, Shares

WEIGHTS = {"halves": (1, 1), "thirds": (2, 1), "hours": (960.0, 100.0, 3.7), "tiny": (1, 1e-4), "one": (5,)}


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("window", [0, 1, 12345])
def test_a_window_has_each_share_rounded_up_or_down(weights, window):
    shares = Shares(weights, seed=3)
    counts = Counter(shares[number] for number in range(window * WINDOW, (window + 1) * WINDOW))
    for source, weight in enumerate(weights):
        assert abs(counts[source] - WINDOW * weight / sum(weights)) <= 1


def test_shares_that_no_window_can_hold_are_held_by_many():
    counts = Counter(Shares((1, 1 / 2500), seed=0)[number] for number in range(200 * WINDOW))
    assert abs(counts[1] - 200 * WINDOW / 2501) < 3


def test_the_source_depends_on_seed_and_number_alone():
    numbers = np.random.default_rng(0).permutation(5 * WINDOW)[:400]
    in_order = [Shares((3, 1), seed=7)[int(number)] for number in sorted(numbers)]
    shares = Shares((3, 1), seed=7)
    assert [in_order[int(np.searchsorted(np.sort(numbers), number))] for number in numbers] == [
        shares[int(number)] for number in numbers
    ]
    assert [shares[number] for number in range(100)] != [Shares((3, 1), seed=8)[number] for number in range(100)]
    assert [shares[number] for number in range(100)] != [shares[number] for number in range(WINDOW, WINDOW + 100)]


def test_the_order_within_a_window_is_random():
    """In a random order of two halves, neighbours are of the same source half the time: 500 ± 16 of 1000."""
    sources = [Shares((1, 1), seed=1)[number] for number in range(WINDOW)]
    assert abs(sum(a == b for a, b in itertools.pairwise(sources)) - WINDOW / 2) < 4 * 16


def _file(name: str, seconds: int) -> AudioFile:
    return AudioFile(name, 16000, 1, 16000 * seconds)


def test_crops_are_drawn_within_their_source_in_proportion_to_duration():
    files = [_file("a", 10), _file("b", 30), _file("c", 1000), _file("d", 2000), _file("e", 1)]
    settings = CropSettings.of({"sample_rate": 16000, "channels": 1, "crop_seconds": 1.0, "seed": 5})
    crops = TrainingCrops(files, settings, sources=[Source(2, 3), Source(2, 1), Source(1, 1)])
    counts = Counter(crops._draw(number, 0, second=False)[0].path.name for number in range(10 * WINDOW))
    assert abs(counts["a"] + counts["b"] - 6000) <= 10
    assert abs(counts["c"] + counts["d"] - 2000) <= 10
    assert abs(counts["e"] - 2000) <= 10
    # Binomial: 6000 draws with probability 1/4, 2000 with 1/3, within four standard deviations.
    assert abs(counts["a"] - 1500) < 4 * (6000 * 3 / 16) ** 0.5
    assert abs(counts["c"] - 2000 / 3) < 4 * (2000 * 2 / 9) ** 0.5


def test_one_source_draws_as_without_sources():
    files = [_file("a", 10), _file("b", 30)]
    settings = CropSettings.of({"sample_rate": 16000, "channels": 1, "crop_seconds": 1.0, "seed": 5})
    plain, one = TrainingCrops(files, settings), TrainingCrops(files, settings, sources=[Source(2, 9.0)])
    assert [plain._draw(number, 0, second=False)[:2] for number in range(50)] == [
        one._draw(number, 0, second=False)[:2] for number in range(50)
    ]
