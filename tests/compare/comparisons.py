"""Comparisons of known numbers, for the tests beside this file."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from discrete_ae.compare.comparison import BaselineScores, Comparison
from discrete_ae.compare.methods import group_runs, name_methods
from discrete_ae.compare.runs import Run
from discrete_ae.evaluation.results import Evaluation, FileScores

Values = Sequence[float | None]


def make_config(lr=0.001, steps=100, seed=0, **others):
    quantizer = {"_target_": "discrete_ae.quantizers.ScalarQuantizer", "num_codebooks": 8}
    return {
        "seed": seed,
        "name": "default",
        "run_dir": f"/runs/{seed}",
        "quantizer": quantizer,
        "model": {"sample_rate": 16000, "encoder": {"dim": 16}, "decoder": {"dim": 16}, "quantizer": dict(quantizer)},
        "data": {"root": None, "seed": seed, "num_workers": seed},
        "optim": {"optimizer": {"lr": lr}},
        "trainer": {"max_steps": steps},
        **others,
    }


def make_run(name, quantizer, seed=0, config=None):
    folder = Path("/runs") / name
    checkpoint = folder / "checkpoints/best.ckpt"
    return Run(folder, name, quantizer, seed, config or make_config(seed=seed), checkpoint)


def make_evaluation(
    scores: Mapping[str, Values],
    rate: float | None = 3000.0,
    nominal: float | None = 3200.0,
    counts=((4, 2, 1, 1),),
    paths=None,
):
    """Of files a.wav, b.wav, … of 1, 2, … s, with the scores by name."""
    count = len(next(iter(scores.values())))
    names = paths or [f"{'abcdefghijklmnopqrstuvwxyz'[i]}.wav" for i in range(count)]
    files = tuple(
        FileScores(path, float(i + 1), {name: values[i] for name, values in scores.items()})
        for i, path in enumerate(names)
    )
    overall = {"nominal_bitrate_bps": nominal, "entropy_coded_bitrate_bps": rate, "parameters": 2_000_000.0}
    if nominal is not None:
        overall |= {"usage": 1.0, "perplexity": 2 ** (1.75)}
    return Evaluation("codec", files, overall, counts if nominal else (), 16000, "hash", {}, {"channels": 1})


def make_comparison(
    scores: Mapping[str, Mapping[int, Values]],
    name="mel_distance",
    rates: Mapping[str, float] | None = None,
    baselines: Mapping[str, Values] | None = None,
    identity=("identity",),
):
    """One quantity by quantizer, seed and file."""
    runs, evaluations = [], {}
    for quantizer, by_seed in scores.items():
        for seed, values in by_seed.items():
            config = make_config(seed=seed) | {"quantizer": {"_target_": quantizer}}
            run = make_run(f"{quantizer}-seed{seed}", quantizer, seed, config)
            runs.append(run)
            rate = (rates or {}).get(quantizer, 3200.0)
            has_codes = quantizer not in identity
            evaluations[run.name] = make_evaluation(
                {name: values}, rate * 0.9 if has_codes else None, rate if has_codes else None
            )
    groups, repeated = group_runs(runs)
    assert not repeated
    nominal = [evaluations[runs[0].name].overall["nominal_bitrate_bps"] for runs in groups]
    beside = tuple(
        BaselineScores(label, make_evaluation({name: values}, 6000.0, 6000.0, ()), not label.startswith("codec2"))
        for label, values in (baselines or {}).items()
    )
    return Comparison(tuple(name_methods(groups, nominal)), evaluations, beside)
