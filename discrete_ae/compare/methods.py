"""Grouping of runs into methods, and labels that name the settings in which methods differ."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from discrete_ae.compare.places import with_short_paths
from discrete_ae.evaluation.results import DECODED, Evaluation, Run

DECIDING = (
    *("quantizer", "num_codebooks", DECODED, "model", "init_from", "freeze", "loss", "optim"),
    *("data.root", "data.validation_root", "data.manifest", "data.validation_manifest", "data.sources"),
    "data.validation_fraction",
    *("data.min_seconds", "data.max_seconds", "data.min_bandwidth_hz", "data.sample_rate", "data.channels"),
    *("data.crop_seconds", "data.batch_size", "data.balance", "data.loudness_lufs", "data.speed", "data.mix"),
    *("data.equalizer_db", "data.gain_db", "data.flip_polarity"),
    *("trainer", "callbacks.ema.decay"),
)
"""Keys of the settings that influence training, including all keys below them. Runs equal in these are one method."""
WITHOUT_EFFECT = tuple(
    f"trainer.{name}"
    for name in (
        *("_target_", "accelerator", "strategy", "plugins", "logger", "callbacks", "profiler", "benchmark"),
        *("val_check_interval", "check_val_every_n_epoch", "limit_val_batches", "num_sanity_val_steps"),
        *("limit_test_batches", "limit_predict_batches", "log_every_n_steps", "enable_checkpointing"),
        *("enable_progress_bar", "enable_model_summary", "enable_autolog_hparams", "use_distributed_sampler"),
        *("deterministic", "inference_mode", "detect_anomaly", "default_root_dir", "model_registry"),
    )
)
"""Keys below those of `DECIDING` that do not influence training."""
_USUAL = {"trainer.devices": 1, "trainer.num_nodes": 1, "trainer.max_epochs": -1}
"""Values that are the same as none."""
_START = "init_from"
_SHOWN = 3  # largest number of keys in a label


@dataclass(frozen=True)
class Method:
    """One choice of settings, trained with one or several seeds."""

    label: str
    runs: tuple[Evaluation, ...]
    """Evaluations of its runs, one per seed, sorted by seed."""

    @property
    def trainings(self) -> tuple[Run, ...]:
        """Training runs, in the order of `runs`."""
        return tuple(one.run for one in self.runs if one.run)

    @property
    def quantizer(self) -> str:
        """Name of the quantizer option, or the name that an evaluation file gives instead."""
        return self.trainings[0].quantizer

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the runs, increasing."""
        return tuple(run.seed for run in self.trainings)

    @property
    def config(self) -> Mapping[str, Any]:
        """Configuration of the first run."""
        return self.trainings[0].config

    @property
    def steps(self) -> int:
        """Number of training steps in the settings; 0 if unknown."""
        trainer = self.config.get("trainer")
        steps = trainer.get("max_steps") if isinstance(trainer, Mapping) else None
        return steps if isinstance(steps, int) else 0

    @property
    def nominal_bitrate_bps(self) -> float | None:
        """Nominal bitrate; None without codes."""
        return self.runs[0].overall.get("nominal_bitrate_bps")


def distinct(*groups: Sequence[Run]) -> tuple[set[str], list[str]]:
    """Choose one of the runs with the same settings and seed: of the last group that has one, the last by folder.

    Returns:
        The names of the chosen runs, and a message for each other run.
    """
    order = [run for group in groups for run in sorted(group, key=_place)]
    keys = [(key, run.seed) for key, run in zip(_keys([(run, run.config) for run in order]), order, strict=True)]
    chosen = {key: run.name for key, run in zip(keys, order, strict=True)}  # the last of each key
    lines = [
        f"Not compared: {run.name}: the same settings and seed as {chosen[key]}; only one of these can be compared"
        for key, run in zip(keys, order, strict=True)
        if run.name != chosen[key]
    ]
    return set(chosen.values()), lines


def group_runs(evaluations: Iterable[Evaluation]) -> list[Method]:
    """Group evaluations of runs into methods, and label each by its differences from the others.

    A label has the quantizer, and the nominal rate if rates differ. If methods would then share a label, it also has
    the settings in which they differ, except where it has the value of more than half of them: "ste (3.2 kbps,
    lr=0.001)". Of evaluations with the same settings and seed, the first counts.

    Returns:
        The methods, sorted by quantizer, rate and label.
    """
    groups: dict[str, dict[int, Evaluation]] = {}
    given = [(one.run, one) for one in evaluations if one.run]
    for key, (run, one) in zip(_keys([(run, run.config) for run, _ in given]), given, strict=True):
        groups.setdefault(key, {}).setdefault(run.seed, one)
    methods = [Method("", tuple(by_seed[seed] for seed in sorted(by_seed))) for by_seed in groups.values()]
    labels = _labels([[method] for method in methods])
    found = [replace(method, label=label) for method, label in zip(methods, labels, strict=True)]
    return sorted(found, key=lambda method: (method.quantizer, method.nominal_bitrate_bps or 0.0, method.label))


def _place(run: Run) -> tuple[str, str]:
    return run.folder, run.name


def models_of(methods: Sequence[Method]) -> dict[str, list[Method]]:
    """Group methods by model: methods of one model differ only in the number of codebooks they are decoded from.

    A model with one rate has the label of its method, "rvq (3.2 kbps)". A model with several rates has a label such as
    "rvq (0.8 to 3.2 kbps)".

    Returns:
        The methods of each model by increasing rate, by label of the model. Models are in the order of the methods.
    """
    groups: dict[str, list[Method]] = {}
    trained = [
        (run, {key: value for key, value in run.config.items() if key != DECODED})
        for method in methods
        for run in method.trainings[:1]
    ]
    for method, key in zip(methods, _keys(trained), strict=True):
        groups.setdefault(key, []).append(method)
    labels = zip(groups.values(), _labels(list(groups.values())), strict=True)
    return {label if len(group) > 1 else group[0].label: group for group, label in labels}


def _keys(runs: Sequence[tuple[Run, Mapping[str, Any]]]) -> list[str]:
    """Return for each run, given with its configuration, a text that is the same for all runs of a method.

    Each seed of a method may have started from a different file. If a seed started from several files, each file makes
    a method.
    """
    chosen = [settings(config) for _, config in runs]
    starts = [str(each.get(_START, "")) for each in chosen]
    alike = [each | {_START: "given"} if _START in each else each for each in chosen]
    keys = [
        json.dumps([run.quantizer, each], sort_keys=True, default=str)
        for (run, _), each in zip(runs, alike, strict=True)
    ]
    of_seed: dict[tuple[str, int], set[str]] = {}
    for key, start, (run, _) in zip(keys, starts, runs, strict=True):
        of_seed.setdefault((key, run.seed), set()).add(start)
    several = {key for (key, _), found in of_seed.items() if len(found) > 1}
    return [key + start if key in several else key for key, start in zip(keys, starts, strict=True)]


def _labels(groups: Sequence[Sequence[Method]]) -> list[str]:
    """Return the labels of groups; a group is one method, or the methods of one model by increasing rate."""
    rates = [[kbps(rate) for one in group if (rate := one.nominal_bitrate_bps) is not None] for group in groups]
    several = len({rate for of_one in rates for rate in of_one}) > 1
    ends = [dict.fromkeys([*of_one[:1], *of_one[-1:]]) if several else {} for of_one in rates]
    names = [(group[0].quantizer, " to ".join(of_one)) for group, of_one in zip(groups, ends, strict=True)]
    found = [""] * len(groups)
    for quantizer, at_rate in dict.fromkeys(names):
        same = [i for i, name in enumerate(names) if name == (quantizer, at_rate)]
        rests = _differences([groups[i][-1].config for i in same]) if len(same) > 1 else [""]
        for i, rest in zip(same, rests, strict=True):
            said = ", ".join(filter(None, [at_rate and f"{at_rate} kbps", rest]))
            found[i] = f"{quantizer} ({said})" if said else quantizer
    return found


def kbps(bits_per_second: float) -> str:
    """Return the rate in kbps with up to three digits."""
    return f"{bits_per_second / 1000:.3g}"


def flatten(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a nested mapping as a flat one with dotted keys; lists are kept as values."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{key}": inner for key, inner in flatten(value).items()}
        else:
            flat[str(name)] = value
    return flat


def settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a run that influence training, by dotted key, without seeds and empty values."""
    kept = {
        key: value
        for key, value in flatten(config).items()
        if value not in (None, []) and _is_in(key, DECIDING) and not _is_in(key, WITHOUT_EFFECT)
        if key not in _USUAL or str(value) != str(_USUAL[key])
    }
    # The settings of the model repeat those of the quantizer.
    return {key: value for key, value in kept.items() if key[6:] not in kept or not key.startswith("model.quantizer.")}


def _is_in(key: str, keys: Iterable[str]) -> bool:
    return any(key == one or key.startswith(f"{one}.") for one in keys)


def _differences(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a short, unique text for each configuration: its settings that differ from those of most others."""
    flats = with_short_paths([settings(config) for config in configs])
    models = [str(flatten(config).get("choices.model") or "") for config in configs]
    networks = [{key: flat[key] for key in flat if re.match(r"model\.(?!quantizer\.)", key)} for flat in flats]
    if all(models) and len(set(zip(models, map(str, networks), strict=True))) == len(set(models)):
        # The name of the model option replaces the settings of the network.
        flats = [
            {"model": model} | {key: value for key, value in flat.items() if key not in network}
            for model, network, flat in zip(models, networks, flats, strict=True)
        ]
    texts = [{key: _text(key, value) for key, value in flat.items()} for flat in flats]
    every = dict.fromkeys(key for flat in flats for key in flat)
    keys = [key for key in every if len({text.get(key) for text in texts}) > 1]
    names = [key.removesuffix("._target_") for key in keys]
    ends = [name.rpartition(".")[2] for name in names]
    short = [end if ends.count(end) == 1 else name for name, end in zip(names, ends, strict=True)]
    named = list(zip(short, keys, strict=True))
    rows = [[f"{name}={text[key]}" if key in text else f"no {name}" for name, key in named] for text in texts]
    usual = [_shared(column) for column in zip(*rows, strict=True)]
    said = []
    for row in rows:
        parts = [part for part, common in zip(row, usual, strict=True) if part != common]
        said.append(", ".join([*parts[:_SHOWN], *(["…"] if len(parts) > _SHOWN else [])]))
    return [one if said.count(one) == 1 else f"{one} ({said[: i + 1].count(one)})" for i, one in enumerate(said)]


def _shared(values: Sequence[str]) -> str | None:
    """Return the value that more than half of the methods have, or None."""
    value, count = Counter(values).most_common(1)[0]
    return value if 2 * count > len(values) else None


def _text(key: str, value: Any) -> str:
    if key.endswith("_target_"):
        return str(value).rpartition(".")[2]
    return f"{value:g}" if isinstance(value, float) else str(value)
