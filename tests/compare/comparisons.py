"""Comparisons of known numbers, for the tests beside this file."""

from collections.abc import Mapping, Sequence

from discrete_ae.compare.comparison import Comparison
from discrete_ae.compare.methods import group_runs
from discrete_ae.evaluation.results import Evaluation, FileScores, Run

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
    return Run(
        name=name,
        quantizer=quantizer,
        seed=seed,
        config=config or make_config(seed=seed),
        folder=f"/runs/{name}",
        checkpoint="checkpoints/best.ckpt",
    )


def make_evaluation(
    scores: Mapping[str, Values],
    rate: float | None = 3000.0,
    nominal: float | None = 3200.0,
    counts=((4, 2, 1, 1),),
    paths=None,
    **others,
):
    """Return an evaluation of files a.wav, b.wav, … of 1, 2, … s, with the scores by name."""
    count = len(next(iter(scores.values())))
    names = paths or [f"{'abcdefghijklmnopqrstuvwxyz'[i]}.wav" for i in range(count)]
    files = tuple(
        FileScores(
            path=path,
            duration_s=1.0 + "abcdefghijklmnopqrstuvwxyz".index(path[0]),
            scores={name: values[i] for name, values in scores.items()},
        )
        for i, path in enumerate(names)
    )
    overall = {"nominal_bitrate_bps": nominal, "entropy_coded_bitrate_bps": rate, "parameters": 2_000_000.0}
    if nominal is not None:
        overall |= {"usage": 1.0, "perplexity": 2 ** (1.75)}
    about = {"codec": "codec", "sample_rate": 16000, "model_hash": "hash", "settings": {"channels": 1}}
    return Evaluation(
        **(about | {"files": files, "overall": overall, "code_counts": counts if nominal else ()} | others)
    )


def make_methods(evaluations):
    """Return the methods of evaluations of runs."""
    return tuple(group_runs(evaluations))


def make_comparison(
    scores: Mapping[str, Mapping[int, Values]],
    name="mel_distance",
    rates: Mapping[str, float] | None = None,
    baselines: Mapping[str, Values] | None = None,
    identity=("identity",),
):
    """One quantity by quantizer, seed and file."""
    evaluations = []
    for quantizer, by_seed in scores.items():
        for seed, values in by_seed.items():
            config = make_config(seed=seed) | {"quantizer": {"_target_": quantizer}}
            rate = None if quantizer in identity else (rates or {}).get(quantizer, 3200.0)
            run = make_run(f"{quantizer}-seed{seed}", quantizer, seed, config)
            evaluations.append(make_evaluation({name: values}, rate and rate * 0.9, rate, run=run))
    beside = tuple(
        make_evaluation({name: values}, 6000.0, 6000.0, (), codec=label, keeps_waveform=not label.startswith("codec2"))
        for label, values in (baselines or {}).items()
    )
    return Comparison(make_methods(evaluations), beside)


def make_rates(means: Mapping[str, Mapping[float, float]], name="mel_distance", seeds=(0, 1)):
    """Models at several rates: by quantizer and kbps of a codebook of 0.4 each, the mean of six files over seeds.

    The highest rate of a model is with all of its codebooks.
    """
    evaluations = []
    for quantizer, by_rate in means.items():
        for kbps, mean in by_rate.items():
            for seed in seeds:
                run = make_run(f"{quantizer}-seed{seed}", quantizer, seed)
                run.config["quantizer"] = {"_target_": quantizer}
                run = run.decoded_from(None if kbps == max(by_rate) else round(kbps / 0.4))
                values = [mean + 0.01 * seed - 0.1, mean + 0.01 * seed + 0.1] * 3
                evaluations.append(make_evaluation({name: values}, 900.0 * kbps, 1000.0 * kbps, run=run))
    return Comparison(make_methods(evaluations))
