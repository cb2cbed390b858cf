"""docs/draw_roundings.py: nothing missing, and the lines are the curves."""

from typing import get_args

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from discrete_ae import rounding
from tests.scripts import load_script

script = load_script("docs/draw_roundings.py")
draw_family, family = script.draw_family, script.family
OPS = get_args(rounding.Op)
EXACT = {"round": np.round, "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc}


def panel(figure: Figure, title: str):
    """The axes of the curve and of the slope of a method."""
    curve = next(axes for axes in figure.axes if axes.get_title().strip() == title)
    below = curve.get_subplotspec().rowspan.stop
    (slope,) = (
        axes
        for axes in figure.axes
        if axes.get_subplotspec().colspan == curve.get_subplotspec().colspan
        and axes.get_subplotspec().rowspan.start == below
    )
    return curve, slope


def drawn(axes, label: str):
    """The points of a line, without the gaps at its jumps."""
    (line,) = (line for line in axes.lines if line.get_label() == label)
    x, y = (np.asarray(data, dtype=float) for data in line.get_data())
    return x[~np.isnan(y)], y[~np.isnan(y)]


def test_every_example_has_a_curve():
    curves = [example for one in family("round") for example in one.curves.values()]
    assert len(curves) == len(rounding.EXAMPLES)


@pytest.mark.parametrize("op", OPS)
def test_lines_are_the_curves_and_noise_has_its_spread(op):
    torch.manual_seed(4)
    figure = draw_family(op)
    for one in family(op):
        curve, slope = panel(figure, one.title)
        x, exact = drawn(curve, "exact")
        np.testing.assert_array_equal(exact, EXACT[op](x))
        for label, shown in one.curves.items():
            for axes, function in ((curve, shown.value), (slope, shown.slope)):
                x, y = drawn(axes, label)
                np.testing.assert_array_equal(y, function(torch.from_numpy(x)).numpy())
    x, samples = drawn(panel(figure, "UniformNoise")[0], "_samples")
    noise = samples - x - {"floor": -0.5, "ceil": 0.5}.get(op, 0)
    assert np.abs(noise).max() <= 0.5
    assert noise.std() == pytest.approx(12**-0.5, rel=0.2)
    _, integers = drawn(panel(figure, "Stochastic")[0], "_samples")
    np.testing.assert_array_equal(integers, np.round(integers))
