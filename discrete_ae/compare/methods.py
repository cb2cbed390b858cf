"""Which runs are one method, and what the methods are called: in what they differ."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from discrete_ae.evaluation.results import Evaluation, Run

DECIDING = (
    *("quantizer", "num_codebooks", "decoded_codebooks", "model", "init_from", "loss", "optim"),
    *("data.root", "data.validation_root", "data.validation_fraction", "data.sample_rate", "data.channels"),
    *("data.crop_seconds", "data.batch_size", "data.balance", "data.loudness_lufs", "data.speed", "data.mix"),
    *("data.equalizer_db", "data.gain_db", "data.flip_polarity"),
    *("trainer.max_steps", "trainer.precision", "trainer.accumulate_grad_batches", "trainer.gradient_clip_val"),
    "callbacks.ema.decay",
)
"""Keys of a configuration, with all below them, that decide on what is learned: runs alike in these are one method."""
_SHOWN = 3  # keys in a label
_ABSENT = "–"


@dataclass(frozen=True)
class Method:
    """One way of training, by one or several seeds."""

    label: str
    runs: tuple[Evaluation, ...]
    """Evaluations of its runs, by seed, each once."""

    @property
    def trainings(self) -> tuple[Run, ...]:
        """Its runs of training, as `runs`."""
        return tuple(one.run for one in self.runs if one.run)

    @property
    def quantizer(self) -> str:
        """The option that was chosen, or whatever else names the method."""
        return self.trainings[0].quantizer

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of the runs, increasing."""
        return tuple(run.seed for run in self.trainings)

    @property
    def config(self) -> Mapping[str, Any]:
        """Of the first run."""
        return self.trainings[0].config

    @property
    def steps(self) -> int:
        """Of training; 0 if unknown."""
        trainer = self.config.get("trainer")
        steps = trainer.get("max_steps") if isinstance(trainer, Mapping) else None
        return steps if isinstance(steps, int) else 0

    @property
    def nominal_bitrate_bps(self) -> float | None:
        """None without codes."""
        return self.runs[0].overall.get("nominal_bitrate_bps")


def group_runs(evaluations: Iterable[Evaluation]) -> tuple[list[Method], list[str]]:
    """Group evaluations of runs into methods, and name these in what they differ.

    A label is the quantizer, with its nominal rate where there are several rates, and with the settings in which
    methods of one such label differ: "ste (3.2 kbps, lr=0.001)".

    Returns:
        The methods, sorted by label; and a line on each run that has the settings and the seed of another one: of such
        runs the last by folder and name is kept.
    """
    groups: dict[str, dict[int, Evaluation]] = {}
    repeated = []
    given = [(_place(one.run), one.run, one) for one in evaluations if one.run]
    for _, run, one in sorted(given, key=lambda of: of[0]):
        by_seed = groups.setdefault(_settings_in_words(run), {})
        if (older := by_seed.get(run.seed)) and older.run:
            is_alike = {file.path for file in older.files} == {file.path for file in one.files}
            repeated.append(set_aside(older.run, run) + ("" if is_alike else ", on other recordings"))
        by_seed[run.seed] = one
    methods = [Method("", tuple(by_seed[seed] for seed in sorted(by_seed))) for by_seed in groups.values()]
    return _labelled(methods), repeated


def repeated_runs(runs: Iterable[Run]) -> list[list[Run]]:
    """Group runs that have the same settings and seed; in each group first the one that `group_runs` would keep."""
    groups: dict[tuple[str, int], list[Run]] = {}
    for run in runs:
        groups.setdefault((_settings_in_words(run), run.seed), []).append(run)
    return [sorted(same, key=_place, reverse=True) for same in groups.values()]


def set_aside(run: Run, kept: Run) -> str:
    """Return the line on a run that has the settings and the seed of another one."""
    return f"Not compared: {run.name}: the same settings and seed as {kept.name}, which is compared instead"


def _place(run: Run) -> tuple[str, str]:
    return run.folder, run.name


def _settings_in_words(run: Run) -> str:
    return json.dumps([run.quantizer, settings(run.config)], sort_keys=True, default=str)


def _labelled(methods: Sequence[Method]) -> list[Method]:
    several = len({kbps(rate) for method in methods if (rate := method.nominal_bitrate_bps) is not None}) > 1
    groups: dict[tuple[str, str], list[Method]] = {}
    for method in methods:
        rate = method.nominal_bitrate_bps
        name = method.quantizer, f"{kbps(rate)} kbps" if several and rate is not None else ""
        groups.setdefault(name, []).append(method)
    found = []
    for (quantizer, at_rate), same in groups.items():
        rests = _differences([method.config for method in same]) if len(same) > 1 else [""]
        for method, rest in zip(same, rests, strict=True):
            said = ", ".join(filter(None, [at_rate, rest]))
            found.append(replace(method, label=f"{quantizer} ({said})" if said else quantizer))
    return sorted(found, key=lambda method: (method.quantizer, method.nominal_bitrate_bps or 0.0, method.label))


def kbps(bits_per_second: float) -> str:
    """Return the rate in kbps with as few digits as it needs, up to three."""
    return f"{bits_per_second / 1000:.3g}"


def flatten(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested plain data by dotted key; lists are values."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{key}": inner for key, inner in flatten(value).items()}
        else:
            flat[str(name)] = value
    return flat


def settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a run's configuration decides on what is learned, by dotted key, without seeds and None."""
    kept = {
        key: value
        for key, value in flatten(config).items()
        if value is not None and any(key == deciding or key.startswith(f"{deciding}.") for deciding in DECIDING)
    }
    if "init_from" in kept:
        kept["init_from"] = "given"  # each seed may have started from a file of its own
    # The model has the quantizer by reference.
    return {key: value for key, value in kept.items() if key[6:] not in kept or not key.startswith("model.quantizer.")}


def _differences(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the settings in which configurations differ, shortly, for each; no two texts are alike."""
    flats = [settings(config) for config in configs]
    models = [str(flatten(config).get("choices.model") or "") for config in configs]
    networks = [{key: flat[key] for key in flat if re.match(r"model\.(?!quantizer\.)", key)} for flat in flats]
    if all(models) and len(set(zip(models, map(str, networks), strict=True))) == len(set(models)):
        # The model's option stands for all of the network.
        flats = [
            {"model": model} | {key: value for key, value in flat.items() if key not in network}
            for model, network, flat in zip(models, networks, flats, strict=True)
        ]
    texts = [{key: _text(key, value) for key, value in flat.items()} for flat in flats]
    every = dict.fromkeys(key for flat in flats for key in flat)
    keys = [key for key in every if len({text.get(key) for text in texts}) > 1]
    names = [key.removesuffix("._target_") for key in keys]  # a class goes by what it is the class of
    ends = [name.rpartition(".")[2] for name in names]
    short = [end if ends.count(end) == 1 else name for name, end in zip(names, ends, strict=True)]
    said = [", ".join(f"{name}={text.get(key, _ABSENT)}" for name, key in zip(short[:_SHOWN], keys, strict=False))
            + (", …" if len(keys) > _SHOWN else "") for text in texts]  # fmt: skip
    return [one if said.count(one) == 1 else f"{one} ({said[: i + 1].count(one)})" for i, one in enumerate(said)]


def _text(key: str, value: Any) -> str:
    if key.endswith("_target_"):
        return str(value).rpartition(".")[2]
    return f"{value:g}" if isinstance(value, float) else str(value)
