"""Evaluations and clips of what is compared: read where they are there, made where they are not."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from discrete_ae.build import load
from discrete_ae.compare.clips import Heard, make_clips
from discrete_ae.compare.comparison import Comparison
from discrete_ae.compare.methods import Method, kbps, run_of
from discrete_ae.compare.page.content import Clip
from discrete_ae.compare.runs import Skipped, evaluations_in
from discrete_ae.errors import DataError
from discrete_ae.evaluation.baselines import Program, evaluate_baseline, installed, through
from discrete_ae.evaluation.coded import reconstruct
from discrete_ae.evaluation.evaluate import Plan, evaluate_model, settings_of
from discrete_ae.evaluation.recordings import Source, choose_excerpts
from discrete_ae.evaluation.results import Evaluation, Excerpt, Run
from discrete_ae.evaluation.saving import Render, with_clips
from discrete_ae.evaluation.scores import Choice

log = logging.getLogger("discrete_ae")


class Placed(NamedTuple):
    """An evaluation, and the file that it is in."""

    path: Path
    evaluation: Evaluation
    render: Callable[[], Render] | None = None
    """Gives the codec, where it is at hand."""


@dataclass
class Evaluator:
    """Evaluates runs and baselines unless that was done before; keeps what a user is told meanwhile."""

    folder: Path
    """Where evaluations are kept."""
    sources: Sequence[Source]
    choice: Choice
    plan: Plan
    device: str
    anew: bool
    """Whether to evaluate again what was."""
    skipped: list[Skipped] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    placed: dict[str, Placed] = field(default_factory=dict)
    """By name of a run, or of another codec."""

    def say(self, line: str) -> None:
        """Tell the user at once, and on the page."""
        log.warning("%s", line)
        self.lines.append(line.removeprefix("error: ").removeprefix("warning: "))

    def skip(self, name: str, reason: str) -> None:
        """Say that a run is not compared."""
        self.skipped.append(Skipped(name, reason))
        log.warning("%s", self.skipped[-1])

    def add_runs(self, runs: Sequence[Run]) -> None:
        """Evaluate runs; one that fails is skipped, be it on a recording that others can do."""
        for run in runs:
            try:
                self.placed[run.name] = self._of_run(run)
            except DataError as error:
                self.skip(run.name, str(error).removeprefix(f"{run.name}: "))
        of_runs = {name: one.evaluation for name, one in self.placed.items() if one.evaluation.run}
        for name, reason in at_fault(of_runs).items():
            self.skip(name, reason)
            del self.placed[name]

    def add_baselines(self, methods: Sequence[Method]) -> None:
        """Evaluate Opus and Codec 2 near the methods' rates; those that fail on what the runs can do are left out."""
        runs = [evaluation for method in methods for evaluation in method.runs]
        highest = max(runs, key=lambda evaluation: evaluation.sample_rate)
        rate, channels = highest.sample_rate, int(highest.settings.get("channels") or 1)
        measured = set.intersection(*({file.path for file in one.files} for one in runs))
        programs, absent = installed([bps for method in methods if (bps := method.nominal_bitrate_bps)])
        for program in (program for program in programs if program.name not in self.placed):
            try:
                placed = self._of_program(program, rate, channels)
            except DataError as error:
                absent.append(f"{program.name} is left out: {str(error).removeprefix(f'{program.name}: ')}")
                continue
            lacking = [one.reason for one in placed.evaluation.failures if one.path in measured]
            if lacking:
                absent.append(f"{program.name} is left out: could not do {lacking[0]}")
            else:
                self.placed[program.name] = placed
        for line in absent:
            self.say(f"{line.rstrip('.')}.")

    def clips(self, comparison: Comparison, count: int, seconds: float) -> tuple[list[Clip], int]:
        """Return clips of every method, by the first seed that all have, and of the baselines; and their rate in Hz.

        What lacks them is rendered where its codec is at hand, and is not heard otherwise.
        """
        rate = next(comparison.everything())[1].sample_rate
        if not count:
            return [], rate
        measured = [source for source in self.sources if source.name in comparison.paths]
        excerpts = choose_excerpts(measured, count, seconds)
        seeds = set.intersection(*(set(method.seeds) for method in comparison.methods))
        heard = []
        for method in comparison.methods:
            run = next((one for one in method.runs if run_of(one).seed == min(seeds, default=None)), method.runs[0])
            note = f"{kbps(method.nominal_bitrate_bps)} kbps" if method.nominal_bitrate_bps else ""
            heard.append(Heard(method.label, note, *self._with_clips(run_of(run).name, excerpts)))
        heard += [Heard(one.codec, "", *self._with_clips(one.codec, excerpts)) for one in comparison.baselines]
        silent = [one.label for one in heard if not one.evaluation.clips]
        heard = [one for one in heard if one.evaluation.clips]
        rates = {one.evaluation.sample_rate for one in heard}
        rate = max(rates, default=rate)
        if silent and heard:
            self.say(f"Not to be heard, since there are no clips of it: {', '.join(silent)}.")
        if len(rates) > 1:
            self.lines.append(f"Sample rates differ; all clips are at the highest, {rate} Hz.")
        found = make_clips(heard, rate)[:count]
        if heard and not found:
            self.say("Nothing is to be heard: the clips are of different stretches of the recordings.")
        return found, rate

    def _of_run(self, run: Run) -> Placed:
        model = load(Path(run.folder) / run.checkpoint, self.device)
        if not all(bool(parameter.isfinite().all()) for parameter in model.parameters()):
            raise DataError(f"{Path(run.checkpoint).name} holds NaN or infinite weights; its training diverged")

        def render() -> Render:  # the models need not be in memory together
            return partial(reconstruct, load(Path(run.folder) / run.checkpoint, self.device))

        path = self.folder / f"{run.name}.json"
        wanted = {"model_hash": model.model_hash, **settings_of(model, self.plan)}
        if found := self._found(path.parent, wanted) or self._found(Path(run.folder), wanted):
            return Placed(found.path, found.evaluation.model_copy(update={"run": run}), render)
        evaluation = evaluate_model(model, self.sources, run.name, self.plan, run=run)
        evaluation.write_json(path)
        return Placed(path, evaluation, render)

    def _of_program(self, program: Program, sample_rate: int, channels: int) -> Placed:
        def render() -> Render:
            return lambda audio: through(program, audio, sample_rate, channels).audio

        path = self.folder / "baselines" / f"{program.name}.json"
        wanted = {"codec": program.name, "sample_rate": sample_rate, "channels": channels,
                  "segment_seconds": self.plan.segment_seconds}  # fmt: skip
        if found := self._found(path.parent, wanted):
            return found._replace(render=render)
        evaluation = evaluate_baseline(program, self.sources, sample_rate, channels, self.plan)
        evaluation.write_json(path)
        return Placed(path, evaluation, render)

    def _found(self, folder: Path, wanted: Mapping[str, Any]) -> Placed | None:
        """An evaluation in a folder, of the same recordings and scores, that says of itself what is wanted."""
        if self.anew or not folder.is_dir():
            return None
        recordings = {source.name: source.sha256 for source in self.sources}
        versions = self.choice.versions()
        try:
            there = list(evaluations_in(folder))
        except DataError as error:
            log.warning("%s; what is in this folder is evaluated again", error)
            there = []
        for path, found in there:
            said = {**found.settings, **{key: getattr(found, key) for key in ("codec", "sample_rate", "model_hash")}}
            files = {file.path: file.sha256 for file in found.files} | {one.path: one.sha256 for one in found.failures}
            if files == recordings and wanted.items() <= said.items() and versions.items() <= found.versions.items():
                return Placed(path, found)
        return None

    def _with_clips(self, name: str, excerpts: Sequence[Excerpt]) -> tuple[Evaluation, Path]:
        """An evaluation with clips, and the folder where their paths begin."""
        path, evaluation, render = self.placed[name]
        missing = {excerpt.place for excerpt in excerpts} - {clip.place for clip in evaluation.clips}
        if missing and render is not None:
            path = self.folder / f"{name}.json" if evaluation.run else self.folder / "baselines" / f"{name}.json"
            evaluation = with_clips(evaluation, path, excerpts, self.sources, render())
            evaluation.write_json(path)
        return evaluation, path.parent


def at_fault(evaluations: Mapping[str, Evaluation]) -> dict[str, str]:
    """Return, by name, why evaluations failed on recordings that another one measured.

    Nothing where all do: then nothing says which is at fault, and what all have is compared.
    """
    measured = {file.path for evaluation in evaluations.values() for file in evaluation.files}
    found = {}
    for name, evaluation in evaluations.items():
        if lacking := [failure for failure in evaluation.failures if failure.path in measured]:
            of = f"{len(lacking)} of {len(measured)} recordings that others could"
            found[name] = f"could not do {of}; of the first: {lacking[0].reason}"
    return found if len(found) < len(evaluations) else {}
