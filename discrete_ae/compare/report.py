"""A comparison from runs of training and evaluations to a report: a page, tables, plots and clips."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import discrete_ae
from discrete_ae.build import pick_device, validation_recordings
from discrete_ae.compare.comparison import Comparison
from discrete_ae.compare.contents import broken_off, columns_of, notes_of, pairs_of, rows_of, summary_of
from discrete_ae.compare.curves import read_curves
from discrete_ae.compare.evaluating import Evaluator, Placed
from discrete_ae.compare.figures import plots_of, render_all
from discrete_ae.compare.findings import findings
from discrete_ae.compare.folder import claim, clip_files, write_files
from discrete_ae.compare.methods import group_runs, name_methods, run_of
from discrete_ae.compare.page.content import Page
from discrete_ae.compare.page.render import render
from discrete_ae.compare.runs import find_given
from discrete_ae.compare.tables import TABLES, as_csv
from discrete_ae.data import recordings_root
from discrete_ae.errors import DataError, UsageError
from discrete_ae.evaluation.evaluate import Plan, Progress
from discrete_ae.evaluation.recordings import Source, find_sources, named_sources
from discrete_ae.evaluation.results import CHECKPOINTS, Run
from discrete_ae.evaluation.scores import QUANTITIES, SCORES, choose

PAGE = "index.html"
TITLE = "Discrete audio autoencoders compared"
CLIPS, CLIP_SECONDS = 6, 6.0
_SPLIT = ("root", "validation_root", "validation_fraction", "channels")  # which files train and which validate


class Report(NamedTuple):
    """What became of a comparison."""

    comparison: Comparison
    sorted_by: str
    """Quantity by which the table is sorted."""
    findings: list[str]
    """Sentences on the differences."""
    problems: list[str]
    """A line on every recording that could not be compared on."""
    page: Path


def compare_runs(
    inputs: Sequence[str | Path],
    out: str | Path,
    data: Sequence[str | Path] | None = None,
    *,
    metrics: Sequence[str] | None = None,
    sort_by: str | None = None,
    clips: int = CLIPS,
    clip_seconds: float = CLIP_SECONDS,
    baselines: bool = True,
    checkpoint: str = "best",
    device: str = "auto",
    jobs: int | None = None,
    title: str = TITLE,
    command: str = "",
    force: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Compare runs of training and evaluations, and write a report.

    Runs that differ in their seed alone are one method. A run is evaluated unless an evaluation of the same weights,
    recordings and scores lies in its folder or in the report's; evaluations without a run are baselines. What is said
    while it is done goes to the logger "discrete_ae".

    >>> import discrete_ae
    >>> report = discrete_ae.compare_runs([run], out, [recordings], metrics=["mel_distance"], baselines=False)
    >>> report.findings
    ['There is one method alone, and nothing to compare it with.']
    >>> report.page.name
    'index.html'

    Args:
        inputs: folders of runs, files that `evaluate` wrote, and folders of either.
        out: the folder of the report.
        data: recordings, folders of them, or patterns; None is what the runs were validated on.
        metrics: names of `scores.NAMES`; None is all by default, as far as their packages are installed.
        sort_by: the quantity by which the table is sorted; a score is what the findings are on, too.
        clips: to listen to, at most so many.
        clip_seconds: length of each.
        baselines: whether Opus and Codec 2 stand beside the runs, where they are installed.
        checkpoint: "best" or "last" of each run.
        device: "cpu", "cuda" or "auto".
        jobs: segments scored at a time; None is one a core, at most 16.
        title: of the page.
        command: what the page says that it was made by.
        force: evaluate again what was, and write into any folder.
        progress: told of what is done.

    Raises:
        DataError: nothing can be compared, or something cannot be written.
        UsageError: a score is not known or not measured, or it is not clear on what to compare.
    """
    if checkpoint not in CHECKPOINTS:
        raise UsageError(f"--checkpoint {checkpoint}: expected {' or '.join(CHECKPOINTS)}")
    choice = choose(metrics)
    given = find_given(list(map(Path, inputs)), checkpoint)
    measured = {name for _, one in given.evaluations for file in one.files for name in file.scores}
    sorted_by, worded = quantities(sort_by, [n for n in SCORES if n in measured or (given.runs and n in choice.names)])
    groups, repeated = group_runs([*given.runs, *(one.run for _, one in given.evaluations if one.run)])
    kept = {run.name for runs in groups for run in runs}
    runs = [run for run in given.runs if run.name in kept]
    sources, what = _recordings(data, runs)
    out = Path(out)
    claim(out, title, force=force)

    plan = Plan(choice, jobs=jobs, progress=progress)
    evaluator = Evaluator(out / "evaluations", sources, choice, plan, pick_device(device), force)
    if runs and choice.said:
        evaluator.say(f"{choice.said}.")
    for one in (*given.skipped, *repeated):
        evaluator.skip(*one)
    if data and (count := len(trained_on(given.runs, sources))):
        evaluator.say(
            f"warning: {count} of the {len(sources)} recordings were trained on by a run, and say little of others; "
            "give with --data such as lie outside its data.root."
        )
    evaluator.placed |= {
        one.run.name if one.run else one.codec: Placed(path, one)
        for path, one in given.evaluations
        if not one.run or one.run.name in kept
    }
    evaluator.add_runs(runs)
    placed = {name: one.evaluation for name, one in evaluator.placed.items()}
    there = [[placed[run.name] for run in group if run.name in placed] for group in groups]
    methods = name_methods([group for group in there if group])
    if not methods:
        if evaluator.skipped:
            raise DataError(f"{evaluator.skipped[0].name}: no run can be compared; see what is said of each")
        raise DataError(f'{inputs[0]}: is of no method; say by "run" in the file what it is (docs/evaluation.md)')
    if baselines and sources:
        evaluator.add_baselines(methods)
    beside = tuple(one.evaluation for one in evaluator.placed.values() if not one.evaluation.run)
    comparison = Comparison(tuple(methods), beside)
    if not comparison.paths:
        raise DataError(f"{what}: no recording was measured with everything; see what is said of each")
    failures = {one.path: one.reason for evaluation in placed.values() for one in evaluation.failures if evaluation.run}
    problems = [line for path, line in failures.items() if path not in comparison.paths]
    for line in problems:
        evaluator.say(f"error: {line}")

    folders = {run.name: Path(run.folder) for method in methods for run in map(run_of, method.runs) if run.folder}
    curves = {name: read_curves(folder) for name, folder in folders.items()}
    evaluator.lines += [line for method in methods for line in broken_off(method, curves)]
    shown, rate = evaluator.clips(comparison, clips, clip_seconds)
    figures, plots = render_all(plots_of(comparison, worded, curves))
    words = findings(comparison, worded)
    page = Page(
        title=title,
        summary=summary_of(comparison, what),
        columns=columns_of(comparison, sorted_by),
        rows=rows_of(comparison, sorted_by),
        sorted_by=sorted_by,
        findings=words,
        figures=figures,
        clips=shown,
        notes=notes_of(comparison, evaluator.skipped, evaluator.lines),
        commands=[command] if command else [],
        pairs=pairs_of(comparison),
        version=discrete_ae.__version__,
    )
    files = {
        **{name: as_csv(table(comparison)) for name, table in TABLES.items()},
        **{f"figures/{name}": content for name, content in plots.items()},
        **{f"clips/{name}": content for name, content in clip_files(shown, title, rate).items()},
        PAGE: render(page).encode(errors="replace"),
    }
    write_files(out, title, files)
    return Report(comparison, sorted_by, words, problems, out / PAGE)


def quantities(sort_by: str | None, chosen: Sequence[str]) -> tuple[str, str]:
    """Return what the table is sorted by, and the score that the words are on.

    By default the mel distance: unlike the scores of speech it is defined of every sound, unlike those of the waveform
    it says something of every codec, and it is what codecs are reported by.
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


def trained_on(runs: Sequence[Run], sources: Sequence[Source]) -> set[Path]:
    """Return the recordings that one of the runs was trained on.

    Raises:
        DataError: the recordings of a run are below the same folder, and can no longer be read.
    """
    found: set[Path] = set()
    places = {source.path: source.path.resolve() for source in sources}
    for data in {_split(run): run.config["data"] for run in runs}.values():
        root = Path(data["root"]).expanduser() if data.get("root") else recordings_root() / "train"
        below = {path for path, place in places.items() if place.is_relative_to(root.resolve())}
        if below and data.get("root") and not data.get("validation_root"):
            validated = {path.resolve() for path in validation_recordings(data)[1]}
            below = {path for path in below if places[path] not in validated}
        found |= below
    return found


def _recordings(data: Sequence[str | Path] | None, runs: Sequence[Run]) -> tuple[list[Source], str]:
    """The recordings to compare on, and what they are, in words: what is given, or what all runs were validated on."""
    if data:
        recordings = find_sources(data)
        if recordings.problems:
            raise recordings.problems[0]
        return recordings.sources, ", ".join(map(str, data))
    found: dict[str, tuple[Run, Path, list[Path]]] = {}
    for run in runs:
        if _split(run) not in found:
            try:
                found[_split(run)] = run, *validation_recordings(run.config["data"])
            except (DataError, UsageError) as error:
                raise type(error)(f"{error}; or give the recordings with --data (run {run.name})") from error
    if not found:
        return [], "the recordings that the evaluations have in common"
    (first, root, paths), *others = found.values()
    for other, _, different in others:
        if {path.resolve() for path in different} != {path.resolve() for path in paths}:
            raise UsageError(
                f"{first.name} and {other.name} were validated on different recordings; say with --data on what to "
                "compare"
            )
    is_own = root.resolve().is_relative_to(recordings_root().resolve())
    said = "the project's own validation recordings" if is_own else f"the runs' validation recordings, {root.name}"
    return named_sources({path: path.relative_to(root).as_posix() for path in paths}), said


def _split(run: Run) -> str:
    """What decides on which files train and which validate; the rest of it decides on crops and segments."""
    data: Mapping[str, Any] = run.config["data"]
    return repr([data.get(key) for key in _SPLIT])
