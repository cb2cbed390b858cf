"""Creation of a report from training runs and evaluations: a folder with a page, tables, plots and clips."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import discrete_ae
from discrete_ae.build import pick_device
from discrete_ae.compare.clips import clip_files, heard_of, make_clips
from discrete_ae.compare.comparison import Comparison
from discrete_ae.compare.figures import Curves, not_drawn, plots_of, read_curves
from discrete_ae.compare.methods import distinct, flatten, group_runs
from discrete_ae.compare.page import Page, render
from discrete_ae.compare.places import hiding, paths_in
from discrete_ae.compare.runs import Evaluator, at_fault, find_given, given_recordings, recordings_of, trained_on
from discrete_ae.compare.tables import MINOR, TABLES, columns_of, pairs_of, rows_of
from discrete_ae.compare.words import facts_of, findings, method_of, notes_of
from discrete_ae.errors import DataError, UsageError
from discrete_ae.evaluation.baselines import OPUS_BPS
from discrete_ae.evaluation.evaluate import Plan, Progress
from discrete_ae.evaluation.pretrained import is_tokenizer, load_tokenizers
from discrete_ae.evaluation.recordings import Found, choose_excerpts, without_doubt
from discrete_ae.evaluation.results import CHECKPOINTS, as_csv
from discrete_ae.evaluation.scores import ALL, QUANTITIES, SCORES, choose
from discrete_ae.paths import Paths, listed
from discrete_ae.records import Record
from discrete_ae.writing import check_writable, write_whole

log = logging.getLogger("discrete_ae")

PAGE = "index.html"
MARKER = "report.json"
TITLE = "Discrete audio autoencoders compared"


class _Contents(Record):
    """The content of `MARKER`: the files of a report."""

    format: Literal["discrete-ae comparison"] = "discrete-ae comparison"
    version: Literal[1] = 1
    title: str
    files: list[str]


class Report(NamedTuple):
    """The result of a comparison."""

    comparison: Comparison
    sorted_by: str
    """Quantity by which the table is sorted."""
    findings: list[str]
    """Sentences on the differences, the headline first."""
    problems: list[str]
    """One line on each recording that could not be used."""
    page: Path
    """Path of the page."""


def compare_runs(
    inputs: Paths,
    out: str | Path,
    data: Paths | None = None,
    *,
    metrics: str | Sequence[str] | None = None,
    sort_by: str | None = None,
    clips: int = 6,
    clip_seconds: float = 6.0,
    baselines: bool = True,
    opus: Sequence[int] = (),
    checkpoint: str = "best",
    trust: Sequence[str] = (),
    codebooks: Sequence[int] | Literal["all"] = (),
    device: str = "auto",
    jobs: int | None = None,
    title: str = TITLE,
    command: str = "",
    strict: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Compare training runs and evaluations, and write a report.

    Runs that differ only in their seed are one method. A run is evaluated unless its folder or the report has an
    evaluation of the same weights, recordings and scores. Evaluations without a run are baselines. Messages go to the
    logger "discrete_ae".

    >>> report = discrete_ae.compare_runs(run, out, recordings, metrics="mel_distance", baselines=False)
    >>> report.findings
    ['There is only one method, so there is nothing to compare it with.']
    >>> report.page.name
    'index.html'

    Args:
        inputs: folders of runs, files that `evaluate` wrote, or folders of these; also audio tokenizers of the package
            transformers, named as for `discrete_ae.evaluate`, which are compared at each of their rates.
        out: folder of the report.
        data: recordings, folders of them, or patterns; None for the recordings that the runs were validated on.
        metrics: names of scores, as for `scores.choose`.
        sort_by: quantity by which the table is sorted; if it is a score, the findings are about this score.
        clips: largest number of clips to listen to.
        clip_seconds: length of each clip.
        baselines: True to include Opus and Codec 2, if they are installed.
        opus: bitrates of Opus in kbps; () for those nearest to the bitrates of the methods.
        checkpoint: "best" or "last", the checkpoint to use of each run.
        trust: modules to trust, as for `discrete_ae.load`.
        codebooks: numbers of codebooks for additional rates of each run, which is always decoded from all codebooks
            too; "all" for every number from which a run can be decoded. Tokenizers use these numbers too.
        device: "cpu", "cuda" or "auto".
        jobs: number of segments scored in parallel; None for one per core, at most 16.
        title: title of the page.
        command: command that the page shows as the one that made it.
        strict: True to reject recordings whose length differs from their header, instead of logging a warning.
        force: True to replace the report in `out`, and to write into any folder. Existing evaluations are used again.
        progress: function that receives the name of the current task, the amount done, and the total amount.

    Raises:
        DataError: nothing can be compared, or `out` has a report already.
        UsageError: a score is unknown or was not measured, or the recordings to compare on are ambiguous.
    """
    if checkpoint not in CHECKPOINTS:
        raise UsageError(f"--checkpoint {checkpoint}: expected {' or '.join(CHECKPOINTS)}")
    counts = None if codebooks == ALL else [*codebooks]
    if counts is not None and not all(isinstance(count, int) and count > 0 for count in counts):
        raise UsageError(f"--codebooks: expected {ALL}, or whole numbers of codebooks from 1 on, got {codebooks}")
    opus_bps, (least, most) = [1000.0 * kbps for kbps in opus], OPUS_BPS
    if not all(least <= bps <= most for bps in opus_bps):
        raise UsageError(f"--opus: expected {least / 1000:g} to {most / 1000:g} kbps, got {', '.join(map(str, opus))}")
    choice, out, lines = choose(metrics), Path(out), list[str]()

    def say(line: str) -> None:
        log.warning("%s", line)
        lines.append(line.removeprefix("error: ").removeprefix("warning: "))

    # Find the inputs, and the recordings to compare them on.
    named = list(dict.fromkeys(str(one) for one in listed(inputs) if is_tokenizer(one)))
    paths = [one for one in listed(inputs) if not is_tokenizer(one)]
    if not paths:
        raise UsageError(f"{named[0]}: can only be compared with runs of training; give a run too, or use evaluate")
    given = find_given(paths, checkpoint)
    sources, where = given_recordings(listed(data or []))
    chosen, repeated = distinct(*given.by_use({source.name for source in sources}))
    runs = [run for run in given.runs if run.name in chosen]
    evaluations = [one for one in given.evaluations if not one.evaluation.run or one.name in chosen]
    measured = {name for one in evaluations for file in one.evaluation.files for name in file.scores}
    sorted_by, worded = quantities(sort_by, [n for n in SCORES if n in measured or (runs and n in choice.names)])
    if not data:
        sources, where = recordings_of(runs)
    if named and not sources:
        raise UsageError(f"{named[0]}: there are no recordings to evaluate it on; give them with --data")
    if strict and (doubtful := without_doubt(Found(sources, [])).problems):
        raise doubtful[0]
    tokenizers = load_tokenizers(named, pick_device(device))
    claim(out, title, force=force)
    for line in [*([f"{choice.said}."] if runs and choice.said else []), *given.lines, *repeated]:
        say(line)
    if data and (count := len(trained_on(runs, sources, say))):
        say(
            f"warning: {count} of the {len(sources)} recordings were used to train a run, so its results on them are "
            "too good; give other recordings with --data."
        )

    # Collect existing evaluations, and evaluate the other runs.
    plan = Plan(choice, jobs=jobs, progress=progress)
    evaluator = Evaluator(out / "evaluations", sources, plan, pick_device(device), say, trust, counts, opus_bps)
    placed = [*evaluations, *evaluator.of_runs(runs)]
    faults = at_fault(placed)
    placed = [one for one in placed if one.name not in faults]
    for name, reason in faults.items():
        say(f"Not compared: {name}: {reason}")

    # Group runs into methods, and add other codecs.
    methods = group_runs(one.evaluation for one in placed)
    if not methods:
        advice = "see the lines above" if lines else 'describe the run by "run" in the file (docs/evaluation.md)'
        raise DataError(f"{paths[0]}: no run can be compared; {advice}")
    if tokenizers:
        coders = evaluator.at_rates(tokenizers)
        placed += evaluator.of_coders(coders, methods, [one.name for one in placed])
    if baselines and sources:
        placed += evaluator.of_baselines(methods, [one.name for one in placed])
    beside = tuple(one.evaluation for one in placed if not one.evaluation.run)
    comparison = Comparison(tuple(methods), beside)
    if not comparison.paths:
        raise DataError(
            f"{where}: no recording has results of all methods; give evaluations of the same recordings, or runs"
        )
    failures = {one.path: one.reason for method in methods for run in method.runs for one in run.failures}
    problems = [line for path, line in failures.items() if path not in comparison.paths]
    for line in problems:
        say(f"error: {line}")

    # Make plots, clips and sentences.
    if progress:
        progress("drawing plots and making clips", 1.0, 1.0)
    trainings = [run for method in comparison.trained.methods for run in method.trainings if run.folder]
    curves = {run.name: read_curves(Path(run.folder)) for run in trainings}
    comparison = replace(comparison, reached=unfinished(comparison.trained, curves))
    for method in comparison.trained.methods:
        for run in method.trainings:
            if run.name in comparison.reached:
                say(f"{run.name} was last validated at step {comparison.reached[run.name]} of {method.steps}.")
    plots = plots_of(comparison, worded, curves)
    heard, shown = heard_of(comparison, {one.name: one for one in placed}), []
    if clips:
        excerpts = choose_excerpts([one for one in sources if one.name in comparison.paths], clips, clip_seconds)
        heard = [one._replace(placed=evaluator.with_clips(one.placed, excerpts)) for one in heard]
        shown = make_clips(heard, clips, say)
    words = findings(comparison, worded)
    # The report may be sent to others, so its texts show no folders above the given folders.
    recordings = [flatten({"data": run.config.get("data")}) for run in (*given.runs, *trainings)]
    hide = hiding([*paths, *listed(data or []), out, *paths_in(recordings)])
    page = Page(
        title=title,
        headline=words[0],
        facts={heading: hide(fact) for heading, fact in facts_of(comparison, where).items()},
        columns=columns_of(comparison, sorted_by),
        minor=MINOR,
        rows=rows_of(comparison, sorted_by),
        sorted_by=sorted_by,
        findings=findings(comparison, worded, with_differences=False)[1:],
        pairs=pairs_of(comparison, worded),
        method=method_of(comparison, worded),
        figures=plots,
        not_drawn=not_drawn(comparison, curves),
        clips=shown,
        notes=list(map(hide, notes_of(comparison, lines))),
        command=hide(command),
        version=discrete_ae.__version__,
    )
    files = {name: as_csv([list(map(hide, row)) for row in table(comparison)]) for name, table in TABLES.items()}
    files |= {f"figures/{plot.name}.svg": plot.svg.encode() for plot in plots}
    files |= {f"figures/{plot.name}.png": plot.png for plot in plots}
    files |= {f"clips/{name}": content for name, content in clip_files(shown, title).items()}
    files[PAGE] = render(page).encode(errors="replace")
    write_report(out, title, files)
    return Report(comparison, sorted_by, words, problems, out / PAGE)


def quantities(sort_by: str | None, chosen: Sequence[str]) -> tuple[str, str]:
    """Return the quantity by which the table is sorted, and the score that the findings are about.

    The default is the mel distance: unlike scores for speech, it is defined for every sound, and unlike scores of the
    waveform, it is meaningful for every codec. It is also common in papers on codecs.
    """
    default = "mel_distance" if "mel_distance" in chosen else next(iter(chosen), "mel_distance")
    if sort_by is None:
        return default, default
    if sort_by not in QUANTITIES:
        raise UsageError(f"--sort-by {sort_by}: expected one of {', '.join(QUANTITIES)}")
    if sort_by in SCORES and sort_by not in chosen:
        raise UsageError(f"--sort-by {sort_by}: is not measured; add it to --metrics, or install discrete-ae[quality]")
    has_a_better = QUANTITIES[sort_by].higher_is_better is not None
    return sort_by, sort_by if sort_by in chosen and has_a_better else default


def unfinished(comparison: Comparison, curves: Curves) -> dict[str, int]:
    """Return the last validated step of each run that was not validated at its last step, by name of the run."""
    found = {}
    for run, steps in ((run, method.steps) for method in comparison.methods for run in method.trainings):
        validations = curves.get(run.name, {}).get("val/reconstruction")
        if validations is not None and len(validations.steps) and 0 < validations.steps[-1] < steps:
            found[run.name] = int(validations.steps[-1])
    return found


def claim(folder: Path, title: str, *, force: bool) -> None:
    """Create the folder of a report, or accept the folder of an interrupted report; existing files stay.

    Raises:
        OSError: the folder cannot be written.
        DataError: the folder has a finished report, or files but no report, and `force` is False; or a file that the
            report would overwrite is not of an earlier report.
    """
    marker = folder / MARKER
    files = _Contents.read(marker, "give another folder with -o").files if marker.exists() else []
    if PAGE in files and (folder / PAGE).exists() and not force:
        raise DataError(f"{folder}: already has a report; use --force to replace it, or give another folder with -o")
    if not force and not marker.exists() and folder.is_dir() and any(folder.iterdir()):
        raise DataError(f"{folder}: has files but no report; give another folder with -o, or use --force to add to it")
    for name in (PAGE, *TABLES):
        if name not in files and (folder / name).exists():
            raise DataError(f"{folder / name}: is not of a report; move it, or give another folder with -o")
    check_writable(marker)
    if not marker.exists():
        write_report(folder, title, {})


def write_report(folder: Path, title: str, files: Mapping[str, bytes]) -> None:
    """Write the list of a report's files, then these files, given by path below its folder; the page comes last.

    Other files in the folder stay, even files of an earlier report, which are not in the new list.
    """
    contents = _Contents(title=title, files=sorted(files))
    write_whole(folder / MARKER, (contents.model_dump_json(indent=1) + "\n").encode())
    for name, content in files.items():
        write_whole(folder / name, content)
