"""`discrete-ae evaluate`: what a model does to a data set, what it costs, and at which rate."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from discrete_ae.cli.options import CheckpointOption, Device, DeviceOption, check_codebooks, load_model, runner_of
from discrete_ae.errors import DataError
from discrete_ae.evaluation.quantities import ALL, NAMES, SCORES, SEGMENT_S

if TYPE_CHECKING:
    from rich.table import Table

    from discrete_ae.evaluation.recordings import Source
    from discrete_ae.evaluation.results import Evaluation
    from discrete_ae.model import DiscreteAutoencoder

SUFFIXES = (".json", ".csv")
STEM = "evaluation"
_GPU_BATCH_S = 120.0


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
            help="A .json file of everything, a .csv file of a row a recording, or a folder for both.",
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="METRIC,...",
            show_default=", ".join(name for name in NAMES if SCORES[name].by_default),
            help=f"Scores of recordings, joined by commas, of {', '.join(NAMES)}; or {ALL}.",
        ),
    ] = None,
    codebooks: Annotated[
        int | None,
        typer.Option(min=1, show_default="all", help="Use only the first codebooks of a residual quantizer."),
    ] = None,
    segment_seconds: Annotated[
        float, typer.Option(min=1, help="Longer recordings are scored in segments of this length.")
    ] = SEGMENT_S,
    device: DeviceOption = Device.AUTO,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            show_default="one a core, at most 16",
            help="Segments scored at a time, and windows on a CPU; no score depends on it.",
        ),
    ] = None,
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

    from discrete_ae.cli import batch
    from discrete_ae.data.files import probe
    from discrete_ae.evaluation.evaluate import Plan
    from discrete_ae.evaluation.evaluate import evaluate as evaluate_model
    from discrete_ae.evaluation.recordings import find_sources
    from discrete_ae.evaluation.scores import choose
    from discrete_ae.evaluation.segments import check_segment_seconds

    tally = batch.Tally()
    targets = _targets(out, save_audio, force=force)
    check_segment_seconds(segment_seconds)
    choice = choose([name.strip() for name in metrics.split(",")] if metrics is not None else None)
    found = find_sources(data)
    model = load_model(checkpoint, device)
    check_codebooks(model, codebooks)
    for problem in found.problems:
        tally.fail(problem)
    if not found.sources:
        raise typer.Exit(1)
    if choice.said:
        tally.console.print(choice.said, soft_wrap=True, markup=False, highlight=False)

    def failed(source: "Source", error: DataError) -> None:
        tally.fail(error)

    try:
        with tally.shown("evaluating"):
            tally.begin([source.path for source in found.sources], lambda path: probe(path).duration_s)
            runner = runner_of(model, jobs, _GPU_BATCH_S, False)
            plan = Plan(choice, segment_seconds, runner, jobs, failed, tally.advance, save_audio)
            evaluation = evaluate_model(model, found.sources, str(checkpoint), plan, codebooks)
    except KeyboardInterrupt:
        tally.warn("interrupted; nothing was written")
        raise
    for target in targets:
        write = evaluation.write_csv if target.suffix.lower() == ".csv" else evaluation.write_json
        write(target)
    console = Console() if Console().is_terminal else Console(width=120)
    console.print(_title(evaluation, model), soft_wrap=True, markup=False, highlight=False)
    console.print(_of_recordings(evaluation, choice.missing))
    console.print(_of_all(evaluation))
    for target in targets:
        console.print(str(target), soft_wrap=True, markup=False, highlight=False)
    raise typer.Exit(1 if tally.failed else 0)


def _targets(out: Path | None, save_audio: Path | None, *, force: bool) -> list[Path]:
    """The files to be written, which are free, or may be overwritten.

    Raises:
        UsageError: `out` has the suffix of something else.
        DataError: one exists, or cannot be written.
    """
    from discrete_ae.cli.files import check_free, check_out, names_file, refuse_other_suffix

    if save_audio is not None:
        from discrete_ae.evaluation.saving import saved_paths

        check_out(save_audio, ())
        if not force:
            for path in saved_paths(save_audio):
                check_free(path)
    if out is None:
        return []
    refuse_other_suffix(out, "evaluate", SUFFIXES)
    check_out(out, SUFFIXES)
    targets = [out] if names_file(out, SUFFIXES) else [out / f"{STEM}{suffix}" for suffix in SUFFIXES]
    if not force:
        for target in targets:
            check_free(target)
    return targets


def _title(evaluation: "Evaluation", model: "DiscreteAutoencoder") -> str:
    from discrete_ae.cli.batch import amount

    count = len(evaluation.files)
    duration = amount(sum(file.duration_s for file in evaluation.files))
    recordings = "1 recording" if count == 1 else f"{count} recordings"
    alone = ", each channel alone" if evaluation.settings["channels"] == 1 else ""
    used, there = evaluation.settings["codebooks"], model.quantizer.num_codebooks
    fewer = "" if used == there else f", {used} of {there} codebooks"
    return f"{evaluation.codec}: {recordings}, {duration}, compared at {evaluation.sample_rate} Hz{alone}{fewer}"


def _of_recordings(evaluation: "Evaluation", missing: Sequence[str]) -> "Table":
    import numpy as np
    from rich.table import Table

    from discrete_ae.evaluation.quantities import QUANTITIES

    table = Table("of each recording", "mean", "95 % interval", "recordings", "unit", "better")
    for column in table.columns[1:4]:
        column.justify = "right"
    for name, interval in evaluation.means().items():
        quantity = QUANTITIES[name]
        low, high = (_shown(value, quantity.digits) for value in (interval.low, interval.high))
        table.add_row(
            quantity.label,
            _shown(interval.mean, quantity.digits),
            f"{low} to {high}" if low != _NOTHING else _NOTHING,
            str(np.count_nonzero(~np.isnan(evaluation.values(name)))),
            quantity.unit,
            {True: "higher", False: "lower", None: ""}[quantity.higher_is_better],
        )
    for name in missing:
        table.add_row(SCORES[name].label, _NOTHING, _NOTHING, "0", SCORES[name].unit, "")
    return table


def _of_all(evaluation: "Evaluation") -> "Table":
    from rich.table import Table

    from discrete_ae.evaluation.quantities import OVERALL

    table = Table("of all together", "", "unit")
    table.columns[1].justify = "right"
    for quantity in OVERALL:
        table.add_row(quantity.label, _shown(evaluation.overall.get(quantity.name), quantity.digits), quantity.unit)
    return table


_NOTHING = "-"


def _shown(value: float | None, digits: int) -> str:
    return _NOTHING if value is None or value != value else f"{value:,.{digits}f}"
