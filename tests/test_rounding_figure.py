"""docs/draw_roundings.py: nothing missing, and the lines are the curves."""

import numpy as np
import pytest
import torch

from discrete_ae import rounding
from tests.scripts import load_script

script = load_script("docs/draw_roundings.py")
draw_family, family = script.draw_family, script.family


def drawn(axes, label: str):
    """The points of a line, without the gaps at its jumps."""
    (line,) = (line for line in axes.lines if line.get_label() == label)
    x, y = (np.asarray(data, dtype=float) for data in line.get_data())
    return x[~np.isnan(y)], y[~np.isnan(y)]


@pytest.mark.parametrize(("op", "exactly", "shift"), [("floor", np.floor, -0.5), ("trunc", np.trunc, 0)])
def test_lines_are_the_curves_and_noise_has_its_spread(op, exactly, shift):
    torch.manual_seed(4)
    figure, methods = draw_family(op), family(op)
    assert sum(len(one.curves) for one in methods) == len(rounding.EXAMPLES)
    places = {axes.get_subplotspec().num1: axes for axes in figure.axes}
    columns = figure.axes[0].get_gridspec().ncols
    curves = {axes.get_title().strip(): axes for axes in figure.axes}
    for one in methods:
        curve = curves[one.title]
        slope = places[curve.get_subplotspec().num2 + columns]  # below it
        x, exact = drawn(curve, "exact")
        np.testing.assert_array_equal(exact, exactly(x))
        for label, shown in one.curves.items():
            for axes, function in ((curve, shown.value), (slope, shown.slope)):
                x, y = drawn(axes, label)
                np.testing.assert_array_equal(y, function(torch.from_numpy(x)).numpy())
    x, samples = drawn(curves["UniformNoise"], "_samples")
    assert np.abs(samples - x - shift).max() <= 0.5
    assert (samples - x).std() == pytest.approx(12**-0.5, rel=0.2)
    _, integers = drawn(curves["Stochastic"], "_samples")
    np.testing.assert_array_equal(integers, np.round(integers))
