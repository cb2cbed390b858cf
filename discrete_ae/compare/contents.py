"""A comparison as the content of a page: columns, rows, and what a reader should know before believing them."""

import math
from collections.abc import Sequence

from discrete_ae.compare.comparison import Comparison, Value, Verdict
from discrete_ae.compare.curves import Curves
from discrete_ae.compare.findings import listed, ranked
from discrete_ae.compare.methods import Method, flatten, kbps, run_of
from discrete_ae.compare.page.content import Cell, Column, PairRow, Row
from discrete_ae.compare.runs import Skipped
from discrete_ae.evaluation.scores import PER_FILE, QUANTITIES, SCORES, Quantity
from discrete_ae.statistics import RESAMPLES

COLUMNS = (
    *SCORES, "entropy_coded_bitrate_bps", "usage", "perplexity", "nominal_bitrate_bps", "encode_rtf", "decode_rtf",
    "parameters", "macs_per_second",
)  # fmt: skip
_MINOR = {"nominal_bitrate_bps", "encode_rtf", "decode_rtf", "parameters", "macs_per_second"}
_SPREAD = {"usage", "perplexity", "entropy_coded_bitrate_bps", *(quantity.name for quantity in PER_FILE)}
_SCALES = {"bps": (1000, "kbps", 2)}
_LARGE = 10_000
_FEW_FILES, _FEW_STEPS = 10, 5000
# What must be the same for a comparison of quantizers to be one: its name, and what None stands for.
_CONDITIONS = {
    "trainer.max_steps": ("numbers of training steps", "none"),
    "data.root": ("training recordings", "the project's own"),
    "data.validation_root": ("validation recordings, by which checkpoints are chosen,", "a part of the training's"),
    "data.batch_size": ("batch sizes", "none"),
    "data.crop_seconds": ("lengths of the training crops", "none"),
    "data.loudness_lufs": ("levels of the training recordings", "as they are"),
    "model.sample_rate": ("sample rates, at which each is compared with the recording,", "none"),
    "init_from": ("initial weights", "drawn anew"),
}


def columns_of(comparison: Comparison, sorted_by: str) -> list[Column]:
    """Of the table: those in which anything has a value, and that by which it is sorted."""
    labels = _labels(comparison)
    found = []
    for name in dict.fromkeys((*COLUMNS, sorted_by)):
        if any(not math.isnan(comparison.value(label, name).mean) for label in labels):
            quantity = QUANTITIES[name]
            unit = _SCALES[quantity.unit][1] if quantity.unit in _SCALES else quantity.unit
            minor = name in _MINOR
            found.append(Column(name, quantity.label, unit, quantity.higher_is_better, quantity.meaning, minor))
    return found


def rows_of(comparison: Comparison, sorted_by: str) -> list[Row]:
    """Of the table, best first, those without a value last."""
    without_codes = {method.label for method in comparison.methods if method.nominal_bitrate_bps is None}
    notes = {method.label: _seeds(method) for method in comparison.methods}
    sign = -1.0 if QUANTITIES[sorted_by].higher_is_better else 1.0

    def place(label: str) -> tuple[bool, float]:
        mean = comparison.value(label, sorted_by).mean
        return math.isnan(mean), 0.0 if math.isnan(mean) else sign * mean

    keys = [column.key for column in columns_of(comparison, sorted_by)]
    leading = {key: _leading(comparison, key) for key in keys}

    def cell(label: str, key: str) -> Cell:
        found, among = _cell(comparison.value(label, key), QUANTITIES[key]), leading[key]
        return found if among is None else found._replace(is_best=label in among)

    return [
        Row(
            label,
            {key: cell(label, key) for key in keys},
            is_baseline=label not in notes,
            note=notes.get(label, ""),
            is_bound=label in without_codes,
        )
        for label in sorted(_labels(comparison), key=place)
    ]


def pairs_of(comparison: Comparison) -> list[PairRow]:
    """Every pair of methods in every score that has a better and a worse, by score."""
    found = []
    for quantity in PER_FILE:
        for difference in comparison.differences(quantity.name) if quantity.higher_is_better is not None else ():
            if difference.verdict == Verdict.NOT_COMPARED:
                continue
            mean, low, high = (f"{value:.{quantity.digits}f}" for value in difference[3:6])
            found.append(
                PairRow(
                    difference.first,
                    difference.second,
                    quantity.label,
                    f"{mean} {quantity.unit}".rstrip(),
                    "–" if math.isnan(difference.low) else f"{low} to {high}",
                    difference.verdict,
                )
            )
    return found


def summary_of(comparison: Comparison, data: str) -> list[str]:
    """What was compared, on what, how long it was trained, by how many seeds.

    Args:
        comparison: of the methods.
        data: what the recordings are, in words, or their folder.
    """
    methods, runs = comparison.methods, sum(len(method.runs) for method in comparison.methods)
    files = {file.path: file for _, evaluation in comparison.everything() for file in evaluation.files}
    seconds = sum(files[path].duration_s for path in comparison.paths)
    seeds = sorted({len(method.runs) for method in methods})
    steps = sorted({_steps(method) for method in methods})
    rates = dict.fromkeys(kbps(rate) for rate in sorted(filter(None, (m.nominal_bitrate_bps for m in methods))))
    each = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    about = [
        f"{_count(len(methods), 'method')} in {_count(runs, 'run')}, by {_count(each, 'seed')} each,",
        f"trained for {listed([str(count) for count in steps if count])} steps" if any(steps) else "trained",
        f"at a nominal {listed(list(rates))} kbps;" if rates else ";",
        f"compared on {_count(len(comparison.paths), 'recording')} ({seconds:.0f} s) of {data}, through hard codes.",
    ]
    taken = {m.label: comparison.value(m.label, "entropy_coded_bitrate_bps").mean for m in methods}
    known = {label: rate for label, rate in taken.items() if not math.isnan(rate)}
    least, most = min(known, key=known.__getitem__, default=""), max(known, key=known.__getitem__, default="")
    if least != most:
        about.append(f"Entropy-coded, they take {kbps(known[least])} ({least}) to {kbps(known[most])} kbps ({most}).")
    baselines = [baseline.codec for baseline in comparison.baselines]
    beside = f"Beside them: {listed(baselines)}." if baselines else ""
    return [" ".join(about).replace(" ;", ";"), *filter(None, [beside])]


def notes_of(comparison: Comparison, skipped: Sequence[Skipped], lines: Sequence[str] = ()) -> list[str]:
    """What the figures show and do not show, what was skipped, and what else was said while they were computed."""
    notes = [
        "Figures are mean ± sample standard deviation over seeds, of means over recordings in which each counts alike. "
        "Reconstructions come from the integer codes, at the model's sample rate.",
        *_on_conditions(comparison),
        *_on_seeds(comparison),
        f"Intervals are 2.5 and 97.5 percentiles of {RESAMPLES} means over seeds and recordings drawn with "
        "replacement, the same recordings for both methods, and the same seeds where both have them. Of few seeds or "
        "few recordings such intervals are narrower than they should be; with several seeds, Student's t over seeds "
        "has to agree, or Welch's where the methods have fewer than two seeds in common.",
    ]
    if len(comparison.paths) < _FEW_FILES:
        notes.append(f"{_count(len(comparison.paths), 'recording')}: what holds for these may not hold for others.")
    if 0 < max(map(_steps, comparison.methods)) < _FEW_STEPS:
        notes.append(
            "The runs are short: which method is ahead early in training need not be the one that is ahead at its end."
        )
    if comparison.baselines:
        notes.append(
            "Baselines were made for other bitrates, for speech, or for hearing rather than for these distances."
        )
    if vocoders := [baseline.codec for baseline in comparison.baselines if not baseline.keeps_waveform]:
        notes.append(f"SI-SDR says nothing of {listed(vocoders)}: the waveform of a vocoder is not the original's.")
    if comparison.left_out:
        notes.append(f"Left out, since not all could be measured on them: {listed(comparison.left_out)}.")
    notes += [f"Not compared: {one.name}: {one.reason.rstrip('.')}." for one in skipped]
    devices = {str(device) for _, one in comparison.everything() if (device := one.settings.get("rtf_device"))}
    if len({device for device in devices if "a program" not in device}) > 1:
        notes.append(f"Real-time factors are not of one machine: {listed(sorted(devices))}.")
    return [*notes, *lines]


def broken_off(method: Method, curves: Curves) -> list[str]:
    """Lines on the runs of a method whose last validation was before their last step."""
    lines = []
    for run in map(run_of, method.runs):
        validations = curves.get(run.name, {}).get("val/reconstruction")
        steps = _steps(method)
        if validations is not None and len(validations.steps) and 0 < validations.steps[-1] < steps:
            lines.append(f"{run.name} was last validated at step {validations.steps[-1]} of {steps}.")
    return lines


def _on_conditions(comparison: Comparison) -> list[str]:
    flats = {method.label: flatten(method.config) for method in comparison.methods}
    found = []
    for key, (names, absent) in _CONDITIONS.items():
        values: dict[str, list[str]] = {}
        for label, flat in flats.items():
            value = flat.get(key)
            values.setdefault(absent if value is None else str(value), []).append(label)
        if len(values) > 1:
            parts = [f"{value} of {listed(labels)}" for value, labels in values.items()]
            found.append(f"The {names} differ, so that differences need not be the quantizer's: {'; '.join(parts)}.")
    models = {
        label: str(sorted((k, str(v)) for k, v in flat.items() if _is_network(k))) for label, flat in flats.items()
    }
    if len(set(models.values())) > 1:
        found.append("The networks around the quantizers differ, so that differences need not be the quantizer's.")
    return found


def _on_seeds(comparison: Comparison) -> list[str]:
    alone = [method.label for method in comparison.methods if len(method.runs) == 1]
    if len(alone) == len(comparison.methods):
        return ["One seed each: what another training of the same method would give is not known, nor its spread."]
    return [f"One seed only, hence no spread: {listed(alone)}."] if alone else []


def _leading(comparison: Comparison, name: str) -> set[str] | None:
    """The best method in a score and those that cannot be told apart from it; None for what is no score."""
    quantity = QUANTITIES[name]
    if quantity not in PER_FILE or quantity.higher_is_better is None:
        return None
    coded = [method for method in comparison.methods if method.nominal_bitrate_bps is not None]
    order = ranked(comparison, coded, name)
    alike = [
        other for other in order[1:] if comparison.difference(other, order[0], name).verdict == Verdict.NOT_TOLD_APART
    ]
    return {method.label for method in [*order[:1], *alike]}


def _is_network(key: str) -> bool:
    return key.startswith(("model.encoder.", "model.decoder."))


def _labels(comparison: Comparison) -> list[str]:
    return list(dict.fromkeys(label for label, _ in comparison.everything()))


def _cell(value: Value, quantity: Quantity) -> Cell:
    if math.isnan(value.mean):
        return Cell(None, "–")
    scale, _, digits = _SCALES.get(quantity.unit, (1, "", quantity.digits))
    if value.mean >= _LARGE and quantity.unit == "":
        return Cell(value.mean, f"{value.mean / 1e6:.1f} M")
    text = f"{value.mean / scale:.{digits}f}"
    if quantity.name in _SPREAD and not math.isnan(value.spread):
        text += f" ± {value.spread / scale:.{digits}f}"
    return Cell(value.mean, text)


def _seeds(method: Method) -> str:
    return _count(len(method.runs), "seed")


def _steps(method: Method) -> int:
    steps = flatten(method.config).get("trainer.max_steps")
    return steps if isinstance(steps, int) else 0


def _count(number: int | str, noun: str) -> str:
    return f"{number} {noun}" if str(number) == "1" else f"{number} {noun}s"
