"""A comparison in words: what was compared, which differences are larger than the spread, and what limits this."""

import math
from collections.abc import Mapping, Sequence

from discrete_ae.compare.comparison import Basis, Comparison, Difference, Verdict
from discrete_ae.compare.methods import Method, flatten, kbps
from discrete_ae.evaluation.scores import MOS, PER_FILE, QUANTITIES, Quantity
from discrete_ae.statistics import RESAMPLES

_FEW_FILES, _FEW_STEPS = 10, 5000
# What must be the same for a comparison of quantizers to be one: its name, and what None stands for. The first stands
# before the findings, the others are notes.
_LENGTH = {"trainer.max_steps": ("numbers of training steps", "none")}
_CONDITIONS = {
    "data.root": ("training recordings", "the project's own"),
    "data.validation_root": ("validation recordings, by which checkpoints are chosen,", "a part of the training's"),
    "data.manifest": ("manifests of training recordings", "none"),
    "data.validation_manifest": ("manifests of validation recordings, by which checkpoints are chosen,", "none"),
    "data.sources": ("mixtures of training recordings", "none"),
    "data.batch_size": ("batch sizes", "none"),
    "data.crop_seconds": ("lengths of the training crops", "none"),
    "data.loudness_lufs": ("levels of the training recordings", "as they are"),
    "init_from": ("initial weights", "drawn anew"),
}
_TOLD = (Verdict.BETTER, Verdict.WORSE)


def summary_of(comparison: Comparison, data: str) -> list[str]:
    """Return sentences: what was compared, on what, how long it was trained, by how many seeds.

    Args:
        comparison: of the methods.
        data: what the recordings are, in words, or their folder.
    """
    methods = comparison.trained.methods
    runs = sum(len(method.runs) for method in methods)
    files = {file.path: file for _, evaluation in comparison.everything() for file in evaluation.files}
    seconds = sum(files[path].duration_s for path in comparison.paths)
    seeds = sorted({len(method.runs) for method in methods})
    steps = sorted({method.steps for method in methods} - {0})
    rates = _rates(comparison.methods)
    each = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    trained = f", trained for {listed([str(count) for count in steps])} steps" if steps else ""
    nominal = f", at a nominal {listed(rates)} kbps" if rates else ""
    count = counted(len(comparison.paths), "recording")
    about = (
        f"{counted(len(methods), 'method')} in {counted(runs, 'run')}, by {counted(each, 'seed')} each{trained}"
        f"{nominal}; compared on {count} ({seconds:.0f} s) of {data}, through hard codes."
    )
    if at_several := list(comparison.several_rates):
        is_one = "is one model" if len(at_several) == 1 else "are one model each"
        about += f" {listed(at_several)} {is_one} at several rates, decoded from the first codebooks alone."
    coded = (method.label for method in comparison.methods)
    taken = {label: comparison.value(label, "entropy_coded_bitrate_bps").mean for label in coded}
    known = sorted((rate, label) for label, rate in taken.items() if not math.isnan(rate))
    if len(known) > 1:
        (least, one), *_, (most, other) = known
        about += f" Entropy-coded, they take {kbps(least)} ({one}) to {kbps(most)} kbps ({other})."
    baselines = [baseline.codec for baseline in comparison.baselines]
    return [about, f"Beside them: {listed(baselines)}."] if baselines else [about]


def notes_of(comparison: Comparison, lines: Sequence[str] = ()) -> list[str]:
    """Return sentences: what the figures show and do not show, and what was said while they were computed."""
    notes = [
        "Figures are mean ± sample standard deviation over seeds, of means over recordings in which each counts alike. "
        "Reconstructions come from the integer codes, at the model's sample rate.",
        *_on_conditions(comparison.trained, _CONDITIONS),
        *_on_networks(comparison.trained),
        *_on_seeds(comparison.trained),
        f"Intervals are 2.5 and 97.5 percentiles of {RESAMPLES} means over seeds and recordings drawn with "
        "replacement, the same recordings for both methods, and the same seeds where both have them. Of few seeds or "
        "few recordings such intervals are narrower than they should be; with several seeds, Student's t over seeds "
        "has to agree, or Welch's where the methods have fewer than two seeds in common.",
    ]
    if comparison.several_rates:
        notes.append("A model that serves several rates may be worse at each than one that was trained for it alone.")
    if len(comparison.paths) < _FEW_FILES:
        notes.append(f"{counted(len(comparison.paths), 'recording')}: what holds for these may not hold for others.")
    if 0 < max(method.steps for method in comparison.methods) < _FEW_STEPS:
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
    devices = {str(device) for _, one in comparison.everything() if (device := one.settings.get("rtf_device"))}
    if len({device for device in devices if "a program" not in device}) > 1:
        notes.append(f"Real-time factors are not of one machine: {listed(sorted(devices))}.")
    return [*notes, *(f"{line.rstrip('.')}." for line in lines)]


def _on_conditions(comparison: Comparison, conditions: Mapping[str, tuple[str, str]]) -> list[str]:
    flats = {method.label: flatten(method.config) for method in comparison.methods}
    found = []
    for key, (names, absent) in conditions.items():
        values: dict[str, list[str]] = {}
        for label, flat in flats.items():
            below = [
                f"{k.removeprefix(f'{key}.')}={v}" for k, v in flat.items() if k.startswith(f"{key}.") and v is not None
            ]
            value = " ".join(below) or flat.get(key)
            values.setdefault(absent if value is None else str(value), []).append(label)
        if len(values) > 1:
            parts = [f"{value} of {listed(labels)}" for value, labels in values.items()]
            found.append(f"The {names} differ, so that differences need not be the quantizer's: {'; '.join(parts)}.")
    return found


def _on_networks(comparison: Comparison) -> list[str]:
    flats = [flatten(method.config) for method in comparison.methods]
    networks = ({k: v for k, v in flat.items() if k.startswith(("model.encoder.", "model.decoder."))}
                for flat in flats)  # fmt: skip
    if len({str(sorted(network.items())) for network in networks}) < 2:
        return []
    return ["The networks around the quantizers differ, so that differences need not be the quantizer's."]


def _on_seeds(comparison: Comparison) -> list[str]:
    alone = [method.label for method in comparison.methods if len(method.runs) == 1]
    if len(alone) == len(comparison.methods):
        return ["One seed each: what another training of the same method would give is not known, nor its spread."]
    return [f"One seed only, hence no spread: {listed(alone)}."] if alone else []


def findings(comparison: Comparison, name: str) -> list[str]:
    """Return sentences on a quantity of PER_FILE that has a better and a worse, on each nominal bitrate by itself.

    Where sample rates or numbers of training steps differ, the first sentences are on that. Every method is held
    against the best one of its bitrate; all pairs are in differences.csv.
    """
    quantity = QUANTITIES[name]
    coded = comparison.coded
    rates, joined = _rates(coded), comparison.several_rates
    model = {method.label: label for label, group in joined.items() for method in group}
    found, alone = [], dict[str, list[Method]]()
    for rate in rates:  # as it is printed: 7 codebooks of 304 entries are as much as 8 of 149
        at_rate = [method for method in coded if kbps(method.nominal_bitrate_bps or 0.0) == rate]
        known = ranked(comparison, at_rate, name)
        if len(known) == 1 and known[0].label in model:
            alone.setdefault(model[known[0].label], []).append(known[0])
        elif known:
            found += _of_one_rate(comparison, known, quantity, f"At {rate} kbps" if len(rates) > 1 else "")
    for label, methods in alone.items():
        means = listed([quantity.shown(comparison.value(one.label, name).mean) for one in methods])
        mean = f"{means} {quantity.unit}".rstrip()
        found.append(
            f"At {listed(_rates(methods))} kbps there is {label} alone, with a mean {quantity.label} of {mean}."
        )
    found += _upper_bound(comparison, ranked(comparison, coded, name), quantity)
    found += _by_the_others(comparison, coded, quantity)
    found += _chance(comparison, name)
    caveats = [*_on_sample_rates(comparison), *_on_conditions(comparison.trained, _LENGTH)]
    return [*caveats, *(found or ["There is one method alone, and nothing to compare it with."])]


def _on_sample_rates(comparison: Comparison) -> list[str]:
    by_rate: dict[int, list[str]] = {}
    for label, runs in sorted(comparison.by_label.items(), key=lambda of: of[1][0].sample_rate):
        by_rate.setdefault(runs[0].sample_rate, []).append(label)
    if len(by_rate) < 2:
        return []
    rates = listed([f"{listed(labels)} at {rate} Hz" for rate, labels in by_rate.items()])
    return [
        f"The sample rates differ: {rates}. Each is compared with the recording at its own, so that the highs which a "
        "lower one lacks do not count against it."
    ]


def ranked(comparison: Comparison, methods: Sequence[Method], name: str) -> list[Method]:
    """Return methods from the best mean to the worst; those without a value are left out."""
    sign = -1.0 if QUANTITIES[name].higher_is_better else 1.0
    means = {method.label: comparison.value(method.label, name).mean for method in methods}
    known = [method for method in methods if not math.isnan(means[method.label])]
    return sorted(known, key=lambda method: sign * means[method.label])


def sentence(difference: Difference) -> str:
    """Say a difference that was told: "fourier is better than sigmoid by 0.42 dB SI-SDR (95 % interval …)."."""
    return f"{difference.first} is {difference.verdict} than {difference.second} by {amount(difference)}."


def amount(difference: Difference) -> str:
    """Say how large a difference is, without its sign: "0.42 dB SI-SDR (95 % interval 0.31 to 0.53, all 3 seeds)"."""
    quantity, sign = QUANTITIES[difference.quantity], math.copysign(1.0, difference.mean)
    low, high = map(quantity.shown, sorted((sign * difference.low, sign * difference.high)))
    unit = "" if quantity.unit == MOS else quantity.unit
    size = " ".join(filter(None, [quantity.shown(abs(difference.mean)), unit, quantity.label]))
    return f"{size} (95 % interval {low} to {high}, {seeds_of(difference)})"


def seeds_of(difference: Difference) -> str:
    """Say on how much of the chance of training a difference rests."""
    if difference.basis is Basis.PAIRED:
        count = len(difference.seeds)
        return f"all {count} seeds" if difference.agreeing == count else f"{difference.agreeing} of {count} seeds"
    if difference.basis is Basis.APART:
        one, other = difference.counts
        return f"{one} and {other} seeds of their own"
    if max(difference.counts) > 1:
        return f"{difference.counts[0]} and {difference.counts[1]} seeds, of these checkpoints only"
    return "of these two checkpoints only" + ("" if difference.seeds else ", of different seeds")


def counted(number: int | str, noun: str) -> str:
    """Return a number with its noun, such as "2 seeds"."""
    return f"{number} {noun}" if str(number) == "1" else f"{number} {noun}s"


def listed(names: Sequence[str]) -> str:
    """Join names in a sentence: "a", "a and b", "a, b and c"."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def _rates(methods: Sequence[Method]) -> list[str]:
    """Return the nominal rates of methods in kbps as they are printed, increasing, each once."""
    return list(dict.fromkeys(kbps(rate) for rate in sorted(filter(None, (m.nominal_bitrate_bps for m in methods)))))


def _of_one_rate(comparison: Comparison, methods: Sequence[Method], quantity: Quantity, where: str) -> list[str]:
    best, *others = methods
    value = comparison.value(best.label, quantity.name)
    spread = "" if math.isnan(value.spread) else f" ± {quantity.shown(value.spread)}"
    way = "higher" if quantity.higher_is_better else "lower"
    begin = f"{where}, {best.label}" if where else best.label
    mean = f"{quantity.shown(value.mean)}{spread} {quantity.unit}".rstrip()
    if not others:
        is_alone = comparison.methods[1:] and where
        return [f"{where} there is {best.label} alone, with a mean {quantity.label} of {mean}."] if is_alone else []
    found = [f"{begin} has the best mean {quantity.label}{_among(comparison)}, {mean} ({way} is better)."]
    against_best = [comparison.difference(other, best, quantity.name) for other in others]
    alike = [difference.first for difference in against_best if difference.verdict == Verdict.NOT_TOLD_APART]
    if alike:
        sure = "" if all(difference.over_seeds for difference in against_best) else " on these recordings"
        found.append(f"{listed(alike)} cannot be told apart from {best.label}{sure}.")
    return found + [sentence(difference) for difference in against_best if difference.verdict in _TOLD]


def _upper_bound(comparison: Comparison, coded: Sequence[Method], quantity: Quantity) -> list[str]:
    without = ranked(comparison, [m for m in comparison.methods if m.nominal_bitrate_bps is None], quantity.name)
    if not without or not coded:
        return []
    difference = comparison.difference(coded[0], without[0], quantity.name)
    if difference.verdict not in _TOLD:
        return [f"{coded[0].label} cannot be told apart from {without[0].label}, which does not quantize."]
    if difference.verdict is Verdict.BETTER:
        about = f"which does not quantize, and yet is no upper bound of the {quantity.label}"
        return [f"{sentence(difference)[:-1]}, {about}."]
    return [f"{sentence(difference)[:-1]}: {without[0].label} does not quantize and is the upper bound."]


def _by_the_others(comparison: Comparison, coded: Sequence[Method], quantity: Quantity) -> list[str]:
    """Say who is best by the other quantities."""
    best: dict[str, list[str]] = {}
    for other in PER_FILE:
        if other.name != quantity.name and other.higher_is_better is not None:
            for winner in ranked(comparison, coded, other.name)[:1]:
                best.setdefault(winner.label, []).append(other.label)
    if not best or len(comparison.trained.coded) < 2:
        return []
    parts = listed([f"{winner} by {listed(labels)}" for winner, labels in best.items()])
    about = f"The best means{_among(comparison)} by other quantities"
    return [f"{about}: {parts}; differences.csv says which of that is beyond chance."]


def _among(comparison: Comparison) -> str:
    """Say what "best" is chosen from, where the table also has codecs that do not compete."""
    return " of the trained methods" if comparison.baselines else ""


def _chance(comparison: Comparison, name: str) -> list[str]:
    """Say how many pairs were compared, by what, and how often that is mistaken.

    By simulation of 3 seeds and 9 recordings, the noise of seeds twice that of recordings: 4 % of equal pairs are told
    apart, and in 8, 29 and 73 % of comparisons of 4, 8 and 17 equal methods one is called worse than the best.
    """
    pairs = [d for d in comparison.differences(name) if d.verdict is not Verdict.NOT_COMPARED]
    if not pairs:
        return []
    over_seeds = [pair for pair in pairs if pair.over_seeds]
    text = [f"{len(pairs)} pairs were compared." if len(pairs) > 1 else "One pair was compared."]
    if over_seeds:
        text.append(
            "Of methods with several seeds a difference is called one where its 95 % intervals, by a bootstrap over "
            "recordings and seeds and by Student's t over seeds, exclude 0, and it is larger than the spread over "
            "seeds: of pairs that are alike, about one in twenty is told apart by chance."
        )
    if over_seeds and len(pairs) > 1:
        text.append(
            "The best mean was chosen by the same data: among 8 methods that are alike, another is called worse than "
            "the best in about 3 of 10 comparisons, among 17 in 7 of 10."
        )
    if len(over_seeds) < len(pairs):
        text.append(
            f"{'Where a method has' if over_seeds else 'With'} one seed, a difference is called one where the interval "
            "over recordings excludes 0 and it is larger than the spread, where there is one; another training of the "
            "same method might turn it round."
        )
    return [" ".join(text)]
