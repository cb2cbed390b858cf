"""Sentences of a report: what was compared, the findings, how differences are judged, and the limits of the result."""

import math
from collections.abc import Mapping, Sequence

from discrete_ae.compare.comparison import FEWEST_FILES, Basis, Comparison, Difference, Verdict
from discrete_ae.compare.methods import Method, flatten, kbps
from discrete_ae.compare.places import with_short_paths
from discrete_ae.errors import counted
from discrete_ae.evaluation.scores import MOS, PER_FILE, QUANTITIES, Quantity
from discrete_ae.statistics import RESAMPLES

_FEW_FILES, _FEW_STEPS = 10, 5000
_NAMED = 4  # largest number of methods that a headline lists by name
# Settings that must be equal in a fair comparison of quantizers: by key, a name for sentences and the meaning of None.
_CONDITIONS = {
    "data.root": ("training recordings", "the project's own"),
    "data.validation_root": ("validation recordings, which select the checkpoints,", "a part of the training set"),
    "data.manifest": ("manifests of training recordings", "none"),
    "data.validation_manifest": ("manifests of validation recordings, which select the checkpoints,", "none"),
    "data.sources": ("mixtures of training recordings", "none"),
    "data.batch_size": ("batch sizes", "unknown"),
    "data.crop_seconds": ("lengths of the training crops", "unknown"),
    "data.loudness_lufs": ("levels of the training recordings", "unchanged"),
    "init_from": ("initial weights", "random"),
}
_TOLD = (Verdict.BETTER, Verdict.WORSE)


def facts_of(comparison: Comparison, data: str) -> dict[str, str]:
    """Return what was compared, by heading: methods, training, bitrates, recordings, other codecs.

    Args:
        comparison: comparison of the methods.
        data: description of the recordings, or their folder.
    """
    methods = comparison.trained.methods
    runs = sum(len(method.runs) for method in methods)
    files = {file.path: file for _, evaluation in comparison.everything() for file in evaluation.files}
    seconds = sum(files[path].duration_s for path in comparison.paths)
    seeds = sorted({len(method.runs) for method in methods})
    each = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    steps = _in_words(comparison.trained.steps(*methods))
    rates = _rates(comparison.methods)
    joined = [f"{label}, decoded from its first codebooks" for label in comparison.several_rates]
    facts = {
        "Methods": f"{len(methods)}, in {counted(runs, 'run')} ({counted(each, 'seed')} each)" if runs > 1 else "1",
        "Training": f"{steps} steps" if steps else "",
        "Nominal bitrate": f"{listed(rates)} kbps" if rates else "",
        "Entropy-coded bitrate": _spent(comparison),
        "One model at several bitrates": "; ".join(joined),
        "Recordings": f"{len(comparison.paths)} ({seconds:.0f} s): {data}",
        "Other codecs": listed([baseline.codec for baseline in comparison.baselines]),
    }
    return {heading: fact for heading, fact in facts.items() if fact}


def _spent(comparison: Comparison) -> str:
    coded = (method.label for method in comparison.methods)
    means = {label: comparison.value(label, "entropy_coded_bitrate_bps").mean for label in coded}
    known = sorted((rate, label) for label, rate in means.items() if not math.isnan(rate))
    if len(known) < 2:
        return ""
    (least, one), *_, (most, other) = known
    return f"{kbps(least)} kbps for {one}, to {kbps(most)} kbps for {other}"


def notes_of(comparison: Comparison, lines: Sequence[str] = ()) -> list[str]:
    """Return the limits of the comparison, each in one or two sentences, then the lines logged during it."""
    notes = [
        *_on_conditions(comparison.trained),
        *_on_networks(comparison.trained),
        *_on_seeds(comparison.trained),
    ]
    if FEWEST_FILES <= (count := len(comparison.paths)) < _FEW_FILES:
        notes.append(f"The comparison uses only {count} recordings; results on other recordings may differ.")
    if comparison.several_rates:
        notes.append("A model that serves several bitrates may be worse at each than a model trained for that bitrate.")
    if (steps := comparison.trained.steps(*comparison.trained.methods)) and steps[-1] < _FEW_STEPS:
        notes.append("The runs are short. The method that leads early in training may not lead at its end.")
    if comparison.baselines:
        notes.append("The other codecs were designed for other bitrates, for speech, or for perceived quality.")
    if vocoders := [baseline.codec for baseline in comparison.baselines if not baseline.keeps_waveform]:
        notes.append(f"Ignore the SI-SDR of {listed(vocoders)}: a vocoder does not reproduce the waveform.")
    if comparison.left_out:
        notes.append(f"Not used, because some method or codec has no result for them: {listed(comparison.left_out)}.")
    devices = {str(device) for _, one in comparison.everything() if (device := one.settings.get("rtf_device"))}
    if len({device for device in devices if "a program" not in device}) > 1:
        notes.append(f"The real-time factors were measured on different devices: {listed(sorted(devices))}.")
    return [*notes, *(f"{line.rstrip('.')}." for line in lines)]


def _on_conditions(comparison: Comparison) -> list[str]:
    flats = with_short_paths([flatten(method.config) for method in comparison.methods])
    found = []
    for key, (names, absent) in _CONDITIONS.items():
        values = []
        for flat in flats:
            below = [
                f"{k.removeprefix(f'{key}.')}={v}" for k, v in flat.items() if k.startswith(f"{key}.") and v is not None
            ]
            value = " ".join(below) or flat.get(key)
            values.append(absent if value is None else str(value))
        found += _on_values(comparison, names, values)
    return found


def _on_steps(comparison: Comparison) -> list[str]:
    steps = [_in_words(comparison.steps(method)) or "unknown" for method in comparison.methods]
    return _on_values(comparison, "numbers of training steps", steps)


def _in_words(numbers: Sequence[int]) -> str:
    return listed([str(number) for number in numbers])


def _on_values(comparison: Comparison, names: str, values: Sequence[str]) -> list[str]:
    """Return a sentence that states the values of all methods, given in their order, if some differ."""
    labels: dict[str, list[str]] = {}
    for method, value in zip(comparison.methods, values, strict=True):
        labels.setdefault(value, []).append(method.label)
    if len(labels) < 2:
        return []
    parts = [f"{value} ({listed(alike)})" for value, alike in labels.items()]
    return [f"The {names} differ, which may explain differences between methods: {'; '.join(parts)}."]


def _on_networks(comparison: Comparison) -> list[str]:
    flats = [flatten(method.config) for method in comparison.methods]
    networks = ({k: v for k, v in flat.items() if k.startswith(("model.encoder.", "model.decoder."))}
                for flat in flats)  # fmt: skip
    if len({str(sorted(network.items())) for network in networks}) < 2:
        return []
    return ["The encoders or decoders differ, which may explain differences between methods."]


def _on_seeds(comparison: Comparison) -> list[str]:
    alone = [method.label for method in comparison.methods if len(method.runs) == 1]
    if len(alone) == len(comparison.methods):
        return ["Every method was trained with one seed, so the spread between trainings is unknown."]
    return [f"Trained with one seed only, so without a spread: {listed(alone)}."] if alone else []


def findings(comparison: Comparison, name: str, *, with_differences: bool = True) -> list[str]:
    """Return sentences on a quantity of PER_FILE for which higher or lower is better.

    The headline comes first, then a line if there are few recordings, then differences in sample rates and training
    steps. Then the best method at each nominal bitrate is named; with `with_differences`, followed by a sentence on
    every method that is worse.
    """
    quantity = QUANTITIES[name]
    coded, joined = comparison.coded, comparison.several_rates
    model = {method.label: label for label, group in joined.items() for method in group}
    by_rate = best_first(comparison, name)
    details, alone = [], dict[str, list[Method]]()
    for rate, known in by_rate.items():
        if len(known) == 1 and known[0].label in model:
            alone.setdefault(model[known[0].label], []).append(known[0])
        elif known:
            details += _of_one_rate(comparison, known, quantity, f"At {rate} kbps" if len(by_rate) > 1 else "")
            if with_differences:
                details += [sentence(one) for one in comparison.with_best(known, name) if one.verdict in _TOLD]
    for label, methods in alone.items():
        means = listed([quantity.shown(comparison.value(one.label, name).mean) for one in methods])
        mean = f"{means} {quantity.unit}".rstrip()
        details.append(
            f"At {listed(_rates(methods))} kbps, {label} is the only {_kind(comparison)}: mean {quantity.label} {mean}."
        )
    details += _upper_bound(comparison, ranked(comparison, coded, name), quantity)
    details += _by_other_scores(comparison, coded, quantity)
    caveats = [
        *_on_recordings(comparison),
        *_on_sample_rates(comparison),
        *_on_steps(comparison.trained),
    ]
    return [_headline(comparison, by_rate, quantity), *caveats, *details]


def best_first(comparison: Comparison, name: str) -> dict[str, list[Method]]:
    """Return the methods with codes by nominal bitrate in kbps; at each bitrate, the best by a quantity comes first."""
    return {rate: ranked(comparison, methods, name) for rate, methods in _at_rates(comparison.coded).items()}


def _headline(comparison: Comparison, by_rate: Mapping[str, Sequence[Method]], quantity: Quantity) -> str:
    """Return one sentence that compares the best method at each bitrate with the others."""
    parts, over_seeds = [], True
    for rate, known in by_rate.items():
        with_best = comparison.with_best(known, quantity.name)
        worse = [one.first for one in with_best if one.verdict in _TOLD]
        alike = [one.first for one in with_best if one.verdict is Verdict.NOT_TOLD_APART]
        where = f"at {rate} kbps, " if len(by_rate) > 1 else ""
        over_seeds = over_seeds and all(one.over_seeds for one in with_best)
        if worse:
            tie = f" and cannot be told apart from {listed(alike)}" if alike else ""
            parts.append(f"{where}{known[0].label} is better than {_some(worse)}{tie}")
        elif alike:
            parts.append(f"{where}{listed([known[0].label, *alike])} cannot be told apart")
    if parts:
        caveat = "" if over_seeds else "; with one seed of a method, another training may change this"
        return f"By {quantity.label}, {'; '.join(parts)}{caveat}."
    if len(comparison.models) > 1:
        return f"No two methods have a {quantity.label} at the same bitrate, so none is called better."
    if comparison.baselines:
        return "There is only one trained method; the table shows it beside other codecs."
    return "There is only one method, so there is nothing to compare it with."


def _some(labels: Sequence[str]) -> str:
    """List labels by name if they are few; otherwise return only their number."""
    return listed(labels) if len(labels) <= _NAMED else f"{len(labels)} methods"


def method_of(comparison: Comparison, name: str) -> list[str]:
    """Return sentences on how differences in a quantity are judged, and how often this judgment is wrong.

    The rates of wrong judgments come from a simulation of 3 seeds and 9 recordings, in which the noise of seeds is
    twice that of recordings. There 4 % of pairs of equal methods are called different. Among 4, 8 and 17 equal methods,
    one is called worse than the best in 8, 29 and 73 % of comparisons.
    """
    pairs = [pair for pair in comparison.differences(name) if pair.verdict is not Verdict.NOT_COMPARED]
    over_seeds = [pair for pair in pairs if pair.over_seeds]
    text = [
        "Figures are means ± sample standard deviation over seeds. The mean of a run counts every recording once. "
        "Reconstructions are decoded from the integer codes, at the sample rate of the model."
    ]
    if not pairs:
        return text
    text.append(f"{counted(len(pairs), 'pair')} of methods {'were' if len(pairs) > 1 else 'was'} compared.")
    if over_seeds:
        text.append(
            "A difference between methods with several seeds counts if it meets three conditions. Its 95 % bootstrap "
            "interval over recordings and seeds excludes 0. Its 95 % interval by Student's t over seeds excludes 0. "
            "It is larger than the spread over seeds. About one in twenty pairs of equal methods still meets all three "
            "by chance."
        )
    if over_seeds and len(pairs) > 1:
        text.append(
            "The best mean is chosen from the same data. Among 8 equal methods, another one is called worse than the "
            "best in about 3 of 10 comparisons; among 17, in about 7 of 10."
        )
    if len(over_seeds) < len(pairs):
        text.append(
            "If a method has only one seed, a difference counts if its 95 % bootstrap interval over recordings "
            "excludes 0 and it is larger than the known spread over seeds. Another training of the method could "
            "reverse it."
        )
    text.append(
        "A difference that the digits shown here round to 0 never counts. With fewer than "
        f"{FEWEST_FILES} recordings, no difference counts."
    )
    text.append(
        f"Each bootstrap interval spans the 2.5 and 97.5 percentiles of {RESAMPLES} means. Seeds and recordings are "
        "drawn with replacement: the same recordings for both methods, and the same seeds if both have them. With few "
        "seeds or recordings such intervals are too narrow, so Student's t has to agree. Methods with fewer than two "
        "seeds in common are compared by Welch's t."
    )
    return text


def _on_recordings(comparison: Comparison) -> list[str]:
    if (count := len(comparison.paths)) >= FEWEST_FILES or len(comparison.by_label) == 1:
        return []
    return [
        f"All figures are from {counted(count, 'recording')}, so the order of the methods is uncertain; compare on "
        f"{FEWEST_FILES} or more."
    ]


def _on_sample_rates(comparison: Comparison) -> list[str]:
    by_rate: dict[int, list[str]] = {}
    for label, runs in sorted(comparison.by_label.items(), key=lambda of: of[1][0].sample_rate):
        by_rate.setdefault(runs[0].sample_rate, []).append(label)
    if len(by_rate) < 2:
        return []
    rates = "; ".join(f"{listed(labels)} at {rate} Hz" for rate, labels in by_rate.items())
    return [
        f"The sample rates differ: {rates}. Each method is compared with recordings at its own rate, so a low rate is "
        "not penalized for missing high frequencies."
    ]


def ranked(comparison: Comparison, methods: Sequence[Method], name: str) -> list[Method]:
    """Return methods from the best mean to the worst; methods without a value are left out."""
    sign = -1.0 if QUANTITIES[name].higher_is_better else 1.0
    means = {method.label: comparison.value(method.label, name).mean for method in methods}
    known = [method for method in methods if not math.isnan(means[method.label])]
    return sorted(known, key=lambda method: sign * means[method.label])


def sentence(difference: Difference) -> str:
    """Return a sentence on a difference that counts: "fourier is better than sigmoid by 0.42 dB SI-SDR (95 % …)."."""
    return f"{difference.first} is {difference.verdict} than {difference.second} by {amount(difference)}."


def amount(difference: Difference) -> str:
    """Return the size of a difference without its sign: "0.42 dB SI-SDR (95 % interval 0.31 to 0.53, all 3 seeds)"."""
    quantity, sign = QUANTITIES[difference.quantity], math.copysign(1.0, difference.mean)
    low, high = map(quantity.shown, sorted((sign * difference.low, sign * difference.high)))
    unit = "" if quantity.unit == MOS else quantity.unit
    size = " ".join(filter(None, [quantity.shown(abs(difference.mean)), unit, quantity.label]))
    return f"{size} (95 % interval {low} to {high}, {seeds_of(difference)})"


def seeds_of(difference: Difference) -> str:
    """Describe in words the seeds on which a difference is based."""
    if difference.basis is Basis.PAIRED:
        count = len(difference.seeds)
        return f"all {count} seeds" if difference.agreeing == count else f"{difference.agreeing} of {count} seeds"
    one, other = difference.counts
    if difference.basis is Basis.APART:
        return f"{one} and {other} different seeds"
    if max(difference.counts) > 1:
        return f"{one} and {other} seeds, these checkpoints only"
    return "these two checkpoints only" + ("" if difference.seeds else ", different seeds")


def listed(names: Sequence[str]) -> str:
    """Join names in a sentence: "a", "a and b", "a, b and c"."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def _at_rates(methods: Sequence[Method]) -> dict[str, list[Method]]:
    """Group methods by nominal rate in kbps, increasing.

    Rates are compared as printed, so that 7 codebooks of 304 entries and 8 codebooks of 149 entries are one group.
    """
    found: dict[str, list[Method]] = {}
    for method in sorted(methods, key=lambda method: method.nominal_bitrate_bps or 0.0):
        found.setdefault(kbps(method.nominal_bitrate_bps or 0.0), []).append(method)
    return found


def _rates(methods: Sequence[Method]) -> list[str]:
    """Return the different nominal rates of methods with codes, in kbps as printed, increasing."""
    return list(_at_rates([method for method in methods if method.nominal_bitrate_bps]))


def _of_one_rate(comparison: Comparison, methods: Sequence[Method], quantity: Quantity, where: str) -> list[str]:
    best = methods[0]
    value = comparison.value(best.label, quantity.name)
    spread = "" if math.isnan(value.spread) else f" ± {quantity.shown(value.spread)}"
    way = "higher" if quantity.higher_is_better else "lower"
    begin = f"{where}, {best.label}" if where else best.label
    mean = f"{quantity.shown(value.mean)}{spread} {quantity.unit}".rstrip()
    if len(methods) == 1:
        is_alone = comparison.methods[1:] and where
        return [f"{begin} is the only {_kind(comparison)}: mean {quantity.label} {mean}."] if is_alone else []
    if len(first := _first(comparison, methods, quantity.name)) > 1:
        equal = " ".join(filter(None, [quantity.shown(value.mean), quantity.unit]))
        begin = f"{where}, {listed(first)}" if where else listed(first)
        return [f"{begin} have the same best mean {quantity.label}{_among(comparison)}: {equal} ({way} is better)."]
    with_best = comparison.with_best(methods, quantity.name)
    alike = [one.first for one in with_best if one.verdict is Verdict.NOT_TOLD_APART]
    doubt = f" This order is uncertain: {_some(alike)} cannot be told apart from {best.label}." if alike else ""
    return [f"{begin} has the best mean {quantity.label}{_among(comparison)}: {mean} ({way} is better).{doubt}"]


def _first(comparison: Comparison, methods: Sequence[Method], name: str) -> list[str]:
    """Return the methods, sorted from the best, whose means equal the best mean in the digits of the tables."""
    labels = [method.label for method in methods]
    return [label for label in labels if comparison.shown(label, name) == comparison.shown(labels[0], name)]


def _upper_bound(comparison: Comparison, coded: Sequence[Method], quantity: Quantity) -> list[str]:
    without = ranked(comparison, [m for m in comparison.methods if m.nominal_bitrate_bps is None], quantity.name)
    if not without or not coded:
        return []
    difference = comparison.difference(coded[0], without[0], quantity.name)
    if difference.verdict not in _TOLD:
        return [f"{coded[0].label} cannot be told apart from {without[0].label}, which does not quantize."]
    is_bound = "and is the upper bound" if difference.verdict is Verdict.WORSE else "but is no upper bound here"
    return [f"{sentence(difference)} {without[0].label} does not quantize {is_bound}."]


def _by_other_scores(comparison: Comparison, coded: Sequence[Method], quantity: Quantity) -> list[str]:
    """Return a sentence that names the method with the best mean by each other score."""
    best: dict[str, list[str]] = {}
    for other in PER_FILE:
        is_other = other.name != quantity.name and other.higher_is_better is not None
        if is_other and (order := ranked(comparison, coded, other.name)):
            best.setdefault(listed(_first(comparison, order, other.name)), []).append(other.label)
    if not best or len(comparison.trained.coded) < 2:
        return []
    parts = listed([f"{winner} ({', '.join(labels)})" for winner, labels in best.items()])
    best_of = f"Best means{_among(comparison)} by other scores: {parts}"
    return [f"{best_of}. Some may be best by chance: see all pairs on the page or in differences.csv."]


def _kind(comparison: Comparison) -> str:
    return "trained method" if comparison.baselines else "method"


def _among(comparison: Comparison) -> str:
    """Return the words that limit "best" to the trained methods, if the table also has other codecs."""
    return " of the trained methods" if comparison.baselines else ""
