"""Resampling of parts against soxr on the whole."""

import tracemalloc

import numpy as np
import pytest
import soxr

from discrete_ae.data.resampling import BLOCK_FRAMES, Resampler, block_frames, margin_frames
from discrete_ae.errors import DataError


@pytest.mark.parametrize(
    ("source_rate", "target_rate"), [(44100, 16000), (48000, 16000), (11025, 24000), (192000, 16000), (16000, 16000)]
)
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


@pytest.mark.parametrize(("source_rate", "target_rate"), [(100, 16000), (16000, 100), (250, 44100)])
def test_low_rates_have_a_margin_as_long_as_the_filter(source_rate, target_rate):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 20 * source_rate).astype(np.float32)
    whole = soxr.resample(np.pad(noise, 10 * source_rate), source_rate, target_rate, quality="HQ")[10 * target_rate :]
    resampler = Resampler(source_rate, target_rate, 1, 20 * target_rate)
    found = np.concatenate([resampler.push(noise[None]), resampler.finish()], axis=1)
    np.testing.assert_allclose(found[0], whole[: 20 * target_rate], atol=1e-5)


def test_blocks_are_of_one_length_unless_they_would_grow_or_take_all_memory():
    for rates in ((44100, 16000), (8000, 48000), (16000, 16000), (768_000, 100)):
        assert block_frames(*rates, channels=2) == BLOCK_FRAMES
    # 2^20 samples: at 7680 times the rate from 136 frames, in 1024 channels from 1024 frames.
    assert block_frames(100, 768_000, 1) == 136
    assert block_frames(48000, 16000, 1024) == 1024
    with pytest.raises(DataError, match="2 channels from 100 to 768000 Hz takes too much memory"):
        Resampler(100, 768_000, 2, 1)
    Resampler(8000, 48000, 1024, 1)


@pytest.mark.parametrize("source_rate", [100, 44100, 768_000])
@pytest.mark.parametrize("target_rate", [100, 767_999])
def test_pieces_are_bounded_at_every_pair_of_rates(source_rate, target_rate):
    tracemalloc.start()
    resampler = Resampler(source_rate, target_rate, 1, 2**62)
    block = block_frames(source_rate, target_rate, 1)
    lengths = [resampler.push(np.zeros((1, block), np.float32)).shape[1] for _ in range(20)]
    lengths += [piece.shape[1] for piece in resampler.pieces(np.zeros((1, 2 * block), np.float32))]
    resampler.finish()
    assert tracemalloc.get_traced_memory()[1] < 70e6  # of which soxr's own buffers are no part
    tracemalloc.stop()
    # What soxr holds back comes all at once: less than 1000 samples of the lower rate.
    assert max(lengths) <= 2**20 + 1000 * max(target_rate / source_rate, 1)
