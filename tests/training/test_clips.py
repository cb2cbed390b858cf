"""The picture of a clip beside training: where a sine stands in it, and with which color."""

import numpy as np
import pytest
import torch
from matplotlib import colormaps

from discrete_ae.training.callbacks.logs import ACROSS, BOTTOM, LEFT, RIGHT, TOP, UP, draw_log_mel
from tests.sines import RATE, mel_band, sine

HEIGHT, WIDTH = 192, 320


def levels(picture: np.ndarray) -> np.ndarray:
    """What is inside the axes."""
    return picture[TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH]


def color(db: float) -> np.ndarray:
    """Of magma from -80 to 0 dB, 0 to 255."""
    return 255 * np.array(colormaps["magma"]((db + 80) / 80)[:3])


@pytest.mark.parametrize("hz", [300, 1000, 6000])
def test_a_sine_stands_in_its_band_with_its_level_s_color(hz: int) -> None:
    picture = draw_log_mel(torch.from_numpy(0.1 * sine(hz, 0.5)), RATE)
    assert picture.dtype == np.uint8
    assert picture.shape == (TOP + HEIGHT + BOTTOM, LEFT + WIDTH + RIGHT, 3)
    inside = levels(picture)[:, 20 * ACROSS : -20 * ACROSS].astype(float)
    brightest = inside.sum(axis=2).argmax(axis=0)
    # Upwards: a band's own rows count from the lower edge.
    assert np.abs((HEIGHT - 1 - brightest) // UP - mel_band(hz)).max() <= 1
    # A tenth of full scale is -20 dB; a shade is 1.25 dB, in which magma changes by less than 8.
    assert np.abs(inside[brightest, np.arange(inside.shape[1])] - color(-20)).max() < 8


def test_silence_is_dark_and_half_of_a_clip_is_half_of_the_picture() -> None:
    audio = np.concatenate((sine(1000, 0.5), np.zeros(RATE // 2))).astype(np.float32)
    inside = levels(draw_log_mel(torch.from_numpy(audio), RATE)).astype(float).max(axis=(0, 2))
    assert inside[: WIDTH // 2 - 10].min() > 200
    assert inside[WIDTH // 2 + 10 :].max() < 10


def test_the_frame_is_that_of_the_length_and_never_drawn_over() -> None:
    silent = torch.zeros(RATE)
    before = draw_log_mel(silent, RATE)
    draw_log_mel(torch.from_numpy(sine(1000)), RATE)
    assert np.array_equal(draw_log_mel(silent, RATE), before)
    longer = draw_log_mel(torch.zeros(5 * RATE), RATE)
    below = (slice(TOP + HEIGHT, None), slice(LEFT, LEFT + WIDTH))
    assert not np.array_equal(longer[below], before[below])  # other seconds
    assert np.array_equal(longer[:, LEFT + WIDTH + 10 :], before[:, LEFT + WIDTH + 10 :])  # the same scale of colors
