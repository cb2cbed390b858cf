"""`discrete-ae compare`: compare training runs in tables, sentences, plots, and a page with clips."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from discrete_ae.cli.options import (
    ClipSecondsOption,
    DeviceOption,
    MetricsOption,
    ScoringJobsOption,
    StrictOption,
    TrustOption,
    print_table,
    progress_bar,
    whole_numbers,
)
from discrete_ae.errors import UsageError
from discrete_ae.evaluation.scores import ALL

if TYPE_CHECKING:
    from discrete_ae.compare.report import Report


def compare(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN",
            help="Folders of runs, sweeps, or [bold]export[/]; [bold]pretrained[/]; .json files of [bold]evaluate[/]; "
            "hf:FOLDER or hf:NAME for an audio tokenizer of transformers.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="REPORT", help="Output folder for the report."),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DATA", show_default="validation recordings of the runs", help="Recordings to compare on."
        ),
    ] = None,
    sort_by: Annotated[
        str | None,
        typer.Option(
            metavar="METRIC",
            show_default="mel_distance",
            help="Sort the table by this column. If the column is a score, the findings are about this score.",
        ),
    ] = None,
    metrics: MetricsOption = None,
    clips: Annotated[int, typer.Option(min=0, help="Number of clips to listen to.")] = 6,
    clip_seconds: ClipSecondsOption = 6.0,
    baselines: Annotated[
        bool, typer.Option("--baselines/--no-baselines", help="Include Opus and Codec 2, if they are installed.")
    ] = True,
    opus: Annotated[
        str | None,
        typer.Option(
            metavar="KBPS,...", show_default="nearest to those of the runs", help="Bitrates of Opus, in whole kbps."
        ),
    ] = None,
    checkpoint: Annotated[str, typer.Option(metavar="best|last", help="Checkpoint of each run.")] = "best",
    trust: TrustOption = None,
    codebooks: Annotated[
        str | None,
        typer.Option(
            metavar="N,...",
            show_default="all codebooks only",
            help=f"Also decode each run from its first N codebooks, for several rates of one model; {ALL} for every N. "
            "By default, tokenizers use each of their bandwidths.",
        ),
    ] = None,
    device: DeviceOption = "auto",
    jobs: ScoringJobsOption = None,
    title: Annotated[str, typer.Option(help="Title of the page.")] = "Discrete audio autoencoders compared",
    ratings: Annotated[
        bool,
        typer.Option("--ratings", help="Summarize ratings that the page saved; RUN and REPORT are then CSV files."),
    ] = False,
    strict: StrictOption = False,
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Replace the report in REPORT; other files there stay.")
    ] = False,
) -> None:
    """Compare training runs, and report which differences are larger than chance.

    Runs that differ only in their seed are one method: its figures are means
    with their spread over seeds. REPORT/index.html is one page with all results
    and clips to listen to; it works from disk and can be sent to others. Tables,
    plots and clips are also files in REPORT.

    EnCodec, DAC, Mimi and other audio tokenizers of the package transformers
    can be compared too: give hf:FOLDER, or hf:NAME of one in your Hugging Face
    cache; pip install 'discrete-ae\\[codecs]'.

    REPORT/evaluations keeps the evaluations: the same command resumes after an
    interruption, and with --force it makes the report again from them.
    Evaluations can also be given in place of the runs. A run that fails is
    reported, and the other runs are compared. A recording that cannot be read is
    reported too; the exit status is then 1.
    """
    if ratings:
        return _summarize_ratings(inputs, out, force)
    if out is None:
        raise UsageError("missing --out; give a folder for the report")
    from rich.console import Console

    from discrete_ae.compare.report import compare_runs

    counts: list[int] | Literal["all"] = []
    if codebooks is not None:
        counts = "all" if codebooks == ALL else whole_numbers("--codebooks", codebooks, "2,4,8")
    with progress_bar(Console(stderr=True), lines=True) as progress:
        report = compare_runs(
            inputs,
            out,
            data,
            metrics=metrics,
            sort_by=sort_by,
            clips=clips,
            clip_seconds=clip_seconds,
            baselines=baselines,
            opus=[] if opus is None else whole_numbers("--opus", opus, "6,8"),
            checkpoint=checkpoint,
            trust=trust or (),
            codebooks=counts,
            device=device,
            jobs=jobs,
            title=title,
            command=shlex.join(["discrete-ae", *sys.argv[1:]]),
            strict=strict,
            force=force,
            progress=progress,
        )
    print_report(report)
    typer.echo(f"\nopen {shlex.quote(str(report.page))}")
    raise typer.Exit(1 if report.problems else 0)


def print_report(report: "Report") -> None:
    """Print the table and the findings."""
    from discrete_ae.compare.tables import MINOR, columns_of, rows_of

    sorted_by, shown = report.sorted_by, columns_of(report.comparison, report.sorted_by)
    columns = [one for one in shown if one.name not in (*MINOR, "perplexity") or one.name == sorted_by]
    arrows = {True: " ↑", False: " ↓", None: ""}
    heads = [", ".join(filter(None, [one.label, one.unit])) + arrows[one.higher_is_better] for one in columns]
    rows = rows_of(report.comparison, sorted_by)
    texts = [[row.label, *(row.cells[one.name].text for one in columns)] for row in rows]
    print_table(["method", *heads], texts, lines=report.findings)


def _summarize_ratings(paths: list[Path], out: Path | None, force: bool) -> None:
    """Print the means of ratings that the page of a report saved; with `out`, also write the means to a CSV file."""
    from discrete_ae.compare.ratings import HEADINGS, as_table, cells, read_ratings, remarks, summarize
    from discrete_ae.evaluation.results import as_csv
    from discrete_ae.evaluation.saving import claim
    from discrete_ae.writing import write_whole

    claim([out] if out else [], force=force)
    summary = summarize(read_ratings(paths))
    rows = [cells(condition) for condition in summary.conditions]
    title, said = "Ratings, from 0 (bad) to 100 (excellent)", [f"- {line}" for line in remarks(summary)]
    print_table(HEADINGS, rows, title, said)
    if out:
        write_whole(out, as_csv(as_table(summary)))
        typer.echo(f"wrote {out}")
