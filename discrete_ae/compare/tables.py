"""Tables of a comparison, for the page, for the terminal, and as CSV files.

The scores in all tables can be computed from files.csv, whose rows are recordings. `comparison` defines the recordings
that count in the mean of a run. The mean and the sample standard deviation of a method are over its runs.
"""

import math
from collections.abc import Iterable
from dataclasses import replace

from discrete_ae.compare.comparison import PER_RECORDING, Comparison, Difference, Value, Verdict
from discrete_ae.compare.page import Cell, Row
from discrete_ae.compare.words import best_first, ranked
from discrete_ae.errors import counted
from discrete_ae.evaluation.results import Evaluation
from discrete_ae.evaluation.scores import PER_FILE, QUANTITIES, SCORES, Quantity

MINOR = ("nominal_bitrate_bps", "encode_rtf", "decode_rtf", "parameters", "macs_per_second")
"""Columns that are hidden at first, and have no spread over seeds."""
COLUMNS = (*SCORES, "entropy_coded_bitrate_bps", "usage", "perplexity", *MINOR)
BASELINE = "baseline"
Rows = list[list[str]]


def columns_of(comparison: Comparison, sorted_by: str) -> list[Quantity]:
    """Return the columns of the page's table: all quantities that have a value, including `sorted_by`."""
    found = []
    for name in dict.fromkeys((*COLUMNS, sorted_by)):
        if any(not math.isnan(comparison.value(label, name).mean) for label in comparison.by_label):
            quantity = QUANTITIES[name]
            found.append(replace(quantity, unit="kbps", digits=2) if quantity.unit == "bps" else quantity)
    return found


def rows_of(comparison: Comparison, sorted_by: str) -> list[Row]:
    """Return the rows of the page's table, the best first; rows without a value come last."""
    columns = columns_of(comparison, sorted_by)
    best = {column.name: _best(comparison, column) for column in columns}
    methods = {method.label: method for method in comparison.methods}
    sign = -1.0 if QUANTITIES[sorted_by].higher_is_better else 1.0
    means = {label: comparison.value(label, sorted_by).mean for label in comparison.by_label}
    found = []
    for label in sorted(means, key=lambda label: (math.isnan(means[label]), sign * means[label])):
        values = {column: comparison.value(label, column.name) for column in columns}
        cells = {of.name: _cell(value, of)._replace(is_best=label in best[of.name]) for of, value in values.items()}
        if method := methods.get(label):
            remark = "upper bound" if method.nominal_bitrate_bps is None else ""
            found.append(Row(label, cells, remark, counted(len(method.runs), "seed")))
        else:
            found.append(Row(label, cells, "other codec"))
    return found


def _best(comparison: Comparison, column: Quantity) -> set[str]:
    """Return the best method with codes by a score, and the methods that cannot be told apart from it."""
    if column.name not in PER_RECORDING or column.higher_is_better is None:
        return set()
    order = ranked(comparison, comparison.coded, column.name)
    if len(order) < 2:
        return set()
    with_best = comparison.with_best(order, column.name)
    return {order[0].label, *(one.first for one in with_best if one.verdict is Verdict.NOT_TOLD_APART)}


def _cell(value: Value, column: Quantity) -> Cell:
    if math.isnan(value.mean):
        return Cell(None, "–")
    if column.digits == 0 and column.unit == "":  # parameters and operations
        return Cell(value.mean, f"{float(f'{value.mean / 1e6:.3g}'):,g} M")
    scale = 1000 if column.unit == "kbps" else 1
    text = f"{value.mean / scale:.{column.digits}f}"
    if column.name not in MINOR and not math.isnan(value.spread):
        text += f" ± {value.spread / scale:.{column.digits}f}"
    return Cell(value.mean, text)


def pairs_of(comparison: Comparison, name: str) -> dict[str, list[tuple[str, ...]]]:
    """Return tables of differences, by title.

    The first table compares methods with the best method by a quantity. The others compare all pairs, by each score. A
    row has both methods, their difference, its interval and the verdict.
    """
    with_best = [one for known in best_first(comparison, name).values() for one in comparison.with_best(known, name)]
    found = {f"Compared with the best by {QUANTITIES[name].label}": _rows(with_best, QUANTITIES[name])}
    for quantity in PER_FILE:
        if quantity.higher_is_better is not None:
            found[f"All pairs by {quantity.label}"] = _rows(comparison.differences(quantity.name), quantity)
    return {title: rows for title, rows in found.items() if rows}


def _rows(differences: Iterable[Difference], quantity: Quantity) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for pair in differences:
        if pair.verdict is not Verdict.NOT_COMPARED:
            mean, low, high = map(quantity.shown, (pair.mean, pair.low, pair.high))
            interval = "–" if math.isnan(pair.low) else f"{low} to {high}"
            rows.append((pair.first, pair.second, f"{mean} {quantity.unit}".rstrip(), interval, str(pair.verdict)))
    return rows


def runs_table(comparison: Comparison) -> Rows:
    """Return one row per run or baseline, with means over recordings, and figures of all recordings together."""
    rows = [["run", "method", "quantizer", "seed", "path", "checkpoint", "model_hash", *QUANTITIES]]
    for label, runs in comparison.by_label.items():
        values = zip(*(comparison.of_runs(label, name) for name in QUANTITIES), strict=True)
        for evaluation, of_run in zip(runs, values, strict=True):
            run = evaluation.run
            place = [run.folder, run.checkpoint, evaluation.model_hash or ""] if run else ["", "", ""]
            rows.append([*_about(label, evaluation), *place, *map(_text, of_run)])
    return rows


def methods_table(comparison: Comparison) -> Rows:
    """Return one row per method or baseline, with means and sample standard deviations over its runs."""
    rows = [["method", "quantizer", "runs", "seeds", *(f"{name}{end}" for name in QUANTITIES for end in ("", "_std"))]]
    for label, runs in comparison.by_label.items():
        seeds = " ".join(str(one.run.seed) for one in runs if one.run)
        values = (value for name in QUANTITIES for value in comparison.value(label, name))
        rows.append([label, _about(label, runs[0])[2], str(len(runs)), seeds, *map(_text, values)])
    return rows


def files_table(comparison: Comparison) -> Rows:
    """Return one row per recording and run or baseline, for the recordings that all of them were measured on."""
    rows = [["run", "method", "quantizer", "seed", "path", "duration_s", *PER_RECORDING]]
    wanted = set(comparison.paths)
    for label, evaluation in comparison.everything():
        for file in evaluation.files:
            if file.path in wanted:
                numbers = (file.duration_s, *(file.scores.get(name) for name in PER_RECORDING))
                rows.append([*_about(label, evaluation), file.path, *map(_text, numbers)])
    return rows


def differences_table(comparison: Comparison) -> Rows:
    """Return one row per quantity and pair of methods: first minus second, with its 95 % interval and its basis."""
    head = ["quantity", "first", "second", "difference", "low", "high", "spread_over_seeds", "student_half_width"]
    rows = [[*head, "basis", "seeds_in_common", "seeds_agreeing", "recordings", "verdict"]]
    for found in (pair for name in PER_RECORDING for pair in comparison.differences(name)):
        numbers = (found.mean, found.low, found.high, found.spread, found.student)
        seeds = " ".join(map(str, found.seeds))
        rests_on = [str(found.basis), seeds, str(found.agreeing), str(found.files), str(found.verdict)]
        rows.append([found.quantity, found.first, found.second, *map(_text, numbers), *rests_on])
    return rows


def _about(label: str, evaluation: Evaluation) -> list[str]:
    """Return run, method, quantizer and seed."""
    run = evaluation.run
    return [run.name, label, run.quantizer, str(run.seed)] if run else ["", label, BASELINE, ""]


def _text(value: float | None) -> str:
    """Return a number with all digits; empty if the number is missing."""
    return "" if value is None or math.isnan(value) else repr(float(value))


TABLES = {
    "runs.csv": runs_table,
    "methods.csv": methods_table,
    "files.csv": files_table,
    "differences.csv": differences_table,
}
"""Functions that make the tables, by file name."""
