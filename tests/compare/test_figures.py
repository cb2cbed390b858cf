"""Plots: how they look in any surroundings, and that what they show is what was measured."""

import math
import random
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from torch.utils.tensorboard import SummaryWriter

from discrete_ae.compare.comparison import Comparison
from discrete_ae.compare.drawing import COLORS, Plot, canvas, look, styles
from discrete_ae.compare.figures import (
    OVER_STEPS,
    Curve,
    Point,
    not_drawn,
    over_steps,
    pareto_front,
    plots_of,
    rank_frequencies,
    rate_distortion,
    read_curves,
)
from discrete_ae.compare.tables import rows_of
from tests.compare.comparisons import make_comparison, make_evaluation, make_rates


def test_svg_takes_the_color_of_the_page():
    def drawn():
        with look():
            figure, (axes,) = canvas(2.0)
            axes.plot([0, 1], [0, 1], color=COLORS[0])
            axes.set_title("a title")
        return Plot("name", "", "", figure)

    svg = drawn().svg
    root = ET.fromstring(svg)  # and is well-formed
    assert svg.startswith("<svg")
    text = next(node for node in root.iter("{http://www.w3.org/2000/svg}text") if "a title" in "".join(node.itertext()))
    assert "currentColor" in text.get("style", "") + text.get("fill", "")
    # No other color than the line's: no white background, no black ink.
    assert set(re.findall(r"#[0-9a-f]{6}\b", svg)) == {COLORS[0]}
    assert drawn().svg == svg


def test_rate_and_distortion_by_hand():
    scores = {"ste": {0: [1.0, 3.0], 1: [3.0, 5.0]}, "vq": {0: [5.0, 5.0]}, "rvq": {0: [1.0, 1.0]}}
    comparison = make_comparison(
        scores | {"identity": {0: [0.5, 0.5]}},
        rates={"ste": 2000.0, "vq": 4000.0, "rvq": 8000.0},
        baselines={"opus 6 kbps": [2.5, 2.5]},
    )
    labels = [method.label for method in comparison.methods]
    plot = rate_distortion(comparison, "mel_distance", styles(labels, ["identity"]))
    assert "Pareto front of the methods: ste (2 kbps) and rvq (8 kbps)." in plot.description
    above, below = plot.figure.axes
    lines = [line for line in above.lines if line.get_drawstyle() == "default"]
    points = {(round(float(x), 6), float(y)) for line in lines for x, y in zip(*line.get_data(), strict=True)}
    ends = {(1.8, 3 - math.sqrt(2)), (1.8, 3 + math.sqrt(2))}  # of the bar: the standard deviation of 2 and 4
    points = {point for point in points if not any(map(math.isnan, point))}  # of one run there are no bars
    assert points == ends | {(1.8, 2.0), (1.8, 4.0), (1.8, 3.0), (3.6, 5.0), (7.2, 1.0)}  # rates are 0.9 nominal
    (step,) = (line for line in above.lines if line.get_drawstyle() == "steps-post")
    assert [list(values) for values in step.get_data()] == [pytest.approx([1.8, 7.2]), [3.0, 1.0]]
    heights, methods = ({tuple(line.get_ydata()) for line in axes.lines} for axes in (below, above))
    bound, baseline = (0.5, 0.5), (2.5,)
    assert {of for of in heights - methods if not np.isnan(of).any()} == {bound, baseline}


def test_codes_of_fixed_length_have_no_entropy_coded_rate_and_stand_at_their_own():
    scores = {"mel_distance": [2.5, 2.5], "bitrate_bps": [2000.0, 4000.0]}
    tokenizer = make_evaluation(scores, None, 3200.0, (), codec="encodec 3.2 kbps")
    made = make_comparison({"ste": {0: [1.0, 3.0]}}, baselines={"opus 6 kbps": [1.5, 1.5]})
    comparison = Comparison(made.methods, (*made.baselines, tokenizer))
    plot = rate_distortion(comparison, "mel_distance", styles([method.label for method in comparison.methods]))
    points = [line.get_xydata().tolist() for line in plot.figure.axes[-1].lines]
    assert [[3.0, 2.5]] in points  # kbps
    assert [[6.0, 1.5]] in points
    assert "Without entropy coding: encodec 3.2 kbps." in plot.description
    rates = {row.label: row.cells["entropy_coded_bitrate_bps"].text for row in rows_of(comparison, "mel_distance")}
    assert rates == {"ste": "2.88", "opus 6 kbps": "6.00", "encodec 3.2 kbps": "–"}


def test_rates_of_one_model_are_joined_in_its_color_under_one_entry():
    comparison = make_rates({"rvq": {0.8: 3.0, 1.6: 2.0, 2.4: 1.5}, "ste": {1.6: 2.5}})
    plots = {
        plot.name: plot for plot in plots_of(comparison, "mel_distance", curves_of(comparison, ["val/reconstruction"]))
    }
    plot = plots["rate_distortion"]
    assert "Lines join the rates of one model" in plot.description
    (axes,) = plot.figure.axes
    rvq, ste = COLORS[:2]
    (line,) = (one for one in axes.lines if one.get_linestyle() == "-" and one.get_color() in (rvq, ste))
    assert line.get_color() == rvq
    # Rates are 0.9 nominal; the means of two seeds 0.01 apart.
    x, y = line.get_data()
    assert (list(x), list(y)) == (pytest.approx([0.72, 1.44, 2.16]), pytest.approx([3.005, 2.005, 1.505]))
    large = [one for one in axes.lines if one.get_markersize() == 8]
    assert [one.get_color() for one in large] == [rvq, rvq, rvq, ste]
    for name in ("rate_distortion", "learning_curves", "codebook_usage"):
        entries = [text.get_text() for text in plots[name].figure.legends[0].get_texts()]
        assert [text for text in entries if "kbps" in text] == ["rvq (0.8 to 2.4 kbps)", "ste (1.6 kbps)"]


def test_rank_frequencies_by_hand():
    even = make_evaluation({"pesq": [1.0]}, counts=((5, 5, 5, 5), (1, 1)))
    assert rank_frequencies(even) == pytest.approx(1)
    found = rank_frequencies(make_evaluation({"pesq": [1.0]}, counts=((0, 6, 2, 0),)))
    # Frequencies 3/4, 1/4, 0, 0 of 4 entries, each over a quarter of the ranks.
    assert found == pytest.approx(np.repeat([3.0, 1.0, 0.0, 0.0], 64))
    assert np.isnan(rank_frequencies(make_evaluation({"pesq": [1.0]}, counts=((0, 0),)))).all()


def curves_of(comparison, tags):
    steps = np.array([0, 10, 20])
    return {
        run.name: {tag: Curve(steps, np.array([9.0, 2.0, 1.0]) + run.seed) for tag in tags}
        for method in comparison.methods
        for run in method.trainings
    }


def test_learning_curves_leave_out_the_first_validation_and_show_mean_and_band():
    comparison = make_comparison({"ste": {0: [1.0], 1: [2.0]}})
    curves = curves_of(comparison, ["val/reconstruction", "val/si_sdr_db"])
    for tag, (steps, values) in curves["ste-seed1"].items():  # went on for longer
        curves["ste-seed1"][tag] = Curve(np.append(steps, 30), np.append(values, 0.0))
    plot = over_steps(OVER_STEPS[0], comparison, curves, styles(["ste"]))
    for axes in plot.figure.axes:
        (line,) = axes.lines
        assert line.get_xdata().tolist() == [10, 20]
        assert line.get_ydata().tolist() == [2.5, 1.5]
        corners = axes.collections[0].get_paths()[0].vertices
        assert (corners[:, 1].min(), corners[:, 1].max()) == (1.0, 3.0)
        assert all(float(tick).is_integer() for tick in axes.get_xticks())
    assert over_steps(OVER_STEPS[2], comparison, curves, styles(["ste"])) is None  # not logged


NOTHING = {
    "NaN": {0: [9.0, math.nan, math.nan]},
    "infinite": {0: [9.0, math.inf, -math.inf]},
    "empty": {0: []},
    "no step in common": {0: [9.0, 1.0, math.nan], 1: [9.0, math.nan, 1.0]},
}


@pytest.mark.parametrize("case", NOTHING)
def test_curves_of_nothing_are_not_drawn(case):
    comparison = make_comparison({"ste": {seed: [1.0] for seed in NOTHING[case]}})
    tags = [tag for plot in OVER_STEPS for panel in plot.panels for tag in (panel.tag, panel.soft)]
    curves = {
        f"ste-seed{seed}": {tag: Curve(np.arange(len(values)), np.array(values)) for tag in tags}
        for seed, values in NOTHING[case].items()
    }
    assert [plot.name for plot in plots_of(comparison, "mel_distance", curves)] == ["rate_distortion", "codebook_usage"]
    curves["ste-seed0"]["val/reconstruction"] = Curve(np.arange(4), np.array([9.0, 4.0, math.nan, 3.0]))
    if len(NOTHING[case]) == 1:
        plot = over_steps(OVER_STEPS[0], comparison, curves, styles(["ste"]))
        assert plot.svg
        assert [line.get_xydata().tolist() for line in plot.figure.axes[0].lines[:1]] == [[[1.0, 4.0], [3.0, 3.0]]]


@pytest.mark.parametrize("constant", [0.0, 1.0])
def test_constant_curves_are_drawn(constant):
    comparison = make_comparison({"ste": {0: [1.0]}})
    tags = [panel.tag for plot in OVER_STEPS for panel in plot.panels]
    curves = {"ste-seed0": {tag: Curve(np.array([0, 1, 2]), np.full(3, constant)) for tag in tags}}
    names = {plot.name for plot in plots_of(comparison, "mel_distance", curves) if plot.svg}
    assert {"learning_curves", "code_use"} <= names
    assert ("gradient_norms" in names) == (constant > 0)  # on a logarithmic axis there is no 0


def test_plots_of_single_points_are_left_out_and_named():
    comparison = make_comparison({name: {0: [1.0]} for name in ("ste", "vq")})
    once, twice = Curve(np.array([0, 10]), np.array([9.0, 1.0])), Curve(np.array([0, 5, 10]), np.array([9.0, 2.0, 1.0]))
    curves = {name: {"val/reconstruction": once, "train/gradient_norm": twice} for name in ("ste-seed0", "vq-seed0")}
    assert {plot.name for plot in plots_of(comparison, "mel_distance", curves)} == {
        "rate_distortion", "codebook_usage", "gradient_norms"
    }  # fmt: skip
    assert "single point: learning curves." in not_drawn(comparison, curves)
    curves["vq-seed0"]["val/reconstruction"] = twice
    assert "learning_curves" in {plot.name for plot in plots_of(comparison, "mel_distance", curves)}
    assert not_drawn(comparison, curves) == ""


def test_a_single_point_beside_other_curves_is_seen():
    comparison = make_comparison({name: {0: [1.0], 1: [2.0]} for name in ("ste", "vq")})
    tags = ["val/reconstruction", "val/soft_reconstruction"]
    curves = {
        name: {tag: Curve(np.array([0, 10]), np.array([9.0, level + k])) for k, tag in enumerate(tags)}
        for name, level in {"ste-seed0": 1.0, "ste-seed1": 1.2}.items()
    }
    for name in ("vq-seed0", "vq-seed1"):
        curves[name] = {tag: Curve(np.array([0, 5, 10]), np.array([9.0, 6.0, 5.0])) for tag in tags}
    plot = over_steps(OVER_STEPS[0], comparison, curves, styles(["ste", "vq"]))
    drawn = FigureCanvasAgg(plot.figure)
    drawn.draw()
    picture, axes = np.asarray(drawn.buffer_rgba())[::-1], plot.figure.axes[0]
    for level in (1.1, 2.1):
        column, row = axes.transData.transform((10, level)).astype(int)
        around = picture[row - 6 : row + 7, column - 6 : column + 7, :3].reshape(-1, 3)
        assert list(bytes.fromhex(COLORS[0][1:])) in around.tolist()


def test_all_plots_are_drawn_of_seventeen_methods_and_every_text_is_there():
    formula = r"ste (a$b=1, c$b=\$2)"  # no formula of matplotlib's
    labels = [formula, *(f"q{i}" for i in range(15)), "identity"]
    comparison = make_comparison({label: {s: [i + s, 2.0] for s in range(2)} for i, label in enumerate(labels)})
    tags = [tag for plot in OVER_STEPS for panel in plot.panels for tag in (panel.tag, panel.soft) if tag]
    plots = plots_of(comparison, "mel_distance", curves_of(comparison, tags))
    assert len({plot.name for plot in plots}) == len(plots) == 5
    for plot in plots:
        assert plot.description.endswith(".")
        (legend,) = plot.figure.legends
        assert {text.get_text() for text in legend.get_texts()} >= set(labels[:-1])
    assert formula in "".join(ET.fromstring(plots[0].svg).itertext())


def test_pareto_front_by_brute_force():
    numbers = random.Random(0)
    for _ in range(100):
        points = [Point(str(i), numbers.randrange(6), numbers.randrange(6)) for i in range(numbers.randrange(1, 9))]
        for sign in (1, -1):
            front = pareto_front([*points, Point("identity", math.nan, 9.0)], higher_is_better=sign > 0)
            for one in points:
                no_worse = [of for of in points if of.rate <= one.rate and sign * of.value >= sign * one.value]
                assert (one in front) == all((of.rate, of.value) == (one.rate, one.value) for of in no_worse)
            assert [point.rate for point in front] == sorted(point.rate for point in front)


def test_scalars_come_back_whole_and_in_order_and_what_a_continued_run_logged_last_counts(tmp_path):
    # More than the 1000 that TensorBoard keeps of a scalar unless told otherwise.
    for part, value in enumerate((1.0, 2.0)):
        with SummaryWriter(str(tmp_path), filename_suffix=f".{part}") as writer:
            for step in (range(1200), range(1000, 1500))[part]:
                writer.add_scalar("val/reconstruction", value, step)
            writer.add_scalar("val/other", 1.0, 0)
        # Of one second, the order of their names is that of a counter of this process, as text.
        (written,) = tmp_path.glob(f"events.*.{part}")
        written.rename(tmp_path / f"events.out.tfevents.{part}")
    curves = read_curves(tmp_path)
    assert curves.keys() == {"val/reconstruction"}
    steps, values = curves["val/reconstruction"]
    assert np.array_equal(steps, np.arange(1500))
    assert np.array_equal(values, np.where(np.arange(1500) < 1000, 1.0, 2.0))
    assert read_curves(tmp_path / "none") == {}
