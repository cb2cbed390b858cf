"""`discrete-ae compare`: runs of training side by side, as tables, words, plots, and a page to listen on."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from discrete_ae.cli.options import Device, DeviceOption
from discrete_ae.cli.ratings import summarize_ratings
from discrete_ae.cli.shared import (
    ClipSecondsOption,
    MetricsOption,
    ScoringJobsOption,
    progress_bar,
    split_names,
    wide_console,
)
from discrete_ae.errors import UsageError
from discrete_ae.evaluation.scores import NAMES

if TYPE_CHECKING:
    from discrete_ae.compare.report import Report

_SHOWN = (*NAMES, "usage", "entropy_coded_bitrate_bps")


def compare(
    context: typer.Context,
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN",
            show_default=False,
            help="Folders of runs, or of several, as of a sweep; .json files of [bold]evaluate[/], or folders of them.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="REPORT", show_default=False, help="The folder for the report."),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(metavar="DATA", show_default="what the runs were validated on", help="Recordings to compare on."),
    ] = None,
    sort_by: Annotated[
        str | None,
        typer.Option(
            metavar="METRIC",
            show_default="mel_distance",
            help="What the table is sorted by; a score decides on the words and on the plot of the rate, too.",
        ),
    ] = None,
    metrics: MetricsOption = None,
    clips: Annotated[int, typer.Option(min=0, help="Clips to listen to.")] = 6,
    clip_seconds: ClipSecondsOption = 6.0,
    baselines: Annotated[
        bool, typer.Option("--baselines/--no-baselines", help="Opus and Codec 2 beside them, where they are installed.")
    ] = True,
    checkpoint: Annotated[str, typer.Option(metavar="best|last", help="Which checkpoint of each run.")] = "best",
    device: DeviceOption = Device.AUTO,
    jobs: ScoringJobsOption = None,
    title: Annotated[str, typer.Option(help="Of the page.")] = "Discrete audio autoencoders compared",
    ratings: Annotated[
        bool,
        typer.Option("--ratings", help="Summarize ratings that the page saved: RUN are CSV files, REPORT is one, too."),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Evaluate again what was, and write into any folder.")
    ] = False,
) -> None:
    """Compare runs of training, and say which differences are beyond chance.

    Runs that differ in their seed alone are one method: its figures are means
    with their spread over seeds. A difference is called one where its 95 %
    intervals, by a bootstrap over recordings and seeds and by Student's t over
    seeds, exclude 0, and it is larger than that spread; with one seed, where the
    interval over recordings excludes 0.

    REPORT/index.html is one page with everything, to listen too, that works from
    disk; tables, plots and clips lie beside it. A run is evaluated unless it was:
    evaluations are kept in REPORT/evaluations, from which the same command goes
    on where it was broken off, and they can be given in place of the runs, here
    or on another machine. A run that fails is named, the others are compared; a
    recording that cannot be read is named, too, and the exit status is 1.
    """
    if ratings:
        return summarize_ratings(inputs, out)
    if out is None:
        raise UsageError("missing --out, the folder for the report")
    from rich.console import Console

    from discrete_ae.compare.report import compare_runs

    errors = Console(stderr=True)
    try:
        with progress_bar(errors) as progress:
            report = compare_runs(
                inputs, out, data, metrics=split_names(metrics), sort_by=sort_by, clips=clips,
                clip_seconds=clip_seconds, baselines=baselines, checkpoint=checkpoint, device=device.value, jobs=jobs,
                title=title, command=_command(context), force=force, progress=progress,
            )  # fmt: skip
    except KeyboardInterrupt:
        errors.print("interrupted; the same command goes on from what was evaluated")
        raise
    print_report(report)
    typer.echo(f"\nopen {shlex.quote(str(report.page))}")
    raise typer.Exit(1 if report.problems else 0)


def _command(context: typer.Context) -> str:
    """What the page says that it was made by: the options that are not as they are by default."""
    words = ["discrete-ae", "compare", *map(str, context.params["inputs"]), "-o", str(context.params["out"])]
    for parameter in context.command.params:
        name, value = str(parameter.name), context.params.get(str(parameter.name))
        default = parameter.get_default(context)
        if name in ("inputs", "out", "device", "jobs", "force") or value == default or not (value or value == 0):
            continue
        option = f"--{name.replace('_', '-')}"
        for each in value if isinstance(value, list | tuple) else [value]:
            words += [f"--no-{name}" if each is False else option] + ([] if isinstance(each, bool) else [str(each)])
    return shlex.join(words)


def print_report(report: "Report") -> None:
    """Print the table and the findings."""
    from rich.table import Table
    from rich.text import Text

    from discrete_ae.compare.contents import columns_of, rows_of

    shown = columns_of(report.comparison, report.sorted_by)
    columns = [column for column in shown if column.key in (*_SHOWN, report.sorted_by)]
    table = Table("method")
    for column in columns:
        arrow = {True: " ↑", False: " ↓", None: ""}[column.higher_is_better]
        unit = f", {column.unit}" if column.unit else ""
        table.add_column(f"{column.label}{unit}{arrow}", justify="right")
    for row in rows_of(report.comparison, report.sorted_by):
        table.add_row(Text(row.label), *(row.cells[column.key].text for column in columns))
    console = wide_console()
    console.print(table)
    for finding in report.findings:
        console.print(finding, markup=False, highlight=False)
