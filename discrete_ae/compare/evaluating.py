"""Evaluations of what is compared: read where they are there, made where they are not."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from discrete_ae.build import load
from discrete_ae.compare.methods import Method
from discrete_ae.compare.runs import Placed, evaluations_in
from discrete_ae.errors import DataError
from discrete_ae.evaluation.baselines import Program, evaluate_baseline, installed, through
from discrete_ae.evaluation.coded import reconstruct
from discrete_ae.evaluation.evaluate import Plan, evaluate_model, settings_of
from discrete_ae.evaluation.recordings import Source
from discrete_ae.evaluation.results import Excerpt, Run
from discrete_ae.evaluation.saving import Render, with_clips

log = logging.getLogger("discrete_ae")


@dataclass(frozen=True)
class Evaluator:
    """Evaluates runs and baselines on the same recordings, unless that was done before."""

    folder: Path
    """Where evaluations are kept."""
    sources: Sequence[Source]
    plan: Plan
    versions: Mapping[str, str]
    """Of the scores that are wanted, and of what computes them."""
    device: str
    anew: bool
    """Whether to evaluate again what was."""
    say: Callable[[str], None]
    """Tells the user a line."""

    def of_runs(self, runs: Sequence[Run]) -> Iterator[Placed]:
        """Yield the evaluations of runs; those that fail are said."""
        for run in runs:
            try:
                yield self._of_run(run)
            except DataError as error:
                self.say(f"Not compared: {run.name}: {str(error).removeprefix(f'{run.name}: ')}")

    def of_baselines(self, methods: Sequence[Method], others: Sequence[str]) -> Iterator[Placed]:
        """Yield evaluations of Opus and Codec 2 near the methods' rates, unless they are among the others.

        Those that are not installed, or fail on what all runs can do, are said.
        """
        runs = [evaluation for method in methods for evaluation in method.runs]
        highest = max(runs, key=lambda evaluation: evaluation.sample_rate)
        rate, channels = highest.sample_rate, int(highest.settings.get("channels") or 1)
        measured = set.intersection(*({file.path for file in one.files} for one in runs))
        programs, lines = installed([bps for method in methods if (bps := method.nominal_bitrate_bps)])
        for program in (program for program in programs if program.name not in others):
            try:
                placed = self._of_program(program, rate, channels)
                if lacking := [one.reason for one in placed.evaluation.failures if one.path in measured]:
                    raise DataError(f"could not do {lacking[0]}")
            except DataError as error:
                lines.append(f"{program.name} is left out: {str(error).removeprefix(f'{program.name}: ')}")
            else:
                yield placed
        for line in lines:
            self.say(f"{line.rstrip('.')}.")

    def with_clips(self, placed: Placed, excerpts: Sequence[Excerpt]) -> Placed:
        """Return an evaluation with what its codec makes of the excerpts, unless it has them or the codec is away."""
        path, evaluation, render = placed
        missing = {excerpt.place for excerpt in excerpts} - {clip.place for clip in evaluation.clips}
        if not missing or render is None:
            return placed
        path = self._path(placed.name, is_run=evaluation.run is not None)
        evaluation = with_clips(evaluation, path, excerpts, self.sources, render())
        evaluation.write_json(path)
        return Placed(path, evaluation)

    def _of_run(self, run: Run) -> Placed:
        model = load(Path(run.folder) / run.checkpoint, self.device)
        if not all(bool(parameter.isfinite().all()) for parameter in model.parameters()):
            raise DataError(f"{Path(run.checkpoint).name} holds NaN or infinite weights; its training diverged")

        def render() -> Render:  # the models need not be in memory together
            return partial(reconstruct, load(Path(run.folder) / run.checkpoint, self.device))

        path = self._path(run.name, is_run=True)
        wanted = {"model_hash": model.model_hash, **settings_of(model, self.plan)}
        found = self._found(path.parent, wanted) or self._found(Path(run.folder), wanted)
        if not found:
            found = Placed(path, evaluate_model(model, self.sources, run.name, self.plan, run=run))
            found.evaluation.write_json(path)
        return Placed(found.path, found.evaluation.model_copy(update={"run": run}), render)

    def _of_program(self, program: Program, sample_rate: int, channels: int) -> Placed:
        path = self._path(program.name, is_run=False)
        wanted = {"codec": program.name, "sample_rate": sample_rate, "channels": channels,
                  "segment_seconds": self.plan.segment_seconds}  # fmt: skip
        found = self._found(path.parent, wanted)
        if not found:
            found = Placed(path, evaluate_baseline(program, self.sources, sample_rate, channels, self.plan))
            found.evaluation.write_json(path)
        return found._replace(render=lambda: lambda audio: through(program, audio, sample_rate, channels).audio)

    def _path(self, name: str, *, is_run: bool) -> Path:
        return (self.folder if is_run else self.folder / "baselines") / f"{name}.json"

    def _found(self, folder: Path, wanted: Mapping[str, Any]) -> Placed | None:
        """Find an evaluation in a folder, of the same recordings and scores, that says of itself what is wanted."""
        if self.anew or not folder.is_dir():
            return None
        recordings = {source.name: source.sha256 for source in self.sources}
        try:
            there = list(evaluations_in(folder))
        except DataError as error:
            log.warning("%s; what is in this folder is evaluated again", error)
            return None
        for path, found in there:
            said = found.settings | {key: getattr(found, key) for key in ("codec", "sample_rate", "model_hash")}
            files = {one.path: one.sha256 for one in found.files} | {one.path: one.sha256 for one in found.failures}
            is_alike = wanted.items() <= said.items() and self.versions.items() <= found.versions.items()
            if is_alike and files == recordings:
                return Placed(path, found)
        return None


def at_fault(placed: Sequence[Placed]) -> dict[str, str]:
    """Return, by name, why evaluations of runs failed on recordings that another one measured.

    Nothing where all do: then nothing says which is at fault, and what all have is compared.
    """
    of_runs = [one for one in placed if one.evaluation.run]
    measured = {file.path for one in of_runs for file in one.evaluation.files}
    found = {}
    for one in of_runs:
        if lacking := [failure for failure in one.evaluation.failures if failure.path in measured]:
            of = f"{len(lacking)} of {len(measured)} recordings that others could"
            found[one.name] = f"could not do {of}; of the first: {lacking[0].reason}"
    return found if len(found) < len(of_runs) else {}
