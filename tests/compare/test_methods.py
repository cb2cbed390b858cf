"""Grouping of runs into methods, and the names of methods."""

import functools
import inspect
from pathlib import Path

import lightning.pytorch as pl
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from discrete_ae.compare.methods import DECIDING, WITHOUT_EFFECT, distinct, group_runs, models_of
from tests.compare.comparisons import make_config, make_evaluation, make_run


def grouped(runs, rates=None):
    nominal = [(rates or {}).get(run.quantizer, 3200.0) for run in runs]
    scores = {"pesq": [1.0]}
    return group_runs([make_evaluation(scores, None, n, run=run) for n, run in zip(nominal, runs, strict=True)])


def names(*configs):
    """Return the names of the runs of each method."""
    runs = [make_run(f"run{i}", "ste", config["seed"], config) for i, config in enumerate(configs)]
    return [[run.name for run in method.trainings] for method in grouped(runs)]


def labels(runs, rates=None):
    return [method.label for method in grouped(runs, rates)]


@functools.cache
def composed(*overrides):
    with initialize_config_dir(str(Path(__file__).parents[2] / "conf"), version_base="1.3"):
        config = compose("train", ["quantizer=ste", "+hydra.runtime.output_dir=/runs/a", *overrides])
    OmegaConf.update(config, "run_dir", "/runs/a")
    OmegaConf.update(config, "choices", {"quantizer": "ste", "model": "spectral/tiny"})
    return OmegaConf.to_container(config, resolve=True)


def test_seeds_are_one_method_whatever_else_differs_beside_the_training():
    others = (
        *("seed=1", "run_dir=/runs/b", "name=other", "ckpt_path=last.ckpt", "compile=true", "data.num_workers=3"),
        *("data.prefetch_batches=9", "data.max_validation_segments=2", "trainer=gpu", "trainer.max_steps=1200"),
        *("trainer.precision=auto", "trainer.val_check_interval=7", "+trainer.profiler=simple", "~logger"),
        *("callbacks.clips=null", "callbacks.ema=null", "callbacks.progress=null", "callbacks.collapse.min_share=0.1"),
        *("callbacks.checkpoints.dirpath=/elsewhere", "+callbacks.mine._target_=my.Callback"),
    )
    assert names(composed(), composed(*others)) == [["run0", "run1"]]
    started = [composed(f"init_from={seed}.ckpt", f"seed={seed}") for seed in (0, 1)]
    assert names(*started) == [["run0", "run1"]]
    assert names(composed(), composed("trainer=ddp", "trainer.devices=1", "trainer.max_steps=1200", "seed=1")) == [
        ["run0", "run1"]
    ]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_codebooks", 4),
        ("decoded_codebooks", 4),  # said by the evaluation
        ("quantizer.rounding._target_", "discrete_ae.rounding.Linear"),
        ("model.encoder.dim", 8),
        ("loss.weights.stft", 1.0),
        ("optim.optimizer.lr", 1.0),
        ("data.root", "/elsewhere"),
        ("data.sources", {"speech": {"root": "/a", "weight": 3}}),
        ("trainer.max_steps", 7),
        ("trainer.devices", 2),
        ("trainer.num_nodes", 2),
        ("trainer.limit_train_batches", 5),
        ("callbacks.ema.decay", 0.9),
        ("init_from", "a.ckpt"),
    ],
)
def test_what_is_learned_by_other_means_is_another_method(key, value):
    config = OmegaConf.create(composed() | {"seed": 1})
    assert OmegaConf.select(config, key) != value
    OmegaConf.update(config, key, value)
    assert len(names(composed(), OmegaConf.to_container(config))) == 2


def test_every_setting_of_the_data_decides_or_is_known_not_to():
    deciding = {key.partition(".")[2] for key in DECIDING if key.startswith("data.")}
    others = {"_target_", "max_validation_segments", "num_workers", "prefetch_batches", "seed", "strict"}
    assert set(composed()["data"]) == deciding | others


def test_settings_without_effect_are_those_of_the_trainer():
    names = {key.removeprefix("trainer.") for key in WITHOUT_EFFECT} - {"_target_"}
    assert names <= set(inspect.signature(pl.Trainer).parameters)


def test_fine_tunes_of_several_models_with_one_seed_are_methods_and_none_is_set_aside():
    files = [f"/models/{name}/best.ckpt" for name in "ab"]
    runs = differing("init_from", *files)
    methods = grouped(runs)
    assert [(one.label, one.seeds) for one in methods] == [
        ("ste (init_from=a/best.ckpt)", (0,)),
        ("ste (init_from=b/best.ckpt)", (0,)),
    ]
    assert distinct(runs, []) == ({run.name for run in runs}, [])
    # Each is a model at two rates.
    both = [run.decoded_from(count) for run in runs for count in (2, None)]
    methods = group_runs([make_evaluation({"pesq": [1.0]}, None, 1.0, run=run) for run in both])
    assert [len(group) for group in models_of(methods).values()] == [2, 2]


def test_of_equal_runs_the_last_of_the_last_group_is_chosen():
    first, last, other = make_run("ste-1", "ste"), make_run("ste-2", "ste"), make_run("ste-3", "ste", 1)
    chosen, (line,) = distinct([last, first, other], [])
    assert chosen == {"ste-2", "ste-3"}
    assert "ste-1: the same settings and seed as ste-2" in line
    chosen, lines = distinct([last, other], [first])
    assert (chosen, len(lines)) == ({"ste-1", "ste-3"}, 1)
    assert distinct([first, other], [last], [])[0] == {"ste-2", "ste-3"}


def differing(key, *values):
    """Runs of ste whose configurations differ in one entry alone."""
    return [make_run(f"ste-{i}", "ste", 0, make_config(**{key: value})) for i, value in enumerate(values)]


def test_labels_name_what_differs():
    runs = [make_run(name, name, 0, make_config(lr)) for lr, name in enumerate(["ste", "identity", "vq"])]
    rates = {"ste": 3200.0, "identity": None, "vq": 6400.0}
    assert labels(runs, rates) == ["identity", "ste (3.2 kbps)", "vq (6.4 kbps)"]
    runs = [*differing("lr", 0.001, 0.002), make_run("rvq", "rvq")]
    assert labels(runs) == ["rvq", "ste (lr=0.001)", "ste (lr=0.002)"]
    losses = [{"mel": {"weight": weight}, "snr": {"weight": weight + 1}} for weight in (1, 3)]  # two keys end alike
    assert labels(differing("loss", *losses))[0] == "ste (loss.mel.weight=1, loss.snr.weight=2)"
    usual = {"bound": "tanh", "rotation": False}
    others = [usual, usual | {"bound": "normal"}, usual | {"rotation": True}]  # the values of two of three go unsaid
    assert labels(differing("quantizer", *others)) == ["ste", "ste (bound=normal)", "ste (rotation=True)"]
    roots = [{"root": root} for root in ("/speech", "/music", None)]
    assert labels(differing("data", *roots)) == ["ste (no root)", "ste (root=music)", "ste (root=speech)"]
    # More keys differ than are shown, and those that are shown do not.
    losses = [{"key5": i, **{f"key{j}": i % 2 for j in range(5)}} for i in range(5)]
    assert len(set(labels(differing("loss", *losses)))) == 5


def test_networks_go_by_the_option_that_was_chosen():
    models = [{"encoder": {"dim": dim}, "decoder": {"dim": dim, "depth": dim}} for dim in (16, 64)]
    runs = differing("model", *models)
    for run, name in zip(runs, ("conv/tiny", "conv/base"), strict=True):
        run.config["choices"] = {"model": name}
    assert labels(runs) == ["ste (model=conv/base)", "ste (model=conv/tiny)"]
    runs[1].config["choices"] = {"model": "conv/tiny"}  # and dim on the command line: the option does not say all
    assert labels(runs)[0].startswith("ste (model.encoder.dim=16, model.decoder.dim=16")


def test_rates_of_one_model_are_methods_that_are_one_model():
    def run(codebooks, decoded=None, seed=0):
        config = make_config(seed=seed, num_codebooks=codebooks)
        return make_run(f"rvq{codebooks}-{seed}", "rvq", seed, config).decoded_from(decoded)

    # Eight codebooks decoded from 2, 4 and all, of two seeds; four from 2 and all; and one at a single rate.
    eight = [run(8, decoded, seed) for decoded in (None, 2, 4) for seed in (0, 1)]
    assert [one.name for one in eight] == [
        "rvq8-0",
        "rvq8-1",
        *(f"rvq8-{s}-{n}codebooks" for n in (2, 4) for s in (0, 1)),
    ]
    given = [(one, 400.0 * (one.config.get("decoded_codebooks") or 8)) for one in eight]
    given += [(run(4), 1600.0), (run(4, 2), 800.0), (make_run("ste", "ste"), 3200.0)]
    methods = group_runs([make_evaluation({"pesq": [1.0]}, None, rate, run=one) for one, rate in given])
    models = models_of(methods)
    found = {label: [(one.nominal_bitrate_bps, one.seeds) for one in group] for label, group in models.items()}
    assert found == {
        "rvq (0.8 to 1.6 kbps)": [(800.0, (0,)), (1600.0, (0,))],
        "rvq (0.8 to 3.2 kbps)": [(800.0, (0, 1)), (1600.0, (0, 1)), (3200.0, (0, 1))],
        "ste (3.2 kbps)": [(3200.0, (0,))],
    }
    assert len({method.label for method in methods}) == len(methods)
