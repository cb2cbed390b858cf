"""A comparison written out: tables, plots, and the page with everything."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from discrete_ae.report.comparison import Comparison
from discrete_ae.report.curves import Curve
from discrete_ae.report.figures import Plot, render, styles
from discrete_ae.report.figures_codes import codebook_usage
from discrete_ae.report.figures_gradients import gradient_agreement
from discrete_ae.report.figures_rate import rate_distortion
from discrete_ae.report.figures_training import code_use, gradient_norms, learning
from discrete_ae.report.gradients import Agreement
from discrete_ae.report.page.content import Figure
from discrete_ae.report.tables import as_csv, differences_table, files_table, methods_table, runs_table
from discrete_ae.writing import write_whole

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
    agreements: Mapping[str, Sequence[Sequence[Agreement]]],
) -> list[Plot]:
    """All for which there is something to draw.

    Args:
        comparison: of the methods.
        name: the quantity of PER_FILE against which the rate is drawn.
        curves: by name of the run and tag.
        agreements: by label of a method, for each run that of its rounding on each segment.
    """
    without_codes = [method.label for method in comparison.methods if method.nominal_bitrate_bps is None]
    styled = styles([method.label for method in comparison.methods], without_codes)
    found = [
        rate_distortion(comparison, name, styled),
        learning(comparison, curves, styled),
        codebook_usage(comparison, styled),
        code_use(comparison, curves, styled),
        gradient_norms(comparison, curves, styled),
        gradient_agreement(agreements, styled),
    ]
    return [plot for plot in found if plot is not None]


def write_plots(folder: Path, plots: Sequence[Plot]) -> list[Figure]:
    """Each as PNG and as SVG; those of an earlier comparison go. What stands on a page of them.

    Raises:
        DataError: something cannot be written.
    """
    figures = []
    written = set()
    for plot in plots:
        picture = render(plot)
        for suffix, content in ((".png", picture.png), (".svg", picture.svg.encode())):
            target = folder / f"{plot.name}{suffix}"
            write_whole(target, content)
            written.add(target)
        figures.append(Figure(plot.title, picture.svg, plot.description))
    for old in {*folder.glob("*.png"), *folder.glob("*.svg")} - written:
        old.unlink()
    return figures


def write_tables(folder: Path, comparison: Comparison) -> None:
    """All as CSV.

    Raises:
        DataError: something cannot be written.
    """
    for name, table in TABLES.items():
        write_whole(folder / name, as_csv(table(comparison)))
