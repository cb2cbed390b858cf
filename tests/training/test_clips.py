"""The picture of a clip beside training: where a sine stands in it, and with which color."""

import numpy as np
import pytest
import torch
from matplotlib import colormaps

from discrete_ae.training.callbacks.logs import draw_log_mel
from tests.sines import RATE, sine


def color(db: float) -> np.ndarray:
    """Of magma from -80 to 0 dB, 0 to 255."""
    return 255 * np.array(colormaps["magma"]((db + 80) / 80)[:3])


def rows_of(picture: np.ndarray, db: float) -> np.ndarray:
    """The rows in which a fifth of the picture has the color of a level; magma changes by 8 in 1.25 dB."""
    return np.flatnonzero((np.abs(picture - color(db)).max(axis=2) < 8).mean(axis=1) > 0.2)


def test_sines_stand_above_one_another_with_their_level_s_color() -> None:
    heights = []
    for hz in (300, 1000, 6000):
        picture = draw_log_mel(torch.from_numpy(0.1 * sine(hz, 0.5)), RATE).astype(float)
        rows = rows_of(picture, -20)  # a tenth of full scale
        assert 0 < len(rows) < 0.1 * len(picture)
        heights.append(len(picture) - rows.mean())
    # On the mel scale of O'Shaughnessy, 2595 log10(1 + f / 700).
    low, middle, high = (2595 * np.log10(1 + hz / 700) for hz in (300, 1000, 6000))
    ratio = (heights[1] - heights[0]) / (heights[2] - heights[0])
    assert ratio == pytest.approx((middle - low) / (high - low), abs=0.03)


def test_silence_is_dark() -> None:
    picture = draw_log_mel(torch.zeros(RATE), RATE).astype(float)
    assert len(rows_of(picture, -80)) > 0.7 * len(picture)
