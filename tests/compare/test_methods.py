"""Which runs are one method, and what the methods are called."""

import pytest

from discrete_ae.compare.methods import group_runs, name_methods, settings
from tests.compare.comparisons import make_config, make_run


def named(runs, rates=None):
    groups, _ = group_runs(runs)
    return [method.label for method in name_methods(groups, rates or [3200.0] * len(groups))]


def test_runs_that_differ_in_seed_and_places_are_one_method():
    runs = [make_run(f"ste-{seed}", "ste", seed, make_config(seed=seed)) for seed in (2, 0, 1)]
    groups, repeated = group_runs(runs)
    (method,) = name_methods(groups, [3200.0])
    assert method.seeds == (0, 1, 2)
    assert method.label == "ste"
    assert repeated == []


def test_of_two_equal_runs_the_later_one_is_kept_and_the_other_named():
    groups, repeated = group_runs([make_run(name, "ste") for name in ("ste-2", "ste-1")])
    assert [[run.name for run in runs] for runs in groups] == [["ste-2"]]
    assert [(one.path.name, one.reason) for one in repeated] == [
        ("ste-1", "the same settings and seed as ste-2, which is compared instead")
    ]


def test_labels_name_the_settings_that_differ():
    runs = [make_run(f"ste-{lr}", "ste", 0, make_config(lr)) for lr in (0.001, 0.002)]
    assert named([*runs, make_run("rvq", "rvq")]) == ["rvq", "ste (lr=0.001)", "ste (lr=0.002)"]


def test_labels_name_the_rate_where_there_are_several():
    runs = [make_run(name, name, 0, make_config(lr)) for lr, name in enumerate(["ste", "identity", "vq"])]
    groups, _ = group_runs(runs)
    rates = {"ste": 3200.0, "identity": None, "vq": 6400.0}
    assert named(runs, [rates[group[0].quantizer] for group in groups]) == [
        "identity",
        "ste (3.2 kbps)",
        "vq (6.4 kbps)",
    ]


def test_a_key_is_as_long_as_it_needs_to_be():
    configs = [make_config(loss={"mel": {"weight": a}, "snr": {"weight": b}}) for a, b in ((1, 1), (2, 1), (1, 2))]
    labels = named([make_run(f"ste-{i}", "ste", 0, config) for i, config in enumerate(configs)])
    assert labels == [
        "ste (mel.weight=1, snr.weight=1)",
        "ste (mel.weight=1, snr.weight=2)",
        "ste (mel.weight=2, snr.weight=1)",
    ]


def test_networks_go_by_the_option_that_was_chosen():
    configs = []
    for name, dim in (("conv/tiny", 16), ("conv/base", 64)):
        config = make_config(choices={"model": name})
        config["model"] = {**config["model"], "encoder": {"dim": dim}, "decoder": {"dim": dim, "depth": dim}}
        configs.append(config)
    runs = [make_run(f"ste-{i}", "ste", 0, config) for i, config in enumerate(configs)]
    assert named(runs) == ["ste (model=conv/base)", "ste (model=conv/tiny)"]
    configs[1]["choices"] = {"model": "conv/tiny"}  # and dim on the command line: the option does not say all
    assert named(runs)[0].startswith("ste (encoder.dim=16, decoder.dim=16")


@pytest.mark.parametrize("count", [2, 5])
def test_labels_are_never_alike(count):
    # More keys differ than are shown, and those that are shown do not.
    keys = [f"key{i}" for i in range(6)]
    configs = [make_config(extra={key: i if key == "key5" else j for j, key in enumerate(keys)}) for i in range(count)]
    for i, config in enumerate(configs):
        config["extra"] |= {"key0": i % 2, "key1": i % 2, "key2": i % 2}
    labels = named([make_run(f"ste-{i}", "ste", 0, config) for i, config in enumerate(configs)])
    assert len(set(labels)) == count


def test_settings_are_those_that_decide_on_what_is_learned():
    config = make_config(
        init_from="a.ckpt",
        ckpt_path="b.ckpt",
        choices={"quantizer": "ste"},
        logger={"run_dir": "x"},
        callbacks={"ema": {"decay": 0.9}, "progress": {"_target_": "p"}, "checkpoints": {"dirpath": "d"}},
    )
    found = settings(config)
    assert found["callbacks.ema.decay"] == 0.9
    assert found["init_from"] == "given"
    assert found["quantizer.num_codebooks"] == 8
    gone = ("seed", "name", "run_dir", "ckpt_path", "data.seed", "data.num_workers", "choices.quantizer")
    gone += ("logger.run_dir", "callbacks.progress._target_", "callbacks.checkpoints.dirpath")
    gone += ("model.quantizer.num_codebooks",)
    assert not set(gone) & set(found)
