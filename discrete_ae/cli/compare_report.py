"""The report of `discrete-ae compare`, from runs to the files in its folder."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

import discrete_ae
from discrete_ae.cli.comparing import NotMeasuredError, Workshop, at_fault, failures_of
from discrete_ae.compare.comparison import BaselineScores, Comparison
from discrete_ae.compare.contents import broken_off, columns_of, notes_of, pairs_of, rows_of, summary_of
from discrete_ae.compare.curves import read_curves
from discrete_ae.compare.excerpts import choose_excerpts
from discrete_ae.compare.findings import findings
from discrete_ae.compare.folder import clip_files, write_files
from discrete_ae.compare.listening_clips import make_clips
from discrete_ae.compare.methods import name_methods
from discrete_ae.compare.output import PAGE, plot_files, plots_of, table_files
from discrete_ae.compare.page.content import Clip, Page
from discrete_ae.compare.page.render import render
from discrete_ae.compare.runs import Run, Skipped
from discrete_ae.errors import DataError
from discrete_ae.evaluation.baselines import BaselineCodec, baselines
from discrete_ae.evaluation.results import Evaluation

Item = TypeVar("Item")
Result = TypeVar("Result")


class ReportOptions(NamedTuple):
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
    command: str


class Report(NamedTuple):
    """What became of it."""

    comparison: Comparison
    findings: list[str]


def make_report(
    options: ReportOptions,
    workshop: Workshop,
    groups: Sequence[Sequence[Run]],
    skipped: Sequence[Skipped],
    lines: Sequence[str],
    console: Console,
) -> Report:
    """Evaluate, compare, and write everything.

    Args:
        options: what it is to be.
        workshop: computes.
        groups: the runs of each method.
        skipped: what is not compared, for the page.
        lines: what else was said, for the page.
        console: for progress and warnings.

    Raises:
        DataError: nothing can be compared, or something cannot be written.
    """
    lines, skipped = list(lines), list(skipped)
    evaluations = _evaluations(workshop, [run for runs in groups for run in runs], skipped, console)
    groups = [there for runs in groups if (there := [run for run in runs if run.name in evaluations])]
    if not groups:
        raise DataError(f"{skipped[0].path}: no run can be compared; see what is said of each")
    rates = [evaluations[runs[0].name].overall.get("nominal_bitrate_bps") for runs in groups]
    methods = name_methods(groups, rates)

    highest = max(evaluations.values(), key=lambda evaluation: evaluation.sample_rate)
    rate, channels = highest.sample_rate, int(highest.settings.get("channels") or 1)
    beside: dict[BaselineCodec, Evaluation] = {}
    if options.baselines:
        nominal = [rate for rate in rates if rate is not None]
        measured = set.intersection(*({file.path for file in one.files} for one in evaluations.values()))
        beside = _beside(workshop, nominal, (rate, channels), measured, console, lines)
    scores = tuple(BaselineScores(codec.name, found, codec.keeps_waveform) for codec, found in beside.items())
    comparison = Comparison(tuple(methods), evaluations, scores)
    if not comparison.paths:
        raise DataError(f"{options.data}: no recording could be measured with every run; see what is said of each")
    failures = [failures_of(evaluation) for evaluation in evaluations.values()]
    common = set(comparison.paths)
    workshop.problems = {name: line for found in failures for name, line in found.items() if name not in common}
    for line in workshop.problems.values():
        warn(console, f"error: {line}")
        lines.append(f"{line}.")

    curves = {run.name: read_curves(run.path) for method in methods for run in method.runs}
    lines += [line for method in methods for line in broken_off(method, curves)]
    clips = _clips(options, workshop, comparison, list(beside), rate, channels)
    if len({evaluation.sample_rate for evaluation in evaluations.values()}) > 1:
        lines.append(f"Sample rates differ; all clips are at the highest, {rate} Hz.")

    figures, plots = plot_files(plots_of(comparison, options.worded, curves))
    words = findings(comparison, options.worded)
    page = Page(
        title=options.title,
        summary=summary_of(comparison, options.data),
        columns=columns_of(comparison, options.sorted_by),
        rows=rows_of(comparison, options.sorted_by),
        sorted_by=options.sorted_by,
        findings=words,
        figures=figures,
        clips=clips,
        notes=notes_of(comparison, skipped, lines),
        commands=[options.command],
        pairs=pairs_of(comparison),
        version=discrete_ae.__version__,
    )
    files = {
        **table_files(comparison),
        **{f"figures/{name}": content for name, content in plots.items()},
        **{f"clips/{name}": content for name, content in clip_files(clips, options.title, rate).items()},
        PAGE: render(page).encode(errors="replace"),
    }
    write_files(options.folder, options.title, files)
    return Report(comparison, words)


def warn(console: Console, line: str) -> None:
    """In one line on stderr, as it is."""
    console.print(" ".join(line.split()), soft_wrap=True, markup=False, highlight=False, emoji=False)


def _evaluations(
    workshop: Workshop, runs: Sequence[Run], skipped: list[Skipped], console: Console
) -> dict[str, Evaluation]:
    """By name of the run. A run that fails, be it on a recording that others can do, is skipped, and said to be."""
    found = _with_bar(console, workshop, runs, lambda run: run.name, workshop.evaluate_run)
    failed = [result for result in found if isinstance(result, Skipped)]
    evaluations = {run.name: result for run, result in zip(runs, found, strict=True) if not isinstance(result, Skipped)}
    faults = at_fault(evaluations)
    failed += [Skipped(run.path, faults[run.name]) for run in runs if run.name in faults]
    for one in failed:
        warn(console, f"not compared: {one.path.name}: {one.reason}")
    skipped += failed
    return {name: evaluation for name, evaluation in evaluations.items() if name not in faults}


def _beside(
    workshop: Workshop,
    nominal_bps: Sequence[float],
    signal: tuple[int, int],
    measured: set[str],
    console: Console,
    lines: list[str],
) -> dict[BaselineCodec, Evaluation]:
    """The baselines at a rate in Hz and a number of channels; those that fail on what runs can do are left out."""

    def evaluated(codec: BaselineCodec) -> Evaluation | str:
        try:
            found = workshop.evaluate_baseline(codec, *signal)
        except NotMeasuredError as error:
            return str(error)
        lacking = sorted(measured - {file.path for file in found.files})
        return f"could not do {failures_of(found).get(lacking[0], lacking[0])}" if lacking else found

    there, absent = baselines(nominal_bps)
    results = _with_bar(console, workshop, there, lambda codec: codec.name, evaluated)
    found = dict(zip(there, results, strict=True))
    absent += [f"{codec.name} is left out: {result}" for codec, result in found.items() if isinstance(result, str)]
    for line in absent:
        warn(console, line)
        lines.append(f"{line.rstrip('.')}.")
    return {codec: result for codec, result in found.items() if not isinstance(result, str)}


def _clips(
    options: ReportOptions,
    workshop: Workshop,
    comparison: Comparison,
    programs: Sequence[BaselineCodec],
    sample_rate: int,
    channels: int,
) -> list[Clip]:
    common = set(comparison.paths)
    measured = [source for source in workshop.sources if source.name in common]
    excerpts = choose_excerpts(measured, options.clips, options.clip_seconds) if options.clips else []
    renderers = workshop.renderers(comparison, programs, sample_rate, channels) if excerpts else ()
    return make_clips(excerpts, renderers, sample_rate)


def _with_bar(
    console: Console,
    workshop: Workshop,
    items: Sequence[Item],
    name: Callable[[Item], str],
    compute: Callable[[Item], Result],
) -> list[Result]:
    """What is computed of each item, with a bar over the audio that is evaluated."""
    found = []
    with _bar(console, len(items) * workshop.duration_s if console.is_terminal else 0.0) as advance:
        workshop.progress = lambda seconds: advance(seconds, "")
        for item in items:
            advance(0, f"evaluating {name(item)}")
            found.append(compute(item))
    return found


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
