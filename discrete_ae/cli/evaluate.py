"""`discrete-ae evaluate`: measure quality, cost and bitrate of a model on a data set."""

from pathlib import Path
from typing import Annotated

import typer

from discrete_ae.cli.options import (
    ClipSecondsOption,
    CodebooksOption,
    DeviceOption,
    MetricsOption,
    ScoringJobsOption,
    StrictOption,
    TrustOption,
    print_line,
    print_table,
    progress_bar,
)
from discrete_ae.evaluation.scores import MOS, OVERALL, SEGMENT_S, choose


def evaluate(
    data: Annotated[
        list[Path],
        typer.Argument(metavar="DATA", help="Recordings, folders of them, or patterns such as 'corpus/**/*.wav'."),
    ],
    checkpoint: Annotated[
        Path,
        typer.Option(
            "--checkpoint",
            "-c",
            metavar="CHECKPOINT",
            help="The model: best.ckpt or last.ckpt of a run, or a folder from [bold]discrete-ae export[/]; hf:FOLDER "
            "or hf:NAME for an audio tokenizer of transformers.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="OUT",
            show_default="only the table",
            help="A .json file with all results, for [bold]compare[/]; a .csv file with one row per recording; or a "
            "folder for both.",
        ),
    ] = None,
    metrics: MetricsOption = None,
    codebooks: CodebooksOption = None,
    segment_seconds: Annotated[
        float, typer.Option(min=1, help="Segment length; longer recordings are scored in segments.")
    ] = SEGMENT_S,
    clips: Annotated[
        int, typer.Option(min=0, help="Number of clips to listen to, written next to the .json file.")
    ] = 0,
    clip_seconds: ClipSecondsOption = 6.0,
    trust: TrustOption = None,
    device: DeviceOption = "auto",
    jobs: ScoringJobsOption = None,
    save_audio: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            show_default="none",
            help="Write the compared audio into DIR as WAV files, with two lists of them for VERSA.",
        ),
    ] = None,
    strict: StrictOption = False,
    force: Annotated[bool, typer.Option("--force", "-f", help="Overwrite existing results.")] = False,
) -> None:
    """Measure a trained model on recordings that were not used to train it.

    Every recording is encoded to hard codes, decoded, and compared with the
    original at the model's sample rate. A mono model codes each channel
    separately. The table shows means over recordings, all with equal weight, and
    95 % intervals from a bootstrap over recordings. The score of a long recording
    is the mean over its segments. For a model without a quantizer, figures such
    as code usage and bitrate are missing.

    Real-time factors are seconds of computation per second of audio, measured
    before anything else runs, on a CPU with one thread. They exclude reading,
    resampling and entropy coding.

    STOI and the scores listed after it need pip install 'discrete-ae\\[quality]'.
    All of them except zimtohrli are made for speech. A score whose package is
    missing or fails is shown as a dash. DNSMOS and DistillMOS rate a recording
    without comparing it with the original; the original's rating is shown too.

    Audio tokenizers of the package transformers are measured in the same way, at
    their own sample rate: pip install 'discrete-ae\\[codecs]'. Nothing is
    downloaded: NAME must be in your Hugging Face cache.

    A recording that cannot be coded is reported and skipped; the exit status is
    then 1.
    """
    from rich.console import Console

    from discrete_ae.cli.files import refuse_other_suffix
    from discrete_ae.evaluation.evaluate import evaluate as evaluate_data
    from discrete_ae.evaluation.results import TABLE_HEADS
    from discrete_ae.evaluation.saving import SUFFIXES, result_paths

    if out is not None:
        refuse_other_suffix(out, "evaluate", SUFFIXES)
    choice, errors = choose(metrics), Console(stderr=True)
    if choice.said:
        print_line(errors, choice.said)
    with progress_bar(errors) as progress:
        evaluation = evaluate_data(
            checkpoint,
            data,
            out,
            metrics=metrics,
            num_codebooks=codebooks,
            segment_seconds=segment_seconds,
            clips=clips,
            clip_seconds=clip_seconds,
            trust=trust or (),
            device=device,
            jobs=jobs,
            save_audio=save_audio,
            force=force,
            strict=strict,
            progress=progress,
        )
    for failure in evaluation.failures:
        print_line(errors, f"error: {failure.reason}")
    typer.echo(evaluation.title)
    print_table(
        TABLE_HEADS,
        evaluation.rows(choice.missing),
        lines=[
            "mean: over recordings, with equal weights; 95 % interval: of this mean, by a bootstrap over recordings",
            f"{MOS}: predicted mean opinion score, 1 (bad) to 5; docs/scores.md explains all scores",
        ],
    )
    overall = [(one.label, one.shown(evaluation.overall.get(one.name)), one.unit) for one in OVERALL]
    meanings = [f"{one.label}: {one.meaning}" for one in OVERALL]
    print_table(["all recordings together", "value", "unit"], overall, lines=[*meanings, *map(str, result_paths(out))])
    raise typer.Exit(1 if evaluation.failures else 0)
