"""`discrete-ae compare`: runs of training side by side, as tables, words, plots, and a page to listen on."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from discrete_ae.cli.options import Device, DeviceOption
from discrete_ae.cli.ratings import summarize_ratings
from discrete_ae.errors import UsageError
from discrete_ae.evaluation.quantities import ALL, NAMES, SCORES

if TYPE_CHECKING:
    from discrete_ae.compare.comparison import Comparison

CLIPS, CLIP_SECONDS = 6, 6.0
TITLE = "Discrete audio autoencoders compared"
_SHOWN = (*NAMES, "usage", "entropy_coded_bitrate_bps")


def compare(
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN", show_default=False, help="Folders of runs, or of several, as of a sweep."),
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
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="METRIC,...",
            show_default=", ".join(name for name in NAMES if SCORES[name].by_default),
            help=f"Scores, joined by commas, of {', '.join(NAMES)}; or {ALL}.",
        ),
    ] = None,
    clips: Annotated[int, typer.Option(min=0, help="Clips to listen to.")] = CLIPS,
    clip_seconds: Annotated[float, typer.Option(min=0.5, max=60, help="Length of a clip.")] = CLIP_SECONDS,
    baselines: Annotated[
        bool, typer.Option("--baselines/--no-baselines", help="Opus and Codec 2 beside them, where they are installed.")
    ] = True,
    gradients: Annotated[
        bool, typer.Option("--gradients/--no-gradients", help="Hold the gradients of roundings against the loss.")
    ] = True,
    checkpoint: Annotated[str, typer.Option(metavar="best|last", help="Which checkpoint of each run.")] = "best",
    device: DeviceOption = Device.AUTO,
    jobs: Annotated[
        int | None, typer.Option(min=1, show_default="one a core, at most 16", help="Segments scored at a time.")
    ] = None,
    title: Annotated[str, typer.Option(help="Of the page.")] = TITLE,
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
    disk; tables, plots and clips lie beside it. What was evaluated is kept in
    REPORT/evaluations: the same command goes on where it was broken off, and
    another --sort-by is quick. A run that fails is named, the others are compared;
    a recording that cannot be read is named, too, and the exit status is 1.
    """
    if ratings:
        return summarize_ratings(inputs, out)
    if out is None:
        raise UsageError("missing --out, the folder for the report")
    from rich.console import Console

    from discrete_ae.cli.compare_recordings import recordings_of, trained_on
    from discrete_ae.cli.compare_report import ReportOptions, make_report, warn
    from discrete_ae.cli.comparing import Workshop
    from discrete_ae.compare.folder import claim
    from discrete_ae.compare.methods import group_runs
    from discrete_ae.compare.output import PAGE
    from discrete_ae.compare.runs import CHECKPOINTS, find_runs
    from discrete_ae.evaluation.recordings import find_sources
    from discrete_ae.evaluation.scores import choose

    if checkpoint not in CHECKPOINTS:
        raise UsageError(f"--checkpoint {checkpoint}: expected {' or '.join(CHECKPOINTS)}")
    choice = choose([name.strip() for name in metrics.split(",")] if metrics is not None else None)
    sorted_by, worded = _quantities(sort_by, choice.names)
    found = find_runs(inputs, checkpoint)
    groups, repeated = group_runs(found.runs)
    skipped = [*found.skipped, *repeated]
    if data:
        recordings = find_sources(data)
        if recordings.problems:
            raise recordings.problems[0]
        sources, folder = recordings.sources, ", ".join(map(str, data))
    else:
        sources, folder = recordings_of([run for runs in groups for run in runs])
    claim(out, title, force=force)

    errors = Console(stderr=True)
    lines = [f"{choice.said}."] if choice.said else []
    for line in (*lines, *(f"not compared: {one.path.name}: {one.reason}" for one in skipped)):
        warn(errors, line)
    workshop = Workshop(out / "evaluations", sources, choice, device, jobs, force)
    if data and (count := len(trained_on(found.runs, sources))):
        lines.append(
            f"{count} of the {len(sources)} recordings were trained on by a run, and say little of others; give with "
            "--data such as lie outside its data.root."
        )
        warn(errors, f"warning: {lines[-1]}")
    command = _command(
        inputs,
        out,
        {
            "--data": data,
            "--sort-by": sort_by,
            "--metrics": metrics,
            "--clips": clips if clips != CLIPS else None,
            "--clip-seconds": clip_seconds if clip_seconds != CLIP_SECONDS else None,
            "--checkpoint": checkpoint if checkpoint != "best" else None,
            "--title": title if title != TITLE else None,
            "--no-baselines": not baselines,
            "--no-gradients": not gradients,
        },
    )
    options = ReportOptions(out, title, sorted_by, worded, folder, clips, clip_seconds, baselines, gradients, command)
    try:
        report = make_report(options, workshop, groups, skipped, lines, errors)
    except KeyboardInterrupt:
        warn(errors, "interrupted; the same command goes on from what was evaluated")
        raise
    _print(report.comparison, sorted_by, report.findings)
    typer.echo(f"\nopen {shlex.quote(str(out / PAGE))}")
    raise typer.Exit(1 if workshop.problems else 0)


def _quantities(sort_by: str | None, chosen: Sequence[str]) -> tuple[str, str]:
    """What the table is sorted by, and the score that the words are on.

    By default the mel distance: unlike the scores of speech it is defined of every sound, unlike those of the waveform
    it says something of every codec, and it is what codecs are reported by.
    """
    from discrete_ae.evaluation.quantities import QUANTITIES

    default = "mel_distance" if "mel_distance" in chosen else chosen[0]
    if sort_by is None:
        return default, default
    if sort_by not in QUANTITIES:
        raise UsageError(f"--sort-by {sort_by}: expected one of {', '.join(QUANTITIES)}")
    if sort_by in SCORES and sort_by not in chosen:
        raise UsageError(f"--sort-by {sort_by}: is not measured; add it to --metrics, or install discrete-ae[quality]")
    has_a_better = QUANTITIES[sort_by].higher_is_better is not None
    return sort_by, sort_by if sort_by in chosen and has_a_better else default


def _command(inputs: Sequence[Path], out: Path, options: Mapping[str, object]) -> str:
    """What the page says that it was made by: the options that are not as they are by default."""
    words = ["discrete-ae", "compare", *map(str, inputs), "-o", str(out)]
    for name, value in options.items():
        if value is True:
            words.append(name)
        elif value:
            for each in value if isinstance(value, list) else [value]:
                words += [name, str(each)]
        elif value == 0 and value is not False:
            words += [name, "0"]
    return shlex.join(words)


def _print(comparison: "Comparison", sorted_by: str, findings: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from discrete_ae.compare.contents import columns_of, rows_of

    console = Console() if Console().is_terminal else Console(width=120)
    columns = [column for column in columns_of(comparison, sorted_by) if column.key in (*_SHOWN, sorted_by)]
    table = Table("method")
    for column in columns:
        arrow = {True: " ↑", False: " ↓", None: ""}[column.higher_is_better]
        unit = f", {column.unit}" if column.unit else ""
        table.add_column(f"{column.label}{unit}{arrow}", justify="right")
    for row in rows_of(comparison, sorted_by):
        table.add_row(Text(row.label), *(row.cells[column.key].text for column in columns))
    console.print(table)
    for finding in findings:
        console.print(finding, markup=False, highlight=False)
