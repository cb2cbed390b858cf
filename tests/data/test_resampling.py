"""Resampling of parts against soxr on the whole."""

import numpy as np
import pytest
import soxr

from discrete_ae.data.resampling import Resampler, margin_frames

PAIRS = [(44100, 16000), (48000, 16000), (16000, 44100), (8000, 16000), (11025, 24000), (192000, 16000), (16000, 16000)]


@pytest.mark.parametrize(("source_rate", "target_rate"), PAIRS)
def test_parts_of_any_length_are_the_whole_between_silence(source_rate, target_rate):
    random = np.random.default_rng(source_rate)
    noise = random.uniform(-0.5, 0.5, (2, source_rate + 13)).astype(np.float32)
    margin = margin_frames(source_rate, target_rate)
    assert margin * target_rate % source_rate == 0
    padded = np.pad(noise, ((0, 0), (margin, margin)))
    whole = soxr.resample(padded.T, source_rate, target_rate, quality="HQ").T[:, margin * target_rate // source_rate :]
    length = -(-noise.shape[1] * target_rate // source_rate)
    for longest in (10**6, 5000, 300):
        resampler = Resampler(source_rate, target_rate, 2, length)
        parts, start = [], 0
        while start < noise.shape[1]:
            stop = start + int(random.integers(0, longest)) if longest < 10**6 else noise.shape[1]
            parts.append(resampler.push(noise[:, start:stop]))
            start = stop
        parts.append(resampler.finish())
        assert np.array_equal(np.concatenate(parts, axis=1), whole[:, :length])


@pytest.mark.parametrize("num_samples", [0, 1, 1000])
def test_the_result_ends_where_it_is_told_to(num_samples):
    resampler = Resampler(16000, 24000, 1, num_samples)
    parts = [resampler.push(np.ones((1, 4000), np.float32)), resampler.finish()]
    assert sum(part.shape[1] for part in parts) == num_samples
