"""`discrete-ae evaluate`: what a model does to a data set, what it costs, and at which rate."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from discrete_ae.cli.options import CheckpointOption, Device, DeviceOption
from discrete_ae.evaluation.scores import ALL, NAMES, SCORES, SEGMENT_S

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from discrete_ae.evaluation.evaluate import Progress
    from discrete_ae.evaluation.results import Evaluation

SUFFIXES = (".json", ".csv")
STEM = "evaluation"
MetricsOption = Annotated[
    str | None,
    typer.Option(
        metavar="METRIC,...",
        show_default=", ".join(name for name in NAMES if SCORES[name].by_default),
        help=f"Scores of recordings, joined by commas, of {', '.join(NAMES)}; or {ALL}.",
    ),
]
ScoringJobsOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        show_default="one a core, at most 16",
        help="Segments scored at a time, and windows on a CPU; no score depends on it.",
    ),
]
ClipSecondsOption = Annotated[float, typer.Option(min=0.5, max=60, help="Length of a clip.")]


def evaluate(
    data: Annotated[
        list[Path],
        typer.Argument(
            metavar="DATA",
            show_default=False,
            help="Recordings, folders of them, or patterns such as 'corpus/**/*.wav'.",
        ),
    ],
    checkpoint: CheckpointOption,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="OUT",
            show_default="only the table",
            help="A .json file of everything, for [bold]compare[/], a .csv file of a row a recording, or a folder for "
            "both.",
        ),
    ] = None,
    metrics: MetricsOption = None,
    codebooks: Annotated[
        int | None,
        typer.Option(min=1, show_default="all", help="Use only the first codebooks of a residual quantizer."),
    ] = None,
    segment_seconds: Annotated[
        float, typer.Option(min=1, help="Longer recordings are scored in segments of this length.")
    ] = SEGMENT_S,
    clips: Annotated[int, typer.Option(min=0, help="Clips to listen to, written beside the .json file.")] = 0,
    clip_seconds: ClipSecondsOption = 6.0,
    device: DeviceOption = Device.AUTO,
    jobs: ScoringJobsOption = None,
    save_audio: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            show_default="none",
            help="Write what is compared into DIR, as WAV files, with two lists of them for VERSA.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", "-f", metavar="", help="Overwrite results that exist.")] = False,
) -> None:
    """Measure a trained model on recordings that it has not been trained on.

    Every recording is encoded to hard codes, decoded, and compared with itself
    at the model's sample rate; a mono model codes its channels one by one. The
    table shows means over recordings, each counting alike, with 95 % intervals
    by a bootstrap over recordings; the score of a long recording is the mean of
    its segments. Of a model without a quantizer, nothing is said of codes.

    Real-time factors are seconds of computing for a second of audio, before
    anything else runs, on a CPU on one thread; reading, resampling and entropy
    coding are not in them.

    STOI and all scores after it need pip install 'discrete-ae\\[quality]', and all
    but zimtohrli are made for speech. One whose package is absent or fails is a
    dash. DNSMOS and DistillMOS hear the decoded recording alone; what they say of
    the original stands beside them.

    A recording that cannot be coded is named, the others are done, and the exit
    status is 1.
    """
    from rich.console import Console

    from discrete_ae.evaluation.evaluate import evaluate as evaluate_data
    from discrete_ae.evaluation.scores import choose

    targets = _targets(out, save_audio, force=force)
    names = split_names(metrics)
    choice = choose(names)
    errors = Console(stderr=True)
    if choice.said:
        errors.print(choice.said, soft_wrap=True, markup=False, highlight=False)
    json_file = next((target for target in targets if target.suffix.lower() == ".json"), None)
    with progress_bar(errors) as progress:
        evaluation = evaluate_data(
            checkpoint, data, json_file, metrics=names, num_codebooks=codebooks, segment_seconds=segment_seconds,
            clips=clips, clip_seconds=clip_seconds, device=device.value, jobs=jobs, save_audio=save_audio,
            progress=progress,
        )  # fmt: skip
    for target in targets:
        if target != json_file:
            evaluation.write_csv(target)
    for failure in evaluation.failures:
        errors.print(f"error: {failure.reason}", soft_wrap=True, markup=False, highlight=False)
    console = wide_console()
    console.print(_title(evaluation), soft_wrap=True, markup=False, highlight=False)
    console.print(_table(evaluation, choice.missing))
    for target in targets:
        console.print(str(target), soft_wrap=True, markup=False, highlight=False)
    raise typer.Exit(1 if evaluation.failures else 0)


def split_names(metrics: str | None) -> list[str] | None:
    """Return the names that --metrics joins by commas."""
    return None if metrics is None else [name.strip() for name in metrics.split(",")]


def wide_console() -> "Console":
    """Return a console on stdout that is wide enough for tables where it is no terminal."""
    from rich.console import Console

    return Console() if Console().is_terminal else Console(width=120)


class _Lines(logging.Handler):
    """Prints each message as one line."""

    def __init__(self, console: "Console") -> None:
        super().__init__(logging.WARNING)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """See Handler."""
        line = " ".join(record.getMessage().split())
        self._console.print(line, soft_wrap=True, markup=False, highlight=False, emoji=False)


@contextmanager
def progress_bar(errors: "Console") -> Iterator["Progress | None"]:
    """Print warnings, and on a terminal show a bar of the audio that was evaluated; gives what is told of it."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}", markup=False), BarColumn(), TimeRemainingColumn()
    log, lines = logging.getLogger("discrete_ae"), _Lines(errors)
    log.addHandler(lines)
    try:
        with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bar:
            task = bar.add_task("", total=None)

            def progress(label: str, done_s: float, total_s: float) -> None:
                bar.update(task, description=label, completed=done_s, total=total_s)

            yield progress if errors.is_terminal else None
    finally:
        log.removeHandler(lines)


def _targets(out: Path | None, save_audio: Path | None, *, force: bool) -> list[Path]:
    """The files to be written, which are free, or may be overwritten.

    Raises:
        UsageError: `out` has the suffix of something else.
        DataError: one exists, or cannot be written.
    """
    from discrete_ae.cli.files import check_free, check_out, names_file, refuse_other_suffix
    from discrete_ae.evaluation.saving import saved_paths

    targets: list[Path] = []
    if out is not None:
        refuse_other_suffix(out, "evaluate", SUFFIXES)
        check_out(out, SUFFIXES)
        targets = [out] if names_file(out, SUFFIXES) else [out / f"{STEM}{suffix}" for suffix in SUFFIXES]
    if save_audio is not None:
        check_out(save_audio, ())
    for target in [] if force else [*(saved_paths(save_audio) if save_audio else []), *targets]:
        check_free(target)
    return targets


def _title(evaluation: "Evaluation") -> str:
    count, seconds = len(evaluation.files), sum(file.duration_s for file in evaluation.files)
    duration = f"{seconds:.1f} s" if seconds < 3600 else f"{seconds / 3600:.2f} h"
    recordings = "1 recording" if count == 1 else f"{count} recordings"
    alone = ", each channel alone" if evaluation.settings["channels"] == 1 else ""
    used, there = evaluation.settings["codebooks"], evaluation.settings["codebooks_of_model"]
    fewer = "" if used == there else f", {used} of {there} codebooks"
    return f"{evaluation.codec}: {recordings}, {duration}, compared at {evaluation.sample_rate} Hz{alone}{fewer}"


def _table(evaluation: "Evaluation", missing: Sequence[str]) -> "Table":
    """Means over recordings, and below them the figures of all together."""
    import numpy as np
    from rich.table import Table

    from discrete_ae.evaluation.scores import OVERALL, QUANTITIES

    table = Table("of each recording", "mean", "95 % interval", "recordings", "unit", "better")
    for column in table.columns[1:4]:
        column.justify = "right"
    for name, interval in evaluation.means().items():
        quantity = QUANTITIES[name]
        mean, low, high = (_shown(value, quantity.digits) for value in interval)
        count = str(np.count_nonzero(~np.isnan(evaluation.values(name))))
        better = {True: "higher", False: "lower", None: ""}[quantity.higher_is_better]
        table.add_row(quantity.label, mean, f"{low} to {high}" if low != "-" else "-", count, quantity.unit, better)
    for name in missing:
        table.add_row(SCORES[name].label, "-", "-", "0", SCORES[name].unit, "")
    table.add_section()
    table.add_row("[bold]of all together[/]")
    for quantity in OVERALL:
        value = _shown(evaluation.overall.get(quantity.name), quantity.digits)
        table.add_row(quantity.label, value, "", "", quantity.unit, "")
    return table


def _shown(value: float | None, digits: int) -> str:
    return "-" if value is None or value != value else f"{value:,.{digits}f}"
