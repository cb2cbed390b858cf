"""Comparison of methods on the same recordings: means, their spread over seeds, and differences.

All means of a quantity are over the same recordings. Runs and baselines that lack the quantity everywhere are ignored;
a recording counts if all others have a value for it. The mean of a run is over recordings, and the mean of a method is
over its runs. The spread is the sample standard deviation over the runs.

Axes: S seeds, F files.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from discrete_ae.compare.methods import Method, models_of
from discrete_ae.errors import DataError
from discrete_ae.evaluation.results import Evaluation, FileScores
from discrete_ae.evaluation.scores import PER_FILE, QUANTITIES
from discrete_ae.statistics import half_width, paired_difference, unpaired_difference, welch_half_width

PER_RECORDING = tuple(quantity.name for quantity in PER_FILE)
FEWEST_FILES = 6
"""Smallest number of recordings on which methods are called different. Of two equal methods, one is better on all of 5
recordings in 2 / 2^5 = 6.25 % of cases, so 5 cannot decide at 5 %; on all of 6, in 3.1 %."""


class Value(NamedTuple):
    """A quantity of a method or a baseline."""

    mean: float
    """Mean; NaN if it is missing."""
    spread: float
    """Sample standard deviation over seeds; NaN with fewer than two."""


class Verdict(StrEnum):
    """The verdict on the first of two methods compared with the second."""

    BETTER = "better"
    WORSE = "worse"
    HIGHER = "higher"
    LOWER = "lower"
    NOT_TOLD_APART = "not told apart"
    NOT_COMPARED = "not compared"


class Basis(StrEnum):
    """The evidence for a difference."""

    PAIRED = "seeds in common"
    """Two or more common seeds. Runs of the same seed, which were trained on the same crops, are compared in pairs."""
    APART = "seeds of their own"
    """Two or more seeds of each method, with fewer than two common seeds."""
    CHECKPOINTS = "checkpoints"
    """Only one seed of at least one method. Training this method again may change the result."""


class Difference(NamedTuple):
    """Difference in one quantity: the first method minus the second."""

    first: str
    second: str
    quantity: str
    mean: float
    """Mean difference; NaN if nothing can be compared, and then `low`, `high`, `spread` and `student` are NaN too."""
    low: float
    """Lower end of the 95 % interval."""
    high: float
    basis: Basis
    seeds: tuple[int, ...]
    """Common seeds. Checkpoints are compared by their means over all seeds, as in the table."""
    counts: tuple[int, int]
    """Number of compared seeds of each method."""
    files: int
    agreeing: int
    """Number of common seeds whose difference has the same sign as the mean difference."""
    spread: float
    """Spread over seeds: the root of the mean of both variances. If only one method has several seeds, its spread; if
    none has, NaN."""
    student: float
    """Half the width of the 95 % interval over seeds: by Student's t for common seeds, by Welch's t for different
    seeds, NaN for checkpoints."""
    verdict: Verdict

    @property
    def over_seeds(self) -> bool:
        """True if the verdict accounts for the spread between trainings."""
        return self.basis is not Basis.CHECKPOINTS


@dataclass(frozen=True)
class Comparison:
    """All methods and baselines, with their scores and differences."""

    methods: tuple[Method, ...]
    baselines: tuple[Evaluation, ...] = ()
    """Evaluations of other codecs, labeled by the name of the codec."""
    reached: Mapping[str, int] = field(default_factory=dict)
    """Last validated step of each unfinished run, by name of the run."""

    @cached_property
    def paths(self) -> tuple[str, ...]:
        """Recordings that all methods and baselines were measured on, sorted.

        Raises:
            DataError: recordings with the same name differ.
        """
        files: dict[str, list[tuple[str, FileScores]]] = {}
        for label, evaluation in self.everything():
            for file in evaluation.files:
                files.setdefault(file.path, []).append((label, file))
        for path, found in files.items():
            (label, first), *others = found
            for other, file in others:
                known = first.sha256 and file.sha256
                if first.sha256 != file.sha256 if known else abs(first.duration_s - file.duration_s) > 1e-3:
                    raise DataError(
                        f"{path}: {label} and {other} were evaluated on different recordings of this name; evaluate "
                        "both on the same folder"
                    )
        return tuple(sorted(path for path, found in files.items() if len(found) == len(list(self.everything()))))

    @property
    def left_out(self) -> tuple[str, ...]:
        """Recordings that only some methods or baselines were measured on, sorted."""
        every = {file.path for _, evaluation in self.everything() for file in evaluation.files}
        return tuple(sorted(every - set(self.paths)))

    @cached_property
    def by_label(self) -> dict[str, tuple[Evaluation, ...]]:
        """Evaluations by label of the method or baseline; those of a method are sorted by seed."""
        return {one.label: one.runs for one in self.methods} | {one.codec: (one,) for one in self.baselines}

    def everything(self) -> Iterator[tuple[str, Evaluation]]:
        """Yield the label and the evaluation of every run and every baseline."""
        return ((label, one) for label, runs in self.by_label.items() for one in runs)

    @cached_property
    def models(self) -> dict[str, list[Method]]:
        """Methods grouped by model, as `models_of` returns them."""
        return models_of(self.methods)

    @property
    def several_rates(self) -> dict[str, list[Method]]:
        """Models with several rates, from `models`."""
        return {label: group for label, group in self.models.items() if len(group) > 1}

    @cached_property
    def trained(self) -> "Comparison":
        """A comparison with only one method per trained model: the highest rate, labeled by the model."""
        return Comparison(
            tuple(replace(group[-1], label=label) for label, group in self.models.items()), self.baselines, self.reached
        )

    def steps(self, *methods: Method) -> list[int]:
        """Return the different numbers of training steps that runs of the methods reached, as far as known, sorted."""
        return sorted({self.reached.get(run.name, one.steps) for one in methods for run in one.trainings} - {0})

    @property
    def coded(self) -> list[Method]:
        """Methods that quantize."""
        return [method for method in self.methods if method.nominal_bitrate_bps is not None]

    @cached_property
    def _tables(self) -> dict[str, dict[str, NDArray[np.float64]]]:
        """Scores (S, F) by quantity of PER_FILE and label, over the recordings counted in each quantity."""
        runs = [(label, {file.path: file.scores for file in one.files}) for label, one in self.everything()]
        tables = {}
        for name in PER_RECORDING:
            every = np.array([[scores[path].get(name) for path in self.paths] for _, scores in runs], np.float64)
            unknown = np.isnan(every)
            counted = ~unknown[~unknown.all(1)].any(0)
            tables[name] = {label: every[[of == label for of, _ in runs]][:, counted] for label in self.by_label}
        return tables

    def scores(self, label: str, name: str) -> NDArray[np.float64]:
        """Return scores (S, F) of a method or baseline over the recordings counted in a quantity; NaN if missing."""
        return self._tables[name][label]

    def of_runs(self, label: str, name: str) -> NDArray[np.float64]:
        """Return a quantity of each run of a method (S,), or of a baseline (1,); NaN if missing."""
        if name in PER_RECORDING:
            scores = self.scores(label, name)
            return scores.mean(1) if scores.shape[1] else np.full(len(scores), math.nan)
        return np.array([evaluation.overall.get(name) for evaluation in self.by_label[label]], np.float64)

    def value(self, label: str, name: str) -> Value:
        """Return mean and spread of a quantity of a method or baseline."""
        runs = self.of_runs(label, name)
        return Value(float(runs.mean()), float(runs.std(ddof=1)) if len(runs) > 1 else math.nan)

    @cached_property
    def _differences(self) -> dict[tuple[str, str, str], Difference]:
        """Cache of differences by labels and quantity, because each difference takes thousands of resamples."""
        return {}

    def shown(self, label: str, name: str) -> str:
        """Return the mean of a quantity with the digits of the tables."""
        return QUANTITIES[name].shown(self.value(label, name).mean)

    def difference(self, first: Method, second: Method, name: str) -> Difference:
        """Compare two methods in a quantity of PER_FILE.

        A difference counts if it is over `FEWEST_FILES` or more recordings, its 95 % interval over recordings and seeds
        excludes 0, and it exceeds the known spread. With several seeds of both methods, the interval over seeds by
        Student's or Welch's t must also exclude 0. Methods are never called different if their means are equal, or
        their difference is 0, in the digits of the tables. The bootstrap alone is not enough, because with three seeds
        its intervals are far too narrow: it calls more than 15 % of pairs of equal methods different. All conditions
        together call at most 6 % different (`test_equal_methods_are_rarely_told_apart`).
        """
        key = first.label, second.label, name
        if key not in self._differences:
            self._differences[key] = self._compare(first, second, name)
        return self._differences[key]

    def differences(self, name: str) -> list[Difference]:
        """Compare all pairs of methods in a quantity of PER_FILE, except pairs of rates of the same model."""
        model = {method.label: label for label, group in self.models.items() for method in group}
        pairs = itertools.combinations(self.methods, 2)
        return [self.difference(one, other, name) for one, other in pairs if model[one.label] != model[other.label]]

    def with_best(self, best_first: Sequence[Method], name: str) -> list[Difference]:
        """Compare each method but the first, which is the best, with the best."""
        return [self.difference(other, best_first[0], name) for other in best_first[1:]]

    def _compare(self, first: Method, second: Method, name: str) -> Difference:
        common = tuple(seed for seed in first.seeds if seed in second.seeds)
        if len(common) > 1:
            basis = Basis.PAIRED
        else:
            basis = Basis.APART if min(len(first.seeds), len(second.seeds)) > 1 else Basis.CHECKPOINTS
        one, other = (self._of_seeds(method, name, common, basis) for method in (first, second))
        counts = (len(first.seeds), len(second.seeds)) if basis is Basis.CHECKPOINTS else (len(one), len(other))
        labels = first.label, second.label, name
        if not one.size or np.isnan(one).any() or np.isnan(other).any():
            nan = math.nan
            return Difference(*labels, nan, nan, nan, basis, common, counts, 0, 0, nan, nan, Verdict.NOT_COMPARED)
        interval = (unpaired_difference if basis is Basis.APART else paired_difference)(one, other)
        runs, other_runs = one.mean(1), other.mean(1)
        agreeing, student = 0, math.nan
        if basis is Basis.PAIRED:
            agreeing = int((np.sign(runs - other_runs) == np.sign(interval.mean)).sum())
            student = half_width(runs - other_runs)
        elif basis is Basis.APART:
            student = welch_half_width(runs, other_runs)
        if basis is Basis.CHECKPOINTS:
            spreads = [self.value(method.label, name).spread for method in (first, second) if len(method.seeds) > 1]
        else:
            spreads = [float(of_one.std(ddof=1)) for of_one in (runs, other_runs)]
        spread = float(np.sqrt(np.square(spreads).mean())) if spreads else math.nan
        quantity = QUANTITIES[name]
        told = (
            one.shape[1] >= FEWEST_FILES
            and self.shown(first.label, name) != self.shown(second.label, name)
            and quantity.shown(abs(interval.mean)) != quantity.shown(0.0)
            and (interval.low > 0 or interval.high < 0)
            and not abs(interval.mean) <= spread  # an unknown spread (NaN) is ignored
            and not abs(interval.mean) <= student
        )
        verdict = _verdict(interval.mean, quantity.higher_is_better) if told else Verdict.NOT_TOLD_APART
        return Difference(*labels, *interval, basis, common, counts, one.shape[1], agreeing, spread, student, verdict)

    def _of_seeds(self, method: Method, name: str, common: Sequence[int], basis: Basis) -> NDArray[np.float64]:
        scores = self.scores(method.label, name)
        if basis is Basis.PAIRED:
            return scores[[method.seeds.index(seed) for seed in common]]
        return scores if basis is Basis.APART else scores.mean(0, keepdims=True)


def _verdict(difference: float, higher_is_better: bool | None) -> Verdict:
    if higher_is_better is None:
        return Verdict.HIGHER if difference > 0 else Verdict.LOWER
    return Verdict.BETTER if (difference > 0) == higher_is_better else Verdict.WORSE
