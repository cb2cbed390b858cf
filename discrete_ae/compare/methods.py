"""Which runs are one method, and what the methods are called: in what they differ."""

import json
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
    given = [(one.run.folder, one.run.name, one.run, one) for one in evaluations if one.run]
    for _, name, run, one in sorted(given, key=lambda of: of[:2]):
        by_seed = groups.setdefault(json.dumps([run.quantizer, settings(run.config)], sort_keys=True, default=str), {})
        if (older := by_seed.get(run.seed)) and older.run:
            reason = f"the same settings and seed as {name}, which is compared instead"
            repeated.append(f"Not compared: {older.run.name}: {reason}")
        by_seed[run.seed] = one
    methods = [Method("", tuple(by_seed[seed] for seed in sorted(by_seed))) for by_seed in groups.values()]
    return _labelled(methods), repeated


def _labelled(methods: Sequence[Method]) -> list[Method]:
    rates = [method.nominal_bitrate_bps for method in methods]
    several = len({kbps(rate) for rate in rates if rate is not None}) > 1
    said = [[f"{kbps(rate)} kbps"] if several and rate is not None else [] for rate in rates]
    names = [(method.quantizer, *parts) for method, parts in zip(methods, said, strict=True)]
    for name in set(names):
        same = [i for i, other in enumerate(names) if other == name]
        if len(same) > 1:
            for i, rest in zip(same, _differences([methods[i].config for i in same]), strict=True):
                said[i].append(rest)
    labelled = [
        replace(method, label=f"{method.quantizer} ({', '.join(parts)})" if parts else method.quantizer)
        for method, parts in zip(methods, said, strict=True)
    ]
    return sorted(labelled, key=lambda method: (method.quantizer, method.nominal_bitrate_bps or 0.0, method.label))


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
    flats = _with_model_names([settings(config) for config in configs], configs)
    keys = [key for key in dict.fromkeys(key for flat in flats for key in flat) if _differ(flats, key)]
    short = {key: _short(key, keys) for key in keys}
    texts = []
    for flat in flats:
        parts = [f"{short[key]}={_text(key, flat.get(key, _ABSENT))}" for key in keys]
        texts.append(", ".join(parts[:_SHOWN]) + (", …" if len(parts) > _SHOWN else ""))
    return [
        text if texts.count(text) == 1 else f"{text} ({texts[: i + 1].count(text)})" for i, text in enumerate(texts)
    ]


def _with_model_names(flats: list[dict[str, Any]], configs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return settings with the model's option in place of all that it stands for, where it says everything."""
    chosen = [config.get("choices") for config in configs]
    names = [str(choice.get("model")) if isinstance(choice, Mapping) else "" for choice in chosen]
    networks = [json.dumps([(k, v) for k, v in flat.items() if _of_network(k)], default=str) for flat in flats]
    if not all(names) or len(set(zip(names, networks, strict=True))) > len(set(names)):
        return flats
    return [
        {"model": name} | {key: value for key, value in flat.items() if not _of_network(key)}
        for name, flat in zip(names, flats, strict=True)
    ]


def _of_network(key: str) -> bool:
    return key.startswith("model.") and not key.startswith("model.quantizer.")


def _differ(flats: Sequence[Mapping[str, Any]], key: str) -> bool:
    return len({json.dumps(flat.get(key, _ABSENT), sort_keys=True, default=str) for flat in flats}) > 1


def _short(key: str, keys: Sequence[str]) -> str:
    """Return as many last parts of a dotted key as tell it from the others; a class goes by what it is the class of."""
    parts = _named(key).split(".")
    for count in range(1, len(parts)):
        short = ".".join(parts[-count:])
        if sum(f".{_named(other)}".endswith(f".{short}") for other in keys) == 1:
            return short
    return _named(key)


def _named(key: str) -> str:
    return key.removesuffix("._target_")


def _text(key: str, value: Any) -> str:
    if key.endswith("_target_"):
        return str(value).rpartition(".")[2]
    return f"{value:g}" if isinstance(value, float) else str(value)
