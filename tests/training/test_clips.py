"""The picture of a clip beside training: where a sine stands in it."""

import numpy as np
import torch

from discrete_ae.metrics.spectrogram import HEIGHT, LEVELS_DB
from discrete_ae.training.callbacks.clips import draw_log_mel
from tests.metrics.sines import RATE, mel_band, sine


def test_a_sine_stands_in_its_band_on_a_fixed_scale():
    figure = draw_log_mel(torch.from_numpy(0.1 * sine(1000, 0.5)), RATE)
    axes, _ = figure.axes
    (image,) = axes.images
    assert tuple(image.get_extent()) == (0, 0.5, 0, HEIGHT)  # seconds across, bands upwards
    assert image.origin == "lower"
    assert image.get_clim() == LEVELS_DB
    levels = image.get_array()[:, 20:-20]
    assert np.abs(levels.argmax(axis=0) - mel_band(1000)).max() <= 1
    assert np.allclose(levels.max(axis=0), -20, atol=0.1)
