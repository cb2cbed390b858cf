"""A comparison as files: tables and plots."""

from collections.abc import Mapping, Sequence

from discrete_ae.compare.comparison import Comparison
from discrete_ae.compare.curves import Curve
from discrete_ae.compare.figures import Plot, render, styles
from discrete_ae.compare.figures_codes import codebook_usage
from discrete_ae.compare.figures_rate import rate_distortion
from discrete_ae.compare.figures_training import code_use, gradient_norms, learning
from discrete_ae.compare.page.content import Figure
from discrete_ae.compare.tables import as_csv, differences_table, files_table, methods_table, runs_table

TABLES = {
    "runs.csv": runs_table,
    "methods.csv": methods_table,
    "files.csv": files_table,
    "differences.csv": differences_table,
}
PAGE = "index.html"


def plots_of(
    comparison: Comparison,
    name: str,
    curves: Mapping[str, Mapping[str, Curve]],
) -> list[Plot]:
    """All for which there is something to draw.

    Args:
        comparison: of the methods.
        name: the quantity of PER_FILE against which the rate is drawn.
        curves: by name of the run and tag.
    """
    without_codes = [method.label for method in comparison.methods if method.nominal_bitrate_bps is None]
    styled = styles([method.label for method in comparison.methods], without_codes)
    found = [
        rate_distortion(comparison, name, styled),
        learning(comparison, curves, styled),
        codebook_usage(comparison, styled),
        code_use(comparison, curves, styled),
        gradient_norms(comparison, curves, styled),
    ]
    return [plot for plot in found if plot is not None]


def plot_files(plots: Sequence[Plot]) -> tuple[list[Figure], dict[str, bytes]]:
    """What stands on a page of them, and each as PNG and as SVG, by name."""
    figures: list[Figure] = []
    files: dict[str, bytes] = {}
    for plot in plots:
        picture = render(plot)
        files |= {f"{plot.name}.png": picture.png, f"{plot.name}.svg": picture.svg.encode()}
        figures.append(Figure(plot.title, picture.svg, plot.description))
    return figures, files


def table_files(comparison: Comparison) -> dict[str, bytes]:
    """All as CSV, by name."""
    return {name: as_csv(table(comparison)) for name, table in TABLES.items()}
