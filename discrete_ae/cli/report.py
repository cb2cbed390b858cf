"""The report of `discrete-ae compare`, from runs to the files in its folder."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

import discrete_ae
from discrete_ae.cli.comparing import Workshop
from discrete_ae.errors import DataError
from discrete_ae.evaluation.baselines import Baseline as Program
from discrete_ae.evaluation.baselines import baselines
from discrete_ae.evaluation.results import Evaluation
from discrete_ae.report.comparison import Baseline, Comparison
from discrete_ae.report.contents import broken_off, columns_of, notes_of, rows_of, summary_of
from discrete_ae.report.curves import read_curves
from discrete_ae.report.excerpts import choose_excerpts
from discrete_ae.report.findings import findings
from discrete_ae.report.folder import write_clips
from discrete_ae.report.gradients import Agreement
from discrete_ae.report.listening_clips import make_clips
from discrete_ae.report.methods import Method, name_methods
from discrete_ae.report.output import PAGE, plots_of, write_plots, write_tables
from discrete_ae.report.page.content import Clip, Page
from discrete_ae.report.page.render import render
from discrete_ae.report.runs import Run, Skipped
from discrete_ae.writing import write_whole

Item = TypeVar("Item")


class Wishes(NamedTuple):
    """What the report is to be."""

    folder: Path
    title: str
    sorted_by: str
    """Quantity by which the table is sorted."""
    worded: str
    """Score that the words and the plot of rate and distortion are on."""
    data: str
    """Where the recordings lie, as it is said on the page."""
    clips: int
    clip_seconds: float
    baselines: bool
    gradients: bool
    command: str


class Report(NamedTuple):
    """What became of it."""

    comparison: Comparison
    findings: list[str]


def make_report(
    wishes: Wishes,
    workshop: Workshop,
    groups: Sequence[Sequence[Run]],
    skipped: Sequence[Skipped],
    lines: Sequence[str],
    console: Console,
) -> Report:
    """Evaluate, compare, and write everything.

    Args:
        wishes: what it is to be.
        workshop: computes.
        groups: the runs of each method.
        skipped: what is not compared, for the page.
        lines: what else was said, for the page.
        console: for progress and warnings.

    Raises:
        DataError: nothing can be compared, or something cannot be written.
    """
    lines, skipped = list(lines), list(skipped)
    evaluations: dict[str, Evaluation] = {}
    for run in _tracked(console, workshop, [run for runs in groups for run in runs], lambda run: run.name):
        found = workshop.evaluate_run(run)
        if isinstance(found, Skipped):
            skipped.append(found)
            warn(console, f"not compared: {found.path.name}: {found.reason}")
        else:
            evaluations[run.name] = found
    groups = [there for runs in groups if (there := [run for run in runs if run.name in evaluations])]
    if not groups:
        raise DataError(f"{skipped[0].path}: no run can be compared; see what is said of each")
    rates = [evaluations[runs[0].name].overall.get("nominal_bitrate_bps") for runs in groups]
    methods = name_methods(groups, rates)

    highest = max(evaluations.values(), key=lambda evaluation: evaluation.sample_rate)
    rate, channels = highest.sample_rate, int(highest.settings.get("channels") or 1)
    programs: list[Program] = []
    if wishes.baselines:
        programs, absent = baselines([rate for rate in rates if rate is not None])
        for line in absent:
            warn(console, line)
            lines.append(f"{line}.")
    beside = [
        Baseline(program.name, workshop.evaluate_baseline(program, rate, channels))
        for program in _tracked(console, workshop, programs, lambda program: program.name)
    ]
    comparison = Comparison(tuple(methods), evaluations, tuple(beside))
    if not comparison.paths:
        raise DataError(f"{wishes.data}: no recording could be measured with every run; see what is said of each")
    lines += [f"{problem}." for problem in workshop.problems.values()]

    curves = {run.name: read_curves(run.path) for method in methods for run in method.runs}
    lines += [line for method in methods for line in broken_off(method, curves)]
    agreements = _agreements(workshop, methods, console, lines) if wishes.gradients else {}
    clips = _clips(wishes, workshop, comparison, programs, rate, channels)
    if len({evaluation.sample_rate for evaluation in evaluations.values()}) > 1:
        lines.append(f"Sample rates differ; all clips are at the highest, {rate} Hz.")

    write_tables(wishes.folder, comparison)
    figures = write_plots(wishes.folder / "figures", plots_of(comparison, wishes.worded, curves, agreements))
    write_clips(wishes.folder / "clips", clips, rate)
    words = findings(comparison, wishes.worded)
    page = Page(
        title=wishes.title,
        summary=summary_of(comparison, wishes.data),
        columns=columns_of(comparison, wishes.sorted_by),
        rows=rows_of(comparison, wishes.sorted_by),
        sorted_by=wishes.sorted_by,
        findings=words,
        figures=figures,
        clips=clips,
        notes=notes_of(comparison, skipped, lines),
        commands=[wishes.command],
        version=discrete_ae.__version__,
    )
    write_whole(wishes.folder / PAGE, render(page).encode(errors="replace"))
    return Report(comparison, words)


def warn(console: Console, line: str) -> None:
    """In one line on stderr, as it is."""
    console.print(" ".join(line.split()), soft_wrap=True, markup=False, highlight=False, emoji=False)


def _agreements(
    workshop: Workshop, methods: Sequence[Method], console: Console, lines: list[str]
) -> dict[str, list[list[Agreement]]]:
    found: dict[str, list[list[Agreement]]] = {}
    runs = [(method, run) for method in methods for run in method.runs]
    with _bar(console, len(runs)) as advance:
        for method, run in runs:
            advance(0, f"gradients of {run.name}")
            try:
                segments = workshop.agreements(run)
            except DataError as error:
                lines.append(f"Gradients of {run.name} were not compared: {error}.")
                segments = []
            if segments:
                found.setdefault(method.label, []).append(segments)
            advance(1, "")
    return found


def _clips(
    wishes: Wishes,
    workshop: Workshop,
    comparison: Comparison,
    programs: Sequence[Program],
    sample_rate: int,
    channels: int,
) -> list[Clip]:
    measured = [source for source in workshop.sources if source.name in set(comparison.paths)]
    excerpts = choose_excerpts(measured, wishes.clips, wishes.clip_seconds) if wishes.clips else []
    renderers = workshop.renderers(comparison, programs, sample_rate, channels) if excerpts else ()
    return make_clips(excerpts, renderers, sample_rate)


def _tracked(
    console: Console, workshop: Workshop, items: Sequence[Item], name: Callable[[Item], str]
) -> Iterator[Item]:
    """The items, with a bar over the audio that is evaluated of each."""
    with _bar(console, len(items) * workshop.duration_s) as advance:
        for item in items:
            advance(0, f"evaluating {name(item)}")
            workshop.progress = lambda seconds: advance(seconds, "")
            yield item


@contextmanager
def _bar(console: Console, total: float) -> Iterator[Callable[[float, str], None]]:
    """On a terminal, a bar; gives what is told how much was done, and of what."""
    if not console.is_terminal:
        yield lambda amount, label: None
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=total)

        def advance(amount: float, label: str) -> None:
            progress.update(task, advance=amount, description=label or None)

        yield advance
