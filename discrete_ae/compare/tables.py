"""A comparison as CSV: rows for runs, methods, recordings and differences.

files.csv is enough to compute the rest again: a mean of a run is over the recordings on which no run or baseline lacks
the quantity, unless it lacks it on all; the mean and the sample standard deviation of a method are over those of its
runs.
"""

import csv
import io
import math
from collections import Counter
from collections.abc import Iterable, Sequence

from discrete_ae.compare.comparison import NAMES, Comparison
from discrete_ae.evaluation.scores import OVERALL, PER_FILE, QUANTITIES

BASELINE = "baseline"
Rows = list[list[str]]


def runs_table(comparison: Comparison) -> Rows:
    """One row a run or baseline: means over recordings, and what is of all recordings together."""
    rows = [["run", "method", "quantizer", "seed", "path", "checkpoint", "model_hash", *QUANTITIES]]
    seen: Counter[str] = Counter()
    for label, evaluation in comparison.everything():
        run = evaluation.run
        about = [run.name, label, run.quantizer, str(run.seed)] if run else ["", label, BASELINE, ""]
        about += [run.folder, run.checkpoint, evaluation.model_hash or ""] if run else ["", "", ""]
        means = (_mean(comparison.scores(label, name)[seen[label]]) for name in NAMES)
        overall = (evaluation.overall.get(quantity.name) for quantity in OVERALL)
        rows.append([*about, *map(_text, (*means, *overall))])
        seen[label] += 1
    return rows


def methods_table(comparison: Comparison) -> Rows:
    """One row a method or baseline: mean over its runs, and their sample standard deviation."""
    columns = [column for name in QUANTITIES for column in (name, f"{name}_std")]
    rows = [["method", "quantizer", "runs", "seeds", *columns]]
    for label, quantizer, seeds in (
        *((method.label, method.quantizer, method.seeds) for method in comparison.methods),
        *((baseline.codec, BASELINE, ()) for baseline in comparison.baselines),
    ):
        values = (value for name in QUANTITIES for value in comparison.value(label, name))
        count = str(len(comparison.of_label(label)))
        rows.append([label, quantizer, count, " ".join(map(str, seeds)), *map(_text, values)])
    return rows


def files_table(comparison: Comparison) -> Rows:
    """One row for each recording of each run and baseline, of the recordings on which everything was measured."""
    rows = [["run", "method", "quantizer", "seed", "path", "duration_s", *NAMES]]
    wanted = set(comparison.paths)
    for label, evaluation in comparison.everything():
        run = evaluation.run
        about = [run.name, label, run.quantizer, str(run.seed)] if run else ["", label, BASELINE, ""]
        for file in evaluation.files:
            if file.path in wanted:
                scores = (file.scores.get(name) for name in NAMES)
                rows.append([*about, file.path, _text(file.duration_s), *map(_text, scores)])
    return rows


def differences_table(comparison: Comparison) -> Rows:
    """One row a pair of methods and quantity: first less second, its 95 % interval, and what it rests on."""
    head = ["quantity", "first", "second", "difference", "low", "high", "spread_over_seeds", "student_half_width"]
    rows = [[*head, "basis", "seeds_in_common", "seeds_agreeing", "recordings", "verdict"]]
    for quantity in PER_FILE:
        for found in comparison.differences(quantity.name):
            about = [quantity.name, found.first, found.second]
            numbers = (found.mean, found.low, found.high, found.spread, found.student)
            seeds = " ".join(map(str, found.seeds))
            rests_on = [str(found.basis), seeds, str(found.agreeing), str(found.files), str(found.verdict)]
            rows.append([*about, *map(_text, numbers), *rests_on])
    return rows


def as_csv(rows: Iterable[Sequence[str]]) -> bytes:
    """Return rows as a file."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _mean(scores: Iterable[float]) -> float:
    found = list(scores)
    return sum(found) / len(found) if found else math.nan


def _text(value: float | None) -> str:
    """Exactly, or empty where there is no value."""
    return "" if value is None or math.isnan(value) else repr(float(value))


TABLES = {
    "runs.csv": runs_table,
    "methods.csv": methods_table,
    "files.csv": files_table,
    "differences.csv": differences_table,
}
"""By name of the file."""
